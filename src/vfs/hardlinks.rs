//! Files with several names that the index keeps together: their link counts, and the path to a
//! file that no name in the upper leads to.
//!
//! A file in the index counts its names by the mark `P nlink` ([`crate::format::nlink`]).

use std::os::fd::AsFd;
use std::sync::Arc;

use super::Vfs;
use super::nodes::node::Node;
use super::nodes::place::{Link, Orphan, Place, Real};
use crate::error::{Errno, Result, best_effort};
use crate::format::nlink::Count;
use crate::layer::{LinkIndex, Over, Upper, UpperDir};
use crate::merge::links::Linked;
use crate::sys::{Name, OwnedWritable, Stat, stat};

impl Vfs {
    pub(super) fn links(&self) -> Option<&LinkIndex> {
        self.stack.upper.as_ref().and_then(Upper::links)
    }

    /// The directory and the name by which a file of the upper is found there.
    ///
    /// # Errors
    /// ESTALE if it has none.
    pub(super) fn upper_path<'a>(&self, place: &'a Place) -> Result<(UpperDir, &'a [u8])> {
        if let Some(link) = place.upper_link() {
            let dir = link.parent.dir()?.stack.read().upper.clone().ok_or(Errno::ESTALE)?;
            return Ok((dir, link.name()));
        }
        let linked = place.linked().ok_or(Errno::ESTALE)?;
        let dir = self.links().and_then(LinkIndex::dir).ok_or(Errno::ESTALE)?;
        Ok((dir, &linked.entry))
    }

    /// The link count that users see. It is at least the number of known names: the kernel lowers
    /// it for each name that goes, and gives no new name to a file that has none.
    pub(super) fn shown_nlink(place: &Place, stat: &Stat) -> u32 {
        let count = match (place.linked(), &place.real) {
            (Some(linked), _) => linked.count,
            // The lower still has the name that is gone in the mount.
            (None, Real::Orphan(orphan)) if matches!(**orphan, Orphan::Lower(..)) => {
                stat.nlink.saturating_sub(1)
            }
            (None, _) => stat.nlink,
        };
        count.max(u32::try_from(place.known()).unwrap_or(u32::MAX))
    }

    /// Replaces the link count in attributes of a name by that of its node.
    pub(super) fn recount(&self, node: &Node, found: Stat) -> Stat {
        match node.as_leaf() {
            Ok(leaf) => {
                let place = leaf.place.read();
                self.before_count(node, &place);
                Stat { nlink: Self::shown_nlink(&place, &found), ..found }
            }
            Err(_) => found,
        }
    }

    /// Tells the kernel of a new link count; called between counting the names and answering.
    ///
    /// When the kernel gets the answer that a name is gone, it lowers its own count by one
    /// (`fuse_entry_unlinked`, fs/fuse/dir.c). If another answer brought the new count before that,
    /// the count would be one too low. So the kernel is told first that the attributes have
    /// changed. It then ignores attributes in answers to requests that it sent earlier
    /// (`fuse_change_attributes`, fs/fuse/inode.c).
    pub(super) fn before_count(&self, node: &Node, place: &Place) {
        if place.has_dropped() {
            self.tell_changed(node.id);
        }
    }

    /// Copies up a name that is about to go, if the index keeps its file together. File and name
    /// have to be in the upper, so that one call removes the name and counts it (`ovl_nlink_start`,
    /// fs/overlayfs/util.c). The caller holds no lock.
    ///
    /// # Errors
    /// EPERM for an immutable or append-only file; errors of copy-up.
    pub(super) fn prepare_to_count(&self, parent: &Arc<Node>, name: Name<'_>) -> Result<()> {
        if self.links().is_none() {
            return Ok(());
        }
        let node = match self.child(parent, name) {
            Err(err) if err.errno() == Errno::ENOENT => return Ok(()),
            other => other?,
        };
        let is_shared = node.as_leaf().is_ok_and(|leaf| leaf.place.read().shared().is_some());
        if !is_shared {
            return Ok(());
        }
        self.check_free(&node)?;
        self.copy_up_name(&node, parent, name)
    }

    /// Makes one more name in the upper for a file that is there.
    ///
    /// # Errors
    /// Those of copying the directory up, and of linkat(2).
    pub(super) fn name_to_upper(&self, node: &Node, link: &Link) -> Result<()> {
        let (upper, name) = (self.upper()?, Name::new(link.name())?);
        let mut dir = self.dir_for_change(&link.parent)?;
        let to = dir.upper.clone();
        let mut place = node.as_leaf()?.place.write();
        match place.find(&link.parent, link.name()) {
            Some(known) if !known.in_upper() => {}
            _ => return Ok(()),
        }
        let times = to.dir().stat()?;
        let staged = {
            let (from, source) = self.upper_path(&place)?;
            upper.stage_link(&from, Name::new(source)?)?
        };
        upper.set_impure(&to)?;
        self.unsettle_count(&mut place)?;
        staged.publish(&to, name, Over::Nothing)?;
        upper.restore_times(&to, &times);
        self.dir_moved(&link.parent);
        best_effort("names are counted by the next change", self.settle_count(&mut place));
        place.add(Link::new(&link.parent, link.name(), true));
        if let Some((_, ino)) = place.real.upper_key() {
            dir.has_put(name, node.kind(), ino);
        }
        Ok(())
    }

    /// Removes a file that has lost its last name from the index. If a crash comes before, the next
    /// mount does it.
    pub(super) fn leave_index(&self, linked: &Linked) {
        let remove = || {
            let dir = self.links().and_then(LinkIndex::dir).ok_or(Errno::ESTALE)?;
            self.upper()?.unlink(&dir, Name::new(&linked.entry)?)
        };
        best_effort("an entry without names stays in the index", remove());
    }

    /// Stores the count relative to the upper's link count, before a name in the upper is made or
    /// removed: the one call then changes both.
    pub(super) fn settle_count(&self, place: &mut Place) -> Result<()> {
        let Some(linked) = place.linked().filter(|linked| !linked.settled) else {
            return Ok(());
        };
        let (entry, count) = (linked.entry.clone(), linked.count);
        let upper = self.upper()?;
        let dir = self.links().and_then(LinkIndex::dir).ok_or(Errno::ESTALE)?;
        upper.with_entry(&dir, Name::new(&entry)?, |copy| {
            upper.set_count(copy, Count::by_upper(count, stat::stat(copy.target())?.nlink))
        })?;
        if let Some(linked) = place.linked_mut() {
            linked.settled = true;
        }
        Ok(())
    }

    /// Stores the count relative to the lower's link count, before a name gets into the upper. That
    /// changes the upper's link count, and not the number of names.
    fn unsettle_count(&self, place: &mut Place) -> Result<()> {
        let Some(linked) = place.linked_mut() else { return Ok(()) };
        let lower = linked.lower.ok_or(Errno::ESTALE)?;
        let upper = self.upper()?;
        let dir = self.links().and_then(LinkIndex::dir).ok_or(Errno::ESTALE)?;
        linked.settled = false;
        let count = Count::by_lower(linked.count, lower);
        upper.with_entry(&dir, Name::new(&linked.entry)?, |copy| upper.set_count(copy, count))
    }
}

/// An object of the upper of which only a descriptor is left.
pub(super) fn orphan(file: OwnedWritable) -> Result<Real> {
    let stat = stat::fstat(file.as_fd())?;
    Ok(Real::orphan(Arc::new(file.into()), (stat.dev, stat.ino)))
}
