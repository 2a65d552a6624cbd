//! Immutable and append-only objects (chattr(1)). The kernel sees no flags on the inodes of the
//! mount, so the server has to refuse what the kernel refuses for objects with flags.
//!
//! The flags are those of the inode in its layer, and in the upper also those of `P protattr`. They
//! are read when an object is first about to change, and kept.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::nodes::node::Node;
use super::{Change, NodeId, Vfs};
use crate::error::{Errno, Result};
use crate::sys::at::SetTime;
use crate::sys::{Protection, Target, stat};

/// A change of a name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameChange {
    /// The name is made.
    Made,
    /// The name is removed.
    Gone,
}

impl Vfs {
    /// The flags of a node, which the first call reads.
    pub(super) fn protection(&self, node: &Node) -> Result<Protection> {
        if let Some(known) = node.protection.get() {
            return Ok(known);
        }
        let look = node.protection.begin();
        let found = match node.dir() {
            Ok(dir) => {
                let orphan = dir.orphan.read().clone();
                let stack = dir.stack.read().clone();
                let in_upper = stack.upper.is_some();
                match orphan {
                    Some(fd) => self.read_protection(Target::Fd(fd.as_ref().as_fd()), in_upper)?,
                    None => {
                        stack.top()?.reach(|fd| self.read_protection(Target::Fd(fd), in_upper))?
                    }
                }
            }
            Err(_) => {
                let leaf = node.as_leaf()?;
                let place = leaf.place.read();
                let in_upper = place.real.upper_key().is_some();
                self.with_leaf(leaf, &place, |target| self.read_protection(target, in_upper))?
            }
        };
        node.protection.found(look, found);
        Ok(found)
    }

    /// Reads the flags of an object. The mark counts in the upper alone, as in the kernel's
    /// overlayfs (`ovl_get_inode`, fs/overlayfs/inode.c).
    fn read_protection(&self, target: Target<'_>, in_upper: bool) -> Result<Protection> {
        let of_inode = stat::stat(target)?.protection;
        match &self.stack.upper {
            Some(upper) if in_upper => Ok(of_inode.and(upper.protection_mark(target)?)),
            _ => Ok(of_inode),
        }
    }

    /// Checks that an object may be renamed, unlinked, linked, or have its attributes changed.
    ///
    /// # Errors
    /// EPERM for an object that is immutable or append-only (`may_delete` and `vfs_link` of
    /// fs/namei.c, `xattr_permission` of fs/xattr.c).
    pub(super) fn check_free(&self, node: &Node) -> Result<()> {
        refuse_if(self.protection(node)?.is_any())
    }

    /// Checks that names in a directory may change.
    ///
    /// # Errors
    /// EPERM in an immutable directory, and to remove a name from an append-only one
    /// (`inode_permission` and `may_delete` of fs/namei.c).
    pub(super) fn check_names(&self, dir: &Node, change: NameChange) -> Result<()> {
        let protection = self.protection(dir)?;
        let appends = change == NameChange::Made;
        refuse_if(protection.immutable || (protection.append_only && !appends))
    }

    /// Checks that a name in a directory may get another object in place of `there`.
    ///
    /// # Errors
    /// EPERM, as for each of the changes alone (`vfs_rename`, fs/namei.c).
    pub(super) fn check_taken(&self, dir: &Node, there: Option<&Arc<Node>>) -> Result<()> {
        match there {
            Some(there) => {
                self.check_names(dir, NameChange::Gone)?;
                self.check_free(there)
            }
            None => self.check_names(dir, NameChange::Made),
        }
    }

    /// Checks that attributes may change.
    ///
    /// # Errors
    /// EPERM for any change of an immutable object. Of an append-only one only the times may
    /// change, and only to "now" (`may_setattr` of fs/attr.c, `vfs_truncate` of fs/open.c).
    pub(super) fn check_change(&self, node: &Node, change: &Change) -> Result<()> {
        let protection = self.protection(node)?;
        let at_will = |time| matches!(time, SetTime::At(_));
        let touches = Change { atime: SetTime::Omit, mtime: SetTime::Omit, ..*change }
            == Change::NONE
            && !at_will(change.atime)
            && !at_will(change.mtime);
        refuse_if(protection.immutable || (protection.append_only && !touches))
    }

    /// Checks that a file may be opened with these flags of open(2).
    ///
    /// # Errors
    /// EPERM to write an immutable file, or an append-only one without `O_APPEND` (`may_open`,
    /// fs/namei.c).
    pub fn check_open(&self, id: NodeId, flags: i32) -> Result<()> {
        if flags & libc::O_ACCMODE == libc::O_RDONLY {
            return Ok(());
        }
        let node = self.node(id)?;
        let protection = self.protection(&node)?;
        let appends = flags & libc::O_APPEND != 0;
        refuse_if(protection.immutable || (protection.append_only && !appends))
    }

    /// Checks that the contents of a file may change from `offset` on, as the kernel may not report
    /// opens.
    ///
    /// # Errors
    /// EPERM for an immutable file, and before the end of an append-only one.
    pub(super) fn check_write(&self, node: &Node, offset: u64) -> Result<()> {
        let protection = self.protection(node)?;
        if !protection.is_any() {
            return Ok(());
        }
        let overwrites = || Ok::<_, crate::error::Error>(offset < self.stat_of(node)?.size);
        refuse_if(protection.immutable || overwrites()?)
    }

    /// Checks that fallocate(2) may be called for a file with the flags `mode`.
    ///
    /// # Errors
    /// EPERM for an immutable file, and for all but preallocation in an append-only one
    /// (`vfs_fallocate`, fs/open.c).
    pub(super) fn check_allocate(&self, node: &Node, mode: i32) -> Result<()> {
        let protection = self.protection(node)?;
        let preallocates = mode & !libc::FALLOC_FL_KEEP_SIZE == 0;
        refuse_if(protection.immutable || (protection.append_only && !preallocates))
    }
}

fn refuse_if(protected: bool) -> Result<()> {
    if protected { Err(Errno::EPERM.into()) } else { Ok(()) }
}
