//! The gate for names, each one component of a path, and the objects that calls act on.

use std::ffi::CStr;
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::AtFlags;

use crate::error::{Errno, Error, Result};

/// The longest name that Linux file systems take (`NAME_MAX`, limits.h), in bytes.
pub const NAME_MAX: usize = 255;

/// One component of a path: not empty, not `.` or `..`, no `/`, no NUL, at most 255 bytes.
///
/// A name is bytes, which need not be UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Checks a name from outside: the kernel, a directory of a layer, an option.
    ///
    /// # Errors
    /// EINVAL for bytes that are not one component; ENAMETOOLONG above [`NAME_MAX`]
    /// (path_resolution(7)).
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() > NAME_MAX {
            return Err(Error::from(Errno::ENAMETOOLONG).fact());
        }
        let hostile = bytes.is_empty()
            || bytes == b"."
            || bytes == b".."
            || bytes.iter().any(|b| matches!(b, b'/' | 0));
        if hostile { Err(Error::from(Errno::EINVAL).fact()) } else { Ok(Self(bytes)) }
    }

    /// The bytes, without a terminator.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Runs `call` with the name as a C string on the stack.
    pub(super) fn with_c<T>(self, call: impl FnOnce(&CStr) -> T) -> T {
        let mut buf = [0u8; NAME_MAX + 1];
        for (to, from) in buf.iter_mut().zip(self.0) {
            *to = *from;
        }
        // There is always a NUL: the buffer has room for one more byte than any name has.
        call(CStr::from_bytes_until_nul(&buf).unwrap_or_default())
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

/// An object to act on: by its name in a directory, or by a descriptor of its own.
///
/// A descriptor may be `O_PATH`; the calls that such a descriptor does not allow go through
/// `/proc/self/fd`.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The object that has this name in this directory. A symbolic link is not followed.
    At(BorrowedFd<'a>, Name<'a>),
    /// The object that the descriptor refers to.
    Fd(BorrowedFd<'a>),
}

impl Target<'_> {
    /// Runs a call that takes `(dirfd, path, flags)` in the way of the `*at` calls.
    pub(super) fn with_at<T>(self, call: impl FnOnce(BorrowedFd<'_>, &CStr, AtFlags) -> T) -> T {
        match self {
            Self::At(dir, name) => name.with_c(|c| call(dir, c, AtFlags::SYMLINK_NOFOLLOW)),
            Self::Fd(fd) => call(fd, c"", AtFlags::EMPTY_PATH),
        }
    }
}

/// The path of an open descriptor in procfs, for calls that have no variant for `O_PATH`.
pub(super) fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_pass_the_gate_or_not() {
        for good in [&b"a"[..], b"...", b"\xff\xfe", b" ", &[b'x'; 255]] {
            assert!(Name::new(good).is_ok(), "{good:?}");
        }
        for (bad, errno) in [
            (&b""[..], Errno::EINVAL),
            (b".", Errno::EINVAL),
            (b"..", Errno::EINVAL),
            (b"a/b", Errno::EINVAL),
            (b"/", Errno::EINVAL),
            (b"a\0", Errno::EINVAL),
            (&[b'x'; 256], Errno::ENAMETOOLONG),
        ] {
            assert_eq!(Name::new(bad).unwrap_err().errno(), errno, "{bad:?}");
        }
    }
}
