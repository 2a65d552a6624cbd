//! Between the kernel's FUSE and [`crate::vfs`]: the only place that names FUSE.
//!
//! * [`session`]: mounting, serving, leaving.
//! * [`adapter`]: requests to operations and back.
//! * [`answer`]: results to replies, and what a panic does; [`inode_flags`]: chattr(1).
//! * [`convert`]: attributes, times and errors in the transport's types.
//! * [`pool`]: threads for what may take long.
//!
//! # What the kernel may remember
//! Layers change only through the mount, so names, absent names, attributes, listings, links and
//! pages are good for ever, unless `timeout=` says less. What one request changes besides what it
//! names, the kernel knows by itself: it drops the attributes of a directory in which it made or
//! removed a name, and of a file to which it wrote.
//!
//! # What the transport does not carry
//! `O_TMPFILE` (EOPNOTSUPP; programs fall back to a name), the birth time of statx(2), and the
//! kernel's word on whether a truncating caller keeps set-id bits (anybody but uid 0 loses them).

mod adapter;
mod answer;
mod convert;
mod inode_flags;
mod pool;
pub mod session;

pub use session::{StartError, serve};
