//! FUSE as plain data: requests from the kernel, and answers to it.
//!
//! A [`device::Device`] is the connection. [`waiting`] defines how threads wait for requests.
//! [`request`] parses bytes into a [`request::Request`], and a [`reply::Reply`] is its only answer.
//! [`init`] negotiates with the kernel. [`pipe`] moves data from a file to the kernel without a
//! copy in our memory. [`abi`] has the constants of linux/fuse.h, and [`wire`] the encoding. No
//! module here knows the tree, the layers or the options of a mount.
//!
//! # Why not the crate `fuser`
//! Its version 0.18 lacks the following, all of which the mount needs. Its repository has had
//! TMPFILE, STATX and `FATTR_KILL_SUIDGID` since August 2026, and has no release with them yet.
//!
//! * TMPFILE and STATX.
//! * The flags for clearing set-id bits in SETATTR (`FATTR_KILL_SUIDGID`), in OPEN
//!   (`FUSE_OPEN_KILL_SUIDGID`) and in SETXATTR (`FUSE_SETXATTR_EXT`).
//! * A node whose number in the protocol is not the `st_ino` that users see: both are
//!   `FileAttr::ino`. Here, names of one file may be separate nodes that show one inode number.
//! * Answers whose data comes from a file by splice(2).
//! * A non-blocking device, so that threads can wait for requests in the way that is cheapest on
//!   the machine, and so that the number of threads can follow the work.
//! * An answer by another thread than the one that works on the request.
//!
//! This module can go when a release of that crate has them.

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
