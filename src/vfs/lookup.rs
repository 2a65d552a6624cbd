//! Names to nodes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::nodes::ids::NodeId;
use super::nodes::locks::ReadNames;
use super::nodes::node::{Dir, Names, Node};
use super::nodes::table::Held;
use super::{Entry, Vfs};
use crate::error::{Errno, Result};
use crate::layer::LayerDir;
use crate::merge::found::Found;
use crate::merge::index::{Entry as IndexEntry, InUpper, Index};
use crate::merge::key::Key;
use crate::merge::lookup::{self, Candidates, Known};
use crate::merge::{DirStack, What};
use crate::sys::{Name, Stat};

impl Vfs {
    /// Looks up a name and, if it is there, adds one to the lookups of its node. With `nfs_export`,
    /// `.` and `..` are names, also of a node that was forgotten.
    ///
    /// # Errors
    /// ENOENT; ENOTDIR; ENAMETOOLONG; ESTALE; what the layers say.
    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Entry> {
        match name {
            b"." if self.table.exports() => return self.lookup_self(parent),
            b".." if self.table.exports() => return self.lookup_parent(parent),
            _ => {}
        }
        let parent = self.node(parent)?;
        let given = |found| self.give_out(found, &parent, name);
        self.with_found(&parent, Name::new(name)?, given)?.ok_or_else(|| Errno::ENOENT.into())
    }

    /// Makes an entry of what was found, counted as given out.
    pub(super) fn give_out(&self, found: Found, parent: &Arc<Node>, name: &[u8]) -> Result<Entry> {
        let in_lower = matches!(found.what, What::Lower(_));
        let merged = matches!(&found.what, What::Dir(dir) if dir.is_merged());
        let stat = presented(&found.stat, merged);
        let fresh = self.fresh_dirs(&found);
        let node = self.table.intern(found, parent, name, 1);
        self.renew(&node, fresh).inspect_err(|_| self.table.forget(node.id, 1))?;
        // Another name of the same file may have brought it into the upper already.
        let moved_on = in_lower
            && node.as_leaf().is_ok_and(|leaf| leaf.place.read().real.upper_key().is_some());
        if moved_on {
            let stat = self.stat_of(&node).inspect_err(|_| self.table.forget(node.id, 1))?;
            return Ok(self.entry(&node, stat));
        }
        Ok(self.entry(&node, self.shown(&node, self.recount(&node, stat))))
    }

    /// Looks up a name without making a node.
    pub(super) fn find(&self, parent: &Node, name: Name<'_>) -> Result<Option<Found>> {
        self.with_found(parent, name, Ok)
    }

    /// Looks up a name, and does something about what is found while nobody can change the name: it
    /// must be known as what it was found to be before it is copied up.
    pub(super) fn with_found<T>(
        &self,
        parent: &Node,
        name: Name<'_>,
        act: impl FnOnce(Found) -> Result<T>,
    ) -> Result<Option<T>> {
        let dir = parent.dir()?;
        let mut names = self.names(dir)?;
        loop {
            let Some(candidates) = candidates(dir, &names, name)? else { return Ok(None) };
            let stack = dir.stack.read().clone();
            let look = || self.look_among(&candidates, &stack, name);
            if !candidates.only_in_lowers() {
                return look()?.map(act).transpose();
            }
            // A lower may hang, and whoever changes the directory would wait for the lock. What it
            // has stays; only whether it is what shows has to be seen again.
            drop(names);
            let found = look()?;
            names = self.names(dir)?;
            if self::candidates(dir, &names, name)? == Some(candidates) {
                return found.map(act).transpose();
            }
        }
    }

    /// What a name of a directory stands for, whose names are locked and have this index.
    pub(super) fn look_up(
        &self,
        stack: &DirStack,
        index: Option<&Index>,
        name: Name<'_>,
    ) -> Result<Option<Found>> {
        match Candidates::of(stack, index, name)? {
            Some(candidates) => self.look_among(&candidates, stack, name),
            None => Ok(None),
        }
    }

    fn look_among(
        &self,
        candidates: &Candidates,
        stack: &DirStack,
        name: Name<'_>,
    ) -> Result<Option<Found>> {
        let sighted = lookup::sight(self.lookup_context(), stack, candidates, name)?;
        let Some(sighted) = sighted else { return Ok(None) };
        // What is known of lowers that may change is not worth a look.
        let known = match self.lowers_settle {
            None => self.table.known_of(&sighted)?,
            Some(_) => Known::Nothing,
        };
        sighted.examine(known).map(Some)
    }

    /// Holds what a name stands for while its directory is being changed, so that no layer is asked
    /// for it under the lock. Without an index the layer is the upper, which is asked then.
    ///
    /// # Errors
    /// Those of the layers; what is not there is `None`.
    pub(super) fn meet(&self, parent: &Arc<Node>, name: Name<'_>) -> Result<Option<Held<'_>>> {
        if self.names(parent.dir()?)?.index.is_none() {
            return Ok(None);
        }
        match self.child(parent, name) {
            Err(err) if err.errno() == Errno::ENOENT => Ok(None),
            other => {
                let held = other?;
                if let Ok(dir) = held.dir() {
                    // Whether it is empty may be asked.
                    drop(self.names(dir)?);
                }
                Ok(Some(held))
            }
        }
    }

    /// The node that an index says a name stands for, if it is known by that name: no call is
    /// needed to find it.
    pub(super) fn indexed(
        &self,
        parent: &Arc<Node>,
        names: &Names,
        stack: &DirStack,
        name: Name<'_>,
    ) -> Result<Option<Held<'_>>> {
        let entry = names.index.as_ref().and_then(|index| index.get(name));
        let Some((layer, ino)) = entry.and_then(|entry| shown_by(stack, entry)) else {
            return Ok(None);
        };
        let key = Key { dev: layer.dev()?, ino, layer: layer.layer() };
        Ok(self.table.by_entry(key, parent, name.bytes()))
    }

    /// The names of a directory, locked for reading, with an index if one is needed.
    pub(super) fn names<'a>(&self, dir: &'a Dir) -> Result<ReadNames<'a>> {
        {
            // Whoever wants to change the names may wait for a reader whose layer hangs. Who only
            // reads does not wait with it.
            let names = dir.names.read_recursive();
            let is_current = names.index.as_ref().is_some_and(|index| !index.is_due());
            if is_current || names.dead || !dir.stack.read().is_merged() {
                return Ok(names);
            }
        }
        let mut names = dir.names.write();
        ensure_index(dir, &mut names)?;
        Ok(names.downgrade())
    }

    /// The node behind a name, counted nowhere; if nobody else knows it, it goes with what is
    /// returned.
    pub(super) fn child(&self, parent: &Arc<Node>, name: Name<'_>) -> Result<Held<'_>> {
        let dir = parent.dir()?;
        let names = self.names(dir)?;
        let stack = dir.stack.read().clone();
        if let Some(known) = self.indexed(parent, &names, &stack, name)? {
            return Ok(known);
        }
        drop(names);
        let hold = |found| Ok(self.table.hold(found, parent, name.bytes()));
        self.with_found(parent, name, hold)?.ok_or_else(|| Errno::ENOENT.into())
    }

    /// Adds one lookup to a node and makes an entry of it.
    pub(super) fn entry_of(&self, node: &Arc<Node>) -> Result<Entry> {
        let stat = self.stat_of(node)?;
        node.lookups.fetch_add(1, Ordering::Relaxed);
        Ok(self.entry(node, stat))
    }

    pub(super) fn entry(&self, node: &Node, stat: Stat) -> Entry {
        Entry { node: node.id, generation: self.table.generation(node.id), stat }
    }
}

/// Where a directory whose names are locked may have `name`; `None` if nowhere.
fn candidates(dir: &Dir, names: &Names, name: Name<'_>) -> Result<Option<Candidates>> {
    if names.dead {
        return Ok(None);
    }
    Candidates::of(&dir.stack.read(), names.index.as_ref(), name)
}

/// The directory of the layer that shows an entry, and the inode number that this has there.
pub(super) fn shown_by<'a>(
    stack: &'a DirStack,
    entry: IndexEntry<'_>,
) -> Option<(&'a Arc<LayerDir>, u64)> {
    match entry.upper {
        InUpper::Whiteout => None,
        InUpper::Object { ino, .. } => Some((stack.upper.as_ref()?.dir(), ino)),
        InUpper::Absent => {
            let level = usize::from(*entry.lowers.levels.first()?);
            Some((stack.lowers.get(level)?.dir(), entry.lowers.ino()?))
        }
    }
}

/// Builds the index of a merged directory that has none, or one that is not true any more.
pub(super) fn ensure_index(dir: &Dir, names: &mut Names) -> Result<()> {
    let is_current = names.index.as_ref().is_some_and(|index| !index.is_due());
    if is_current || names.dead {
        return Ok(());
    }
    let stack = dir.stack.read().clone();
    let still_true = match &mut names.index {
        Some(index) => index.is_still_true(&stack)?,
        None => !stack.is_merged(),
    };
    if !still_true {
        names.index = Some(Index::build(&stack)?);
    }
    Ok(())
}

/// Attributes as users see them, but for the number. A merged directory has one link: counting its
/// subdirectories would take a listing of every layer (the kernel's overlayfs says 1 too).
pub(super) fn presented(stat: &Stat, merged: bool) -> Stat {
    Stat { nlink: if merged { 1 } else { stat.nlink }, ..*stat }
}
