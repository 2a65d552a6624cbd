//! Space and inodes of the file system that changes go to.

use std::os::fd::AsFd;

use super::{NodeId, Vfs};
use crate::error::{Errno, Result};
use crate::sys::file::{self, FsStat};

impl Vfs {
    /// Runs statfs(2) on the upper, or on the topmost lower of a read-only mount.
    pub fn statfs(&self) -> Result<FsStat> {
        let root = self.table.get(NodeId::ROOT).ok_or(Errno::EIO)?;
        let fd = root.dir()?.stack.read().top()?.fd()?;
        file::stat_fs(fd.as_ref().as_fd())
    }
}
