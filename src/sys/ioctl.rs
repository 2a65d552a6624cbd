//! The inode flags of chattr(1) and lsattr(1).
//!
//! # References
//! ioctl_iflags(2), FS_IOC_FSGETXATTR in linux/fs.h.

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::ioctl::ioctl_num_type;
use nix::{request_code_read, request_code_write};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use super::commit::before_change;
use super::result::check;
use super::writable::WritableFd;
use crate::error::Result;

/// Size of `struct fsxattr` in linux/fs.h, in bytes.
pub const FSXATTR_LEN: usize = 28;

/// `FS_IOC_GETFLAGS` of linux/fs.h, which is declared with `long` and writes an `int`.
pub const GETFLAGS: u32 = number(request_code_read!(b'f', 1, size_of::<libc::c_long>()));
/// `FS_IOC_SETFLAGS` of linux/fs.h.
pub const SETFLAGS: u32 = number(request_code_write!(b'f', 2, size_of::<libc::c_long>()));
/// `FS_IOC_FSGETXATTR` of linux/fs.h.
pub const FSGETXATTR: u32 = number(request_code_read!(b'X', 31, FSXATTR_LEN));
/// `FS_IOC_FSSETXATTR` of linux/fs.h.
pub const FSSETXATTR: u32 = number(request_code_write!(b'X', 32, FSXATTR_LEN));

/// The number of a request. It has 32 bits (asm-generic/ioctl.h), even where `ioctl` takes more. It
/// differs between architectures: powerpc, mips and sparc have other bits for the direction.
#[allow(clippy::cast_possible_truncation)]
pub(super) const fn number(code: ioctl_num_type) -> u32 {
    code as u32
}

/// Reads the inode flags.
pub fn get_flags(fd: BorrowedFd<'_>) -> Result<u32> {
    Ok(ioctl_getflags(fd)?.bits())
}

/// Sets the inode flags.
pub fn set_flags(object: WritableFd<'_>, flags: u32) -> Result<()> {
    before_change()?;
    Ok(ioctl_setflags(object, IFlags::from_bits_retain(flags))?)
}

/// Reads the extended flags and the project id.
pub fn get_fsxattr(fd: BorrowedFd<'_>) -> Result<[u8; FSXATTR_LEN]> {
    let mut out = [0u8; FSXATTR_LEN];
    // SAFETY: the kernel writes one struct fsxattr, for which there is room.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), FSGETXATTR.into(), out.as_mut_ptr()) })?;
    Ok(out)
}

/// Sets the extended flags and the project id.
pub fn set_fsxattr(object: WritableFd<'_>, value: &[u8; FSXATTR_LEN]) -> Result<()> {
    before_change()?;
    // SAFETY: the kernel reads one struct fsxattr.
    check(unsafe {
        libc::ioctl(object.borrowed().as_raw_fd(), FSSETXATTR.into(), value.as_ptr())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers by asm-generic/ioctl.h, which most architectures use.
    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
    fn numbers_of_requests() {
        let numbers = [GETFLAGS, SETFLAGS, FSGETXATTR, FSSETXATTR];
        let known = [0x8008_6601, 0x4008_6602, 0x801c_581f, 0x401c_5820];
        assert_eq!(numbers, known);
    }
}
