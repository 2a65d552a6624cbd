# What all of them make a layer of, each for itself: the same change, to be compared.
set -eu
stamp=$(mktemp)
sleep 0.1
rm -r usr/share/perl5 usr/share/licenses/GPL-2 usr/share/bash-completion
mkdir usr/share/perl5
echo new >usr/share/perl5/file
echo '# more' >>etc/profile
chmod 600 etc/shells
mv usr/share/doc-base usr/share/base-doc
# dpkg made it a moment ago, and umoci rounds times up where they are beyond half a second.
touch -d '2020-01-01 00:00:00.25 UTC' usr/share/base-doc
mv etc/debian_version etc/version
rm -r etc/issue media
ln -s issue.net etc/issue
mkdir -m 2750 media
# Both names of it: what becomes of the other one is not told by an upper.
rm srv/twin
echo '#' >>srv/cat
setcap cap_chown+ep srv/cat
echo x >srv/new
ln srv/new srv/other
mkfifo -m 640 srv/fifo
mknod -m 600 srv/null c 1 3
cp bin/cat srv/suid
chown 7:8 srv/suid
chmod 6755 srv/suid
setfattr -n user.k -v v srv/suid
chown -R 70000:4000 var/backups
chmod 2775 var/backups
setfattr -n user.k -v dir opt
printf odd >"srv/$(printf 'tab\there \303\251 \377')"
touch "srv/$(printf '%0200d' 7)"
# The time of the change is not a part of it.
find . -xdev -newer "$stamp" -exec touch -h -d '2020-01-01 00:00:00.25 UTC' {} +
rm "$stamp"
