# image.sh DIR: makes DIR/base.tar, the root file system that the images of the tests begin with.
# What is in it is older than what any test does to it.
set -eu
cd "$1"
mkdir -p root/bin root/dev root/etc root/opt/old/deep root/proc root/root root/sys root/tmp \
    root/usr/bin root/var
chmod 1777 root/tmp
cp "$(command -v busybox)" root/bin/busybox
chroot root /bin/busybox --install -s /bin
echo 'root:x:0:0::/root:/bin/sh' >root/etc/passwd
echo 'root:x:0:' >root/etc/group
echo first >root/opt/old/file
echo deep >root/opt/old/deep/file
ln root/opt/old/file root/opt/old/twin
ln -s file root/opt/old/link
mkfifo root/opt/old/fifo
echo program >root/usr/bin/setuid
chown 1:2 root/opt/old/deep root/usr/bin/setuid
chmod 6755 root/usr/bin/setuid
echo program >root/usr/bin/capable
setcap cap_net_raw+ep root/usr/bin/capable
setfattr -n user.kept -v value root/opt/old/file
tar --create --file base.tar --numeric-owner --xattrs --xattrs-include='*' --sort=name \
    --mtime=@1000000000 --directory root .
rm -rf root
chmod 644 base.tar
