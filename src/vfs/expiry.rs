//! Lowers that change behind the mount, as `timeout=` allows.
//!
//! The kernel looks a name up again when its lifetime is over. What the lookup finds replaces what
//! is known of the node. If the name leads to another object now, that gets another node. A program
//! that has the old object open keeps it as long as the server has a descriptor, and gets ESTALE
//! after that. Indexes of directories check themselves (see [`Index`](crate::merge::Index)).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Vfs;
use super::nodes::node::{Dir, Leaf, Node};
use super::nodes::place::Real;
use crate::error::{Errno, Result};
use crate::layer::LowerDir;
use crate::merge::DirStack;
use crate::merge::found::{Found, What};
use crate::merge::key::Key;
use crate::sys::Stat;

impl Vfs {
    /// The directories that a lookup found, if they may differ from the known ones.
    pub(super) fn fresh_dirs(&self, found: &Found) -> Option<DirStack> {
        match &found.what {
            What::Dir(stack) if self.lowers_settle.is_some() => Some(stack.clone()),
            _ => None,
        }
    }

    /// Replaces what is known of a node that a lookup has just found; `fresh` has its directories.
    pub(super) fn renew(&self, node: &Arc<Node>, fresh: Option<DirStack>) -> Result<()> {
        if self.lowers_settle.is_none() {
            return Ok(());
        }
        node.no_xattrs.changes();
        node.protection.forget();
        match (node.dir(), fresh) {
            (Ok(dir), Some(fresh)) => renew_dirs(dir, fresh),
            (Ok(_), None) => Ok(()),
            (Err(_), _) => {
                renew_file(node.as_leaf()?);
                Ok(())
            }
        }
    }

    /// Checks that the object of a lower that stands at the place of a node is still the node's. A
    /// file with several names passes, because its node may be that of the name.
    ///
    /// # Errors
    /// ESTALE for another object.
    pub(super) fn check_is_still(&self, node: &Node, there: &Stat, layer: u16) -> Result<()> {
        let by_name = there.nlink > 1;
        let is_it = by_name || self.table.id(Key::of(there, layer)) == Some(node.id);
        if is_it && there.kind() == node.kind() {
            return Ok(());
        }
        Err(Errno::ESTALE.into())
    }
}

/// Closes a descriptor that may belong to an earlier object. A pinned one stays as long as the file
/// is open, because it could not be opened again.
fn renew_file(leaf: &Leaf) {
    // The lock keeps a copy-up from putting its own descriptor there.
    let place = leaf.place.read();
    if matches!(place.real, Real::Lower { .. }) && leaf.pins.load(Ordering::Relaxed) == 0 {
        leaf.io.take();
    }
}

/// Takes over other lowers. Only we change the upper, and a directory that was cut off from the
/// lowers stays so.
fn renew_dirs(dir: &Dir, fresh: DirStack) -> Result<()> {
    let known = dir.stack.read().clone();
    if known.lowers.is_empty() || are_same(&known.lowers, &fresh.lowers)? {
        return Ok(());
    }
    // The names of the directory above are locked, as the lookup was there.
    let mut names = dir.names.write_another();
    let mut stack = dir.stack.write();
    if names.dead || stack.lowers.is_empty() {
        return Ok(());
    }
    (stack.lowers, stack.meta) = (fresh.lowers, fresh.meta);
    names.index = None;
    Ok(())
}

fn are_same(known: &[LowerDir], fresh: &[LowerDir]) -> Result<bool> {
    if known.len() != fresh.len() {
        return Ok(false);
    }
    for (known, fresh) in known.iter().zip(fresh) {
        let (fresh, known) = (fresh.dir(), known.dir());
        let same = match (known.dev(), known.ino()) {
            (Ok(dev), Ok(ino)) => (dev, ino) == (fresh.dev()?, fresh.ino()?),
            // The known directory cannot be opened any more.
            _ => false,
        };
        if !same || known.layer() != fresh.layer() {
            return Ok(false);
        }
    }
    Ok(true)
}
