//! The server: from FUSE as plain data ([`crate::transport`]) to operations of [`crate::vfs`].
//!
//! * [`session`]: mounting, serving; [`negotiation`]: what the options ask of the kernel.
//! * [`leaving`]: the end of the process.
//! * [`handler`]: from requests to operations of the tree, with [`translate`]; [`answer`]: errors
//!   and panics.
//! * [`readdirplus_policy`]: which threads get attributes with the names of a listing;
//!   [`inode_flags`]: chattr(1).
//! * [`open_mode`], [`opening`]: opening files; [`passthrough`]: those that the kernel reads and
//!   writes by itself.
//! * [`crew`]: the threads that read requests, with [`seat`]s.
//! * [`held_up`]: requests that wait for a layer, and their callers; [`pool`]: work that no request
//!   waits for.
//! * [`tell`]: answers about the mount itself; [`asker`]: the check of who asks.
//!
//! # What the kernel may remember
//! Layers change only through the mount. So names, absent names, attributes, listings, links and
//! pages stay valid for ever, unless `timeout=` says less. The kernel knows the side effects of a
//! request by itself: it drops the attributes of a directory in which it made or removed a name,
//! and of a file to which it wrote.

mod answer;
mod asker;
mod crew;
mod handler;
mod held_up;
mod inode_flags;
mod leaving;
mod negotiation;
mod open_mode;
mod opening;
mod passthrough;
mod pool;
mod readdirplus_policy;
mod reading;
mod seat;
pub mod session;
mod tell;
mod translate;

pub use session::{StartError, default_threads, remount, serve};
