//! Files that the kernel serves for a FUSE server (passthrough, Linux 6.9).
//!
//! # References
//! `struct fuse_backing_map` of linux/fuse.h, fs/fuse/passthrough.c (backing.c since Linux 6.18).

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::request_code_write;

use super::ioctl::number;
use super::result::check;
use crate::error::Result;

/// `FUSE_DEV_IOC_BACKING_OPEN` of linux/fuse.h.
const OPEN: u32 = number(request_code_write!(FUSE, 1, size_of::<Map>()));
/// `FUSE_DEV_IOC_BACKING_CLOSE` of linux/fuse.h.
const CLOSE: u32 = number(request_code_write!(FUSE, 2, size_of::<u32>()));

/// The type of these requests (`FUSE_DEV_IOC_MAGIC`, linux/fuse.h).
const FUSE: u8 = 229;

#[repr(C)]
struct Map {
    fd: i32,
    flags: u32,
    padding: u64,
}

/// Tells the connection `device` of a file that the kernel may read and write by itself. Returns
/// the number that stands for the file. It keeps the file open: `file` may be closed, and the
/// access mode of `file` does not matter.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN in the initial user namespace, or if INIT did not agree on it; ELOOP
/// for a file on another stacked file system; EINVAL for anything but a regular file.
pub fn open(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> Result<i32> {
    let map = Map { fd: file.as_raw_fd(), flags: 0, padding: 0 };
    // SAFETY: the kernel reads one struct fuse_backing_map.
    check(unsafe { libc::ioctl(device.as_raw_fd(), OPEN.into(), &raw const map) })
}

/// Takes the number back. Files that were opened with it can still be used.
///
/// # Errors
/// ENOENT for a number that is not in use.
pub fn close(device: BorrowedFd<'_>, number: i32) -> Result<()> {
    let number = number.cast_unsigned();
    // SAFETY: the kernel reads one 32-bit number.
    check(unsafe { libc::ioctl(device.as_raw_fd(), CLOSE.into(), &raw const number) })?;
    Ok(())
}
