//! ovlmerge: an overlay filesystem in user space.
//!
//! Several directories, the *layers*, appear as one tree. The lower layers are never written; what
//! changes goes to the upper one, in the form that the kernel's overlayfs uses. A whole mount is a
//! [`vfs::Vfs`] and a transport ([`fuse`]) between it and the kernel.
//!
//! # Reading path
//! [`layer`] (a directory that can be opened again, the upper, staged objects), then [`merge`]
//! (what a stack of layers looks like and how it is changed), then [`vfs`] (nodes, locks, open
//! files), then [`fuse`].
//!
//! # Dependencies
//! Left may use right, nothing else: `main` → [`cli`] → [`fuse`] → [`control`] → [`vfs`] →
//! [`merge`] → [`layer`] → [`format`](mod@format) → [`sys`] → [`error`]. [`config`] and
//! [`id`] are plain data for all of them.
//! [`tools`] stands beside [`vfs`]: below [`cli`], above [`merge`]. [`transport`] stands beside
//! [`vfs`] too: below [`fuse`], above [`sys`], and knows no other module.
//!
//! # Invariants
//! * A lower layer has no mutating method: [`layer::LowerDir`].
//! * Every name passes [`sys::Name`]; no system call gets a path with a slash after the layers are
//!   open.
//! * What changes the upper in more than one step is built in the work directory and published by
//!   one system call: [`layer::Staged`].
//! * One form for each marker, found out once: [`layer::upper::Forms`].
//! * `unsafe` is in [`sys`] alone.
//! * No lock is held while data is copied but the one of the node that it is copied for.

// The pages are built with private items, as their readers work on the code.
#![allow(rustdoc::private_intra_doc_links)]

pub mod cli;
pub mod config;
pub mod control;
pub mod docs;
pub mod error;
pub mod format;
pub mod fuse;
pub mod id;
pub mod layer;
pub mod merge;
pub mod sys;
pub mod tools;
pub mod transport;
pub mod vfs;
