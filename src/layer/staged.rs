//! Build, then publish: something in the work directory on its way to a name in the upper.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::fcntl::OFlag;

use super::dir::UpperDir;
use super::guard::Guard;
use super::work::Work;
use crate::error::{Errno, Result, best_effort};
use crate::sys::at::Replace;
use crate::sys::{Name, Writable, WritableFd, at, stat};

/// What stands at the name where something is to appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Nothing; if something does after all, EEXIST.
    Nothing,
    /// Something of the same kind, directory or not, that goes in the same step.
    SameKind,
    /// A whiteout, where a new directory is to appear: the two change places, and the old one is
    /// removed from the work directory.
    NoDirectory,
    /// A directory, where a whiteout is to appear: the same.
    Directory,
}

impl Over {
    /// Whether what is there is a directory, if that is another kind than what replaces it.
    fn replaced(self) -> Option<bool> {
        match self {
            Self::Nothing | Self::SameKind => None,
            Self::NoDirectory => Some(false),
            Self::Directory => Some(true),
        }
    }
}

/// An object that is no longer in the tree.
#[derive(Debug)]
#[must_use]
pub struct TakenOut {
    work: Arc<Work>,
    name: String,
    is_dir: Option<bool>,
}

impl TakenOut {
    /// Takes an object out of a directory; whether it is one itself may be known.
    pub(super) fn of(
        work: &Arc<Work>,
        dir: &UpperDir,
        name: Name<'_>,
        is_dir: Option<bool>,
    ) -> Result<Self> {
        let temp = work.fresh_name();
        let to = Name::new(temp.as_bytes())?;
        dir.move_out(name, work.fd(), to)?;
        Ok(Self { work: Arc::clone(work), name: temp, is_dir })
    }

    /// Puts it back.
    fn put_back(&self, dir: &UpperDir, name: Name<'_>) -> Result<()> {
        let from = Name::new(self.name.as_bytes())?;
        dir.move_in(self.work.fd(), from, name, Replace::No)
    }

    /// Removes it, with all below.
    ///
    /// # Errors
    /// Those of the calls.
    pub fn discard(self) -> Result<()> {
        self.work.discard_known(&self.name, self.is_dir)
    }

    /// Removes it where the tree is as it should be whether that works or not.
    pub fn sweep(self) {
        best_effort("what was replaced stays in work until the next mount", self.discard());
    }
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
        make: impl FnOnce(WritableFd<'_>, Name<'_>) -> Result<()>,
    ) -> Result<Self> {
        let name = work.fresh_name();
        make(work.fd(), Name::new(name.as_bytes())?)?;
        Ok(Self { work: Arc::clone(work), name, published: false })
    }

    /// The object, to be finished before it is published.
    pub fn object(&self) -> Result<Writable<'_>> {
        Ok(self.work.fd().entry(Name::new(self.name.as_bytes())?))
    }

    /// Sets a mark on the object when it has the mode that it is to have, which may keep us from
    /// it: attributes of the `user.` namespace take `w` (xattr(7)).
    ///
    /// # Errors
    /// Those of `set` and of chmod(2).
    pub fn mark(&self, mut set: impl FnMut(Writable<'_>) -> Result<()>) -> Result<()> {
        let object = self.object()?;
        match set(object) {
            Err(err) if err.errno() == Errno::EACCES => {}
            other => return other,
        }
        let mode = stat::stat(object.target())?.permissions();
        at::chmod(object, mode | libc::S_IWUSR)?;
        set(object)?;
        at::chmod(object, mode)
    }

    /// The object, to be synced, if it is a directory that we may read.
    pub fn open_dir(&self) -> Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        at::open_target(self.object()?.target(), flags)
    }

    /// Makes the object appear as `name` in `dir`, in one step.
    ///
    /// A crash before leaves the old state, a crash after leaves the new one; what an exchange
    /// brought into the work directory is swept by the next mount.
    pub fn publish(self, dir: &UpperDir, name: Name<'_>, over: Over) -> Result<()> {
        if let Some(replaced) = self.replace(dir, name, over)? {
            replaced.sweep();
        }
        Ok(())
    }

    /// Publishes it, and hands over what is to be removed from the work directory.
    pub fn replace(
        mut self,
        dir: &UpperDir,
        name: Name<'_>,
        over: Over,
    ) -> Result<Option<TakenOut>> {
        let is_dir = over.replaced();
        let replace = match over {
            Over::Nothing => Replace::No,
            Over::SameKind => Replace::Yes,
            Over::NoDirectory | Over::Directory => Replace::Exchange,
        };
        let staged = Name::new(self.name.as_bytes())?;
        match dir.move_in(self.work.fd(), staged, name, replace) {
            Err(err) if replace == Replace::Exchange && err.errno() == Errno::EINVAL => {
                return self.replace_in_two_steps(dir, name, is_dir).map(Some);
            }
            other => other?,
        }
        self.published = true;
        let (work, name) = (Arc::clone(&self.work), std::mem::take(&mut self.name));
        Ok(is_dir.map(|is_dir| TakenOut { work, name, is_dir: Some(is_dir) }))
    }

    /// Where the file system exchanges nothing (NFS, some FUSE servers), what is there goes first.
    /// A crash between the two shows nothing at the name, as before or as after.
    fn replace_in_two_steps(
        mut self,
        dir: &UpperDir,
        name: Name<'_>,
        is_dir: Option<bool>,
    ) -> Result<TakenOut> {
        let _hidden = Guard::set(dir, name)?;
        let old = TakenOut::of(&self.work, dir, name, is_dir)?;
        let staged = Name::new(self.name.as_bytes())?;
        if let Err(err) = dir.move_in(self.work.fd(), staged, name, Replace::No) {
            let back = old.put_back(dir, name);
            best_effort("what was to be replaced stays in work until the next mount", back);
            return Err(err);
        }
        self.published = true;
        Ok(old)
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
