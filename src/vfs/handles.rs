//! Finding an object by its number alone, as file handles do.

use super::nodes::exports::Called;
use super::nodes::table::Held;
use super::{Entry, NodeId, Vfs};
use crate::error::{Errno, Result};
use crate::sys::Name;

/// How often a search begins anew because something was renamed meanwhile.
const TRIES: u32 = 16;

impl Vfs {
    /// The object of a number that was given out at some time, counted as looked up once more.
    ///
    /// # Errors
    /// ESTALE if it is gone, or not known any more; what the layers say.
    pub(super) fn lookup_self(&self, id: NodeId) -> Result<Entry> {
        let node = self.found_again(id)?;
        self.entry_of(&node)
    }

    /// Gives out the directory above a directory.
    ///
    /// # Errors
    /// As [`Self::lookup_self`]; ESTALE if there is no directory above it, ENOTDIR if it is no
    /// directory.
    pub(super) fn lookup_parent(&self, id: NodeId) -> Result<Entry> {
        let node = self.found_again(id)?;
        let link = node.dir()?.link.read().clone();
        self.entry_of(&link.ok_or(Errno::ESTALE)?.parent)
    }

    fn found_again(&self, id: NodeId) -> Result<Held<'_>> {
        for _ in 0..TRIES {
            if let Some(node) = self.table.held(id) {
                // The kernel asks for what it does not have itself, and for what has lost its last
                // name it has said so, or is about to: a FORGET may come after this.
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

    /// Goes up by what is remembered to a directory that has a node, and down again by its names.
    /// Not recursive: a tree may be deeper than a stack.
    fn walk_to(&self, id: NodeId, called: Called) -> Result<Held<'_>> {
        let mut above = called.parent;
        let mut way = vec![(id, called.name)];
        let mut here = loop {
            if let Some(node) = self.table.held(above) {
                break node;
            }
            // What was renamed while we look may lead in a circle.
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

/// Whether an error means that the object is not, or not any more, where it was looked for.
fn is_elsewhere(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE)
}
