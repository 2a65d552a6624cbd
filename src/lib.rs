//! ovlmerge: an overlay filesystem in user space.
//!
//! Several directories, the *layers*, appear as one tree. The lower layers are never written.
//! Changes go to the upper layer, in the form that the kernel's overlayfs uses. A mount consists of
//! a [`vfs::Vfs`] and a transport ([`fuse`]) between it and the kernel.
//!
//! # Where to begin reading
//! [`layer`] (directories that reopen themselves, the upper, staged objects), then [`merge`] (how a
//! stack of layers looks, and how it is changed), then [`vfs`] (nodes, locks, open files), then
//! [`fuse`].
//!
//! # Dependencies
//! A module may use the modules to its right, and no others: `main` → [`cli`] → [`fuse`] →
//! [`control`] → [`vfs`] → [`merge`] → [`layer`] → [`format`](mod@format) → [`sys`] → [`error`].
//! All may use [`config`] and [`id`], which are plain data. [`tools`] stands beside [`vfs`], below
//! [`cli`] and above [`merge`]. [`transport`] stands beside [`vfs`], below [`fuse`], and uses only
//! [`sys`], [`error`] and [`id`].
//!
//! # Invariants
//! * A lower layer has no mutating method: [`layer::LowerDir`].
//! * Each name is checked by [`sys::Name`]. Once the layers are open, no system call gets a path
//!   with a slash.
//! * A change of the upper in several steps is built in the work directory, and published by one
//!   system call: [`layer::Staged`].
//! * Each mark has one form, which is found out at the mount: [`layer::upper::Forms`].
//! * `unsafe` is in [`sys`] alone.
//! * While data is copied, the only lock held is that of the node that it is copied for.

// Include private items, because readers of these pages work on the code.
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
