//! Options about the identity of objects: inode numbers, hard links and file handles.

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
    help: "Whether hard links of lower layers stay one file when they change. Default: off",
    doc: "With `off`, writing to one of several names of a file changes that name alone; the \
              others keep the old contents, as in an object store of hard links they should. With \
              `on` it shows in all names: for `rsync -H` and for package managers that rewrite files \
              in place. The index for that stands in the work directory, in the form of the kernel's \
              overlayfs; over another topmost lower than before, or with another upper, it is \
              refused. Lowers whose files have no handles that last (FUSE) are not in it, and a \
              mount with `ro` does not read it. `auto` uses it where it can be used.",
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
              forgotten its object. One of a file with several names can go stale when the name \
              goes that it was last found by. Needs nothing else, `index=on` neither.",
};
