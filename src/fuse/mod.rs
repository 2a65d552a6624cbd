//! Between the kernel's FUSE and [`crate::vfs`]: the only place that names FUSE.
//!
//! * [`session`]: mounting, serving; [`negotiation`]: what is agreed on first.
//! * [`in_flight`]: requests that are not finished; [`leaving`]: how the process ends.
//! * [`device`]: the connection; [`abi`], [`wire`]: its numbers and bytes.
//! * [`request`]: bytes to typed requests; [`reply`]: answers to bytes.
//! * [`handler`]: requests to operations of the tree; [`answer`]: what fails, and what panics.
//! * [`walkers`]: who gets attributes with the names of a listing; [`inode_flags`]: chattr(1).
//! * [`opening`]: opening files; [`passthrough`]: those that the kernel reads and writes by itself.
//! * [`crew`]: the threads that read requests, with [`seat`]s; [`waiting`]: how they wait for them.
//! * [`held_up`]: requests that wait for a layer, and their callers; [`pool`]: work that no request
//!   waits for.
//! * [`tell`]: what the mount tells about itself, and [`asker`]: whom; [`counters`].
//!
//! # What the kernel may remember
//! Layers change only through the mount, so names, absent names, attributes, listings, links and
//! pages are good for ever, unless `timeout=` says less. What one request changes besides what it
//! names, the kernel knows by itself: it drops the attributes of a directory in which it made or
//! removed a name, and of a file to which it wrote.
//!
mod abi;
mod answer;
mod asker;
mod counters;
mod crew;
mod device;
mod handler;
mod held_up;
mod in_flight;
mod inode_flags;
mod leaving;
mod negotiation;
mod opening;
mod passthrough;
mod pipe;
mod pool;
mod reading;
mod reply;
mod request;
mod seat;
pub mod session;
mod tell;
mod waiting;
mod walkers;
mod wire;

pub use session::{StartError, default_threads, remount, serve};
