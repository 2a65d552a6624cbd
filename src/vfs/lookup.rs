//! From names to nodes.

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
    /// Looks up a name, and adds one to the lookups of its node if it is there. With `nfs_export`
    /// `.` and `..` can be looked up too, also in a node that was forgotten.
    ///
    /// # Errors
    /// ENOENT; ENOTDIR; ENAMETOOLONG; ESTALE; errors of the layers.
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

    /// Makes an entry of what a lookup found, and counts it as given out.
    pub(super) fn give_out(&self, found: Found, parent: &Arc<Node>, name: &[u8]) -> Result<Entry> {
        let in_lower = matches!(found.what, What::Lower(_));
        let merged = matches!(&found.what, What::Dir(dir) if dir.is_merged());
        let stat = presented(&found.stat, merged);
        let fresh = self.fresh_dirs(&found);
        let node = self.table.intern(found, parent, name, 1);
        self.renew(&node, fresh).inspect_err(|_| self.table.forget(node.id, 1))?;
        // The file may be in the upper already, copied up under another name.
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

    /// Looks up a name, and runs `act` on what it finds while no other thread can change the name.
    /// So the object gets its node before it is copied up.
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
            // A lower may hang, and a thread that changes the directory would wait for the lock.
            // The object stays in the lower, and only whether it still shows is checked again.
            drop(names);
            let found = look()?;
            names = self.names(dir)?;
            if self::candidates(dir, &names, name)? == Some(candidates) {
                return found.map(act).transpose();
            }
        }
    }

    /// Looks up a name in a directory that is locked and has this index.
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
        // Nothing is taken from earlier lookups if lowers may change.
        let known = match self.lowers_settle {
            None => self.table.known_of(&sighted)?,
            Some(_) => Known::Nothing,
        };
        sighted.examine(known).map(Some)
    }

    /// Holds the node of a name during a change of its directory, so that no layer is asked for it
    /// under the lock. Without an index the object can only be in the upper, which is asked then.
    ///
    /// # Errors
    /// Those of the layers. An absent name is `None`.
    pub(super) fn meet(&self, parent: &Arc<Node>, name: Name<'_>) -> Result<Option<Held<'_>>> {
        if self.names(parent.dir()?)?.index.is_none() {
            return Ok(None);
        }
        match self.child(parent, name) {
            Err(err) if err.errno() == Errno::ENOENT => Ok(None),
            other => {
                let held = other?;
                if let Ok(dir) = held.dir() {
                    // Builds its index, because the change may ask whether it is empty.
                    drop(self.names(dir)?);
                }
                Ok(Some(held))
            }
        }
    }

    /// The node of a name, from the index and without a system call. `None` if no node is known by
    /// this name.
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

    /// Locks the names of a directory to read them, and builds its index if it merges.
    pub(super) fn names<'a>(&self, dir: &'a Dir) -> Result<ReadNames<'a>> {
        {
            // A thread that wants to change the names may wait for a reader whose layer hangs. A
            // new reader does not wait with it.
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

    /// The node of a name, without counting a lookup. A node that nobody else uses is dropped with
    /// the result.
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

    /// Adds one lookup to a node, and makes an entry of it.
    pub(super) fn entry_of(&self, node: &Arc<Node>) -> Result<Entry> {
        let stat = self.stat_of(node)?;
        node.lookups.fetch_add(1, Ordering::Relaxed);
        Ok(self.entry(node, stat))
    }

    pub(super) fn entry(&self, node: &Node, stat: Stat) -> Entry {
        Entry { node: node.id, generation: self.table.generation(node.id), stat }
    }
}

/// The layers that may have `name` in a directory that is locked; `None` if none may.
fn candidates(dir: &Dir, names: &Names, name: Name<'_>) -> Result<Option<Candidates>> {
    if names.dead {
        return Ok(None);
    }
    Candidates::of(&dir.stack.read(), names.index.as_ref(), name)
}

/// The directory of the layer that shows an entry, and the inode number of the entry there.
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

/// Builds the index of a merged directory that has none, or whose index is not true any more.
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

/// Attributes with the link count that users see. A merged directory has one link: counting its
/// subdirectories would take a listing of every layer (the kernel's overlayfs shows 1 too).
pub(super) fn presented(stat: &Stat, merged: bool) -> Stat {
    Stat { nlink: if merged { 1 } else { stat.nlink }, ..*stat }
}
