//! What tells objects apart: inode numbers, and the index of hard links.

use super::options::{Group, MountOption, Takes};
use crate::config::{IndexChoice, Numbers};

/// The option `xino`.
pub const XINO: MountOption = MountOption {
    name: "xino",
    metavar: "on|off|auto",
    group: Group::Layers,
    takes: Takes::Choice(&[
        ("on", |request| request.config.numbers = Numbers::Tagged),
        ("off", |request| request.config.numbers = Numbers::Plain),
        ("auto", |request| request.config.numbers = Numbers::Tagged),
    ]),
    help: "Whether the upper bits of inode numbers tell the file system. Default: auto",
    doc: "Matters where layers lie on several file systems; `auto` is `on`. With `off`, what is not \
              on the upper's file system has numbers that last until the kernel forgets them.",
};

/// The option `ino32_t`.
pub const INO32_T: MountOption = MountOption {
    name: "ino32_t",
    metavar: "",
    group: Group::Layers,
    takes: Takes::Words(&[("ino32_t", |request| request.config.numbers = Numbers::Short)]),
    help: "Inode numbers of no more than 32 bits, for programs that know no others",
    doc: "",
};

/// The option `index`.
pub const INDEX: MountOption = MountOption {
    name: "index",
    metavar: "on|off|auto",
    group: Group::Layers,
    takes: Takes::Choice(&[
        ("on", |request| request.config.index = IndexChoice::On),
        ("off", |request| request.config.index = IndexChoice::Off),
        ("auto", |request| request.config.index = IndexChoice::Auto),
    ]),
    help: "Keep hard links of lower layers together over copy-up and remounts. Default: off",
    doc: "The index stands in the work directory, in the form of the kernel's overlayfs. `auto` uses \
              it where the file systems have handles and UUIDs. With `on` the count of names is exact \
              after a remount too, for which a hard link is copied up when one of its names is removed; \
              and an index of another upper is refused.",
};

/// The option `nfs_export`.
pub const NFS_EXPORT: MountOption = MountOption {
    name: "nfs_export",
    metavar: "on|off",
    group: Group::Layers,
    takes: Takes::Choice(&[
        ("on", |request| request.config.nfs_export = true),
        ("off", |request| request.config.nfs_export = false),
    ]),
    help: "Whether file handles last as long as the mount. Default: off",
    doc: "What the kernel has forgotten is found again then, which takes some 150 bytes for each \
              object that was ever looked up. Without it a handle is stale when the kernel has \
              forgotten its object. Needs nothing else, `index=on` neither.",
};
