//! Layers on file systems of all kinds: those of the kernel, those that other programs serve, other
//! overlays, and mounts of ovlmerge itself.
//!
//! * [`scene`]: what is done on each, and the one listing that has to come out;
//! * [`lowers`], [`uppers`]: one test a file system;
//! * [`inside`]: ovlmerge with all its layers in a mount of ovlmerge;
//! * [`kernel`]: the kernel's overlayfs with layers in a mount of ovlmerge.

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

/// Returns from the test unless all that it names is here, and ovlmerge is the one tested.
macro_rules! needs_programs {
    ($($name:expr),*) => {
        $crate::needs!(mount, kernel_overlay, loop_device);
        $crate::not_the_kernels!("these mounts are those of ovlmerge");
        for name in ["python3", $($name),*] {
            if !$crate::support::need::program($crate::test_name!(), name) {
                return;
            }
        }
    };
}

mod inside;
mod kernel;
mod lowers;
mod scene;
mod uppers;
