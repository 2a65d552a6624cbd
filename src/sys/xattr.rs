//! Extended attributes of any object, without following links and without opening it.
//!
//! Linux 6.13 has `getxattrat` and its sisters, which take `(dirfd, name)`. On older kernels, and
//! for `O_PATH` descriptors, a path below `/proc/self/fd` is given to the older calls. The first
//! ENOSYS tells that the kernel is an older one.
//!
//! # Errors
//! As in getxattr(2), setxattr(2), listxattr(2), removexattr(2): ENODATA for an attribute that is
//! not there, EOPNOTSUPP where the file system has none, ERANGE never (buffers grow), E2BIG, ENOSPC
//! and EDQUOT for values that do not fit.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, XattrFlags};

use super::commit::before_change;
use super::name::{Target, proc_path};
use super::result::{check_sys, check_sys_len};
use super::writable::Writable;
use crate::error::{Errno, Error, Result};

/// The longest name of an attribute (`XATTR_NAME_MAX`, linux/limits.h), in bytes.
pub const NAME_MAX: usize = 255;

/// The longest value and the longest list (`XATTR_SIZE_MAX`, linux/limits.h), in bytes.
pub const SIZE_MAX: usize = 65536;

/// Room for most values and lists, so that one call is enough, in bytes.
const FIRST_GUESS: usize = 512;

// System call numbers are the same on every architecture since Linux 5.1 (syscall_64.tbl and
// friends).
const SYS_SETXATTRAT: libc::c_long = 463;
const SYS_GETXATTRAT: libc::c_long = 464;
const SYS_LISTXATTRAT: libc::c_long = 465;
const SYS_REMOVEXATTRAT: libc::c_long = 466;

/// `struct xattr_args` of linux/xattr.h.
#[repr(C)]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// Whether the kernel has the calls of Linux 6.13: cleared for good when one gives ENOSYS.
static HAS_XATTRAT: AtomicBool = AtomicBool::new(true);

/// How an attribute may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetMode {
    /// Create or replace.
    Any,
    /// `XATTR_CREATE`: EEXIST if it is there.
    Create,
    /// `XATTR_REPLACE`: ENODATA if it is not there.
    Replace,
}

impl SetMode {
    fn flags(self) -> XattrFlags {
        match self {
            Self::Any => XattrFlags::empty(),
            Self::Create => XattrFlags::CREATE,
            Self::Replace => XattrFlags::REPLACE,
        }
    }
}

/// A path below procfs that reaches the target without following its last component.
fn proc_target(target: Target<'_>) -> Vec<u8> {
    match target {
        Target::At(dir, name) => [proc_path(dir).as_bytes(), b"/", name.bytes()].concat(),
        Target::Fd(fd) => proc_path(fd).into_bytes(),
    }
}

/// The answer of a call of Linux 6.13; `None` if an older call has to be made instead.
fn newer<T>(result: Result<T>) -> Option<Result<T>> {
    match &result {
        Err(err) if err.errno() == Errno::ENOSYS => {
            HAS_XATTRAT.store(false, Ordering::Relaxed);
            None
        }
        // With AT_EMPTY_PATH an O_PATH descriptor is refused (fs/xattr.c).
        Err(err) if err.errno() == Errno::EBADF => None,
        _ => Some(result),
    }
}

fn has_xattrat() -> bool {
    HAS_XATTRAT.load(Ordering::Relaxed)
}

/// Reads into `buf`; an empty buffer asks for the size alone.
fn get_once(target: Target<'_>, name: &CStr, buf: &mut [u8]) -> Result<usize> {
    if has_xattrat() {
        let mut args = XattrArgs {
            value: buf.as_mut_ptr() as u64,
            size: u32::try_from(buf.len()).unwrap_or(u32::MAX),
            flags: 0,
        };
        let result = target.with_at(|dir, path, flags| {
            // SAFETY: `args` points at a buffer of the stated size; strings are NUL-terminated.
            check_sys_len(unsafe {
                libc::syscall(
                    SYS_GETXATTRAT,
                    dir.as_raw_fd(),
                    path.as_ptr(),
                    flags.bits(),
                    name.as_ptr(),
                    &raw mut args,
                    size_of::<XattrArgs>(),
                )
            })
        });
        if let Some(result) = newer(result) {
            return result;
        }
    }
    let path = proc_target(target);
    Ok(match target {
        Target::At(..) => fs::lgetxattr(path, name, buf),
        // The magic link is to be followed.
        Target::Fd(_) => fs::getxattr(path, name, buf),
    }?)
}

fn list_once(target: Target<'_>, buf: &mut [u8]) -> Result<usize> {
    if has_xattrat() {
        let (ptr, len) = (buf.as_mut_ptr(), buf.len());
        let result = target.with_at(|dir, path, flags| {
            let (dir, path, flags) = (dir.as_raw_fd(), path.as_ptr(), flags.bits());
            // SAFETY: the buffer is as long as we say; the path is NUL-terminated.
            check_sys_len(unsafe { libc::syscall(SYS_LISTXATTRAT, dir, path, flags, ptr, len) })
        });
        if let Some(result) = newer(result) {
            return result;
        }
    }
    let path = proc_target(target);
    Ok(match target {
        Target::At(..) => fs::llistxattr(path, buf),
        // The magic link is to be followed.
        Target::Fd(_) => fs::listxattr(path, buf),
    }?)
}

/// Calls `once` with a small buffer and, if that is too small, with one for the longest answer.
fn grow(mut once: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut small = [0u8; FIRST_GUESS];
    match once(&mut small) {
        Ok(len) => Ok(small.get(..len).unwrap_or_default().to_vec()),
        Err(err) if err.errno() == Errno::ERANGE => {
            let mut big = vec![0u8; SIZE_MAX];
            let len = once(&mut big)?;
            big.truncate(len);
            Ok(big)
        }
        Err(err) => Err(err),
    }
}

/// The value of one attribute.
pub fn get(target: Target<'_>, name: &CStr) -> Result<Vec<u8>> {
    grow(|buf| get_once(target, name, buf))
}

/// The value of one attribute that is computed when it is read. It is read with one call, as the
/// next call may give another value.
///
/// # Errors
/// ERANGE for a value of more than `room` bytes.
pub fn get_with_room(target: Target<'_>, name: &CStr, room: usize) -> Result<Vec<u8>> {
    let mut value = vec![0; room];
    let len = get_once(target, name, &mut value)?;
    value.truncate(len);
    Ok(value)
}

/// The value of one attribute; `None` if it is missing, or if the file system has no attributes.
pub fn get_if_set(target: Target<'_>, name: &CStr) -> Result<Option<Vec<u8>>> {
    match get(target, name) {
        Ok(value) => Ok(Some(value)),
        Err(err) if is_absent(&err) => Ok(None),
        Err(err) => Err(err),
    }
}

/// The names of all attributes, each NUL-terminated. On a file system without attributes the list
/// is empty.
pub fn list(target: Target<'_>) -> Result<Vec<u8>> {
    match grow(|buf| list_once(target, buf)) {
        Err(err) if err.errno() == Errno::EOPNOTSUPP => Ok(Vec::new()),
        other => other,
    }
}

/// The names in a list that [`list`] returned, without terminators.
pub fn names(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|b| *b == 0).filter(|name| !name.is_empty())
}

/// Sets one attribute.
pub fn set(object: Writable<'_>, name: &CStr, value: &[u8], mode: SetMode) -> Result<()> {
    before_change()?;
    let target = object.target();
    if has_xattrat() {
        let args = XattrArgs {
            value: value.as_ptr() as u64,
            size: u32::try_from(value.len()).map_err(|_| Errno::from_raw(libc::E2BIG))?,
            flags: mode.flags().bits(),
        };
        let result = target.with_at(|dir, path, flags| {
            // SAFETY: `args` points at a value of the stated size; strings are NUL-terminated.
            check_sys(unsafe {
                libc::syscall(
                    SYS_SETXATTRAT,
                    dir.as_raw_fd(),
                    path.as_ptr(),
                    flags.bits(),
                    name.as_ptr(),
                    &raw const args,
                    size_of::<XattrArgs>(),
                )
            })
        });
        if let Some(result) = newer(result) {
            return result;
        }
    }
    let path = proc_target(target);
    Ok(match target {
        Target::At(..) => fs::lsetxattr(path, name, value, mode.flags()),
        // The magic link is to be followed.
        Target::Fd(_) => fs::setxattr(path, name, value, mode.flags()),
    }?)
}

/// Removes one attribute.
pub fn remove(object: Writable<'_>, name: &CStr) -> Result<()> {
    before_change()?;
    let target = object.target();
    if has_xattrat() {
        let result = target.with_at(|dir, path, flags| {
            let (dir, path, flags) = (dir.as_raw_fd(), path.as_ptr(), flags.bits());
            // SAFETY: the strings are NUL-terminated and outlive the call.
            check_sys(unsafe { libc::syscall(SYS_REMOVEXATTRAT, dir, path, flags, name.as_ptr()) })
        });
        if let Some(result) = newer(result) {
            return result;
        }
    }
    let path = proc_target(target);
    Ok(match target {
        Target::At(..) => fs::lremovexattr(path, name),
        // The magic link is to be followed.
        Target::Fd(_) => fs::removexattr(path, name),
    }?)
}

/// Whether the error says that the attribute is not there, or cannot be there.
#[must_use]
pub fn is_absent(err: &Error) -> bool {
    matches!(err.errno(), Errno::ENODATA | Errno::EOPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Name, WritableFd};
    use std::os::fd::AsFd;

    /// A name and a descriptor give the same answers.
    #[test]
    fn by_name_and_by_descriptor_agree() {
        let tmp = tempfile::tempdir_in(".").unwrap();
        std::fs::write(tmp.path().join("f"), "").unwrap();
        let dir = std::fs::File::open(tmp.path()).unwrap();
        let file = std::fs::File::open(tmp.path().join("f")).unwrap();
        let entry = WritableFd::vouch(dir.as_fd()).entry(Name::new(b"f").unwrap());
        let at = entry.target();
        let opath =
            crate::sys::at::open(dir.as_fd(), Name::new(b"f").unwrap(), nix::fcntl::OFlag::O_PATH)
                .unwrap();
        let big = vec![7u8; 2000];
        if let Err(err) = set(entry, c"user.test", &big, SetMode::Create) {
            assert_eq!(err.errno(), Errno::EOPNOTSUPP);
            return;
        }
        for target in [at, Target::Fd(file.as_fd()), Target::Fd(opath.as_fd())] {
            assert_eq!(get(target, c"user.test").unwrap(), big);
            assert!(names(&list(target).unwrap()).any(|n| n == b"user.test"));
            assert_eq!(get_if_set(target, c"user.none").unwrap(), None);
        }
        remove(WritableFd::vouch(opath.as_fd()).object(), c"user.test").unwrap();
        assert_eq!(get(at, c"user.test").unwrap_err().errno(), Errno::ENODATA);
    }
}
