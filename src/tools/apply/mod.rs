//! Unpacks an OCI layer into a directory that is a layer for an overlay.
//!
//! [`stage`] makes everything beside the directory and puts it in place by one rename. [`unpack`]
//! says what each entry means, [`tree`] changes the layer in the making, and [`metadata`] gives
//! owners, modes, attributes and times.
//!
//! What a whiteout takes away is in the layers below, never in the layer that it comes with, and
//! the result does not depend on the order of the entries.

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

/// How a layer is unpacked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which forms of markers are written, how owners are stored, whether directories that the
    /// archive only implies are marked as delegating; its layers are not used.
    pub config: Config,
    /// What is refused because it is too much.
    pub limits: Limits,
}

/// How much a layer may be; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: Option<u64>,
    /// Bytes of data.
    pub bytes: Option<u64>,
    /// Bytes that may come out of one byte of the compressed layer, after [`FREE_OF_RATIO`] bytes.
    pub ratio: Option<u64>,
}

impl Limits {
    /// More than layers have, and less than what fills a machine.
    ///
    /// Entries: the Debian root that the tests unpack has 6,747, and what is held in memory for
    /// each directory is below 500 bytes, with the longest name. Bytes: five times the 52,000 MiB
    /// that a registry takes (quota of Amazon ECR), compressed. Ratio, with gzip -9 and zstd -19:
    /// programs and sources of Debian 12 give 3 to 5, its lists of files 11 and 15, a log of one
    /// sort of line 15 and 38; deflate cannot give more than 1,032 (zlib.net/zlib_tech.html), zstd
    /// can give a hundred times that, and bombs come close to both.
    pub const DEFAULT: Self =
        Self { entries: Some(1_000_000), bytes: Some(256 << 30), ratio: Some(200) };
}

/// So many bytes are not worth the question how well they were compressed: empty disk images and
/// databases are as small.
pub const FREE_OF_RATIO: u64 = 1 << 30;

/// What was unpacked.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// Digests and sizes of the layer.
    pub summary: Summary,
    /// How it was compressed.
    pub compression: Compression,
    /// What was in it.
    pub counts: Counts,
}

/// What was in a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries, markers among them.
    pub entries: u64,
    /// Whiteouts and opaque markers.
    pub markers: u64,
    /// Bytes of data.
    pub bytes: u64,
    /// Directories that had to be made up for what is in them.
    pub implied: u64,
    /// Attributes that the file system or we ourselves could not set.
    pub attributes_left_out: u64,
}

/// Unpacks a layer so that it is `to`, which must not exist or be empty. `progress` is told the
/// path and the bytes of data that were written since.
///
/// # Errors
/// Those of reading and writing; EINVAL for an archive that is none, is cut off, or holds what a
/// layer cannot. Then `to` is as it was.
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
