//! Inode flags: lsattr(1) and chattr(1).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::node::Node;
use super::{NodeId, Vfs};
use crate::error::{Errno, Result};
use crate::merge::copyup::Data;
use crate::sys::ioctl::{self, FSXATTR_LEN};

/// Immutable and append-only files are told apart when they are opened: what is open goes on.
fn open_anew(node: &Node) {
    if let Ok(leaf) = node.as_leaf() {
        leaf.io.take();
    }
}

impl Vfs {
    /// `FS_IOC_GETFLAGS`.
    ///
    /// # Errors
    /// ENOTTY for what is neither a file nor a directory, and where the file system has no flags.
    pub fn get_flags(&self, id: NodeId) -> Result<u32> {
        ioctl::get_flags(self.descriptor(&self.node(id)?)?.as_ref().as_fd())
    }

    /// `FS_IOC_SETFLAGS`.
    ///
    /// # Errors
    /// EROFS; EPERM for flags that we may not set; what copy-up says.
    pub fn set_flags(&self, id: NodeId, flags: u32) -> Result<()> {
        let node = self.node(id)?;
        self.to_upper(&node)?;
        let done = ioctl::set_flags(self.descriptor(&node)?.as_ref().as_fd(), flags);
        open_anew(&node);
        done
    }

    /// `FS_IOC_FSGETXATTR`.
    pub fn get_fsxattr(&self, id: NodeId) -> Result<[u8; FSXATTR_LEN]> {
        ioctl::get_fsxattr(self.descriptor(&self.node(id)?)?.as_ref().as_fd())
    }

    /// `FS_IOC_FSSETXATTR`.
    pub fn set_fsxattr(&self, id: NodeId, value: &[u8; FSXATTR_LEN]) -> Result<()> {
        let node = self.node(id)?;
        self.to_upper(&node)?;
        let done = ioctl::set_fsxattr(self.descriptor(&node)?.as_ref().as_fd(), value);
        open_anew(&node);
        done
    }

    fn to_upper(&self, node: &Arc<Node>) -> Result<()> {
        if node.kind().is_dir() {
            self.dir_to_write(node).map(drop)
        } else {
            // Flags such as `i` would keep data from being put in later, and where the data is
            // below, what is open for reading is a file of a lower.
            self.copy_up(node, Data::All)?;
            self.complete(node)
        }
    }

    fn descriptor(&self, node: &Arc<Node>) -> Result<Arc<OwnedFd>> {
        match node.dir() {
            Ok(dir) => {
                let orphan = dir.orphan.read().clone();
                match orphan {
                    Some(fd) => Ok(fd),
                    None => dir.stack.read().clone().top()?.fd(),
                }
            }
            Err(_) if node.kind().is_file() => self.file(node),
            Err(_) => Err(Errno::ENOTTY.into()),
        }
    }
}
