//! Lookup of an object by its number alone, as file handles need it.

use super::nodes::exports::Called;
use super::nodes::table::Held;
use super::{Entry, NodeId, Vfs};
use crate::error::{Errno, Result};
use crate::sys::Name;

/// How often a search is tried, as names on the way may change meanwhile.
const TRIES: u32 = 16;

impl Vfs {
    /// Gives out once more the object of a number that was given out at some time.
    ///
    /// # Errors
    /// ESTALE if it is gone, or not known any more; errors of the layers.
    pub(super) fn lookup_self(&self, id: NodeId) -> Result<Entry> {
        let node = self.found_again(id)?;
        self.entry_of(&node)
    }

    /// Gives out the directory above a directory.
    ///
    /// # Errors
    /// Those of [`Self::lookup_self`]; ESTALE if there is no directory above it; ENOTDIR if it is
    /// not a directory.
    pub(super) fn lookup_parent(&self, id: NodeId) -> Result<Entry> {
        let node = self.found_again(id)?;
        let link = node.dir()?.link.read().clone();
        self.entry_of(&link.ok_or(Errno::ESTALE)?.parent)
    }

    fn found_again(&self, id: NodeId) -> Result<Held<'_>> {
        for _ in 0..TRIES {
            if let Some(node) = self.table.held(id) {
                // The kernel asks only for nodes that it does not have. If the last name is gone,
                // it has forgotten the node, or is about to: its FORGET may come after this
                // request.
                return if node.has_name() { Ok(node) } else { Err(Errno::ESTALE.into()) };
            }
            for called in self.table.names(id) {
                match self.walk_to(id, called) {
                    Err(err) if is_elsewhere(err.errno()) => {}
                    other => return other,
                }
            }
        }
        Err(Errno::ESTALE.into())
    }

    /// Climbs by remembered names to a directory that has a node, and goes down again. Not by
    /// recursion: a tree may be deeper than a stack.
    fn walk_to(&self, id: NodeId, called: Called) -> Result<Held<'_>> {
        let mut above = called.parent;
        let mut way = vec![(id, called.name)];
        let mut here = loop {
            if let Some(node) = self.table.held(above) {
                break node;
            }
            // Renames during the search may make a circle of the remembered names.
            let called = self.table.names(above).into_iter().next();
            let called = called.filter(|_| way.len() <= self.table.remembered());
            let called = called.ok_or(Errno::ESTALE)?;
            way.push((above, called.name));
            above = called.parent;
        };
        while let Some((expected, name)) = way.pop() {
            let child = self.child(&here, Name::new(&name)?)?;
            if child.id != expected {
                return Err(Errno::ESTALE.into());
            }
            here = child;
        }
        Ok(here)
    }
}

/// Whether an error means that the object is not, or no longer, at the name.
fn is_elsewhere(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE)
}
