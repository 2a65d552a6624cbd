//! A directory while a name in it changes.
//!
//! A thread that makes, removes or moves a name holds a [`DirForChange`]. It guarantees that the
//! directory is in the upper, that no other thread reads or changes its names, and that it has an
//! index if several layers merge into it. Only this type changes the index, so that it stays true.

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

/// The state of the layers at a name that is about to change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Survey {
    /// What the upper has there.
    pub upper: InUpper,
    /// Whether a lower has it.
    pub in_lowers: bool,
}

impl Survey {
    /// No layer has the name.
    const FREE: Self = Self { upper: InUpper::Absent, in_lowers: false };

    fn of(entry: Option<Entry<'_>>) -> Self {
        entry.map_or(Self::FREE, |entry| Self { upper: entry.upper, in_lowers: entry.in_lowers() })
    }

    /// The upper has an object with these attributes, and no lower has the name.
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
    /// ENOTDIR; errors of listing the layers.
    pub fn lock(node: &'a Arc<Node>, upper: UpperDir) -> Result<Self> {
        let dir = node.dir()?;
        Self::locked(dir, dir.names.write(), upper)
    }

    /// Locks the names of `node` after those of a directory that comes before it.
    ///
    /// # Errors
    /// Those of [`Self::lock`].
    pub fn lock_another(node: &'a Arc<Node>, upper: UpperDir) -> Result<Self> {
        let dir = node.dir()?;
        Self::locked(dir, dir.names.write_another(), upper)
    }

    fn locked(dir: &Dir, mut names: WriteNames<'a>, upper: UpperDir) -> Result<Self> {
        ensure_index(dir, &mut names)?;
        let stack = dir.stack.read().clone();
        Ok(Self { upper, stack, names })
    }

    /// Fails with ENOENT if the directory was removed: nothing can be made in it.
    pub fn check_alive(&self) -> Result<()> {
        if self.names.dead { Err(Errno::ENOENT.into()) } else { Ok(()) }
    }

    /// The directories of the layers that merge here.
    pub fn stack(&self) -> &DirStack {
        &self.stack
    }

    /// The index, if several layers merge here.
    pub fn index(&self) -> Option<&Index> {
        self.names.index.as_ref()
    }

    /// The known facts about the names, for a lookup of one of them.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// What new objects inherit from the directory.
    ///
    /// # Errors
    /// Those of stat(2) and getxattr(2).
    pub fn inherited(&mut self) -> Result<Inherit> {
        self.names.inherited(&self.upper)
    }

    /// Surveys a name, without a system call if there is an index.
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

    /// Surveys a name at which a lookup found `found`. Without an index nothing else can be there.
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

    /// Whether a whiteout has the name itself, in contrast to one beside it (`.wh.NAME`).
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

    /// Notes that the name does not show anything any more.
    pub fn has_removed(&mut self, name: Name<'_>) {
        if let Some(index) = &mut self.names.index {
            index.remove(name);
        }
    }
}

impl Vfs {
    /// Locks a directory to change its names, and copies it up before if need be.
    ///
    /// # Errors
    /// EROFS; ENOENT for a removed directory that was in a lower alone; errors of copy-up.
    pub(super) fn dir_for_change<'a>(&self, node: &'a Arc<Node>) -> Result<DirForChange<'a>> {
        let upper = self.dir_to_write(node)?;
        DirForChange::lock(node, upper)
    }
}

/// A directory that is about to be removed, with its names locked.
pub(super) struct DirToRemove<'a> {
    dir: &'a Dir,
    stack: DirStack,
    /// The descriptor that keeps the directory usable for programs that have it open.
    kept: Arc<Fd>,
    names: WriteNames<'a>,
}

impl<'a> DirToRemove<'a> {
    /// Locks the names of a directory. The one above it is locked already.
    ///
    /// # Errors
    /// ENOTDIR; errors of opening it and of listing its layers.
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

    /// The directory in the form that `merge` removes.
    pub fn victim(&self) -> Victim<'_> {
        Victim { stack: &self.stack, index: self.names.index.as_ref() }
    }

    /// Marks the directory as removed. Its users go on with the descriptor.
    pub fn bury(mut self) {
        self.names.dead = true;
        self.names.index = None;
        *self.dir.orphan.write() = Some(self.kept);
        *self.dir.link.write() = None;
    }
}
