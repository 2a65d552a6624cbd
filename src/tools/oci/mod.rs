//! Layers of the OCI image specification: tar archives with whiteouts by name.
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

/// Prefix of attribute names in an archive: the form of star, which umoci, containers/storage,
/// containerd and GNU tar read and write.
pub const XATTR: &str = "SCHILY.xattr.";

pub use crate::format::text::printable;
