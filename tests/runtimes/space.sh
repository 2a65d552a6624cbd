# The first process of the namespaces that a test's containers live in. What it mounts, and every
# process that stays behind in here, goes when it goes; it goes when its standard input ends.
#
# space.sh HOME PROGRAM UID: prints its process number as the caller sees it when all is set up.
set -eu
home=$1 program=$2 user=$3
# The old /proc, so the old number.
read -r number _ </proc/self/stat
mount -t proc proc /proc
mount --make-rshared /

# Where podman keeps locks and sockets, whatever its configuration says.
mount -t tmpfs tmpfs /run
mkdir -m 1777 /run/user
mount -t tmpfs tmpfs /dev/shm
mkdir -p /var/lib/containers
mount -t tmpfs tmpfs /var/lib/containers

# crun refuses a machine that has both versions of control groups. None of them is used here.
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
    umount -R /sys/fs/cgroup 2>/dev/null || true
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi

# A user whom the machine outside never sees, with ids to give to containers.
mkdir "$home/etc/users"
for file in passwd group subuid subgid; do
    [ -e "/etc/$file" ] || touch "/etc/$file"
    cp "/etc/$file" "$home/etc/users/$file"
done
cd "$home/etc/users"
printf 'ovltest:x:%d:%d::%s:/bin/sh\n' "$user" "$user" "$home" >>passwd
printf 'ovltest:x:%d:\n' "$user" >>group
# `containers` is whose ids podman run --userns=auto takes when root calls it.
printf '%s\n' 'ovltest:300000000:300000' 'containers:310000000:300000' | tee subuid >subgid
for file in passwd group subuid subgid; do
    mount --bind "$file" "/etc/$file"
done
mount --bind "$home/etc/containers" /etc/containers

# Where users can start it who may not enter the directory that it was built in.
touch "$home/ovlmerge"
mount --bind "$program" "$home/ovlmerge"

echo "$number"
while read -r _; do :; done
