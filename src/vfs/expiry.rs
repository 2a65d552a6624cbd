//! Lowers that change behind the mount, as far as `timeout=` says that they may.
//!
//! The client comes again with each name whose lifetime is over. What was found under it then takes
//! the place of what is known of the node; an object that is another one now is another node. A
//! program that has the old one open goes on with it for as long as we have a descriptor, and gets
//! ESTALE after that. Indexes of directories look after themselves (see
//! [`Index`](crate::merge::Index)).

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
    /// The directories that were found, where they may be others than those that are known.
    pub(super) fn fresh_dirs(&self, found: &Found) -> Option<DirStack> {
        match &found.what {
            What::Dir(stack) if self.lowers_settle.is_some() => Some(stack.clone()),
            _ => None,
        }
    }

    /// To be called with a node that was just found, and with its directories: what was known of it
    /// is looked at again.
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

    /// Whether the object of a lower that now stands where a node is known to be is still that of
    /// the node. One of several names is a node by its name, whatever stands there.
    ///
    /// # Errors
    /// ESTALE if not.
    pub(super) fn check_is_still(&self, node: &Node, there: &Stat, layer: u16) -> Result<()> {
        let by_name = there.nlink > 1;
        let is_it = by_name || self.table.id(Key::of(there, layer)) == Some(node.id);
        if is_it && there.kind() == node.kind() {
            return Ok(());
        }
        Err(Errno::ESTALE.into())
    }
}

/// Lets go of a descriptor that may be of what stood there before. One that could not be opened
/// again stays as long as the file is open.
fn renew_file(leaf: &Leaf) {
    // Held, so that it is not that of a copy.
    let place = leaf.place.read();
    if matches!(place.real, Real::Lower { .. }) && leaf.pins.load(Ordering::Relaxed) == 0 {
        leaf.io.take();
    }
}

/// Takes over other lowers. The upper is changed by us alone, and what was cut off from the lowers
/// stays so.
fn renew_dirs(dir: &Dir, fresh: DirStack) -> Result<()> {
    let known = dir.stack.read().clone();
    if known.lowers.is_empty() || are_same(&known.lowers, &fresh.lowers)? {
        return Ok(());
    }
    // The names of the directory above are locked: it was looked up there.
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
            // It cannot be opened any more where it was.
            _ => false,
        };
        if !same || known.layer() != fresh.layer() {
            return Ok(false);
        }
    }
    Ok(true)
}
