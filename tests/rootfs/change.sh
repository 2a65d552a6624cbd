#!/bin/sh
# Runs in the chroot on the kernel's overlayfs, after ovlmerge: the other direction.
set -eu
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd /srv/project
make -s clean
make -s
[ "$(./add)" = 42 ]
rm -rf /usr/share/doc /usr/share/common-licenses /srv/special/sticky
mkdir /usr/share/common-licenses
echo 'none' > /usr/share/common-licenses/NONE
echo '# by the kernel' >> /etc/profile
chmod 4711 /srv/special/setuid
rm /srv/special/hard1
mv /srv/special/hard2 /srv/special/hard3
dpkg --audit
