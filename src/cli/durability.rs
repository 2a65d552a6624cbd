//! The option that sets what is forced to the disk, and when.

use super::options::{Group, MountOption, Takes};
use crate::config::Durability;

/// The option `fsync`, in the words of the kernel's overlayfs and of fuse-overlayfs.
pub const FSYNC: MountOption = MountOption {
    name: "fsync",
    metavar: "auto|strict|volatile|0|1",
    group: Group::Storage,
    takes: Takes::Choice(&[
        ("auto", |request| request.config.durability = Durability::Normal),
        ("strict", |request| request.config.durability = Durability::Strict),
        ("volatile", |request| request.config.durability = Durability::Volatile),
        ("0", |request| request.config.durability = Durability::Volatile),
        ("1", |request| request.config.durability = Durability::Normal),
    ]),
    help: "What is forced to the disk, and when. Default: auto",
    doc: "`auto` or 1: copied data, before its name appears; fsync(2) works. `strict`: copied directories \
          and metadata too, which costs an fsync(2) each, for an upper on a file system such as ubifs \
          that keeps no order. `volatile` or 0: nothing, not even by fsync(2); after a crash the upper \
          must be thrown away.",
};
