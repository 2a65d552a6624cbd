# The root image: what tests and their programs need of this machine, the tests, and the program.

# What the tests call, or look at.
image_packages=(
    acl attr base-passwd bash btrfs-progs busybox-static coreutils dash diffutils e2fsprogs erofs-utils
    findutils fuse-overlayfs fuse2fs fuse3 grep gzip libc-bin libcap2-bin libpython3-stdlib mawk mount passwd
    perl-base procps python3 python3-minimal sed sqlite3 squashfs-tools squashfuse strace tar uidmap umoci
    util-linux xfsprogs xz-utils zstd
)

# Makes the image $1 with the suites that follow.
make_root() {
    local image=$1 root
    shift
    root=$scratch/tree
    mkdir -p "$root"/usr/{bin,sbin,lib,lib64}
    copy_packages "$root"
    copy_suites "$root" "$@"
    copy_libraries "$root"
    mkdir -p "$root"/{dev,etc,proc,root,run,sys,tmp,var/tmp}
    chmod 1777 "$root"/tmp "$root"/var/tmp
    cp /etc/passwd /etc/group /etc/nsswitch.conf /etc/fuse.conf "$root/etc/"
    touch "$root/etc/subuid" "$root/etc/subgid"
    ln -s /proc/self/mounts "$root/etc/mtab"
    truncate -s 8G "$image"
    mkfs.ext4 -q -d "$root" -m 0 -E lazy_itable_init=1,lazy_journal_init=1 "$image"
    rm -rf "$root"
}

copy_packages() {
    local root=$1 python
    python=$(basename "$(realpath /usr/bin/python3)")
    local all=("${image_packages[@]}" "$python" "$python-minimal" "lib$python-stdlib" "lib$python-minimal")
    # Links such as /bin, the directories, and then what is in them.
    (
        printf '%s\n' /bin /sbin /lib /lib64
        dpkg-query -L "${all[@]}" | grep -vE '^/usr/share/(doc|man|locale|info|bash-completion)/|^/\.$'
    ) | sed 's|^/||; /^$/d' | sort -u |
        tar -C / --no-recursion --ignore-failed-read -cf - -T - 2>/dev/null | tar -C "$root" -xf -
    # Names that other packages replace by links.
    cp -a /usr/bin/awk "$root/usr/bin/" && mkdir -p "$root/etc/alternatives"
    cp -a /etc/alternatives/awk "$root/etc/alternatives/"
}

# The test binaries as /ovl/SUITE, the list of what is to run, and the program where they look for it.
copy_suites() {
    local root=$1 suite name tests built program
    shift
    mkdir "$root/ovl"
    cp tests/kernels/guest "$root/ovl/"
    printf 'WHERE=%q\n' "$PWD" >"$root/ovl/environment"
    for suite; do
        name=${suite%%=*}
        built=$(CARGO_TERM_COLOR=never "${CARGO:-cargo}" test --locked --no-run --test "$name" 2>&1 |
            sed -n 's/^ *Executable .* (\(.*\))$/\1/p')
        [ -x "$built" ] || { echo "the suite $name was not built" >&2; return 1; }
        strip -o "$root/ovl/$name" "$built"
        tests=${suite#"$name"}
        echo "$name ${tests#=}" | tr , ' ' >>"$root/ovl/suites"
    done
    program=$(dirname "$(dirname "$(realpath "$built")")")/ovlmerge
    mkdir -p "$root$PWD/tests/mount" "$root$(dirname "$program")"
    # What tests run besides the program.
    cp tests/mount/dirty.py "$root$PWD/tests/mount/"
    strip -o "$root$program" "$program"
}

# The libraries that the programs in the image are linked with.
copy_libraries() {
    local root=$1
    # ldd fails for what is linked with none, as scripts are.
    find "$root" -type f -perm /111 -print0 | { xargs -0 -n 64 ldd 2>/dev/null || true; } |
        sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^\t\(\/[^ ]*\) (.*/\1/p' | sort -u |
        while read -r library; do
            mkdir -p "$root$(dirname "$library")"
            cp -Ln "$library" "$root$library"
        done
}
