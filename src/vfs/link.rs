//! Hard links, and reading symbolic links.

use std::sync::Arc;

use super::nodes::node::Node;
use super::nodes::place::{Link, Place, Real};
use super::protection::NameChange;
use super::{Entry, NodeId, Vfs};
use crate::error::{Errno, Result, best_effort};
use crate::layer::{Fd, Over, Staged, Upper, UpperDir};
use crate::merge::copyup::Data;
use crate::merge::index::InUpper;
use crate::sys::{FileType, Name};

impl Vfs {
    /// Gives a node one more name and counts one lookup.
    ///
    /// # Errors
    /// EROFS; EPERM for a directory, and for an immutable or append-only object; EEXIST; ENOENT for
    /// an object that was unlinked, as of linkat(2); EMLINK and other errors of linkat(2).
    pub fn link(&self, id: NodeId, parent: NodeId, name: &[u8]) -> Result<Entry> {
        self.changing_attributes(id, || {
            self.changing_names(&[(parent, name)], || self.link_named(id, parent, name))
        })
    }

    fn link_named(&self, id: NodeId, parent: NodeId, name: &[u8]) -> Result<Entry> {
        let (node, parent) = (self.node(id)?, self.node(parent)?);
        let name = self.new_name(name)?;
        if node.kind() == FileType::Directory {
            return Err(Errno::EPERM.into());
        }
        self.upper()?;
        self.check_names(&parent, NameChange::Made)?;
        self.check_free(&node)?;
        self.copy_up(&node, Data::All)?;
        self.complete(&node)?;
        self.link_upper(&node, &parent, name)?;
        self.entry_of(&node)
    }

    fn link_upper(&self, node: &Arc<Node>, parent: &Arc<Node>, name: Name<'_>) -> Result<()> {
        let upper = self.upper()?;
        let mut dir = self.dir_for_change(parent)?;
        dir.check_alive()?;
        let to = dir.upper.clone();
        let site = dir.survey(name)?;
        let mut place = node.as_leaf()?.place.write();
        let existing = self.existing(&place)?;
        let key = place.real.upper_key().ok_or(Errno::ENOENT)?;
        if matches!(site.upper, InUpper::Absent) && site.in_lowers {
            return Err(Errno::EEXIST.into());
        }
        if place.linked().is_some() || existing.is_impure()? {
            upper.set_impure(&to)?;
        }
        self.settle_count(&mut place)?;
        match site.upper {
            InUpper::Object { .. } => return Err(Errno::EEXIST.into()),
            InUpper::Absent => existing.link(upper, &to, name)?,
            InUpper::Whiteout if dir.is_whiteout_object(name)? => {
                existing.stage(upper)?.publish(&to, name, Over::SameKind)?;
            }
            InUpper::Whiteout => {
                existing.link(upper, &to, name)?;
                best_effort("a whiteout stays", upper.remove_whiteout_file(&to, name));
            }
        }
        if let Existing::Unnamed(_) = existing {
            place.real = Real::upper(key);
        }
        // The kernel has no other request about names of the file under way: vfs_link (fs/namei.c)
        // holds the lock of its inode.
        place.settle_dropped();
        place.add(Link::new(parent, name.bytes(), true));
        if let Some(linked) = place.linked_mut() {
            linked.count += 1;
        }
        dir.has_put(name, node.kind(), key.1);
        Ok(())
    }

    /// The source of a new name for a node.
    fn existing(&self, place: &Place) -> Result<Existing> {
        match (&place.real, place.real.orphaned()) {
            (Real::Upper { .. }, _) => {
                let (dir, name) = self.upper_path(place)?;
                Ok(Existing::Named(dir, name.into()))
            }
            (_, Some(fd)) => Ok(Existing::Unnamed(Arc::clone(fd))),
            _ => Err(Errno::ENOENT.into()),
        }
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// EINVAL for any other object (readlink(2)).
    pub fn readlink(&self, id: NodeId) -> Result<Vec<u8>> {
        let node = self.node(id)?;
        if node.kind() != FileType::Symlink {
            return Err(Errno::EINVAL.into());
        }
        self.with_node(&node, |target, owner_storage| owner_storage.readlink(target))
    }
}

/// The source of a new name.
enum Existing {
    /// A name in the upper.
    Named(UpperDir, Box<[u8]>),
    /// A file without a name. If it was not made so (`O_TMPFILE`) but has lost its last name,
    /// linkat(2) fails with ENOENT.
    Unnamed(Arc<Fd>),
}

impl Existing {
    fn is_impure(&self) -> Result<bool> {
        match self {
            Self::Named(dir, _) => dir.dir().is_impure(),
            Self::Unnamed(_) => Ok(false),
        }
    }

    fn link(&self, upper: &Upper, to: &UpperDir, name: Name<'_>) -> Result<()> {
        match self {
            Self::Named(from, source) => upper.link(from, Name::new(source)?, to, name),
            Self::Unnamed(file) => upper.link_unnamed(file.writable()?, to, name),
        }
    }

    fn stage(&self, upper: &Upper) -> Result<Staged> {
        match self {
            Self::Named(from, source) => upper.stage_link(from, Name::new(source)?),
            Self::Unnamed(file) => upper.stage_unnamed(file.writable()?),
        }
    }
}
