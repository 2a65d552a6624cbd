//! FUSE as plain data: requests that came from the kernel, answers that go there.
//!
//! A [`device::Device`] is the connection. [`waiting`] says how threads wait for what comes over
//! it, [`request`] turns bytes into a [`request::Request`], and a [`reply::Reply`] is the one
//! answer that it gets. [`init`] agrees with the kernel on what both can do. [`pipe`] takes data
//! from a file to the kernel without a stop in our memory. Nothing here knows what a request is
//! for: no tree, no layer, no option of a mount. [`abi`] has the numbers of linux/fuse.h, and
//! [`wire`] the bytes.
//!
//! # Why not the crate `fuser`
//! Its version 0.18 lacks the following, all of which the mount needs. Its repository has had
//! TMPFILE, STATX and `FATTR_KILL_SUIDGID` since August 2026, and has no release with them yet.
//!
//! * TMPFILE and STATX.
//! * Who loses set-id bits by SETATTR (`FATTR_KILL_SUIDGID`), by OPEN (`FUSE_OPEN_KILL_SUIDGID`)
//!   and by SETXATTR (`FUSE_SETXATTR_EXT`).
//! * A node whose number in the protocol is not the `st_ino` that users see: both are
//!   `FileAttr::ino`. Names of one file that are nodes of their own show one number here.
//! * Answers that splice(2) takes from a file.
//! * A device that is read without blocking, so that a thread can wait for requests in the way that
//!   is cheapest on the machine, and so that the number of threads can follow the work.
//! * An answer that another thread gives in place of the one that still works on the request.
//!
//! This module can go when that crate has them.

pub mod abi;
pub mod counters;
pub mod device;
pub mod in_flight;
pub mod init;
pub mod pipe;
pub mod reply;
pub mod request;
pub mod waiting;
pub mod wire;
