//! What other programs write into layers, read by ovlmerge: the kernel's overlayfs with all its
//! features, fuse-overlayfs, AUFS, and what nobody should have written.
//!
//! Wherever the kernel reads a form, it is the oracle: one stack of layers is mounted by both, and
//! the whole trees are compared.
//!
//! * [`layers`]: stacks of layers whose upper ones the kernel wrote, and how they are compared;
//! * [`redirect`], [`metacopy`], [`whiteout`], [`number`]: one kind of mark each;
//! * [`data_only`]: layers that only lend data; [`forms`]: the options about marks;
//! * [`metacopy_write`]: data left below by ovlmerge;
//! * [`takeover`]: the kernel goes on where ovlmerge changed its upper;
//! * [`foreign`]: forms that the kernel does not read;
//! * [`one_form`]: whiteouts of the form that was chosen, and of no other;
//! * [`oci`]: layers of images as tar(1) unpacks them;
//! * [`hostile`], [`limits`]: values that make no sense, or are as large as can be.

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

/// Returns from the test unless both engines can be mounted here, and ovlmerge is the one tested.
macro_rules! needs_both {
    () => {
        $crate::needs!(mount, kernel_overlay);
        $crate::not_the_kernels!("it is the oracle here, with options of its own");
    };
}

mod data_only;
mod foreign;
mod forms;
mod hostile;
mod incompat;
mod layers;
mod limits;
mod links;
mod metacopy;
mod metacopy_write;
mod number;
mod oci;
mod one_form;
mod protattr;
mod redirect;
mod takeover;
mod whiteout;
