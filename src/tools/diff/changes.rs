//! The changes as a list.

use super::{Object, Sink};
use crate::error::Result;

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The lowers have nothing there.
    Added,
    /// The lowers have something else there; or the directory has changes in it.
    Changed,
    /// Nothing is there any more.
    Deleted,
}

impl Kind {
    /// The letter that docker and podman print.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Changed => 'C',
            Self::Deleted => 'D',
        }
    }
}

/// Hands every change to a function, with its path from the root (a slash in front).
pub struct Changes<F>(F);

impl<F> std::fmt::Debug for Changes<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Changes")
    }
}

impl<F: FnMut(Kind, &[u8]) -> Result<()>> Changes<F> {
    /// Changes go to `tell`.
    pub fn new(tell: F) -> Self {
        Self(tell)
    }
}

impl<F: FnMut(Kind, &[u8]) -> Result<()>> Sink for Changes<F> {
    fn object(&mut self, object: &Object<'_>) -> Result<()> {
        let kind = if object.below { Kind::Changed } else { Kind::Added };
        (self.0)(kind, &[b"/", object.path].concat())
    }

    fn whiteout(&mut self, dir: &[u8], name: &[u8]) -> Result<()> {
        let slash: &[u8] = if dir.is_empty() { b"" } else { b"/" };
        (self.0)(Kind::Deleted, &[b"/", dir, slash, name].concat())
    }

    /// A list has a line for each name that is gone.
    fn opaque(&mut self, _dir: &[u8]) -> Result<()> {
        Ok(())
    }

    fn skipped(&mut self, _path: &[u8], _why: &str) {}
}
