//! A directory while a name in it changes.
//!
//! Whoever makes, removes or moves a name holds a [`DirForChange`]. It says that the directory is
//! in the upper, that nobody else reads or changes its names, and that it has an index if several
//! layers merge into it. It is the only way to change that index, so that this stays true.

use std::sync::Arc;

use super::Vfs;
use super::lookup::ensure_index;
use super::nodes::locks::WriteNames;
use super::nodes::node::{Dir, Names, Node};
use crate::error::{Errno, Result};
use crate::layer::{Fd, UpperDir};
use crate::merge::create::Inherit;
use crate::merge::index::{Entry, InUpper};
use crate::merge::remove::Victim;
use crate::merge::{DirStack, Found, Index};
use crate::sys::{FileType, Name, Stat};

/// What stands at a name that is about to be changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Survey {
    /// What the upper has there.
    pub upper: InUpper,
    /// Whether a lower has it.
    pub in_lowers: bool,
}

impl Survey {
    /// Nothing anywhere.
    const FREE: Self = Self { upper: InUpper::Absent, in_lowers: false };

    fn of(entry: Option<Entry<'_>>) -> Self {
        entry.map_or(Self::FREE, |entry| Self { upper: entry.upper, in_lowers: entry.in_lowers() })
    }

    /// An object of the upper, with nothing below it.
    fn object(stat: &Stat) -> Self {
        let upper = InUpper::Object { kind: stat.kind(), ino: stat.ino, cut: false };
        Self { upper, in_lowers: false }
    }
}

/// A directory of the upper whose names are locked.
pub(super) struct DirForChange<'a> {
    /// Its part in the upper.
    pub upper: UpperDir,
    stack: DirStack,
    names: WriteNames<'a>,
}

impl<'a> DirForChange<'a> {
    /// Locks the names of `node`, whose part in the upper is `upper`.
    ///
    /// # Errors
    /// ENOTDIR; those of listing the layers.
    pub fn lock(node: &'a Arc<Node>, upper: UpperDir) -> Result<Self> {
        let dir = node.dir()?;
        Self::locked(dir, dir.names.write(), upper)
    }

    /// As [`Self::lock`], by who holds a directory that comes before this one.
    ///
    /// # Errors
    /// As [`Self::lock`].
    pub fn lock_another(node: &'a Arc<Node>, upper: UpperDir) -> Result<Self> {
        let dir = node.dir()?;
        Self::locked(dir, dir.names.write_another(), upper)
    }

    fn locked(dir: &Dir, mut names: WriteNames<'a>, upper: UpperDir) -> Result<Self> {
        ensure_index(dir, &mut names)?;
        let stack = dir.stack.read().clone();
        Ok(Self { upper, stack, names })
    }

    /// # Errors
    /// ENOENT in a directory that was removed: nothing can be made there.
    pub fn check_alive(&self) -> Result<()> {
        if self.names.dead { Err(Errno::ENOENT.into()) } else { Ok(()) }
    }

    /// The directories of the layers.
    pub fn stack(&self) -> &DirStack {
        &self.stack
    }

    /// The names of all layers, if more than one has a say.
    pub fn index(&self) -> Option<&Index> {
        self.names.index.as_ref()
    }

    /// The names, to look for one of them.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// What new objects inherit from it.
    ///
    /// # Errors
    /// Those of stat(2) and getxattr(2).
    pub fn inherited(&mut self) -> Result<Inherit> {
        self.names.inherited(&self.upper)
    }

    /// What stands at a name. With an index no call is needed.
    ///
    /// # Errors
    /// Those of stat(2) and getxattr(2).
    pub fn survey(&self, name: Name<'_>) -> Result<Survey> {
        if let Some(index) = self.index() {
            return Ok(Survey::of(index.get(name)));
        }
        let upper = self.upper.dir();
        Ok(match upper.stat_entry(name)? {
            None => Survey::FREE,
            Some(stat) if upper.is_whiteout(name, &stat)? => {
                Survey { upper: InUpper::Whiteout, in_lowers: false }
            }
            Some(stat) => Survey::object(&stat),
        })
    }

    /// What stands at a name that was found to stand for `found`. Without an index nothing else
    /// can be there.
    pub fn survey_found(&self, name: Name<'_>, found: &Found) -> Survey {
        match self.index() {
            Some(index) => Survey::of(index.get(name)),
            None => Survey::object(&found.stat),
        }
    }

    /// Whether a lower has a name.
    pub fn in_lowers(&self, name: Name<'_>) -> bool {
        self.index().is_some_and(|index| Survey::of(index.get(name)).in_lowers)
    }

    /// Whether a whiteout stands at the name itself, not beside it (`.wh.NAME`).
    ///
    /// # Errors
    /// Those of stat(2) and getxattr(2).
    pub fn is_whiteout_object(&self, name: Name<'_>) -> Result<bool> {
        let upper = self.upper.dir();
        match upper.stat_entry(name)? {
            Some(stat) => upper.is_whiteout(name, &stat),
            None => Ok(false),
        }
    }

    /// Notes that the upper has an object under this name now.
    pub fn has_put(&mut self, name: Name<'_>, kind: FileType, ino: u64) {
        if let Some(index) = &mut self.names.index {
            index.put_upper(name, kind, ino);
        }
    }

    /// Notes that the name shows nothing any more.
    pub fn has_removed(&mut self, name: Name<'_>) {
        if let Some(index) = &mut self.names.index {
            index.remove(name);
        }
    }
}

impl Vfs {
    /// Copies a directory up, if need be, and locks it to change its names.
    ///
    /// # Errors
    /// EROFS; ENOENT for a removed directory that was in a lower alone; those of copy-up.
    pub(super) fn dir_for_change<'a>(&self, node: &'a Arc<Node>) -> Result<DirForChange<'a>> {
        let upper = self.dir_to_write(node)?;
        DirForChange::lock(node, upper)
    }
}

/// A directory that is about to go, with its names locked.
pub(super) struct DirToRemove<'a> {
    dir: &'a Dir,
    stack: DirStack,
    /// Keeps it usable for who has it open.
    kept: Arc<Fd>,
    names: WriteNames<'a>,
}

impl<'a> DirToRemove<'a> {
    /// Locks the names of a directory that is still there. The one above it is locked already.
    ///
    /// # Errors
    /// ENOTDIR; those of opening it and of listing its layers.
    pub fn lock(node: &'a Node) -> Result<Self> {
        let dir = node.dir()?;
        let mut names = dir.names.write_another();
        ensure_index(dir, &mut names)?;
        let stack = dir.stack.read().clone();
        let kept = stack.top()?.fd()?;
        Ok(Self { dir, stack, kept, names })
    }

    /// Whether the upper has a part of it.
    pub fn is_in_upper(&self) -> bool {
        self.stack.upper.is_some()
    }

    /// The directory, as what is removed from the layers.
    pub fn victim(&self) -> Victim<'_> {
        Victim { stack: &self.stack, index: self.names.index.as_ref() }
    }

    /// Marks it as removed. What still refers to it goes on by the descriptor.
    pub fn bury(mut self) {
        self.names.dead = true;
        self.names.index = None;
        *self.dir.orphan.write() = Some(self.kept);
        *self.dir.link.write() = None;
    }
}
