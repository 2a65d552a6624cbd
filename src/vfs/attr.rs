//! Attributes of nodes.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::lookup::presented;
use super::nodes::ids::NodeId;
use super::nodes::node::{Leaf, Node};
use super::nodes::place::{Place, Real};
use super::{Change, Vfs};
use crate::error::{Errno, Result, best_effort};
use crate::format::overlay::{Mark, Namespace};
use crate::layer::{OwnerStorage, Upper, UpperDir};
use crate::merge::copyup::Data;
use crate::merge::found::Contents;
use crate::merge::stack::MetaSource;
use crate::merge::{attr, xattr as visible};
use crate::sys::{FileType, Name, Stat, Target, Writable, at, file, stat, xattr};

/// The right of a caller to keep set-id bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// The caller may keep set-id bits (CAP_FSETID).
    KeepsSetId,
    /// A change of contents clears set-id bits.
    LosesSetId,
}

impl Vfs {
    /// Attributes of a node.
    pub fn getattr(&self, id: NodeId) -> Result<Stat> {
        self.stat_of(&*self.node(id)?)
    }

    pub(super) fn stat_of(&self, node: &Node) -> Result<Stat> {
        let stat = match node.dir() {
            Ok(dir) => {
                let orphan = dir.orphan.read().clone();
                let stack = dir.stack.read().clone();
                match orphan {
                    Some(fd) => {
                        let owner_storage = stack.top()?.owner_storage();
                        Stat { nlink: 0, ..self.look(owner_storage, Target::Fd(fd.as_fd()))? }
                    }
                    None => presented(&stack.stat()?, stack.is_merged()),
                }
            }
            Err(_) => self.stat_of_leaf(node, node.as_leaf()?)?,
        };
        Ok(self.shown(node, stat))
    }

    /// Attributes as users see them: with the number of the node and the owners of the mount.
    pub(super) fn shown(&self, node: &Node, stat: Stat) -> Stat {
        Stat { ino: self.table.shown(node.id, &stat), ..self.owners.shown(stat) }
    }

    fn look(&self, owner_storage: OwnerStorage, target: Target<'_>) -> Result<Stat> {
        match &self.stack.upper {
            Some(upper) => upper.as_shown(owner_storage, target),
            None => owner_storage.stat(target),
        }
    }

    fn stat_of_leaf(&self, node: &Node, leaf: &Leaf) -> Result<Stat> {
        let place = leaf.place.read();
        let owner_storage = self.owner_storage(leaf, &place.real);
        let stat = self.with_leaf(leaf, &place, |target| self.look(owner_storage, target))?;
        if self.lowers_settle.is_some() && matches!(place.real, Real::Lower { .. }) {
            self.check_is_still(node, &stat, leaf.layer)?;
        }
        self.before_count(node, &place);
        let stat = Stat { nlink: Self::shown_nlink(&place, &stat), ..stat };
        if let Contents::Elsewhere(data) = place.data() {
            let data = data.dir.dir().stat_entry(Name::new(&data.name)?)?.ok_or(Errno::EIO)?;
            return Ok(Stat { blocks: data.blocks, ..stat });
        }
        Ok(stat)
    }

    /// The owner storage of the layer that has a non-directory.
    pub(super) fn owner_storage(&self, leaf: &Leaf, real: &Real) -> OwnerStorage {
        let kept = match real {
            Real::Lower { dir, .. } => Some(dir.dir().owner_storage()),
            other if other.upper_key().is_some() => {
                self.stack.upper.as_ref().map(Upper::owner_storage)
            }
            _ => {
                let lower = usize::from(leaf.layer).checked_sub(1);
                lower
                    .and_then(|at| self.stack.lowers.get(at))
                    .map(|root| root.dir().owner_storage())
            }
        };
        kept.unwrap_or(OwnerStorage::Inode)
    }

    /// Runs a call on a non-directory, wherever it is.
    pub(super) fn with_leaf<T>(
        &self,
        leaf: &Leaf,
        place: &Place,
        mut act: impl FnMut(Target<'_>) -> Result<T>,
    ) -> Result<T> {
        // An open descriptor spares the way through the directory. It does not serve if it belongs
        // to another file, which holds the data.
        if place.has_own_data()
            && let Some(fd) = leaf.io.get()
        {
            match act(Target::Fd(fd.as_ref().as_fd())) {
                // Goes on by name, so that we can give ourselves rights to the object.
                Err(err)
                    if err.errno() == Errno::EACCES && matches!(place.real, Real::Upper { .. }) => {
                }
                other => return other,
            }
        }
        if let Some((dir, name)) = place.in_lower()? {
            let fd = dir.dir().fd()?;
            return act(Target::At(fd.as_ref().as_fd(), Name::new(name)?));
        }
        if let Some(fd) = place.real.orphaned() {
            return act(Target::Fd(fd.as_fd()));
        }
        let (parent, name) = self.upper_path(place)?;
        parent.dir().reach_entry(Name::new(name)?, act)
    }

    /// Runs a call that changes a non-directory of the upper.
    ///
    /// # Errors
    /// Those of `act`; EROFS or ESTALE for an object of a lower.
    pub(super) fn with_writable_leaf<T>(
        &self,
        leaf: &Leaf,
        place: &Place,
        mut act: impl FnMut(Writable<'_>) -> Result<T>,
    ) -> Result<T> {
        if place.has_own_data()
            && let Some(fd) = leaf.io.get()
        {
            match act(fd.writable()?.object()) {
                // Goes on by name, so that we can give ourselves rights to the object.
                Err(err)
                    if err.errno() == Errno::EACCES && matches!(place.real, Real::Upper { .. }) => {
                }
                other => return other,
            }
        }
        if let Some(fd) = place.real.orphaned() {
            return act(fd.writable()?.object());
        }
        let (parent, name) = self.upper_path(place)?;
        self.upper()?.with_entry(&parent, Name::new(name)?, act)
    }

    /// Runs a call that reads a node of any kind. For a directory the call gets the one of its
    /// stack that lends the metadata.
    pub(super) fn with_node<T>(
        &self,
        node: &Node,
        mut act: impl FnMut(Target<'_>, OwnerStorage) -> Result<T>,
    ) -> Result<T> {
        match node.dir() {
            Ok(dir) => {
                let orphan = dir.orphan.read().clone();
                let stack = dir.stack.read().clone();
                match orphan {
                    Some(fd) => act(Target::Fd(fd.as_ref().as_fd()), stack.top()?.owner_storage()),
                    None => {
                        let lends = stack.meta_dir()?;
                        lends.reach(|fd| act(Target::Fd(fd), lends.owner_storage()))
                    }
                }
            }
            Err(_) => {
                let leaf = node.as_leaf()?;
                let place = leaf.place.read();
                let owner_storage = self.owner_storage(leaf, &place.real);
                self.with_leaf(leaf, &place, |target| act(target, owner_storage))
            }
        }
    }

    /// Changes attributes and returns the new ones.
    ///
    /// # Errors
    /// EROFS; EPERM for an immutable or append-only object; EISDIR or EINVAL for the size of an
    /// object that is not a regular file (truncate(2)); EOVERFLOW for an owner that has no id on
    /// the layers; errors of copy-up, chmod(2), chown(2), utimensat(2) and ftruncate(2).
    pub fn setattr(&self, id: NodeId, change: &Change, privilege: Privilege) -> Result<Stat> {
        let set = || self.set_attributes(id, change, privilege);
        self.changing_attributes(id, || self.with_room(set))
    }

    fn set_attributes(&self, id: NodeId, change: &Change, privilege: Privilege) -> Result<Stat> {
        let node = self.node(id)?;
        let upper = self.upper()?;
        let change = &self.owners.stored_change(change)?;
        self.check_change(&node, change)?;
        match node.dir() {
            Ok(_) if change.size.is_some() => Err(Errno::EISDIR.into()),
            Ok(_) => {
                self.change_dir(&node, |target| attr::apply(upper, target, change))?;
                self.stat_of(&node)
            }
            Err(_) => {
                self.change_leaf(&node, change, privilege)?;
                self.stat_of(&node)
            }
        }
    }

    fn change_leaf(&self, node: &Arc<Node>, change: &Change, privilege: Privilege) -> Result<()> {
        let leaf = node.as_leaf()?;
        if let Some(size) = change.size {
            if node.kind() != FileType::Regular {
                return Err(Errno::EINVAL.into());
            }
            let cut = self.copy_up_changed(node, Data::UpTo(size), &Change::NONE)?;
            let fd = self.file_to_write(node)?;
            self.drop_set_id(node, fd.writable()?, privilege)?;
            if !cut {
                file::truncate(fd.writable()?, size)?;
            }
        } else if self.copy_up_changed(node, self.for_metadata(), change)?
            && *change != Change::NONE
        {
            return Ok(());
        }
        let upper = self.upper()?;
        let done = self.with_attributes(leaf, |object| match *change {
            // A chown(2) that leaves both ids as they are arrives as a change of nothing. It clears
            // set-id bits all the same.
            Change::NONE => upper.chown(object, None, None),
            _ => attr::apply(upper, object, change),
        });
        if change.mode.is_some() {
            node.no_set_id.store(false, Ordering::Relaxed);
        }
        done
    }

    /// Runs a change of owner or mode on a non-directory of the upper. If the upper stores both in
    /// one attribute, no other thread changes that meanwhile.
    pub(super) fn with_attributes<T>(
        &self,
        leaf: &Leaf,
        act: impl FnMut(Writable<'_>) -> Result<T>,
    ) -> Result<T> {
        if self.upper()?.owner_storage() == OwnerStorage::Inode {
            return self.with_writable_leaf(leaf, &leaf.place.read(), act);
        }
        let place = leaf.place.write();
        self.with_writable_leaf(leaf, &place, act)
    }

    /// Changes a directory in the upper, once its metadata is its own ([`Self::own_metadata`]).
    pub(super) fn change_dir(
        &self,
        node: &Arc<Node>,
        mut act: impl FnMut(Writable<'_>) -> Result<()>,
    ) -> Result<()> {
        let dir = node.dir()?;
        if dir.orphan.read().is_some() {
            let upper = self.removed_dir_to_write(node)?;
            let kept = dir.orphan.read().clone().ok_or(Errno::ESTALE)?;
            return act(upper.by_descriptor(&kept).object());
        }
        let upper_dir = self.dir_to_write(node)?;
        // With the lock nothing is made in the directory while what it passes on may change.
        let mut names = dir.names.write();
        names.inherit = None;
        let upper = self.upper()?;
        upper.with_dir(&upper_dir, act)?;
        let merged = dir.stack.read().is_merged();
        if self.delegation && merged {
            // If all directories of the stack are marked, the topmost shows its own metadata. It
            // goes on to do so without a mark.
            let dropped = upper.with_dir(&upper_dir, drop_delegation);
            best_effort("a mark of delegation stays", dropped);
        }
        Ok(())
    }

    /// Makes the metadata that an upper directory shows its own, if it delegates them. This comes
    /// before any change of it or in it. Its own metadata is hidden until the mark goes, so
    /// removing the mark is the one step that shows all of it.
    pub(super) fn own_metadata(&self, node: &Node, upper_dir: &UpperDir) -> Result<()> {
        let dir = node.dir()?;
        if dir.stack.read().meta == MetaSource::Top {
            return Ok(());
        }
        let mut names = dir.names.write();
        let stack = dir.stack.read().clone();
        if stack.meta == MetaSource::Top {
            return Ok(());
        }
        names.inherit = None;
        let shown = stack.stat()?;
        let (source, owner_storage) = (stack.meta_dir()?.fd()?, stack.meta_dir()?.owner_storage());
        let upper = self.upper()?;
        upper.with_dir(upper_dir, |own| {
            let lends = Target::Fd(source.as_ref().as_fd());
            let now = stat::stat(own.target())?;
            let given = upper.give_owner(own, &now, (lends, &shown, owner_storage))?;
            visible::replace(
                (lends, owner_storage.dialect()),
                (own, upper.owner_storage().dialect()),
            )?;
            upper.give_mode(own, None, &shown, given)?;
            let (atime, mtime) = (at::SetTime::At(shown.atime), at::SetTime::At(shown.mtime));
            at::set_times(own, atime, mtime)?;
            drop_delegation(own)
        })?;
        dir.stack.write().meta = MetaSource::Top;
        self.dir_moved(node);
        Ok(())
    }
}

/// Removes the mark of delegation. Only one namespace has it, so that this is one step.
fn drop_delegation(object: Writable<'_>) -> Result<()> {
    let there = xattr::list(object.target())?;
    let keys = Namespace::BOTH.map(|namespace| namespace.key(Mark::DirmetaDelegate));
    for key in keys {
        if xattr::names(&there).any(|name| name == key.to_bytes()) {
            xattr::remove(object, key)?;
        }
    }
    Ok(())
}
