# What umoci makes a layer of: objects that become others, hard links, a file capability.
set -eu
echo '# by umoci' >>etc/profile
rm etc/issue
mkdir etc/issue
echo x >etc/issue/file
rm -r media
echo 'no directory' >media
cp -a bin/cat srv/cat
ln srv/cat srv/twin
setcap cap_net_raw+ep srv/cat
chown 12345:54321 etc/shells
