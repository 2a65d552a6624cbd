#!/bin/sh
# Runs in the chroot: what an administrator or an image build does to a root file system. The
# packages are in apt's cache already, so that no network is needed.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin

echo "== install"
before=$(dpkg-query -W | wc -l)
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends --no-download $PACKAGES
after=$(dpkg-query -W | wc -l)
echo "installed $((after - before)) packages"
[ $((after - before)) -ge 20 ]
dpkg --audit

echo "== compile"
mkdir -p /srv/project/include
cd /srv/project
printf '#ifndef SUM_H\n#define SUM_H\nlong sum(const int *, int);\n#endif\n' > include/sum.h
printf '#include "sum.h"\nlong sum(const int *v, int n)\n{\n\tlong s = 0;\n\tfor (int i = 0; i < n; i++)\n\t\ts += v[i];\n\treturn s;\n}\n' > sum.c
printf '#include <stdio.h>\n#include "sum.h"\nint main(void)\n{\n\tint v[] = {1, 2, 39};\n\tprintf("%%ld\\n", sum(v, 3));\n\treturn 0;\n}\n' > main.c
printf 'CFLAGS = -O2 -Wall -Werror -Iinclude\nadd: main.o libsum.a\n\t$(CC) -o $@ $^\nlibsum.a: sum.o\n\t$(AR) rcs $@ $^\nclean:\n\trm -f add *.o *.a\n' > Makefile
make -s
[ "$(./add)" = 42 ]
make -s clean
make -s
[ "$(./add)" = 42 ]

echo "== remove"
# shellcheck disable=SC2086
apt-get purge -y -qq $PURGE
for package in $PURGE; do
    ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed'
done
rm -rf /usr/share/doc /usr/share/info
mkdir -m 2775 /usr/share/doc
chown root:staff /usr/share/doc
echo 'made anew' > /usr/share/doc/README
# The whole of a directory that stands in a lower layer, away and back under the same name.
cp -a /etc/default /etc/default.saved
rm -rf /etc/default
mkdir /etc/default
cp -a /etc/default.saved/. /etc/default/
rm -rf /etc/default.saved
# Removed, then something of another type in its place.
rm -rf /usr/share/pixmaps /media
echo 'not a directory any more' > /media
rm -f /etc/debian_version
mkdir /etc/debian_version

echo "== special files"
mkdir /srv/special
cd /srv/special
cp /bin/cat plain
ln plain hard1
ln plain hard2
ln /etc/passwd passwd.link
cp /bin/cat setuid
chmod 4755 setuid
cp /bin/cat setgid
chgrp mail setgid
chmod 2755 setgid
cp /bin/cat capable
setcap cap_net_raw,cap_net_bind_service+ep capable
[ "$(getcap capable)" = 'capable cap_net_bind_service,cap_net_raw=ep' ]
setfattr -n user.note -v 'an attribute' plain
setfacl -m u:daemon:r-- setgid
mkdir -m 1777 sticky
mkfifo -m 640 fifo
mknod -m 600 null c 1 3
ln -s ../special/plain symlink
ln -s /nowhere/at/all dangling
perl -e 'use IO::Socket::UNIX; IO::Socket::UNIX->new(Local => "socket", Listen => 1) or die $!'
truncate -s 64M sparse
printf end >> sparse
touch -d '1969-07-20 20:17:40 UTC' old
touch -d '2100-02-28 12:00:00 UTC' new
printf 'odd' > "$(printf 'tab\there \303\251 \377')"
chown -h 1234:5678 symlink
chown 12345:54321 old

echo "== metadata of files in the lower layers"
chmod 0700 /root
chmod -R g+w /usr/share/base-files
chown -R man:man /usr/share/keyrings
touch -d '2001-02-03 04:05:06 UTC' /usr/share/zoneinfo
setfattr -n user.note -v "on a lower file" /etc/shells
echo "# appended" >> /etc/profile
sed -i 's/^root:/root:/' /etc/group
echo "== done"
