//! The inode flags of chattr(1) and lsattr(1).
//!
//! # References
//! ioctl_iflags(2), FS_IOC_FSGETXATTR in linux/fs.h.

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::ioctl::ioctl_num_type;
use nix::{request_code_read, request_code_write};

use super::at::check;
use super::commit::before_change;
use super::uuid;
use super::writable::WritableFd;
use crate::error::Result;

/// Size of `struct fsxattr` in linux/fs.h, in bytes.
pub const FSXATTR_LEN: usize = 28;

/// Bytes of a file system's UUID.
pub const UUID_LEN: usize = 16;

/// `FS_IOC_GETFLAGS` of linux/fs.h, which is declared with `long` and answers an `int`.
pub const GETFLAGS: u32 = number(request_code_read!(b'f', 1, size_of::<libc::c_long>()));
/// `FS_IOC_SETFLAGS` of linux/fs.h.
pub const SETFLAGS: u32 = number(request_code_write!(b'f', 2, size_of::<libc::c_long>()));
/// `FS_IOC_FSGETXATTR` of linux/fs.h.
pub const FSGETXATTR: u32 = number(request_code_read!(b'X', 31, FSXATTR_LEN));
/// `FS_IOC_FSSETXATTR` of linux/fs.h.
pub const FSSETXATTR: u32 = number(request_code_write!(b'X', 32, FSXATTR_LEN));

/// `FS_IOC_GETFSUUID` of linux/fs.h (Linux 6.9): a length and up to 16 bytes.
const GETFSUUID: u32 = number(request_code_read!(0x15, 0, 1 + UUID_LEN));

/// The number of a request, which has 32 bits (asm-generic/ioctl.h) wherever `ioctl` takes more.
/// It differs between architectures: powerpc, mips and sparc have other directions.
#[allow(clippy::cast_possible_truncation)]
pub(super) const fn number(code: ioctl_num_type) -> u32 {
    code as u32
}

/// The UUID of a file system: any but the one of zeros, which says that there is none
/// (`uuid_is_null`, linux/uuid.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uuid([u8; UUID_LEN]);

impl Uuid {
    /// The UUID that these bytes are, if they are one.
    #[must_use]
    pub fn new(bytes: [u8; UUID_LEN]) -> Option<Self> {
        (bytes != [0; UUID_LEN]).then_some(Self(bytes))
    }

    /// As the kernel writes it, or that there is none.
    #[must_use]
    pub fn bytes(uuid: Option<Self>) -> [u8; UUID_LEN] {
        uuid.map_or([0; UUID_LEN], |uuid| uuid.0)
    }
}

/// The UUID of a file system; `None` where it has none or nobody tells.
///
/// # Errors
/// Those that say nothing of it: EIO, ENOMEM.
pub fn fs_uuid(fd: BorrowedFd<'_>) -> Result<Option<Uuid>> {
    Ok(told(fd)?.or_else(|| uuid::by_kind(fd)).and_then(Uuid::new))
}

fn told(fd: BorrowedFd<'_>) -> Result<Option<[u8; UUID_LEN]>> {
    let mut out = [0u8; 1 + UUID_LEN];
    // SAFETY: the kernel writes one struct fsuuid2, for which there is room.
    match check(unsafe { libc::ioctl(fd.as_raw_fd(), GETFSUUID.into(), out.as_mut_ptr()) }) {
        Err(err) if err.errno().may_pass() => return Err(err),
        Err(_) => return Ok(None),
        Ok(_) => {}
    }
    let [len, uuid @ ..] = out;
    Ok((usize::from(len) == UUID_LEN).then_some(uuid))
}

/// Reads the inode flags.
pub fn get_flags(fd: BorrowedFd<'_>) -> Result<u32> {
    let mut flags: libc::c_int = 0;
    // SAFETY: the kernel writes an int (ioctl_iflags(2), BUGS).
    check(unsafe { libc::ioctl(fd.as_raw_fd(), GETFLAGS.into(), &raw mut flags) })?;
    Ok(flags.cast_unsigned())
}

/// Sets the inode flags.
pub fn set_flags(object: WritableFd<'_>, flags: u32) -> Result<()> {
    before_change()?;
    let flags: libc::c_int = flags.cast_signed();
    // SAFETY: the kernel reads an int (ioctl_iflags(2), BUGS).
    check(unsafe {
        libc::ioctl(object.borrowed().as_raw_fd(), SETFLAGS.into(), &raw const flags)
    })?;
    Ok(())
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

    /// As asm-generic/ioctl.h puts them together, which most architectures use.
    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
    fn numbers_of_requests() {
        let numbers = [GETFLAGS, SETFLAGS, FSGETXATTR, FSSETXATTR, GETFSUUID];
        let known = [0x8008_6601, 0x4008_6602, 0x801c_581f, 0x401c_5820, 0x8011_1500];
        assert_eq!(numbers, known);
    }
}
