//! Changing the attributes of an object that is in the upper.

use crate::error::Result;
use crate::sys::at::SetTime;
use crate::sys::{Stat, Target, at, stat};

/// A change of attributes. `None` and [`SetTime::Omit`] leave things as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes; regular files only.
    pub size: Option<u64>,
    /// Access time.
    pub atime: SetTime,
    /// Modification time.
    pub mtime: SetTime,
}

impl Change {
    /// A change of nothing.
    pub const NONE: Self = Self {
        mode: None,
        uid: None,
        gid: None,
        size: None,
        atime: SetTime::Omit,
        mtime: SetTime::Omit,
    };

    fn has_times(&self) -> bool {
        self.atime != SetTime::Omit || self.mtime != SetTime::Omit
    }
}

/// Applies all but the size. The owner comes before the mode, as chown(2) clears set-id bits.
pub fn apply(target: Target<'_>, change: &Change) -> Result<()> {
    if change.uid.is_some() || change.gid.is_some() {
        at::chown(target, change.uid, change.gid)?;
    }
    if let Some(mode) = change.mode {
        at::chmod(target, mode)?;
    }
    if change.has_times() {
        at::set_times(target, change.atime, change.mtime)?;
    }
    Ok(())
}

/// Takes set-id bits away as a write by an unprivileged user does: setuid always, setgid where the
/// group may execute (`setattr_should_drop_sgid`, fs/attr.c). Returns whether there were any.
pub fn drop_set_id(target: Target<'_>) -> Result<bool> {
    let now = stat::stat(target)?;
    let kept = without_set_id(&now);
    if kept == now.permissions() {
        return Ok(false);
    }
    at::chmod(target, kept)?;
    Ok(true)
}

fn without_set_id(stat: &Stat) -> u32 {
    let mut mode = stat.permissions() & !libc::S_ISUID;
    if mode & libc::S_IXGRP != 0 {
        mode &= !libc::S_ISGID;
    }
    mode
}
