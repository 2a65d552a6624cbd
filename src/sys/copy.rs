//! The copy ladder: ways to copy the data of a file to another file, the cheapest first.
//!
//! 1. `FICLONE` shares the extents: no data moves, holes stay (btrfs, xfs, bcachefs).
//! 2. `SEEK_DATA`/`SEEK_HOLE` find the extents; `copy_file_range(2)` moves each inside the kernel.
//! 3. pread and pwrite, where the kernel cannot copy, as between two file systems.
//!
//! Holes are kept on every rung; by itself `copy_file_range` would fill them. Small files that have
//! all of their blocks are not searched for holes.

use std::os::fd::BorrowedFd;

use super::{Stat, WritableFd, file};
use crate::error::{Errno, Error, Result};

/// Bytes moved by one call: large enough that the calls do not count, small enough that a signal
/// or an unmount does not wait for long.
const STEP: u64 = 8 << 20;

/// Size of the buffer of the last rung, in bytes. Measured: no larger one is faster than 1 MiB.
const BUFFER: usize = 1 << 20;

/// Files of up to this many bytes are searched for holes only if blocks are missing. Blocks that a
/// file has for something else (past its end, for attributes) may make up for missing ones; then
/// holes of no more than this many bytes are filled. xfs preallocates nothing past the end of such
/// files (`xfs_iomap_prealloc_size`, fs/xfs/xfs_iomap.c: below 64 KiB of `allocsize`).
const SMALL: u64 = 64 << 10;

/// The ways of copying that may work from one file system to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    /// Sharing extents.
    pub share: bool,
    /// copy_file_range(2).
    pub in_kernel: bool,
}

impl Ways {
    /// All ways, as nothing is known against any of them.
    pub const ALL: Self = Self { share: true, in_kernel: true };

    /// The ways that neither of the two rules out.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { share: self.share && other.share, in_kernel: self.in_kernel && other.in_kernel }
    }
}

/// How data was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The two files share their extents.
    Shared,
    /// This many bytes were copied.
    Copied(u64),
}

/// Copies the first `len` bytes of `from`, which has the attributes `was`, to `to`, a file without
/// data, which has the size `len` then. Takes those of `ways` away that never work between the two
/// file systems.
///
/// # Errors
/// Those of the calls: ENOSPC, EDQUOT, EIO. EIO also if `from` is shorter than `len`.
pub fn data(
    from: BorrowedFd<'_>,
    to: WritableFd<'_>,
    was: &Stat,
    len: u64,
    ways: &mut Ways,
) -> Result<Moved> {
    if len == 0 {
        return Ok(Moved::Copied(0));
    }
    if ways.share && len == was.size {
        match file::clone_all(from, to) {
            Ok(()) => return Ok(Moved::Shared),
            Err(err) => ways.share = !is_for_ever(&err),
        }
    }
    let mut ladder = Ladder { in_kernel: ways.in_kernel, ways, buffer: Vec::new() };
    if is_small_and_whole(was) {
        ladder.copy_extent(from, to, 0, len)?;
        return Ok(Moved::Copied(len));
    }
    // The size is set first: what is not written below is a hole, and xfs does not preallocate past
    // the end.
    file::truncate(to, len)?;
    let (mut at, mut copied) = (0, 0);
    while at < len {
        let Some((start, end)) = next_extent(from, at, len)? else { break };
        ladder.copy_extent(from, to, start, end)?;
        copied += end - start;
        at = end;
    }
    Ok(Moved::Copied(copied))
}

/// Whether a small file has as many blocks as its size takes, so that it is not searched for holes.
/// Where the blocks say little about the size (compression, data in the inode), it is searched.
fn is_small_and_whole(was: &Stat) -> bool {
    /// Unit of `st_blocks` (stat(2)).
    const BLOCK: u64 = 512;
    was.size <= SMALL && was.blocks.saturating_mul(BLOCK) >= was.size
}

/// The next stretch of data at or after `at`; `None` if only a hole is left.
fn next_extent(from: BorrowedFd<'_>, at: u64, len: u64) -> Result<Option<(u64, u64)>> {
    let offset = i64::try_from(at).map_err(|_| Errno::EFBIG)?;
    let start = match file::seek(from, offset, libc::SEEK_DATA) {
        Ok(start) => start,
        Err(err) if err.errno() == Errno::ENXIO => return Ok(None),
        // On a file system without holes a file is one extent (lseek(2)).
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

struct Ladder<'a> {
    /// copy_file_range(2) may work for these two files.
    in_kernel: bool,
    ways: &'a mut Ways,
    buffer: Vec<u8>,
}

impl Ladder<'_> {
    fn copy_extent(
        &mut self,
        from: BorrowedFd<'_>,
        to: WritableFd<'_>,
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
        to: WritableFd<'_>,
        at: u64,
        len: u64,
    ) -> Result<u64> {
        if self.in_kernel {
            let step = usize::try_from(len).unwrap_or(BUFFER);
            match file::copy_range(from, at, to, at, step) {
                // Some file systems (procfs, some FUSE servers) answer 0 where they cannot copy.
                Ok(0) => self.in_kernel = false,
                Ok(copied) => return Ok(copied as u64),
                Err(err) if cannot_copy_in_kernel(&err) => {
                    self.in_kernel = false;
                    self.ways.in_kernel = !is_for_ever(&err);
                }
                Err(err) => return Err(err),
            }
        }
        let step = usize::try_from(len).unwrap_or(BUFFER).min(BUFFER);
        if self.buffer.len() < step {
            self.buffer.resize(step, 0);
        }
        let buffer = self.buffer.get_mut(..step).unwrap_or_default();
        let read = file::read_at(from, buffer, at, None)?;
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

/// The errors that are about the two file systems, whatever the files. EINVAL and EPERM may be
/// about the files.
fn is_for_ever(err: &Error) -> bool {
    matches!(err.errno(), Errno::EXDEV | Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::ENOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::stat;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{FileExt, MetadataExt};

    /// Two files in a temporary directory.
    struct Pair {
        _dir: tempfile::TempDir,
        from: std::fs::File,
        to: std::fs::File,
    }

    impl Pair {
        fn new() -> Self {
            let dir = tempfile::tempdir_in(".").unwrap();
            let file = |name: &str| {
                let mut options = std::fs::File::options();
                options.create_new(true).read(true).write(true).open(dir.path().join(name)).unwrap()
            };
            Self { from: file("from"), to: file("to"), _dir: dir }
        }

        fn copy(&self, len: u64, ways: &mut Ways) -> Moved {
            let was = stat::fstat(self.from.as_fd()).unwrap();
            data(self.from.as_fd(), WritableFd::vouch(self.to.as_fd()), &was, len, ways).unwrap()
        }

        fn assert_same(&self, len: u64, what: &str) {
            let read = |file: &std::fs::File| {
                let mut bytes = vec![1; usize::try_from(len).unwrap()];
                file.read_exact_at(&mut bytes, 0).unwrap();
                bytes
            };
            assert!(read(&self.from) == read(&self.to), "{what}: content");
            assert_eq!(self.to.metadata().unwrap().len(), len, "{what}: size");
        }
    }

    /// Without the rungs above it each gets its turn.
    const EACH: [Ways; 3] = [
        Ways::ALL,
        Ways { share: false, in_kernel: true },
        Ways { share: false, in_kernel: false },
    ];

    #[test]
    fn data_and_holes_arrive() {
        for mut ways in EACH {
            let pair = Pair::new();
            pair.from.set_len(64 << 20).unwrap();
            pair.from.write_all_at(b"middle", 32 << 20).unwrap();
            pair.from.write_all_at(b"end", (64 << 20) - 3).unwrap();
            pair.copy(64 << 20, &mut ways);
            pair.assert_same(64 << 20, "large");
            assert!(pair.to.metadata().unwrap().blocks() * 512 < 1 << 20, "holes were filled");
        }
    }

    /// Sizes around blocks and around [`SMALL`], with holes in each place.
    #[test]
    fn small_files_arrive_with_their_holes() {
        const BLOCK: u64 = 4096;
        for size in [1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, SMALL, SMALL + 1] {
            for holes in ["none", "beginning", "end", "middle", "all"] {
                for mut ways in EACH {
                    let pair = Pair::new();
                    pair.from.set_len(size).unwrap();
                    let bytes = vec![b'x'; usize::try_from(size).unwrap()];
                    let half = bytes.len() / 2;
                    let (first, last) = (&bytes[..half], &bytes[half..]);
                    match holes {
                        "none" => pair.from.write_all_at(&bytes, 0).unwrap(),
                        "beginning" => pair.from.write_all_at(last, half as u64).unwrap(),
                        "end" => pair.from.write_all_at(first, 0).unwrap(),
                        "middle" => {
                            pair.from.write_all_at(b"x", 0).unwrap();
                            pair.from.write_all_at(b"x", size - 1).unwrap();
                        }
                        _ => {}
                    }
                    let what = format!("{size} bytes, holes: {holes}, {ways:?}");
                    pair.copy(size, &mut ways);
                    pair.assert_same(size, &what);
                    let blocks = |file: &std::fs::File| file.metadata().unwrap().blocks();
                    assert!(blocks(&pair.to) <= blocks(&pair.from), "{what}: filled");
                }
            }
        }
    }

    /// Blocks past the end make up for the missing ones: filled with zeros, but no other data.
    #[test]
    fn blocks_past_the_end_are_not_mistaken_for_data() {
        use nix::fcntl::{FallocateFlags, fallocate};
        for mut ways in EACH {
            let pair = Pair::new();
            pair.from.set_len(50_000).unwrap();
            pair.from.write_all_at(b"data", 20_000).unwrap();
            let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(&pair.from, keep, 50_000, 100_000).unwrap();
            pair.copy(50_000, &mut ways);
            pair.assert_same(50_000, "preallocated");
        }
    }

    #[test]
    fn a_part_of_a_file_has_that_size() {
        for len in [0, 4, 9] {
            let pair = Pair::new();
            pair.from.write_all_at(b"0123456789", 0).unwrap();
            pair.copy(len, &mut Ways::ALL.clone());
            pair.assert_same(len, "a part");
        }
    }

    #[test]
    fn a_file_that_has_become_shorter_is_an_error() {
        let pair = Pair::new();
        pair.from.write_all_at(&[1; 5000], 0).unwrap();
        let was = stat::fstat(pair.from.as_fd()).unwrap();
        pair.from.set_len(4000).unwrap();
        let mut ways = Ways { share: false, ..Ways::ALL };
        let to = WritableFd::vouch(pair.to.as_fd());
        let copied = data(pair.from.as_fd(), to, &was, 5000, &mut ways);
        assert_eq!(copied.unwrap_err().errno(), Errno::EIO);
        assert_eq!(ways, Ways { share: false, ..Ways::ALL }, "that says nothing of others");
    }
}
