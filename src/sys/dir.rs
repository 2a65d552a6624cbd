//! Listing a directory with getdents64(2).
//!
//! A listing is complete, or it is an error: a read that fails is never taken for the end. After an
//! error behind some entries getdents64(2) returns the entries, and the error with the next call.
//! So a short answer need not be the last one. The position behind its last entry may tell that it
//! is (see [`End`]).

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{SeekFrom, seek};

use super::file::{FsKind, fs_kind};
use super::name::NAME_MAX;
use super::result::check_sys_len;
use super::stat::FileType;
use crate::error::{Errno, Error, Result};

/// Room for the entries of one call, in bytes: as much as glibc's readdir(3) has.
const BUFFER: usize = 32 * 1024;

/// Bytes of an entry before its name: two 64-bit words, `d_reclen` and `d_type` (getdents(2)).
const HEADER: usize = 19;

/// The size of the entry with the longest name, with its alignment. An answer leaves so much room
/// only if no entry follows, or if the next one could not be read.
const LONGEST: usize = (HEADER + NAME_MAX + 1).next_multiple_of(size_of::<u64>());

/// The position behind the last entry by which a file system tells that a directory has ended. It
/// is the position when all entries were read, and not when reading failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End(Option<i64>);

impl End {
    /// The position is not known: a listing ends with an empty answer.
    pub const UNKNOWN: Self = Self(None);

    /// The position for the file system of an open directory.
    ///
    /// # Errors
    /// Those of fstatfs(2).
    pub fn of(dir: BorrowedFd<'_>) -> Result<Self> {
        Ok(Self(match fs_kind(dir)?.magic {
            // `ext4_get_htree_eof`, fs/ext4/dir.c. Large directories without an index end
            // elsewhere.
            FsKind::EXT4 => Some(i64::MAX),
            // `btrfs_real_readdir`, fs/btrfs/inode.c.
            FsKind::BTRFS => Some(i64::from(i32::MAX)),
            // `DIR_OFFSET_EOD`, fs/libfs.c. Older kernels end elsewhere.
            FsKind::TMPFS => Some(i64::from(i32::MAX)),
            _ => None,
        }))
    }

    /// Whether an answer of `len` bytes was the last one, by the position behind its last entry.
    fn is_reached(self, position: i64, len: usize) -> bool {
        self.0 == Some(position) && BUFFER.saturating_sub(len) >= LONGEST
    }
}

/// One entry of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Inode number as the directory has it.
    pub ino: u64,
    /// Type, if the file system tells.
    pub kind: Option<FileType>,
    /// Name, neither `.` nor `..`.
    pub name: &'a [u8],
}

/// Calls `each` for every entry of `dir` but `.` and `..`, from the beginning.
///
/// The offset of the descriptor is moved, so two listings must not use one descriptor at a time.
///
/// # Errors
/// Those of getdents64(2), of lseek(2) and of `each`; EIO for a malformed answer.
pub fn for_each(dir: BorrowedFd<'_>, each: impl FnMut(Entry<'_>) -> Result<()>) -> Result<()> {
    rewind(dir)?;
    for_each_from_here(dir, End::UNKNOWN, each)
}

/// Goes back to the beginning.
///
/// # Errors
/// Those of lseek(2).
pub fn rewind(dir: BorrowedFd<'_>) -> Result<()> {
    seek(dir, SeekFrom::Start(0))?;
    Ok(())
}

/// Calls `each` for the entries behind the offset of the descriptor, which is 0 when it was just
/// opened.
///
/// # Errors
/// As [`for_each`].
pub fn for_each_from_here(
    dir: BorrowedFd<'_>,
    end: End,
    mut each: impl FnMut(Entry<'_>) -> Result<()>,
) -> Result<()> {
    let mut buf = vec![0u8; BUFFER];
    loop {
        // SAFETY: the buffer is as long as we say.
        let len = check_sys_len(unsafe {
            libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buf.as_mut_ptr(), buf.len())
        })?;
        let mut rest = buf.get(..len).ok_or_else(malformed)?;
        let mut position = None;
        while !rest.is_empty() {
            let (entry, next, tail) = split_entry(rest).ok_or_else(malformed)?;
            if entry.name != b"." && entry.name != b".." {
                each(entry)?;
            }
            (position, rest) = (Some(next), tail);
        }
        if position.is_none_or(|position| end.is_reached(position, len)) {
            return Ok(());
        }
    }
}

fn malformed() -> Error {
    Error::new(Errno::EIO, "malformed answer of getdents64")
}

/// The first `linux_dirent64` of an answer, the position behind it, and the rest of the answer.
fn split_entry(buf: &[u8]) -> Option<(Entry<'_>, i64, &[u8])> {
    let ino = u64::from_ne_bytes(*buf.first_chunk::<8>()?);
    let position = i64::from_ne_bytes(*buf.get(8..)?.first_chunk::<8>()?);
    let reclen = u16::from_ne_bytes([*buf.get(16)?, *buf.get(17)?]);
    let kind = FileType::from_dirent(*buf.get(18)?);
    let record = buf.get(..usize::from(reclen))?;
    let name = record.get(HEADER..)?;
    let end = name.iter().position(|b| *b == 0)?;
    let entry = Entry { ino, kind, name: name.get(..end)? };
    Some((entry, position, buf.get(usize::from(reclen)..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::os::fd::AsFd;

    #[test]
    fn lists_every_name_once_with_its_type() {
        let tmp = tempfile::tempdir().unwrap();
        for i in 0..3000 {
            std::fs::write(tmp.path().join(format!("file-with-a-long-name-{i}")), "").unwrap();
        }
        std::fs::create_dir(tmp.path().join("sub")).unwrap();
        let dir = std::fs::File::open(tmp.path()).unwrap();
        let mut seen = BTreeMap::new();
        for _ in 0..2 {
            seen.clear();
            for_each(dir.as_fd(), |e| {
                assert!(seen.insert(e.name.to_vec(), e.kind).is_none());
                Ok(())
            })
            .unwrap();
            assert_eq!(seen.len(), 3001);
        }
        assert_eq!(seen[&b"sub"[..]], Some(FileType::Directory));
    }

    /// A listing that ends by the position behind the last name loses no name.
    #[test]
    fn the_end_is_where_the_file_system_says() {
        for base in [".", "/dev/shm"] {
            let Ok(tmp) = tempfile::tempdir_in(base) else { continue };
            for count in [0, 1, 100, 681, 682, 2000] {
                let path = tmp.path().join(count.to_string());
                std::fs::create_dir(&path).unwrap();
                for nth in 0..count {
                    std::fs::write(path.join(format!("a-name-of-22-bytes-{nth:03}")), "").unwrap();
                }
                let dir = std::fs::File::open(&path).unwrap();
                let (end, mut seen) = (End::of(dir.as_fd()).unwrap(), 0);
                for_each_from_here(dir.as_fd(), end, |_| {
                    seen += 1;
                    Ok(())
                })
                .unwrap();
                assert_eq!(seen, count, "{base}");
            }
        }
    }

    #[test]
    fn a_full_answer_is_not_the_last() {
        let end = End(Some(7));
        assert!(end.is_reached(7, BUFFER - LONGEST));
        assert!(!end.is_reached(7, BUFFER - LONGEST + 1));
        assert!(!end.is_reached(8, 100));
        assert!(!End::UNKNOWN.is_reached(i64::MAX, 100));
    }

    #[test]
    fn a_short_record_is_refused() {
        assert!(split_entry(&[0; 18]).is_none());
        let mut lying = [0u8; 24];
        lying[16] = 200;
        assert!(split_entry(&lying).is_none());
    }
}
