//! The table of mount options.

use super::copying::COPY_UP;
use super::durability::FSYNC;
use super::libfuse::{DEBUG, LIBFUSE, LIBFUSE_WARNED, MAX_THREADS};
use super::lowers::Lowers;
use super::numbers::{INDEX, INO32_T, NFS_EXPORT, XINO};
use super::options::{Group, MountOption, Takes};
use super::renames::{REDIRECT_DIR, RENAME_LOWER};
use crate::config::{
    Access, Config, Durability, Io, NamespaceChoice, Permissions, WhiteoutChoice, Xattrs,
};

/// Words of mount(8), of fstab and of container runtimes that ask nothing of a file system.
pub const IGNORED: &[&str] = &[
    "defaults", "auto", "noauto", "user", "nouser", "users", "nousers", "owner", "noowner",
    "group", "nogroup", "nofail", "_netdev", "_rnetdev", "private", "silent", "loud", "comment",
    // The kernel shows these for a FUSE mount, and mount(8) passes them to a remount.
    "user_id", "group_id", "rootmode", "seclabel",
];

/// Prefixes of words that are for programs in user space only.
pub const IGNORED_PREFIXES: &[&str] = &["x-", "X-"];

/// Every mount option, in the order of the help.
pub const OPTIONS: &[MountOption] = &[
    MountOption {
        name: "lowerdir",
        metavar: "DIR[:DIR...][::DATADIR...]",
        group: Group::Layers,
        takes: Takes::Layers(|request, lowers| request.lowers = lowers),
        help: "The read-only layers, the topmost first. Required",
        doc: "Write `\\:` for a colon and `\\,` for a comma in a name. There is no limit on the number \
              of layers. Layers behind `::` are data-only: their names never show, and files above \
              have their data there (absolute `overlay.redirect` of metacopy files).",
    },
    MountOption {
        name: "lowerdir+",
        metavar: "DIR",
        group: Group::Layers,
        takes: Takes::Layer(Lowers::add_merged),
        help: "One more read-only layer below those so far. May be given more than once",
        doc: "A colon in the name is a colon, and a backslash before it is one. Not together with lowerdir.",
    },
    MountOption {
        name: "datadir+",
        metavar: "DIR",
        group: Group::Layers,
        takes: Takes::Layer(Lowers::add_data_only),
        help: "One more data-only layer below all others. May be given more than once",
        doc: "",
    },
    MountOption {
        name: "upperdir",
        metavar: "DIR",
        group: Group::Layers,
        takes: Takes::Path(|request, path| request.upper = Some(path)),
        help: "The writable layer. Without it the mount is read-only",
        doc: "",
    },
    MountOption {
        name: "workdir",
        metavar: "DIR",
        group: Group::Layers,
        takes: Takes::Path(|request, path| request.work = Some(path)),
        help: "Scratch space on the file system of upperdir. Required with upperdir",
        doc: "Not with `ro`. Changes are built here and moved into the upper in one step. What a crash left behind \
              is removed at the next mount.",
    },
    MountOption {
        name: "dirmeta_delegate",
        metavar: "on|off",
        group: Group::Layers,
        takes: Takes::Switch(|request, on| request.config.dirmeta_delegate = on),
        help: "Let marked directories lend only their names. Default: on",
        doc: "Mode, owner, times, ACLs and extended attributes of a directory that carries \
              `overlay.dirmeta_delegate` come from the first one below it that does not.",
    },
    MountOption {
        name: "redirect_dir",
        metavar: "off|follow|nofollow|on",
        group: Group::Layers,
        takes: Takes::Choice(REDIRECT_DIR),
        help: "Whether redirects are followed and written. Default: off, which follows them",
        doc: "With `on` a directory of a lower layer is renamed by a redirect, as the kernel does. \
              That takes markers in trusted.overlay.: with user.overlay. the kernel follows no \
              redirects, so both refuse `on`. With `nofollow` a redirected directory gives EPERM.",
    },
    RENAME_LOWER,
    XINO,
    INO32_T,
    INDEX,
    NFS_EXPORT,
    MountOption {
        name: "xattr",
        metavar: "auto|trusted|user",
        group: Group::Storage,
        takes: Takes::Choice(&[
            ("auto", |request| request.config.namespace = NamespaceChoice::Auto),
            ("trusted", |request| request.config.namespace = NamespaceChoice::Trusted),
            ("user", |request| request.config.namespace = NamespaceChoice::User),
        ]),
        help: "Where markers are kept: trusted.overlay. or user.overlay. Default: auto",
        doc: "`auto` takes trusted.overlay. with privilege in the initial user namespace, else \
              user.overlay.",
    },
    MountOption {
        name: "userxattr",
        metavar: "",
        group: Group::Storage,
        takes: Takes::Words(&[("userxattr", |request| {
            request.config.namespace = NamespaceChoice::User;
        })]),
        help: "The kernel's name for xattr=user",
        doc: "",
    },
    MountOption {
        name: "whiteout",
        metavar: "auto|char|xattr|aufs",
        group: Group::Storage,
        takes: Takes::Choice(&[
            ("auto", |request| request.config.whiteout = WhiteoutChoice::Auto),
            ("char", |request| request.config.whiteout = WhiteoutChoice::Device),
            ("xattr", |request| request.config.whiteout = WhiteoutChoice::Xattr),
            ("aufs", |request| request.config.whiteout = WhiteoutChoice::Aufs),
        ]),
        help: "How removed names are marked in the upper. Default: auto",
        doc: "`char`: devices 0:0. `xattr`: empty files with an attribute. `aufs`: files `.wh.NAME`, and \
              `.wh..wh..opq` in opaque directories. `auto`: the first that the upper can hold. With \
              `char` or `xattr`, names that begin with `.wh.` are ordinary names in all layers.",
    },
    MountOption {
        name: "metacopy",
        metavar: "on|off",
        group: Group::Storage,
        takes: Takes::Switch(|request, on| request.config.metacopy = on),
        help: "Leave the data below when only metadata changes. Default: off",
        doc: "chmod, chown and their like copy no data then; the first write does. The kernel's overlayfs \
              goes on with such an upper if it is mounted with metacopy=on and redirect_dir=on. Needs \
              `trusted.overlay.` attributes; without them a warning is given and data is copied.",
    },
    MountOption {
        name: "volatile",
        metavar: "",
        group: Group::Storage,
        takes: Takes::Words(&[("volatile", |request| {
            request.config.durability = Durability::Volatile;
        })]),
        help: "The kernel's name for fsync=volatile",
        doc: "",
    },
    COPY_UP,
    FSYNC,
    MountOption {
        name: "sync",
        metavar: "",
        group: Group::Storage,
        takes: Takes::Words(&[
            ("sync", |request| request.config.mount.sync = true),
            ("async", |request| request.config.mount.sync = false),
        ]),
        help: "Whether every write reaches the disk before it returns. Default: async",
        doc: "",
    },
    MountOption {
        name: "dirsync",
        metavar: "",
        group: Group::Storage,
        takes: Takes::Words(&[("dirsync", |request| request.config.mount.dirsync = true)]),
        help: "The mount flag; FUSE gives it no effect",
        doc: "",
    },
    MountOption {
        name: "uidmapping",
        metavar: "A:B:COUNT[:A:B:COUNT...]",
        group: Group::Owners,
        takes: Takes::Map(|request, ranges| request.uids.map = Some(ranges)),
        help: "Users A to A+COUNT-1 of the layers appear as B to B+COUNT-1",
        doc: "Users that no range has are nobody. A container runtime gives container:host:size. One \
              colon may stand in front.",
    },
    MountOption {
        name: "gidmapping",
        metavar: "A:B:COUNT[:A:B:COUNT...]",
        group: Group::Owners,
        takes: Takes::Map(|request, ranges| request.gids.map = Some(ranges)),
        help: "The same for groups",
        doc: "",
    },
    MountOption {
        name: "squash_to_uid",
        metavar: "UID",
        group: Group::Owners,
        takes: Takes::Id(|request, id| request.uids.all = Some(id)),
        help: "Everything belongs to this user",
        doc: "New objects belong to whoever runs the mount; chown succeeds and changes no user.",
    },
    MountOption {
        name: "squash_to_gid",
        metavar: "GID",
        group: Group::Owners,
        takes: Takes::Id(|request, id| request.gids.all = Some(id)),
        help: "The same for the group",
        doc: "",
    },
    MountOption {
        name: "squash_to_root",
        metavar: "",
        group: Group::Owners,
        takes: Takes::Words(&[("squash_to_root", |request| request.squash_to_root = true)]),
        help: "squash_to_uid=0 and squash_to_gid=0 in one",
        doc: "",
    },
    MountOption {
        name: "xattr_permissions",
        metavar: "0|1|2",
        group: Group::Owners,
        takes: Takes::Choice(&[
            ("0", |request| request.config.permissions = Permissions::Inode),
            ("1", |request| request.config.permissions = Permissions::SecurityXattr),
            ("2", |request| request.config.permissions = Permissions::UserXattr),
        ]),
        help: "Where the upper keeps owners, modes and devices. Default: 0, in its inodes",
        doc: "With 1 in the attribute security.fuseoverlayfs.override_stat, with 2 in \
              user.containers.override_stat: for a server or a file system that cannot have the real \
              ones. There are no ACLs then. Layers that have them there are always understood.",
    },
    MountOption {
        name: "allow_other",
        metavar: "",
        group: Group::Access,
        takes: Takes::Words(&[
            ("allow_other", |request| request.config.mount.access = Some(Access::Everybody)),
            ("allow_root", |request| request.config.mount.access = Some(Access::OwnerAndRoot)),
        ]),
        help: "Who but the owner may use the mount. Default: everybody if root mounts it",
        doc: "An ordinary user needs `user_allow_other` in /etc/fuse.conf. With `allow_root` (the owner \
              and root) the kernel remembers nothing, as timeout=0 has it.",
    },
    MountOption {
        name: "default_permissions",
        metavar: "",
        group: Group::Access,
        takes: Takes::Words(&[("default_permissions", |request| {
            request.config.mount.default_permissions = true;
        })]),
        help: "The kernel checks modes, owners and ACLs. Always on",
        doc: "",
    },
    MountOption {
        name: "noacl",
        metavar: "",
        group: Group::Access,
        takes: Takes::Words(&[("noacl", |request| request.restrict_xattrs(Xattrs::WithoutAcls))]),
        help: "No POSIX ACLs in the mount; those on the layers stay",
        doc: "Not needed for layers on file systems without ACLs: objects there have none.",
    },
    MountOption {
        name: "noxattrs",
        metavar: "0|1",
        group: Group::Access,
        takes: Takes::Switch(|request, on| {
            request.restrict_xattrs(if on { Xattrs::None } else { Xattrs::All });
        }),
        help: "noxattrs=1: no extended attributes in the mount, and no ACLs. Default: 0",
        doc: "Programs get EOPNOTSUPP. Copies keep those that a layer has.",
    },
    MountOption {
        name: "ro",
        metavar: "",
        group: Group::Flags,
        takes: Takes::Words(&[
            ("ro", |request| request.config.mount.read_only = true),
            ("rw", |request| request.config.mount.read_only = false),
        ]),
        help: "Whether changes are refused. Default: rw if there is an upperdir",
        doc: "With `ro` an upperdir is the topmost of the read-only layers: it may be in use by \
              another mount, nothing is locked or written, workdir may be missing, and the mount \
              cannot be made writable later. A workdir that a killed `volatile` mount has left is \
              refused. A warning says so where `rw` has no upperdir.",
    },
    MountOption {
        name: "remount",
        metavar: "",
        group: Group::Flags,
        takes: Takes::Words(&[("remount", |request| request.remount = true)]),
        help: "Give a mount that is there other mount flags",
        doc: "Flags that are not named stay, and all other options are as they were when it was \
              mounted. Needs no layers. For root, or root of the user namespace that mounted it.",
    },
    MountOption {
        name: "suid",
        metavar: "",
        group: Group::Flags,
        takes: Takes::Words(&[
            ("suid", |request| request.config.mount.suid = Some(true)),
            ("nosuid", |request| request.config.mount.suid = Some(false)),
        ]),
        help: "Whether setuid and setgid bits count. Default: suid if root mounts it",
        doc: "An ordinary user has nosuid and nodev in any case, and is warned. mount.fuse3 gives \
              `suid,dev` where nothing else is said.",
    },
    MountOption {
        name: "dev",
        metavar: "",
        group: Group::Flags,
        takes: Takes::Words(&[
            ("dev", |request| request.config.mount.dev = Some(true)),
            ("nodev", |request| request.config.mount.dev = Some(false)),
        ]),
        help: "Whether device nodes work. Default: nodev",
        doc: "",
    },
    MountOption {
        name: "exec",
        metavar: "",
        group: Group::Flags,
        takes: Takes::Words(&[
            ("exec", |request| request.config.mount.exec = true),
            ("noexec", |request| request.config.mount.exec = false),
        ]),
        help: "Whether programs can be run. Default: exec",
        doc: "",
    },
    MountOption {
        name: "noatime",
        metavar: "",
        group: Group::Flags,
        takes: Takes::Words(&[
            ("noatime", |request| request.config.mount.atime = false),
            ("atime", |request| request.config.mount.atime = true),
            ("relatime", |request| request.config.mount.atime = true),
            ("strictatime", |request| request.config.mount.atime = true),
            ("lazytime", |_| {}),
            ("nolazytime", |_| {}),
        ]),
        help: "The mount flags for access times, which no layer keeps. Default: noatime",
        doc: "",
    },
    MountOption {
        name: "diratime",
        metavar: "",
        group: Group::Flags,
        takes: Takes::Words(&[
            ("diratime", |request| request.config.mount.diratime = true),
            ("nodiratime", |request| request.config.mount.diratime = false),
        ]),
        help: "The same for directories. Default: diratime",
        doc: "",
    },
    MountOption {
        name: "fsname",
        metavar: "NAME",
        group: Group::Flags,
        takes: Takes::Text(|request, name| request.config.mount.fsname = name),
        help: "The source that /proc/mounts shows. Default: ovlmerge",
        doc: "",
    },
    MountOption {
        name: "subtype",
        metavar: "NAME",
        group: Group::Flags,
        takes: Takes::Text(|request, name| request.config.mount.subtype = name),
        help: "The type that /proc/mounts shows, behind `fuse.`. Default: ovlmerge",
        doc: "",
    },
    MountOption {
        name: "context",
        metavar: "LABEL",
        group: Group::Flags,
        takes: Takes::Text(|request, label| request.set_label("context", label)),
        help: "The SELinux label of everything in the mount",
        doc: "A label with commas stands in double quotes. Where the kernel takes no label (it has no \
              SELinux, the mount is made in a user namespace or by fusermount3), the mount is made \
              without it.",
    },
    MountOption {
        name: "fscontext",
        metavar: "LABEL",
        group: Group::Flags,
        takes: Takes::Text(|request, label| request.set_label("fscontext", label)),
        help: "The SELinux label of the file system itself",
        doc: "",
    },
    MountOption {
        name: "defcontext",
        metavar: "LABEL",
        group: Group::Flags,
        takes: Takes::Text(|request, label| request.set_label("defcontext", label)),
        help: "The SELinux label of what has none",
        doc: "",
    },
    MountOption {
        name: "rootcontext",
        metavar: "LABEL",
        group: Group::Flags,
        takes: Takes::Text(|request, label| request.set_label("rootcontext", label)),
        help: "The SELinux label of the root directory",
        doc: "",
    },
    MountOption {
        name: "auto_unmount",
        metavar: "",
        group: Group::Flags,
        takes: Takes::Words(&[("auto_unmount", |request| {
            request.config.mount.auto_unmount = true;
        })]),
        help: "Unmount should the server be killed. Needs fusermount3",
        doc: "That of Debian 12 (3.14) does so only for root, and with `allow_other`",
    },
    MountOption {
        name: "timeout",
        metavar: "SECONDS",
        group: Group::Speed,
        takes: Takes::Seconds(|request, seconds| request.config.timeout = seconds),
        help: "For how many seconds names and contents may be cached. Default: for ever",
        doc: "One second with `ro` and an upperdir, which another mount may change. For lower \
              layers that something changes behind the mount: after that time a file shows its old \
              or its new contents as a whole, and names that were added, replaced or removed show. \
              A change of a file is known by its size or time of modification. Whatever is used \
              after that time costs requests. The upper of a mount that writes must not change in \
              any case.",
    },
    MountOption {
        name: "io",
        metavar: "auto|cached|passthrough",
        group: Group::Speed,
        takes: Takes::Choice(&[
            ("auto", |request| request.config.io = Io::Auto),
            ("cached", |request| request.config.io = Io::Cached),
            ("passthrough", |request| request.config.io = Io::Passthrough),
        ]),
        help: "How files are read and written. Default: auto, which is cached",
        doc: "`cached`: through requests; the kernel keeps the pages, and opens files without a \
              request. `passthrough`: files of the upper at the speed of its file system, but each \
              open and close is a request; for large writes. It takes Linux 6.9 and CAP_SYS_ADMIN \
              in the initial user namespace, else a warning says that it is `cached`.",
    },
    MountOption {
        name: "writeback",
        metavar: "0|1",
        group: Group::Speed,
        takes: Takes::Switch(|request, on| request.config.writeback = on),
        help: "Let the kernel gather small writes. Default: 0",
        doc: "A write that fails, as on a full disk, is then told by close(2) or fsync(2), and until \
              the kernel forgets the file it shows zeros. Not together with `timeout` or \
              `io=passthrough`",
    },
    MountOption {
        name: "max_write",
        metavar: "BYTES",
        group: Group::Speed,
        takes: Takes::Number {
            min: 4096,
            max: Config::MAX_WRITE,
            set: |request, bytes| request.config.max_write = bytes,
        },
        help: "The largest read or write request. Default: 1048576",
        doc: "",
    },
    MountOption {
        name: "max_read",
        metavar: "BYTES",
        group: Group::Speed,
        takes: Takes::Number {
            min: 4096,
            max: Config::MAX_WRITE,
            set: |request, bytes| request.config.mount.max_read = Some(bytes),
        },
        help: "The largest read request alone. Default: as max_write",
        doc: "",
    },
    MountOption {
        name: "threaded",
        metavar: "0|1",
        group: Group::Speed,
        takes: Takes::Switch(|request, on| {
            let threads = &mut request.config.threads;
            // `threaded=1` does not change `threads=8`.
            *threads = if on { threads.filter(|number| *number > 1) } else { Some(1) };
        }),
        help: "threaded=0 is threads=1. Default: 1",
        doc: "",
    },
    MountOption {
        name: "threads",
        metavar: "N",
        group: Group::Speed,
        takes: Takes::Number {
            min: 1,
            max: 1024,
            set: |request, threads| request.config.threads = Some(threads),
        },
        help: "How many threads serve requests. More come while these wait for a layer, and go \
               again. Default: by the number of processors",
        doc: "",
    },
    MountOption {
        name: "spin",
        metavar: "MICROSECONDS",
        group: Group::Speed,
        takes: Takes::Number {
            min: 0,
            max: Config::LONGEST_SPIN,
            set: |request, longest| {
                request.config.spin = std::time::Duration::from_micros(longest.into());
            },
        },
        help: "How long a thread looks for the next request of a busy client before it sleeps. \
               Default: 50",
        doc: "0 saves processor time, and makes each request wait for a thread to wake up.",
    },
    MountOption {
        name: "verity",
        metavar: "off",
        group: Group::Compatibility,
        takes: Takes::Fixed {
            value: "off",
            why: "digests of fs-verity are not compared with the data, and a mount that does not would \
                  trust what it should not: leave it out, or give verity=off",
        },
        help: "Whether digests in metacopy marks are compared with the data. Only off is possible",
        doc: "",
    },
    MountOption {
        name: "static_nlink",
        metavar: "",
        group: Group::Compatibility,
        takes: Takes::Nothing(&["static_nlink"]),
        help: "No effect: merged directories have a link count of 1 in any case",
        doc: "",
    },
    MountOption {
        name: "fast_ino",
        metavar: "0|1",
        group: Group::Compatibility,
        takes: Takes::Nothing(&["fast_ino"]),
        help: "No effect: inode numbers are right in any case, and cost nothing more",
        doc: "",
    },
    MountOption {
        name: "plugins",
        metavar: "",
        group: Group::Compatibility,
        takes: Takes::Never(
            "plugins are not supported: unpack the layer, or mount it by other means, and name the \
             directory in lowerdir",
        ),
        help: "Refused, as is lowerdir=//PLUGIN/...: there are no plugins",
        doc: "",
    },
    MountOption {
        name: "nonempty",
        metavar: "",
        group: Group::Compatibility,
        takes: Takes::Nothing(&["nonempty"]),
        help: "No effect: the mountpoint need not be empty in any case",
        doc: "",
    },
    MAX_THREADS,
    DEBUG,
    LIBFUSE,
    LIBFUSE_WARNED,
];
