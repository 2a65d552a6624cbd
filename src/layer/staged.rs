//! Objects that are built in the work directory and then published at a name in the upper.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::fcntl::OFlag;

use super::dir::UpperDir;
use super::fdcache::Fd;
use super::guard::Guard;
use super::work::Work;
use crate::error::{Errno, Result, best_effort};
use crate::sys::at::Replace;
use crate::sys::{Name, Writable, WritableFd, at, stat};

/// The object at the name where another one is to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// No object. EEXIST if there is one after all.
    Nothing,
    /// An object of the same kind, directory or not, which the same call replaces.
    SameKind,
    /// A whiteout that a new directory replaces. The two are exchanged, and the old object is
    /// removed from the work directory.
    NoDirectory,
    /// A directory that a whiteout replaces, also by an exchange.
    Directory,
}

impl Over {
    /// Whether the old object is a directory; `None` if the new one is of the same kind.
    fn replaced(self) -> Option<bool> {
        match self {
            Self::Nothing | Self::SameKind => None,
            Self::NoDirectory => Some(false),
            Self::Directory => Some(true),
        }
    }
}

/// An object that was taken out of the tree.
#[derive(Debug)]
#[must_use]
pub struct TakenOut {
    work: Arc<Work>,
    name: String,
    is_dir: Option<bool>,
}

impl TakenOut {
    /// Takes an object out of a directory. `is_dir` says whether it is one itself, if known.
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

    /// Puts the object back.
    pub(super) fn put_back(&self, dir: &UpperDir, name: Name<'_>) -> Result<()> {
        let from = Name::new(self.name.as_bytes())?;
        dir.move_in(self.work.fd(), from, name, Replace::No)
    }

    /// Removes the object, with all below it.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn discard(self) -> Result<()> {
        self.work.discard_known(&self.name, self.is_dir)
    }

    /// Removes the object. A failure is only logged, as the tree is right all the same.
    pub fn sweep(self) {
        best_effort("what was replaced stays in work until the next mount", self.discard());
    }
}

/// An object in the work directory. If it is dropped before it is published, it is removed.
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

    /// Sets a mark on an object that already has its final mode. That mode may forbid it:
    /// attributes of the `user.` namespace need `w` (xattr(7)).
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

    /// Opens the object, a directory that we may read, to sync it.
    pub fn open_dir(&self) -> Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        at::open_target(self.object()?.target(), flags)
    }

    /// A descriptor (`O_PATH`) in place of the object, which never gets a name.
    ///
    /// # Errors
    /// Those of openat(2).
    pub fn into_unnamed(self) -> Result<Fd> {
        let name = Name::new(self.name.as_bytes())?;
        at::open(self.work.fd().borrowed(), name, OFlag::O_PATH).map(Fd::of_upper)
    }

    /// Makes the object appear as `name` in `dir`, in one step.
    ///
    /// A crash before leaves the old state, a crash after leaves the new one. The next mount sweeps
    /// an object that an exchange left in the work directory.
    pub fn publish(self, dir: &UpperDir, name: Name<'_>, over: Over) -> Result<()> {
        if let Some(replaced) = self.replace(dir, name, over)? {
            replaced.sweep();
        }
        Ok(())
    }

    /// Publishes the object. Returns the one that an exchange brought into the work directory.
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

    /// Replaces an object in two steps, where the file system exchanges nothing (NFS, some FUSE
    /// servers). A crash between them shows nothing at the name, as before or as after.
    fn replace_in_two_steps(
        mut self,
        dir: &UpperDir,
        name: Name<'_>,
        is_dir: Option<bool>,
    ) -> Result<TakenOut> {
        let hidden = Guard::set(dir, name)?;
        let old = TakenOut::of(&self.work, dir, name, is_dir)?;
        let staged = Name::new(self.name.as_bytes())?;
        if let Err(err) = dir.move_in(self.work.fd(), staged, name, Replace::No) {
            let back = old.put_back(dir, name);
            best_effort("what was to be replaced stays in work until the next mount", back);
            return Err(err);
        }
        self.published = true;
        if let Some(hidden) = hidden {
            hidden.lift();
        }
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
