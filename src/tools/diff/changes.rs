//! Writes the changes of an upper as a list.

use super::{Object, Sink};
use crate::error::Result;

/// Kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The lowers have nothing at the path.
    Added,
    /// The lowers have another object at the path, or the directory contains changes.
    Changed,
    /// The path does not exist any more.
    Deleted,
}

impl Kind {
    /// Returns the letter that docker and podman print.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Changed => 'C',
            Self::Deleted => 'D',
        }
    }
}

/// Passes each change to a function, with its path from the root, which begins with a slash.
pub struct Changes<F>(F);

impl<F> std::fmt::Debug for Changes<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Changes")
    }
}

impl<F: FnMut(Kind, &[u8]) -> Result<()>> Changes<F> {
    /// Passes changes to `tell`.
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

    /// Nothing to do: the list has a line for each removed name.
    fn opaque(&mut self, _dir: &[u8]) -> Result<()> {
        Ok(())
    }

    fn skipped(&mut self, _path: &[u8], _why: &str) {}
}
