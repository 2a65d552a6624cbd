//! Layers as the OCI image specification has them: tar archives with whiteouts by name.
//!
//! # References
//! layer.md and media types of the OCI image specification; pax(1) of POSIX for the archive.

pub mod archive;
pub mod blob;
pub mod entry;
mod gzip;
pub mod header;
pub mod pax;
mod records;
pub mod source;

/// What the names of attributes in an archive begin with (star's form; umoci, containers/storage,
/// containerd and GNU tar read and write it).
pub const XATTR: &str = "SCHILY.xattr.";

pub use crate::format::text::printable;
