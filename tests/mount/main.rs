//! Black-box tests of the mounted file system, one file for each kind of operation.
//!
//! All but the few that say otherwise hold for the kernel's overlayfs too, and can be run against
//! it: see `support`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unreachable,
    missing_docs
)]

#[path = "../support/mod.rs"]
mod support;

mod acl;
mod changing;
mod copy_up_by;
mod create;
mod defects;
mod descriptors;
mod direct;
mod dirmeta;
mod dirmeta_more;
mod dirs;
mod ending;
mod forget;
mod frozen;
mod given_up;
mod handles;
mod hardlinks;
mod holes;
mod idmapped;
mod inodes;
mod ioctl;
mod leaving;
mod link;
mod locks;
mod lookup;
mod many_layers;
mod markers;
mod memory;
mod mknod;
mod mmap;
mod nameless;
mod namespace;
mod open_files;
mod override_stat;
mod own_modes;
mod owners;
mod parallel;
mod passthrough;
mod permissions;
mod positions;
mod readahead;
mod readdir;
mod readonly;
mod rename;
mod rename_dir;
mod rootless;
mod session;
mod shown;
mod slow_layers;
mod symlink;
mod sync;
mod times;
mod unlink;
mod unmapped;
mod upper;
mod write;
mod xattr;
