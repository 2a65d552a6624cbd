//! The copy ladder: the cheapest way to make one file's data the other's.
//!
//! 1. `FICLONE` shares the extents: no data moves, holes stay (btrfs, xfs, bcachefs).
//! 2. `SEEK_DATA`/`SEEK_HOLE` find the extents; `copy_file_range(2)` moves each inside the kernel.
//! 3. pread and pwrite, where the two lie on different file systems.
//!
//! Holes are kept on every rung: `copy_file_range` alone fills them.

use std::os::fd::BorrowedFd;

use super::file;
use crate::error::{Errno, Error, Result};

/// Bytes moved by one call: large enough that the calls do not count, small enough that a signal
/// or an unmount does not wait for long.
const STEP: u64 = 8 << 20;

/// Buffer of the last rung, in bytes. Measured: 1 MiB is as fast as any.
const BUFFER: usize = 1 << 20;

/// How the data came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It is shared.
    Shared,
    /// So many bytes were copied.
    Copied(u64),
}

/// Makes the first `len` bytes of `to`, an empty file, those of `from`, and its size `len`.
///
/// # Errors
/// What the calls say: ENOSPC, EDQUOT, EIO. EIO also if `from` is shorter than `len`.
pub fn data(from: BorrowedFd<'_>, to: BorrowedFd<'_>, len: u64, whole: bool) -> Result<Moved> {
    if len == 0 {
        return Ok(Moved::Copied(0));
    }
    if whole && file::clone_all(from, to).is_ok() {
        return Ok(Moved::Shared);
    }
    // The size first: what is not written below is a hole, and xfs does not preallocate past it.
    file::truncate(to, len)?;
    let mut ladder = Ladder { in_kernel: true, buffer: Vec::new() };
    let (mut at, mut copied) = (0, 0);
    while at < len {
        let Some((start, end)) = next_extent(from, at, len)? else { break };
        ladder.copy_extent(from, to, start, end)?;
        copied += end - start;
        at = end;
    }
    Ok(Moved::Copied(copied))
}

/// The next stretch of data at or after `at`; `None` if only a hole is left.
fn next_extent(from: BorrowedFd<'_>, at: u64, len: u64) -> Result<Option<(u64, u64)>> {
    let offset = i64::try_from(at).map_err(|_| Errno::EFBIG)?;
    let start = match file::seek(from, offset, libc::SEEK_DATA) {
        Ok(start) => start,
        Err(err) if err.errno() == Errno::ENXIO => return Ok(None),
        // A file system that knows no holes has one extent (lseek(2)).
        Err(err) if matches!(err.errno(), Errno::EINVAL | Errno::EOPNOTSUPP) => {
            return Ok(Some((at, len)));
        }
        Err(err) => return Err(err),
    };
    if start >= len {
        return Ok(None);
    }
    let offset = i64::try_from(start).map_err(|_| Errno::EFBIG)?;
    let end = file::seek(from, offset, libc::SEEK_HOLE)?.min(len);
    if start < at || end <= start {
        return Err(Error::new(Errno::EIO, "a lower file's holes make no sense"));
    }
    Ok(Some((start, end)))
}

struct Ladder {
    in_kernel: bool,
    buffer: Vec<u8>,
}

impl Ladder {
    fn copy_extent(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        start: u64,
        end: u64,
    ) -> Result<()> {
        let mut at = start;
        while at < end {
            let copied = self.copy_step(from, to, at, (end - at).min(STEP))?;
            if copied == 0 {
                return Err(Error::new(Errno::EIO, "a lower file is shorter than its size says"));
            }
            at += copied;
        }
        Ok(())
    }

    fn copy_step(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        at: u64,
        len: u64,
    ) -> Result<u64> {
        if self.in_kernel {
            let step = usize::try_from(len).unwrap_or(BUFFER);
            match file::copy_range(from, at, to, at, step) {
                // Some file systems (procfs, some FUSE servers) answer 0 for what they cannot do.
                Ok(0) => self.in_kernel = false,
                Ok(copied) => return Ok(copied as u64),
                Err(err) if cannot_copy_in_kernel(&err) => self.in_kernel = false,
                Err(err) => return Err(err),
            }
        }
        self.buffer.resize(BUFFER, 0);
        let step = usize::try_from(len).unwrap_or(BUFFER).min(BUFFER);
        let buffer = self.buffer.get_mut(..step).unwrap_or_default();
        let read = file::read_at(from, buffer, at)?;
        let mut done = 0;
        while let Some(rest) = buffer.get(done..read).filter(|rest| !rest.is_empty()) {
            done += file::write_at(to, rest, at + done as u64)?;
        }
        Ok(done as u64)
    }
}

/// The errors by which copy_file_range(2) says "not these two files".
fn cannot_copy_in_kernel(err: &Error) -> bool {
    matches!(
        err.errno(),
        Errno::EXDEV
            | Errno::EINVAL
            | Errno::EOPNOTSUPP
            | Errno::ENOSYS
            | Errno::EBADF
            | Errno::EPERM
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn data_and_holes_arrive() {
        let tmp = tempfile::tempdir_in(".").unwrap();
        let path = |n: &str| tmp.path().join(n);
        let open = |n: &str| {
            std::fs::File::options()
                .create(true)
                .read(true)
                .write(true)
                .truncate(true)
                .open(path(n))
        };
        let (from, to) = (open("a").unwrap(), open("b").unwrap());
        from.set_len(64 << 20).unwrap();
        from.write_all_at(b"middle", 32 << 20).unwrap();
        from.write_all_at(b"end", (64 << 20) - 3).unwrap();
        data(from.as_fd(), to.as_fd(), 64 << 20, true).unwrap();
        assert!(std::fs::read(path("a")).unwrap() == std::fs::read(path("b")).unwrap());
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20, "holes were filled");
    }

    #[test]
    fn a_part_of_a_file_has_that_size() {
        let tmp = tempfile::tempdir_in(".").unwrap();
        std::fs::write(tmp.path().join("a"), b"0123456789").unwrap();
        let from = std::fs::File::open(tmp.path().join("a")).unwrap();
        let to = std::fs::File::create(tmp.path().join("b")).unwrap();
        data(from.as_fd(), to.as_fd(), 4, false).unwrap();
        assert_eq!(std::fs::read(tmp.path().join("b")).unwrap(), b"0123");
    }
}
