//! File handles: names for inodes that outlive their paths (name_to_handle_at(2)).

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use super::at::{Name, check};
use crate::error::{Errno, Result};

/// The longest handle (`MAX_HANDLE_SZ`, linux/exportfs.h), in bytes.
const LONGEST: usize = 128;

/// A handle as the file system made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle {
    /// Which kind of handle (`enum fid_type`, linux/exportfs.h).
    pub kind: u8,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The handle of an entry.
///
/// # Errors
/// EOPNOTSUPP where the file system has none.
pub fn of(dir: BorrowedFd<'_>, name: Name<'_>) -> Result<Handle> {
    #[repr(C)]
    struct FileHandle {
        bytes: u32,
        kind: i32,
        handle: [u8; LONGEST],
    }
    let mut out = FileHandle { bytes: LONGEST as u32, kind: 0, handle: [0; LONGEST] };
    let mut mount = 0;
    name.with_c(|c| {
        // SAFETY: `out` begins as struct file_handle does and has the room that it states.
        check(unsafe {
            libc::name_to_handle_at(dir.as_raw_fd(), c, (&raw mut out).cast(), &raw mut mount, 0)
        })
    })?;
    let kind = u8::try_from(out.kind).map_err(|_| Errno::EOPNOTSUPP)?;
    let bytes = out.handle.get(..out.bytes as usize).ok_or(Errno::EIO)?.to_vec();
    Ok(Handle { kind, bytes })
}
