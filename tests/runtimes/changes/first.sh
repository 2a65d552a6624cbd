# What buildah makes a layer of: directories that go and come, and one that is moved.
set -eu
rm -r usr/share/doc usr/share/zoneinfo/Europe
mkdir usr/share/doc
echo anew >usr/share/doc/README
cp -a etc/default etc/default.saved
rm -r etc/default
mkdir etc/default
cp -a etc/default.saved/. etc/default/
rm -r etc/default.saved
mv usr/share/common-licenses usr/share/licenses
chmod 1770 var/mail
chown 7:8 srv
