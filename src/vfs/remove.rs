//! Removing names.

use std::sync::Arc;

use super::dir_for_change::{DirForChange, DirToRemove, Survey};
use super::nodes::node::{Leaf, Node};
use super::nodes::place::{Orphan, Place, Real};
use super::nodes::table::Held;
use super::protection::NameChange;
use super::{NodeId, Vfs};
use crate::error::{Errno, Result, best_effort};
use crate::layer::upper::WhiteoutForm;
use crate::layer::{Fd, UpperDir};
use crate::merge::index::InUpper;
use crate::merge::remove::{self, Standing, Victim};
use crate::sys::{FileType, Name};

/// What is behind a name that goes.
pub(super) struct Going<'a> {
    /// Its node.
    pub node: Held<'a>,
    /// Whether the node has to learn of it: it was known before, its names are counted, or a handle
    /// of it has to be stale then.
    pub is_concerned: bool,
    /// What the layers have there.
    pub site: Survey,
}

impl Vfs {
    /// Removes a name of a non-directory.
    ///
    /// # Errors
    /// EROFS; ENOENT; EISDIR; EPERM for an immutable or append-only object, or in such a directory;
    /// errors of [`remove::unlink`].
    pub fn unlink(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        self.changing_names(&[(parent, name)], || self.unlink_named(parent, name))
    }

    fn unlink_named(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        let parent = &self.node(parent)?;
        let name = Name::new(name)?;
        let upper = self.upper()?;
        if parent.dir()?.stack.read().upper.is_none() {
            // Nothing is copied up for a name that cannot be removed.
            self.child(parent, name)?.as_leaf()?;
        }
        self.check_names(parent, NameChange::Gone)?;
        self.prepare_to_count(parent, name)?;
        let upper_dir = self.dir_to_write(parent)?;
        let _met = self.meet(parent, name)?;
        let mut dir = DirForChange::lock(parent, upper_dir)?;
        let upper_dir = dir.upper.clone();
        let Going { node, is_concerned, site } =
            self.going_from(parent, &dir, name)?.ok_or(Errno::ENOENT)?;
        let leaf = node.as_leaf()?;
        self.check_free(&node)?;
        let in_upper = matches!(site.upper, InUpper::Object { .. });
        let standing = Standing { in_upper, in_lowers: site.in_lowers };
        let act = || remove::unlink(upper, &upper_dir, name, standing);
        match is_concerned {
            true => self.detach(leaf, &mut leaf.place.write(), parent, name, act)?,
            false => act()?,
        }
        if matches!(site.upper, InUpper::Object { cut: true, .. }) {
            self.one_whiteout(&upper_dir, name);
        }
        dir.has_removed(name);
        Ok(())
    }

    /// Finds what stands at a name that is about to go. What the index and the table know of it
    /// takes no call to a layer, which may hang.
    pub(super) fn going_from<'a>(
        &'a self,
        parent: &Arc<Node>,
        dir: &DirForChange<'_>,
        name: Name<'_>,
    ) -> Result<Option<Going<'a>>> {
        if let Some(node) = self.indexed(parent, dir.names(), dir.stack(), name)? {
            let site = dir.survey(name)?;
            return Ok(Some(Going { node, is_concerned: true, site }));
        }
        let Some(found) = self.look_up(dir.stack(), dir.index(), name)? else { return Ok(None) };
        let site = dir.survey_found(name, &found);
        let is_concerned = self.table.known(&found, parent, name.bytes()).is_some()
            || found.linked.is_some()
            || self.table.remembers(&found, parent.id, name.bytes());
        let node = self.table.hold(found, parent, name.bytes());
        Ok(Some(Going { node, is_concerned, site }))
    }

    /// Removes the whiteout beside an object (`.wh.NAME`), once the object has been replaced by a
    /// whiteout of the other form.
    fn one_whiteout(&self, dir: &UpperDir, name: Name<'_>) {
        if let Ok(upper) = self.upper()
            && upper.forms().whiteout != WhiteoutForm::Aufs
        {
            best_effort("a second whiteout stays", upper.remove_whiteout_file(dir, name));
        }
    }

    /// Removes a name from its node, by `act`. An object of the upper that loses its last name
    /// keeps a descriptor, as no request tells whether it is in use. An object of a lower stays
    /// there.
    ///
    /// # Errors
    /// Those of `act`; ESTALE, with nothing done, for a name that is counted and not in the upper.
    pub(super) fn detach(
        &self,
        leaf: &Leaf,
        place: &mut Place,
        parent: &Arc<Node>,
        name: Name<'_>,
        act: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if place.shared().is_some() || place.linked().is_some() {
            let here = place.find(parent, name.bytes());
            here.filter(|link| link.in_upper()).ok_or(Errno::ESTALE)?;
            self.settle_count(place)?;
        }
        let counted = place.linked().is_some_and(|linked| linked.count > 1);
        if counted || place.has_others(parent, name.bytes()) {
            act()?;
            place.remove(parent, name.bytes());
            place.note_dropped();
            if let Some(linked) = place.linked_mut() {
                linked.count = linked.count.saturating_sub(1).max(1);
            }
            return Ok(());
        }
        let orphan = self.orphaned(leaf, place, parent, name)?;
        act()?;
        if matches!(orphan, Orphan::Upper(..)) {
            leaf.io.take();
            self.removals.note();
        }
        drop(place.clear_links());
        if let Some(linked) = place.take_linked() {
            self.leave_index(&linked);
        }
        place.real = Real::Orphan(Box::new(orphan));
        Ok(())
    }

    /// The state of an object without a name, for one that is about to lose its last name.
    fn orphaned(
        &self,
        leaf: &Leaf,
        place: &Place,
        parent: &Node,
        name: Name<'_>,
    ) -> Result<Orphan> {
        let Some(key) = place.real.upper_key() else {
            let (dir, name) = place.in_lower()?.ok_or(Errno::ESTALE)?;
            return Ok(Orphan::Lower(dir.clone(), name.into()));
        };
        // The open descriptor may belong to the file that has the data.
        let serves = |fd: &Arc<Fd>| place.has_own_data() && fd.is_open_to_write();
        let fd = match leaf.io.get().filter(serves) {
            Some(fd) => fd,
            None => Arc::new(self.keep_open(leaf.kind, parent, name)?),
        };
        Ok(Orphan::Upper(fd, key))
    }

    /// Opens a descriptor that keeps an object of the upper usable: a regular file for its data, if
    /// its mode allows that, and anything else with `O_PATH`.
    fn keep_open(&self, kind: FileType, parent: &Node, name: Name<'_>) -> Result<Fd> {
        let dir = parent.dir()?.stack.read().upper.clone().ok_or(Errno::ESTALE)?;
        if kind == FileType::Regular {
            match self.open_data(&dir, name) {
                // If a program had it open, there would be a descriptor. None can open it now.
                Err(err) if err.errno() == Errno::EACCES => {}
                other => return other,
            }
        }
        self.upper()?.open_path(&dir, name)
    }

    fn open_data(&self, dir: &UpperDir, name: Name<'_>) -> Result<Fd> {
        let upper = self.upper()?;
        match upper.open_to_write(dir, name) {
            Err(err) if matches!(err.errno(), Errno::EACCES | Errno::EPERM | Errno::ETXTBSY) => {
                upper.open_to_read(dir, name)
            }
            other => other.map(Fd::from),
        }
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// EROFS; ENOENT; ENOTDIR; ENOTEMPTY; EPERM as of [`Vfs::unlink`]; errors of [`remove::rmdir`].
    pub fn rmdir(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        self.changing_names(&[(parent, name)], || self.rmdir_named(parent, name))
    }

    fn rmdir_named(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        let parent = self.node(parent)?;
        let name = Name::new(name)?;
        let upper = self.upper()?;
        let child = self.child(&parent, name)?;
        let victim = child.dir()?;
        self.check_names(&parent, NameChange::Gone)?;
        self.check_free(&child)?;
        if parent.dir()?.stack.read().upper.is_none() {
            // Nothing is copied up for a name that cannot be removed.
            let inner = self.names(victim)?;
            let stack = victim.stack.read().clone();
            Victim { stack: &stack, index: inner.index.as_ref() }.check_empty()?;
        }
        let upper_dir = self.dir_to_write(&parent)?;
        // Its index is built before anything is locked, because its layers may hang.
        drop(self.names(victim)?);
        let mut dir = DirForChange::lock(&parent, upper_dir)?;
        self.check_still(&child, &parent, name)?;
        let goes = DirToRemove::lock(&child)?;
        let standing = Standing { in_upper: goes.is_in_upper(), in_lowers: dir.in_lowers(name) };
        remove::rmdir(upper, &dir.upper, name, standing, goes.victim())?;
        goes.bury();
        self.removals.note();
        dir.has_removed(name);
        Ok(())
    }

    /// Checks that a name still stands for the node, once its directory is locked.
    pub(super) fn check_still(
        &self,
        child: &Node,
        parent: &Arc<Node>,
        name: Name<'_>,
    ) -> Result<()> {
        if child.is_called(parent, name.bytes()) { Ok(()) } else { Err(Errno::ENOENT.into()) }
    }
}
