//! File handles: names for inodes that outlive their paths (name_to_handle_at(2)).

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::descriptors::opened;
use super::name::Name;
use super::result::check;
use crate::error::{Errno, Result};

/// The longest handle (`MAX_HANDLE_SZ`, linux/exportfs.h), in bytes.
const LONGEST: usize = 128;

/// A handle as the file system made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle {
    /// The kind of the handle (`enum fid_type`, linux/exportfs.h).
    pub kind: u8,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The handle of an entry.
///
/// # Errors
/// EOPNOTSUPP where the file system has none.
pub fn of(dir: BorrowedFd<'_>, name: Name<'_>) -> Result<Handle> {
    name.with_c(|c| by_path(dir, c, 0))
}

/// The handle of an open object; `None` where the file system has none.
///
/// # Errors
/// Errors that do not tell whether there are handles: EIO, ENOMEM, ESTALE.
pub fn of_open(fd: BorrowedFd<'_>) -> Result<Option<Handle>> {
    match by_path(fd, c"", libc::AT_EMPTY_PATH) {
        Err(err) if err.errno().may_pass() => Err(err),
        other => Ok(other.ok()),
    }
}

/// Opens the object that has this handle on the file system of `mount`, as `O_PATH`.
///
/// # Errors
/// ESTALE if nothing there has it; EPERM without CAP_DAC_READ_SEARCH in the initial user namespace
/// (open_by_handle_at(2)).
pub fn open(mount: BorrowedFd<'_>, handle: &Handle) -> Result<OwnedFd> {
    let mut raw = FileHandle::EMPTY;
    let room = raw.handle.get_mut(..handle.bytes.len()).ok_or(Errno::EINVAL)?;
    room.copy_from_slice(&handle.bytes);
    raw.bytes = u32::try_from(handle.bytes.len()).map_err(|_| Errno::EINVAL)?;
    raw.kind = handle.kind.into();
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let raw: *mut libc::file_handle = (&raw mut raw).cast();
    // SAFETY: `raw` begins as struct file_handle does and has as many bytes as it states.
    let open = || check(unsafe { libc::open_by_handle_at(mount.as_raw_fd(), raw, flags) });
    // SAFETY: the call has just made this descriptor, and nobody else knows it.
    opened(|| open().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// `struct file_handle` with room for the longest handle.
#[repr(C)]
struct FileHandle {
    bytes: u32,
    kind: i32,
    handle: [u8; LONGEST],
}

impl FileHandle {
    const EMPTY: Self = Self { bytes: LONGEST as u32, kind: 0, handle: [0; LONGEST] };
}

fn by_path(dir: BorrowedFd<'_>, path: &CStr, flags: i32) -> Result<Handle> {
    let mut out = FileHandle::EMPTY;
    let mut mount = 0;
    let (to, dir, path) = ((&raw mut out).cast(), dir.as_raw_fd(), path.as_ptr());
    // SAFETY: the path is a C string; `out` begins as struct file_handle does and has the room that
    // it states.
    check(unsafe { libc::name_to_handle_at(dir, path, to, &raw mut mount, flags) })?;
    let kind = u8::try_from(out.kind).map_err(|_| Errno::EOPNOTSUPP)?;
    let bytes = out.handle.get(..out.bytes as usize).ok_or(Errno::EIO)?.to_vec();
    Ok(Handle { kind, bytes })
}
