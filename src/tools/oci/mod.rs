//! Layers as the OCI image specification has them: tar archives with whiteouts by name.
//!
//! # References
//! layer.md and media types of the OCI image specification; pax(1) of POSIX for the archive.

pub mod archive;
pub mod blob;
pub mod header;
pub mod pax;
pub mod source;

/// What the names of attributes in an archive begin with (star's form; umoci, containers/storage,
/// containerd and GNU tar read and write it).
pub const XATTR: &str = "SCHILY.xattr.";

/// A path inside a layer for people: as it is if it can be printed, else with escapes.
#[must_use]
pub fn printable(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) if !text.chars().any(|c| c.is_control() || c == '\\') => text.to_owned(),
        _ => path.escape_ascii().to_string(),
    }
}
