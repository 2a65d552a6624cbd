//! Inode flags, as lsattr(1) and chattr(1) use them.
//!
//! The flags are those of the inode in its layer. An immutable or append-only object of the upper
//! is marked instead (see [`protattr`](crate::format::protattr)), as in the kernel's overlayfs: the
//! flags themselves would keep us from renaming, linking and marking it.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::nodes::node::Node;
use super::{NodeId, Vfs};
use crate::error::{Errno, Result};
use crate::layer::Fd;
use crate::merge::copyup::Data;
use crate::sys::ioctl::{self, FSXATTR_LEN};
use crate::sys::{Protection, WritableFd};

/// Bits of `i` and `a`: `FS_{IMMUTABLE,APPEND}_FL` and `FS_XFLAG_{IMMUTABLE,APPEND}` (linux/fs.h).
#[derive(Clone, Copy)]
struct Bits {
    immutable: u32,
    append_only: u32,
}

const FLAGS: Bits = Bits { immutable: 0x10, append_only: 0x20 };
const XFLAGS: Bits = Bits { immutable: 0x08, append_only: 0x10 };

impl Bits {
    fn of(self, flags: u32) -> Protection {
        let has = |bit| flags & bit != 0;
        Protection { append_only: has(self.append_only), immutable: has(self.immutable) }
    }

    fn without(self, flags: u32) -> u32 {
        flags & !(self.immutable | self.append_only)
    }

    fn with(self, flags: u32, protection: Protection) -> u32 {
        let immutable = if protection.immutable { self.immutable } else { 0 };
        let append_only = if protection.append_only { self.append_only } else { 0 };
        flags | immutable | append_only
    }
}

/// Changes `fsx_xflags`, the first field of `struct fsxattr` (linux/fs.h).
fn xflags(value: &mut [u8; FSXATTR_LEN], change: impl FnOnce(u32) -> u32) {
    if let Some(field) = value.first_chunk_mut() {
        *field = change(u32::from_ne_bytes(*field)).to_ne_bytes();
    }
}

impl Vfs {
    /// Reads the flags (`FS_IOC_GETFLAGS`).
    ///
    /// # Errors
    /// ENOTTY for an object that is neither file nor directory, and on a file system without flags.
    pub fn get_flags(&self, id: NodeId) -> Result<u32> {
        let node = self.node(id)?;
        let flags = ioctl::get_flags(self.descriptor(&node)?.as_ref().as_fd())?;
        Ok(FLAGS.with(flags, self.protection(&node)?))
    }

    /// Sets the flags (`FS_IOC_SETFLAGS`). The kernel has checked who may set which of them
    /// (`fileattr_set_prepare`, fs/file_attr.c).
    ///
    /// # Errors
    /// EROFS; EPERM for flags that we may not set, and for `i` and `a` on an upper without extended
    /// attributes; errors of copy-up.
    pub fn set_flags(&self, id: NodeId, flags: u32) -> Result<()> {
        let node = self.node(id)?;
        self.to_upper(&node)?;
        self.telling(&node, || {
            self.protect(&node, FLAGS.of(flags))?;
            self.with_writable(&node, |fd| ioctl::set_flags(fd, FLAGS.without(flags)))
        })
    }

    /// Reads the flags and other fields (`FS_IOC_FSGETXATTR`).
    ///
    /// # Errors
    /// Those of [`Vfs::get_flags`].
    pub fn get_fsxattr(&self, id: NodeId) -> Result<[u8; FSXATTR_LEN]> {
        let node = self.node(id)?;
        let mut value = ioctl::get_fsxattr(self.descriptor(&node)?.as_ref().as_fd())?;
        let protection = self.protection(&node)?;
        xflags(&mut value, |flags| XFLAGS.with(flags, protection));
        Ok(value)
    }

    /// Sets the flags and other fields (`FS_IOC_FSSETXATTR`).
    ///
    /// # Errors
    /// Those of [`Vfs::set_flags`].
    pub fn set_fsxattr(&self, id: NodeId, value: &[u8; FSXATTR_LEN]) -> Result<()> {
        let (node, mut value) = (self.node(id)?, *value);
        self.to_upper(&node)?;
        let mut protection = Protection::default();
        xflags(&mut value, |flags| {
            protection = XFLAGS.of(flags);
            XFLAGS.without(flags)
        });
        self.telling(&node, || {
            self.protect(&node, protection)?;
            self.with_writable(&node, |fd| ioctl::set_fsxattr(fd, &value))
        })
    }

    /// Runs a change and tells the kernel, which takes the ioctl for no change of attributes
    /// (`fuse_priv_ioctl`, fs/fuse/ioctl.c). A change that failed may be half done, so it is told
    /// too.
    fn telling(&self, node: &Node, change: impl FnOnce() -> Result<()>) -> Result<()> {
        let done = change();
        self.tell_changed(node.id);
        done
    }

    /// Writes the flags `i` and `a` as a mark. An inode that has them itself, from ovlmerge 0.1 or
    /// other programs, takes no mark, so it loses them first.
    fn protect(&self, node: &Arc<Node>, protection: Protection) -> Result<()> {
        let upper = self.upper()?;
        self.with_writable(node, |fd| {
            let own = ioctl::get_flags(fd.borrowed())?;
            if FLAGS.of(own).is_any() {
                ioctl::set_flags(fd, FLAGS.without(own))?;
            }
            upper.set_protection(fd.object(), protection)
        })?;
        node.protection.set(protection);
        Ok(())
    }

    fn to_upper(&self, node: &Arc<Node>) -> Result<()> {
        if node.kind().is_dir() {
            self.dir_to_write(node).map(drop)
        } else {
            // If the data is below, the descriptor to read belongs to a file of a lower.
            self.copy_up(node, Data::All)?;
            self.complete(node)
        }
    }

    /// Runs a call that changes a file or directory of the upper.
    fn with_writable<T>(
        &self,
        node: &Arc<Node>,
        mut act: impl FnMut(WritableFd<'_>) -> Result<T>,
    ) -> Result<T> {
        let fd = self.descriptor(node)?;
        let Ok(dir) = node.dir() else { return act(fd.writable()?) };
        let upper = dir.stack.read().upper.clone().ok_or(Errno::EROFS)?;
        act(upper.by_descriptor(&fd))
    }

    fn descriptor(&self, node: &Arc<Node>) -> Result<Arc<Fd>> {
        match node.dir() {
            Ok(dir) => {
                let orphan = dir.orphan.read().clone();
                let stack = dir.stack.read().clone();
                orphan.map_or_else(|| stack.top()?.fd(), Ok)
            }
            Err(_) if node.kind().is_file() => self.file(node),
            Err(_) => Err(Errno::ENOTTY.into()),
        }
    }
}
