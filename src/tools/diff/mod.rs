//! Finds what an upper changes, and writes it as an OCI layer or as a list.
//!
//! [`views`](super::views) are the layers with the upper on top, and without it. [`walk`](mod@walk)
//! goes through the upper and compares the two, name by name. It passes differences to a [`Sink`]:
//! [`layer`] writes an archive, [`changes`] a list.
//!
//! It reads only what the upper has, and new directories as a whole, so that the work does not grow
//! with the lowers. Memory holds one directory of each level, and one path of each object with
//! several names.

pub mod changes;
pub mod layer;
mod object;
mod walk;

pub use object::Object;
pub use walk::{OpaqueAs, Parents, Rules, walk};

use crate::error::Result;

/// Receiver of the changes, in the order of an archive: a directory, its whiteouts, then its
/// entries in the order of the bytes of their names, each followed by what is in it.
pub trait Sink {
    /// Receives an object that the upper adds or changes.
    ///
    /// # Errors
    /// Those of reading it and of writing it elsewhere.
    fn object(&mut self, object: &Object<'_>) -> Result<()>;

    /// Receives a removed name. `dir` is the path of its directory, empty for the root.
    ///
    /// # Errors
    /// Those of writing it elsewhere.
    fn whiteout(&mut self, dir: &[u8], name: &[u8]) -> Result<()>;

    /// Receives a directory that hides everything that the lowers have in it.
    ///
    /// # Errors
    /// Those of writing it elsewhere.
    fn opaque(&mut self, dir: &[u8]) -> Result<()>;

    /// Receives an object that no archive can hold, and the reason.
    fn skipped(&mut self, path: &[u8], why: &str);
}
