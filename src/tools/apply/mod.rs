//! Unpacks an OCI layer into a directory that is a layer for an overlay.
//!
//! [`stage`] builds the layer beside the directory, and puts it in place by one rename. [`unpack`]
//! interprets the entries, [`tree`] changes the new layer, and [`metadata`] sets owners, modes,
//! attributes and times.
//!
//! A whiteout removes objects of the layers below, never of its own layer. The result does not
//! depend on the order of the entries.

pub mod abandoned;
mod metadata;
mod stage;
mod tree;
mod unpack;

use std::io::Read;
use std::path::Path;

use crate::config::Config;
use crate::error::{Context, Error, Result};
use crate::tools::oci::archive::Archive;
use crate::tools::oci::blob::{Compression, Summary};
use crate::tools::oci::source::Source;

use stage::Stage;
use unpack::Unpack;

/// Options for unpacking a layer.
#[derive(Clone, Debug)]
pub struct Options {
    /// Forms of the marks, storage of owners, and whether implied directories are marked as
    /// delegating. Its layers are not used.
    pub config: Config,
    /// Limits beyond which a layer is refused.
    pub limits: Limits,
}

/// Largest size of a layer; `None` for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Number of entries.
    pub entries: Option<u64>,
    /// Bytes of data.
    pub bytes: Option<u64>,
    /// Unpacked bytes per byte of the compressed layer, beyond [`FREE_OF_RATIO`] bytes.
    pub ratio: Option<u64>,
}

impl Limits {
    /// More than layers have, and less than what fills a machine.
    ///
    /// Entries: the Debian root that the tests unpack has 6,747, and a directory takes less than
    /// 500 bytes of memory, with the longest name. Bytes: five times the 52,000 MiB, compressed,
    /// that a registry accepts (quota of Amazon ECR). Ratio, with gzip -9 and zstd -19: programs
    /// and sources of Debian 12 give 3 to 5, its lists of files 11 and 15, a log of one sort of
    /// line 15 and 38. deflate cannot give more than 1,032 (zlib.net/zlib_tech.html), zstd a
    /// hundred times that, and bombs come close to both.
    pub const DEFAULT: Self =
        Self { entries: Some(1_000_000), bytes: Some(256 << 30), ratio: Some(200) };
}

/// Bytes that are unpacked without a look at the ratio: empty disk images and databases compress as
/// well as bombs.
pub const FREE_OF_RATIO: u64 = 1 << 30;

/// Result of unpacking a layer.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// Digests and sizes of the layer.
    pub summary: Summary,
    /// Compression of the layer.
    pub compression: Compression,
    /// Numbers of objects in the layer.
    pub counts: Counts,
}

/// Numbers of objects in a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries, including markers.
    pub entries: u64,
    /// Whiteouts and opaque markers.
    pub markers: u64,
    /// Bytes of data.
    pub bytes: u64,
    /// Directories that the archive only implies, by entries in them.
    pub implied: u64,
    /// Attributes that could not be set.
    pub attributes_left_out: u64,
}

/// Unpacks a layer to `to`, which must not exist or must be an empty directory.
///
/// `progress` is called with a path, and the number of bytes written since the last call.
///
/// # Errors
/// Those of reading and writing; EINVAL for an archive that is malformed, truncated or not a layer;
/// EFBIG beyond a limit. After an error `to` is as it was.
pub fn apply(
    from: impl Read,
    to: &Path,
    options: &Options,
    progress: &mut dyn FnMut(&[u8], u64),
) -> Result<Unpacked> {
    let reading = |err: std::io::Error| Error::from(err).context("reading the layer");
    let stage = Stage::new(to, &options.config)?;
    let source = Source::new(from).map_err(reading)?;
    let mut archive = Archive::new(source.with_most(options.limits.ratio, FREE_OF_RATIO));
    let mut unpack = Unpack::new(&stage, options, progress)?;
    while let Some(entry) = archive.next_entry()? {
        unpack.entry(&entry, &mut archive).context(|| crate::tools::oci::printable(&entry.path))?;
    }
    let counts = unpack.finish()?;
    let (summary, compression) = archive.into_inner().finish().map_err(reading)?;
    stage.publish()?;
    Ok(Unpacked { summary, compression, counts })
}
