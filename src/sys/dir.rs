//! Listing a directory with getdents64(2).
//!
//! A listing is complete or an error: a failing read is never taken for the end.

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use super::at::check_sys_len;
use super::stat::FileType;
use crate::error::{Errno, Error, Result};

/// Room for the entries of one call: what glibc's readdir(3) uses.
const BUFFER: usize = 32 * 1024;

/// `d_reclen` and `d_type` follow two 64-bit words, the name follows them (getdents(2)).
const HEADER: usize = 19;

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
/// The descriptor's offset is moved, so two listings must not share one at the same time.
///
/// # Errors
/// What getdents64(2) and lseek(2) say, EIO for a malformed answer, and what `each` returns.
pub fn for_each(dir: BorrowedFd<'_>, mut each: impl FnMut(Entry<'_>) -> Result<()>) -> Result<()> {
    // SAFETY: plain call on an open descriptor.
    if unsafe { libc::lseek(dir.as_raw_fd(), 0, libc::SEEK_SET) } < 0 {
        return Err(Errno::last().into());
    }
    let mut buf = vec![0u8; BUFFER];
    loop {
        // SAFETY: the buffer is as long as we say.
        let len = check_sys_len(unsafe {
            libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buf.as_mut_ptr(), buf.len())
        })?;
        if len == 0 {
            return Ok(());
        }
        let mut rest = buf.get(..len).ok_or_else(malformed)?;
        while !rest.is_empty() {
            let (entry, tail) = split_entry(rest).ok_or_else(malformed)?;
            if entry.name != b"." && entry.name != b".." {
                each(entry)?;
            }
            rest = tail;
        }
    }
}

fn malformed() -> Error {
    Error::new(Errno::EIO, "malformed answer of getdents64")
}

/// Takes one `linux_dirent64` off the front.
fn split_entry(buf: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let ino = u64::from_ne_bytes(*buf.first_chunk::<8>()?);
    let reclen = u16::from_ne_bytes([*buf.get(16)?, *buf.get(17)?]);
    let kind = FileType::from_dirent(*buf.get(18)?);
    let record = buf.get(..usize::from(reclen))?;
    let name = record.get(HEADER..)?;
    let end = name.iter().position(|b| *b == 0)?;
    Some((Entry { ino, kind, name: name.get(..end)? }, buf.get(usize::from(reclen)..)?))
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

    #[test]
    fn a_short_record_is_refused() {
        assert!(split_entry(&[0; 18]).is_none());
        let mut lying = [0u8; 24];
        lying[16] = 200;
        assert!(split_entry(&lying).is_none());
    }
}
