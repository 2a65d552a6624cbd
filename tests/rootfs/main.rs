//! Real input: a Debian root filesystem in layers, a chroot into the mount, packages installed and
//! removed there, a program compiled; then the same layers on the kernel's overlayfs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unreachable,
    missing_docs,
    unsafe_code
)]

#[path = "../support/mod.rs"]
mod support;

mod chroot;
mod debian;
mod image;
#[path = "../posix/kernel.rs"]
mod kernel;
mod layers;
