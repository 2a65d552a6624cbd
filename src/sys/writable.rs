//! The right to change an object.
//!
//! Each call that changes a file system takes one of these types, so that code which has only a
//! descriptor cannot change the object behind it. They are made only from a descriptor for which
//! some code vouches that its layer may change ([`WritableFd::vouch`]): that of the upper and of
//! its work directory, and that of the tools which rewrite a layer. `tests/tidy` has the list.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::name::{Name, Target};

/// A descriptor of a directory whose entries may change, or of a file whose data may.
#[derive(Clone, Copy, Debug)]
pub struct WritableFd<'a>(BorrowedFd<'a>);

impl<'a> WritableFd<'a> {
    /// Vouches that the object that `fd` refers to may be changed: it is not in a lower layer.
    #[must_use]
    pub fn vouch(fd: BorrowedFd<'a>) -> Self {
        Self(fd)
    }

    /// The object that has this name in this directory.
    #[must_use]
    pub fn entry(self, name: Name<'a>) -> Writable<'a> {
        Writable(Target::At(self.0, name))
    }

    /// The object that the descriptor refers to.
    #[must_use]
    pub fn object(self) -> Writable<'a> {
        Writable(Target::Fd(self.0))
    }

    /// The descriptor, for as long as it was borrowed.
    #[must_use]
    pub fn borrowed(self) -> BorrowedFd<'a> {
        self.0
    }
}

impl AsFd for WritableFd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0
    }
}

/// An object whose attributes may be changed.
#[derive(Clone, Copy, Debug)]
pub struct Writable<'a>(Target<'a>);

impl<'a> Writable<'a> {
    /// The object, for calls that change nothing.
    #[must_use]
    pub fn target(self) -> Target<'a> {
        self.0
    }
}

/// An open file or directory that may be changed.
#[derive(Debug)]
pub struct OwnedWritable(OwnedFd);

impl OwnedWritable {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The descriptor, with the right to change the object that it refers to.
    #[must_use]
    pub fn writable(&self) -> WritableFd<'_> {
        WritableFd(self.0.as_fd())
    }
}

impl AsFd for OwnedWritable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedWritable> for OwnedFd {
    fn from(file: OwnedWritable) -> Self {
        file.0
    }
}
