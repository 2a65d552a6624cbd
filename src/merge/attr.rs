//! Changes of the attributes of an object in the upper.

use crate::error::Result;
use crate::id::Id;
use crate::layer::Upper;
use crate::sys::at::SetTime;
use crate::sys::{Writable, at};

/// A change of attributes. `None` and [`SetTime::Omit`] leave an attribute as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<Id>,
    /// Group.
    pub gid: Option<Id>,
    /// Size in bytes; regular files only.
    pub size: Option<u64>,
    /// Access time.
    pub atime: SetTime,
    /// Modification time.
    pub mtime: SetTime,
}

impl Change {
    /// The change that changes nothing.
    pub const NONE: Self = Self {
        mode: None,
        uid: None,
        gid: None,
        size: None,
        atime: SetTime::Omit,
        mtime: SetTime::Omit,
    };

    /// Whether the change sets the owner or the group.
    #[must_use]
    pub fn gives_owner(&self) -> bool {
        self.uid.is_some() || self.gid.is_some()
    }

    /// The change without its times.
    #[must_use]
    pub fn without_times(self) -> Self {
        Self { atime: SetTime::Omit, mtime: SetTime::Omit, ..self }
    }

    fn has_times(&self) -> bool {
        self.atime != SetTime::Omit || self.mtime != SetTime::Omit
    }
}

/// Applies all but the size. The owner comes before the mode, as chown(2) clears set-id bits.
pub fn apply(upper: &Upper, object: Writable<'_>, change: &Change) -> Result<()> {
    if change.gives_owner() {
        upper.chown(object, change.uid, change.gid)?;
    }
    if let Some(mode) = change.mode {
        upper.chmod(object, mode)?;
    }
    if change.has_times() {
        at::set_times(object, change.atime, change.mtime)?;
    }
    Ok(())
}
