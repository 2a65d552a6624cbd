//! What an upper changes: as an OCI layer, or as a list.
//!
//! [`views`](super::views) are the layers with the upper on top, and without it.
//! [`walk`](mod@walk) goes through the upper and compares the two, name by name; what differs goes
//! to a [`Sink`]: [`layer`] writes an archive, [`changes`] a list.
//!
//! Only what the upper has, and below directories that it makes anew, is looked at: the work does
//! not grow with the lowers. One directory of each level is in memory, and of objects with several
//! names the first.

pub mod changes;
pub mod layer;
mod object;
mod walk;

pub use object::Object;
pub use walk::{OpaqueAs, Parents, Rules, walk};

use crate::error::Result;

/// Takes what differs, in the order of an archive: a directory, then its whiteouts, then its
/// entries, each followed by what is in it; names in the order of their bytes.
pub trait Sink {
    /// Something that the layer brings.
    ///
    /// # Errors
    /// Those of reading it and of writing it elsewhere.
    fn object(&mut self, object: &Object<'_>) -> Result<()>;

    /// A name that is gone; `dir` is the path of its directory, empty for the root.
    ///
    /// # Errors
    /// Those of writing it elsewhere.
    fn whiteout(&mut self, dir: &[u8], name: &[u8]) -> Result<()>;

    /// Everything that the lowers have in this directory is gone.
    ///
    /// # Errors
    /// Those of writing it elsewhere.
    fn opaque(&mut self, dir: &[u8]) -> Result<()>;

    /// Something that no archive can hold, and why.
    fn skipped(&mut self, path: &[u8], why: &str);
}
