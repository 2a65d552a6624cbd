//! Extended attributes and ACLs of nodes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::nodes::node::Node;
use super::{Change, NodeId, Privilege, Vfs};
use crate::config::Xattrs;
use crate::error::{Errno, Result};
use crate::format::overlay::{Dialect, is_acl};
use crate::layer::OwnerStorage;
use crate::merge::xattr;
use crate::sys::xattr::SetMode;
use crate::sys::{Target, Writable};

/// The label of SELinux. A kernel with SELinux answers for it by itself, so one that asks has none.
/// ls(1) asks for the label of each file that it lists, and stops at EOPNOTSUPP.
const SELINUX: &[u8] = b"security.selinux";

impl Vfs {
    /// The value of an attribute.
    ///
    /// # Errors
    /// ENODATA; EOPNOTSUPP, also for a missing [`SELINUX`]; ERANGE for a name that is too long.
    pub fn getxattr(&self, id: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        if self.xattrs == Xattrs::None {
            // Not ENOSYS, as for other calls: the kernel would then no longer ask for what the
            // mount tells about itself (`crate::control`).
            return Err(Errno::EOPNOTSUPP.into());
        }
        self.check_xattrs(name)?;
        self.value(id, name).map_err(|err| match err.errno() {
            Errno::ENODATA if name == SELINUX => Errno::EOPNOTSUPP.into(),
            _ => err,
        })
    }

    fn value(&self, id: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        let node = self.node(id)?;
        if self.has_no_xattrs(&node)? {
            return Err(Errno::ENODATA.into());
        }
        let value = self.read_xattr(&node, name).map_err(|err| match err.errno() {
            // The file system of the layer has no ACLs. With EOPNOTSUPP every check of permissions
            // of the file would fail, as `get_inode_acl` has no other error than "none".
            Errno::EOPNOTSUPP if is_acl(name) => Errno::ENODATA.into(),
            _ => err,
        })?;
        self.owners.shown_xattr(name, value)
    }

    /// The names of all visible attributes, each NUL-terminated.
    pub fn listxattr(&self, id: NodeId) -> Result<Vec<u8>> {
        self.check_xattrs(b"")?;
        let node = self.node(id)?;
        if node.no_xattrs.is_known() {
            return Ok(Vec::new());
        }
        let names = self.with_node(&node, |target, owner_storage| {
            xattr::list(target, owner_storage.dialect())
        })?;
        if self.xattrs == Xattrs::All {
            return Ok(names);
        }
        let shown = names.split_inclusive(|&byte| byte == 0);
        Ok(shown
            .filter(|name| !is_acl(name.strip_suffix(b"\0").unwrap_or(name)))
            .flatten()
            .copied()
            .collect())
    }

    /// Checks that the mount has the attribute `name`, or, with an empty name, that it has any.
    ///
    /// # Errors
    /// ENOSYS with `noxattrs=1`: the caller gets EOPNOTSUPP, and the kernel never asks again.
    /// EOPNOTSUPP with `noacl` for an ACL.
    fn check_xattrs(&self, name: &[u8]) -> Result<()> {
        match self.xattrs {
            Xattrs::None => Err(Errno::ENOSYS.into()),
            Xattrs::WithoutAcls if is_acl(name) => Err(Errno::EOPNOTSUPP.into()),
            Xattrs::All | Xattrs::WithoutAcls => Ok(()),
        }
    }

    /// Whether an object has no visible attributes. The answer is remembered: most have none, and
    /// some are asked for again and again.
    fn has_no_xattrs(&self, node: &Node) -> Result<bool> {
        if node.no_xattrs.is_known() {
            return Ok(true);
        }
        let look = node.no_xattrs.begin();
        let look_at = |target: Target<'_>, owner_storage: OwnerStorage| {
            xattr::list(target, owner_storage.dialect())
        };
        let no_xattrs = self.with_node(node, look_at)?.is_empty();
        if no_xattrs {
            node.no_xattrs.found_nothing(look);
        }
        Ok(no_xattrs)
    }

    /// Sets an attribute.
    ///
    /// # Errors
    /// EROFS; EEXIST, ENODATA by the mode; EPERM for names that belong to us; EINVAL for an ACL
    /// with an id that the layers do not have; ENOSPC, EDQUOT, E2BIG, EOPNOTSUPP of setxattr(2).
    pub fn setxattr(&self, id: NodeId, name: &[u8], value: &[u8], mode: SetMode) -> Result<()> {
        self.check_xattrs(name)?;
        let node = self.node(id)?;
        let value = self.owners.stored_xattr(name, value.to_vec())?;
        let upper = self.upper()?;
        self.with_room(|| {
            self.change(&node, |object, dialect| {
                let set = || xattr::set(object, dialect, name, &value, mode);
                if is_acl(name) { upper.setting_mode(object, set) } else { set() }
            })
        })
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// EROFS; ENODATA; EPERM for an immutable or append-only object.
    pub fn removexattr(&self, id: NodeId, name: &[u8]) -> Result<()> {
        self.check_xattrs(name)?;
        let node = self.node(id)?;
        self.upper()?;
        // Nothing is copied up for a missing attribute. A missing ACL may be removed all the same
        // (posix_acl_xattr_set in fs/posix_acl.c takes it for the default).
        match self.read_xattr(&node, name) {
            Err(err) if is_acl(name) && err.errno() == Errno::ENODATA => Ok(()),
            Err(err) => Err(err),
            Ok(_) => self.change(&node, |object, dialect| xattr::remove(object, dialect, name)),
        }
    }

    /// Clears the setgid bit of a file whose ACL was set by a caller outside its group, as the
    /// kernel does (`posix_acl_update_mode`, fs/posix_acl.c).
    pub fn drop_foreign_setgid(&self, id: NodeId, groups: &[u32]) -> Result<()> {
        let stat = self.getattr(id)?;
        if stat.mode & libc::S_ISGID == 0 || groups.contains(&stat.gid) {
            return Ok(());
        }
        let mode = Some(stat.permissions() & !libc::S_ISGID);
        self.setattr(id, &Change { mode, ..Change::NONE }, Privilege::KeepsSetId)?;
        self.tell_changed(id);
        Ok(())
    }

    fn read_xattr(&self, node: &Node, name: &[u8]) -> Result<Vec<u8>> {
        self.with_node(node, |target, owner_storage| {
            xattr::get(target, owner_storage.dialect(), name)
        })
    }

    fn change(
        &self,
        node: &Arc<Node>,
        mut act: impl FnMut(Writable<'_>, Dialect) -> Result<()>,
    ) -> Result<()> {
        let dialect = self.upper()?.owner_storage().dialect();
        self.check_free(node)?;
        let act = |object: Writable<'_>| act(object, dialect);
        node.no_xattrs.changes();
        let done = if node.kind().is_dir() {
            self.change_dir(node, act)
        } else {
            self.copy_up(node, self.for_metadata())?;
            let leaf = node.as_leaf()?;
            node.no_capability.store(false, Ordering::Relaxed);
            let place = leaf.place.read();
            let done = self.with_writable_leaf(leaf, &place, act);
            node.no_capability.store(false, Ordering::Relaxed);
            done
        };
        node.no_xattrs.changes();
        done
    }
}
