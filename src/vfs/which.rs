//! The objects of layers behind a node.

use super::nodes::node::Node;
use super::{NodeId, Vfs};
use crate::error::{Errno, Result};
use crate::merge::DirStack;
use crate::merge::trace::Trace;
use crate::merge::which::Which;
use crate::sys::Name;
use std::sync::Arc;

impl Vfs {
    /// What the layers have at a node or at a path below it, what of that shows, and its number if
    /// it has one already. A node with several names is looked at under a known one.
    ///
    /// The layers are read without locks, so a change at the same time may show in parts.
    ///
    /// # Errors
    /// ESTALE for a node that is not known; ENOENT for one whose last name is gone; EINVAL for an
    /// invalid name; errors of the layers, except those of the object itself, which the result has.
    pub fn which(&self, id: NodeId, below: &[&[u8]]) -> Result<(Which, Option<u64>)> {
        let mut names = names_of(&self.node(id)?)?;
        names.extend(below.iter().map(|name| Box::from(*name)));
        let root = DirStack::root(&self.stack, self.delegation)?;
        let mut trace = Trace::new(self.lookup_context(), root)?;
        for name in &names {
            trace.step(Name::new(name)?)?;
        }
        let which = trace.finish();
        let number = match &which.found {
            Ok(Some(_)) if names.is_empty() => Some(NodeId::ROOT.0),
            Ok(Some(found)) => self.table.number_of(found),
            Ok(None) | Err(_) => None,
        };
        Ok((which, number))
    }
}

/// The names on the way from the root to a node.
fn names_of(node: &Arc<Node>) -> Result<Vec<Box<[u8]>>> {
    let mut names = Vec::new();
    let mut here = Arc::clone(node);
    while here.id != NodeId::ROOT {
        let link = match here.dir() {
            Ok(dir) => dir.link.read().clone(),
            Err(_) => here.as_leaf()?.place.read().links().next().cloned(),
        };
        let link = link.ok_or(Errno::ENOENT)?;
        names.push(link.name().into());
        here = link.parent;
    }
    names.reverse();
    Ok(names)
}
