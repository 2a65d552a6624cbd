//! Build, then publish: something in the work directory on its way to a name in the upper.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::OFlag;

use super::dir::UpperDir;
use super::guard::Guard;
use super::work::Work;
use crate::error::{Errno, Result, best_effort};
use crate::sys::at::Replace;
use crate::sys::{Name, Target, at};

/// What stands at the name where something is to appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Nothing; if something does after all, EEXIST.
    Nothing,
    /// Something of the same kind, directory or not, that goes in the same step.
    SameKind,
    /// Something of another kind, such as a whiteout under a new directory: the two change places,
    /// and the old one is removed from the work directory.
    OtherKind,
}

/// An object in the work directory. Dropped before it is published, it is removed.
#[derive(Debug)]
#[must_use = "what is not published is removed"]
pub struct Staged {
    work: Arc<Work>,
    name: String,
    published: bool,
}

impl Staged {
    /// Makes an object with `make`, which gets the work directory and an unused name.
    pub(super) fn build(
        work: &Arc<Work>,
        make: impl FnOnce(BorrowedFd<'_>, Name<'_>) -> Result<()>,
    ) -> Result<Self> {
        let name = work.fresh_name();
        make(work.fd(), Name::new(name.as_bytes())?)?;
        Ok(Self { work: Arc::clone(work), name, published: false })
    }

    /// The object, to be finished before it is published.
    pub fn target(&self) -> Result<Target<'_>> {
        Ok(Target::At(self.work.fd(), Name::new(self.name.as_bytes())?))
    }

    /// The object, to be synced, if it is a directory that we may read.
    pub fn open_dir(&self) -> Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        at::open(self.work.fd(), Name::new(self.name.as_bytes())?, flags, 0)
    }

    /// Makes the object appear as `name` in `dir`, in one step.
    ///
    /// A crash before leaves the old state, a crash after leaves the new one; what an exchange
    /// brought into the work directory is swept by the next mount.
    pub fn publish(mut self, dir: &UpperDir, name: Name<'_>, over: Over) -> Result<()> {
        let replace = match over {
            Over::Nothing => Replace::No,
            Over::SameKind => Replace::Yes,
            Over::OtherKind => Replace::Exchange,
        };
        let fd = dir.fd()?;
        let staged = Name::new(self.name.as_bytes())?;
        let to = fd.as_ref().as_fd();
        match at::rename(self.work.fd(), staged, to, name, replace) {
            Err(err) if over == Over::OtherKind && err.errno() == Errno::EINVAL => {
                return self.publish_in_two_steps(dir, name);
            }
            other => other?,
        }
        self.published = true;
        if over == Over::OtherKind {
            best_effort("what was replaced stays in work until the next mount", self.discard());
        }
        Ok(())
    }

    /// Where the file system exchanges nothing (NFS, some FUSE servers), what is there goes first.
    /// A crash between the two shows nothing at the name, as before or as after.
    fn publish_in_two_steps(mut self, dir: &UpperDir, name: Name<'_>) -> Result<()> {
        let _hidden = Guard::set(dir, name)?;
        let fd = dir.fd()?;
        let to = fd.as_ref().as_fd();
        let aside = self.work.fresh_name();
        let old = Name::new(aside.as_bytes())?;
        at::rename(to, name, self.work.fd(), old, Replace::No)?;
        let staged = Name::new(self.name.as_bytes())?;
        if let Err(err) = at::rename(self.work.fd(), staged, to, name, Replace::No) {
            let back = at::rename(self.work.fd(), old, to, name, Replace::No);
            best_effort("what was to be replaced stays in work until the next mount", back);
            return Err(err);
        }
        self.published = true;
        best_effort(
            "what was replaced stays in work until the next mount",
            self.work.discard(&aside),
        );
        Ok(())
    }

    fn discard(&self) -> Result<()> {
        match self.work.discard(&self.name) {
            Err(err) if err.errno() == Errno::ENOENT => Ok(()),
            other => other,
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published {
            best_effort(
                "what was not published stays in work until the next mount",
                self.discard(),
            );
        }
    }
}
