# Kernels of Debian: where they come from, and an initramfs that finds the root image.

# The release of Debian that has a kernel.
release_of() {
    case $1 in
        5.10) echo bullseye ;;
        6.1) echo bookworm ;;
        6.12) echo trixie ;;
        *) echo "$1: no such kernel; there are 5.10, 6.1 and 6.12" >&2; return 2 ;;
    esac
}

# Where this machine has its own Debian packages from.
mirror() {
    local found attempt
    for attempt in 1 2; do
        # Only lists that were downloaded say whose they are.
        found=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' \
            'Label: Debian')
        [ -z "$found" ] || { head -n 1 <<<"$found"; return; }
        [ "$attempt" -eq 2 ] || apt-get update -qq >&2
    done
    echo "apt has no list of Debian's packages" >&2
    return 1
}

# Puts the kernel $1 and the modules that the tests need into the directory $2/$1. What is there is not
# downloaded again.
fetch_kernel() {
    local version=$1 place=$2/$1 release package apt
    release=$(release_of "$version")
    [ ! -e "$place/vmlinuz" ] || return 0
    # An apt of its own beside that of the machine, which knows this one release.
    apt=$(mktemp -d "$scratch/apt.XXXXXX")
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    touch "$apt/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $release main" \
        >"$apt/sources.list"
    cat >"$apt/conf" <<END
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "-";
Dir::State "$apt";
Dir::State::Status "$apt/status";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Acquire::Retries "3";
APT::Sandbox::User "root";
END
    APT_CONFIG=$apt/conf apt-get update -qq
    # A package of this name depends on the newest kernel and has no files.
    package=$(APT_CONFIG=$apt/conf apt-cache depends linux-image-cloud-amd64 |
        sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
    echo "$version: $package of $release"
    (cd "$apt" && APT_CONFIG=$apt/conf apt-get download -qq "$package")
    dpkg-deb -x "$apt"/linux-image-*.deb "$apt/root"
    rm -rf "$place"
    mkdir -p "$place/modules"
    add_modules "$apt/root" "$place/modules" \
        virtio_pci virtio_blk loop fuse overlay xfs btrfs squashfs erofs
    mv "$apt"/root/boot/vmlinuz-* "$place/vmlinuz"
    rm -rf "$apt"
}

# Copies modules from the root $1 to the directory $2, each after those that it needs; the numbers in
# front of their names are the order to load them in. Some are built into the kernel instead.
add_modules() {
    local root=$1 to=$2 module found needs
    shift 2
    for module; do
        [ -z "$(find "$to" -name "*-$module.ko")" ] || continue
        # Files have either character where the names of modules have one.
        found=$(find "$root" -name "${module//_/[-_]}.ko*" | head -n 1)
        [ -n "$found" ] || continue
        case $found in
            *.xz) xz -dc "$found" >"$to/new" ;;
            *) cp "$found" "$to/new" ;;
        esac
        needs=$(tr '\0' '\n' <"$to/new" | sed -n 's/^depends=//p' | tr ,- ' _')
        mv "$to/new" "$to/.$module"
        # shellcheck disable=SC2086 # a list of words
        add_modules "$root" "$to" $needs
        mv "$to/.$module" "$to/$(printf %03d "$(find "$to" -name '*.ko' | wc -l)")-$module.ko"
    done
}

# An initramfs $2 for the kernel in $1: loads all its modules and mounts the root image.
make_initramfs() {
    local kernel=$1 out=$2 dir
    dir=$(mktemp -d "$scratch/initramfs.XXXXXX")
    mkdir -p "$dir"/{bin,dev,proc,root}
    cp /bin/busybox "$dir/bin/"
    cp tests/kernels/init "$dir/init"
    cp -r "$kernel/modules" "$dir/modules"
    (cd "$dir" && find . | busybox cpio -o -H newc 2>/dev/null) >"$out"
    rm -rf "$dir"
}
