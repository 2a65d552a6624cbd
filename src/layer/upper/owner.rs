//! Owner and mode of what is made in the upper.

use super::Upper;
use crate::error::{Errno, Error, Result};
use crate::sys::{FileType, Stat, Target, at};

/// Whether a copy got the owner of its original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "set-id bits are for the owner that they were given to"]
pub enum Given {
    /// It did.
    Owner,
    /// It stayed ours, and nobody in the mount can see that (`squash_to_uid`, `squash_to_gid`).
    Nothing,
}

impl Upper {
    /// Gives a copy the owner of its original. As chown(2) takes set-id bits and capabilities away,
    /// attributes and [`Self::give_mode`] come after it.
    ///
    /// # Errors
    /// Those of chown(2); EOVERFLOW for an owner whom our user namespace does not know.
    pub fn give_owner(&self, copy: Target<'_>, was: &Stat) -> Result<Given> {
        let squashed = self.squashed;
        self.check_owner(was)?;
        if !squashed.uid && !squashed.gid {
            at::chown(copy, Some(was.uid), Some(was.gid))?;
            return Ok(Given::Owner);
        }
        // What can be seen has to be right.
        if !squashed.uid {
            at::chown(copy, Some(was.uid), None)?;
        }
        if !squashed.gid {
            at::chown(copy, None, Some(was.gid))?;
        }
        match at::chown(copy, Some(was.uid), Some(was.gid)) {
            // Not ours to give (chown(2)), or not known in our user namespace.
            Err(err) if matches!(err.errno(), Errno::EPERM | Errno::EINVAL) => Ok(Given::Nothing),
            other => other.map(|()| Given::Owner),
        }
    }

    /// Gives a copy the permission bits of its original: without those that would lend the rights
    /// of an owner who is not that of the original.
    ///
    /// # Errors
    /// Those of chmod(2).
    pub fn give_mode(&self, copy: Target<'_>, was: &Stat, given: Given) -> Result<()> {
        const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;
        if was.kind() == FileType::Symlink {
            return Ok(());
        }
        let lost = if given == Given::Owner { 0 } else { SET_ID };
        at::chmod(copy, was.permissions() & !lost)
    }

    /// # Errors
    /// EOVERFLOW for an owner whom our user namespace does not know (as the kernel's copy-up says):
    /// the copy would be somebody else's.
    fn check_owner(&self, was: &Stat) -> Result<()> {
        let Some(nobody) = self.unmapped else { return Ok(()) };
        let lost_uid = was.uid == nobody.uid && !self.squashed.uid;
        let lost_gid = was.gid == nobody.gid && !self.squashed.gid;
        if lost_uid || lost_gid {
            let text = "its owner is not mapped into this user namespace";
            return Err(Error::new(Errno::EOVERFLOW, text));
        }
        Ok(())
    }
}
