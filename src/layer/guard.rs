//! Hiding what the lowers have at a name while the upper has nothing there.
//!
//! Where a file system knows no flags of renameat2(2) (NFS, 9p, many FUSE servers), a whiteout and
//! an object change places in several steps. Meanwhile a file `.wh.NAME` stands beside the name. It
//! hides what the lowers have, and nothing in the upper. So a crash between the steps shows the old
//! tree or the new one, and never an object that was removed before. A file that a crash leaves is
//! read as a whiteout. It is removed when the name next changes.

use super::dir::UpperDir;
use crate::error::{Errno, Result, best_effort};
use crate::format::aufs::{self, AufsName};
use crate::sys::{Name, at};

/// The file `.wh.NAME`. If this is dropped, it is removed unless it was there before: the change
/// has failed, and what the file hid it still has to hide.
#[derive(Debug)]
#[must_use = "to be lifted once the change is done"]
pub(super) struct Guard<'a> {
    dir: &'a UpperDir,
    marker: Vec<u8>,
    is_lifted: bool,
}

impl<'a> Guard<'a> {
    /// Hides what the lowers have at `name`. `None` where such files are not read
    /// (`whiteout=char`), where none can be made (in a mount of ovlmerge), and for names that are
    /// too long for one. A crash then shows what the lowers have.
    pub fn set(dir: &'a UpperDir, name: Name<'_>) -> Result<Option<Self>> {
        let marker = aufs::whiteout_of(name.bytes());
        let is_read = matches!(dir.dir().classify(&marker), AufsName::Whiteout(_));
        let Some(at) = Name::new(&marker).ok().filter(|_| is_read) else { return Ok(None) };
        match dir.reach(|dir| at::mknod(dir, at, libc::S_IFREG | 0o600, 0)) {
            // In a mount of ovlmerge nobody can make such a name.
            Err(err) if err.errno() == Errno::EINVAL => Ok(None),
            Err(err) if err.errno() != Errno::EEXIST => Err(err),
            made => Ok(Some(Self { dir, marker, is_lifted: made.is_ok() })),
        }
    }

    /// Keeps the file, as the whiteout of the name.
    pub fn stay(mut self) {
        self.is_lifted = false;
    }

    /// Removes the file, after the change.
    pub fn lift(mut self) {
        self.is_lifted = true;
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if !self.is_lifted {
            return;
        }
        let lift = || self.dir.reach(|dir| at::unlink(dir, Name::new(&self.marker)?));
        best_effort("a whiteout stays beside a name", lift());
    }
}
