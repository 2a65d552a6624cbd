//! Data of an open file.
//!
//! The position is given with each call. The offset of a descriptor is never used, so one
//! descriptor serves any number of readers and writers.

use std::io::IoSliceMut;
use std::os::fd::BorrowedFd;

use rustix::fs::{self, Advice, FallocateFlags, FlockOperation, SeekFrom};
use rustix::io::{self, ReadWriteFlags};

use super::commit::before_change;
use super::writable::WritableFd;
use crate::error::{Errno, Result};

/// pread(2) until the buffer is full or the file ends. Returns the length that was read.
///
/// A short answer does not say that the file ends: after an error behind some bytes the kernel
/// returns the bytes, and the error with the next call (`filemap_read`, mm/filemap.c). An answer
/// that reaches `end`, the end of the file where the caller knows it, is the last.
pub fn read_at(fd: BorrowedFd<'_>, buf: &mut [u8], offset: u64, end: Option<u64>) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match io::pread(fd, rest, position(offset, done)?) {
            Ok(0) => break,
            Ok(len) => done += len,
            Err(io::Errno::INTR) => continue,
            // The bytes before it are not returned: the caller would take a short answer for the
            // end of the file.
            Err(err) => return Err(err.into()),
        }
        if end == offset.checked_add(done as u64) {
            break;
        }
    }
    Ok(done)
}

/// preadv2(2) of data that is in memory (`RWF_NOWAIT`). The answer is also short where the rest of
/// the data is not in memory.
///
/// # Errors
/// EAGAIN if nothing of it is in memory, EOPNOTSUPP if the file system cannot tell.
pub fn read_from_memory(fd: BorrowedFd<'_>, buf: &mut [u8], offset: u64) -> Result<usize> {
    let (mut parts, at) = ([IoSliceMut::new(buf)], position(offset, 0)?);
    Ok(io::preadv2(fd, &mut parts, at, ReadWriteFlags::NOWAIT)?)
}

/// Has the kernel read a whole file into memory, without waiting for it (posix_fadvise(2)).
pub fn will_need(fd: BorrowedFd<'_>) -> Result<()> {
    Ok(fs::fadvise(fd, 0, None, Advice::WillNeed)?)
}

/// pwrite(2) until all is written. A short count is returned if a later part fails, as write(2)
/// does; the next call then gets the error.
pub fn write_at(file: WritableFd<'_>, data: &[u8], offset: u64) -> Result<usize> {
    before_change()?;
    let mut done = 0;
    while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
        match io::pwrite(file, rest, position(offset, done)?) {
            Ok(len) => done += len,
            Err(io::Errno::INTR) => {}
            Err(err) if done == 0 => return Err(err.into()),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// The position `done` bytes behind `offset`; EFBIG where no file reaches so far.
fn position(offset: u64, done: usize) -> Result<u64> {
    let at = offset.checked_add(done as u64);
    at.filter(|at| i64::try_from(*at).is_ok()).ok_or_else(|| Errno::EFBIG.into())
}

/// ftruncate(2).
pub fn truncate(file: WritableFd<'_>, size: u64) -> Result<()> {
    before_change()?;
    Ok(fs::ftruncate(file, position(size, 0)?)?)
}

/// fsync(2), or fdatasync(2) if `data_only`.
pub fn sync(fd: BorrowedFd<'_>, data_only: bool) -> Result<()> {
    Ok(if data_only { fs::fdatasync(fd) } else { fs::fsync(fd) }?)
}

/// fallocate(2) with its flags as they come.
pub fn allocate(file: WritableFd<'_>, mode: i32, offset: u64, len: u64) -> Result<()> {
    before_change()?;
    let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
    Ok(fs::fallocate(file, mode, position(offset, 0)?, position(len, 0)?)?)
}

/// lseek(2) with `SEEK_DATA` or `SEEK_HOLE`. It moves the offset, which is never used.
///
/// # Errors
/// ENXIO behind the last data or behind the end; EINVAL for any other `whence`.
pub fn seek(fd: BorrowedFd<'_>, offset: i64, whence: i32) -> Result<u64> {
    let offset = offset.cast_unsigned();
    let to = match whence {
        libc::SEEK_DATA => SeekFrom::Data(offset),
        libc::SEEK_HOLE => SeekFrom::Hole(offset),
        _ => return Err(Errno::EINVAL.into()),
    };
    Ok(fs::seek(fd, to)?)
}

/// copy_file_range(2) at the given positions. Returns the length that was copied.
pub fn copy_range(
    from: BorrowedFd<'_>,
    from_at: u64,
    to: WritableFd<'_>,
    to_at: u64,
    len: usize,
) -> Result<usize> {
    before_change()?;
    let (mut from_at, mut to_at) = (position(from_at, 0)?, position(to_at, 0)?);
    Ok(fs::copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), len)?)
}

/// The space of a file system, and the numbers of its inodes.
#[derive(Clone, Copy, Debug)]
pub struct FsStat {
    /// Size of the blocks that are counted, in bytes.
    pub frsize: u32,
    /// Preferred size of I/O, in bytes.
    pub bsize: u32,
    /// All blocks.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Free blocks for unprivileged users.
    pub bavail: u64,
    /// All inodes.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
}

/// fstatvfs(3).
pub fn stat_fs(fd: BorrowedFd<'_>) -> Result<FsStat> {
    let s = nix::sys::statvfs::fstatvfs(fd)?;
    let word = |n: libc::c_ulong| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(FsStat {
        frsize: word(s.fragment_size()),
        bsize: word(s.block_size()),
        blocks: s.blocks(),
        bfree: s.blocks_free(),
        bavail: s.blocks_available(),
        files: s.files(),
        ffree: s.files_free(),
    })
}

/// The sort of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsKind {
    /// Its magic number (linux/magic.h): each sort has its own.
    pub magic: u32,
    /// The file system, or the mount that it was reached through, takes no changes.
    pub read_only: bool,
}

impl FsKind {
    /// `EXT4_SUPER_MAGIC` of ext2, ext3 and ext4.
    pub const EXT4: u32 = 0xef53;
    /// `XFS_SUPER_MAGIC`.
    pub const XFS: u32 = 0x5846_5342;
    /// `BTRFS_SUPER_MAGIC`.
    pub const BTRFS: u32 = 0x9123_683e;
    /// `TMPFS_MAGIC`.
    pub const TMPFS: u32 = 0x0102_1994;
    /// `RAMFS_MAGIC`.
    pub const RAMFS: u32 = 0x8584_58f6;
    /// `FUSE_SUPER_MAGIC`.
    pub const FUSE: u32 = 0x6573_5546;

    /// Whether a process serves it.
    #[must_use]
    pub fn is_fuse(self) -> bool {
        self.magic == Self::FUSE
    }
}

/// fstatfs(2).
pub fn fs_kind(fd: BorrowedFd<'_>) -> Result<FsKind> {
    let found = nix::sys::statfs::fstatfs(fd)?;
    let magic = found.filesystem_type().0;
    Ok(FsKind {
        // The numbers have 32 bits; some architectures extend the sign.
        magic: u32::try_from(magic & libc::c_long::from(u32::MAX)).unwrap_or(0),
        read_only: found.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY),
    })
}

/// Takes an exclusive lock (flock(2)) without waiting. It lasts as long as the descriptor.
///
/// # Errors
/// EAGAIN if somebody else has a lock.
pub fn lock_exclusive(fd: BorrowedFd<'_>) -> Result<()> {
    Ok(fs::flock(fd, FlockOperation::NonBlockingLockExclusive)?)
}

/// Takes a shared lock (flock(2)) without waiting. It replaces an exclusive lock that `fd` had, so
/// that others can take shared ones from then on.
///
/// # Errors
/// EAGAIN if somebody else has an exclusive lock.
pub fn lock_shared(fd: BorrowedFd<'_>) -> Result<()> {
    Ok(fs::flock(fd, FlockOperation::NonBlockingLockShared)?)
}

/// Takes a shared lock as [`lock_shared`] does, but waits while somebody else has an exclusive one.
///
/// # Errors
/// Those of flock(2), for a file system without locks.
pub fn lock_shared_when_free(fd: BorrowedFd<'_>) -> Result<()> {
    Ok(fs::flock(fd, FlockOperation::LockShared)?)
}

/// Gives the lock of `fd` back.
///
/// # Errors
/// Those of flock(2), for a file system without locks.
pub fn unlock(fd: BorrowedFd<'_>) -> Result<()> {
    Ok(fs::flock(fd, FlockOperation::Unlock)?)
}

/// Shares all extents of `from` with the empty file `to` (ioctl_ficlone(2)).
///
/// # Errors
/// EOPNOTSUPP, EXDEV, EINVAL or ENOTTY where that cannot be done.
pub fn clone_all(from: BorrowedFd<'_>, to: WritableFd<'_>) -> Result<()> {
    before_change()?;
    Ok(fs::ioctl_ficlone(to, from)?)
}
