//! Unpacks an OCI layer into a directory that is a layer for an overlay.
//!
//! [`stage`] makes everything beside the directory and puts it in place by one rename. [`unpack`]
//! says what each entry means, [`tree`] changes the layer in the making, and [`metadata`] gives
//! owners, modes, attributes and times.
//!
//! What a whiteout takes away is in the layers below, never in the layer that it comes with, and
//! the result does not depend on the order of the entries.

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
    /// More entries than this are refused.
    pub most_entries: Option<u64>,
    /// More bytes of data than this are refused.
    pub most_bytes: Option<u64>,
}

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
    let mut archive = Archive::new(Source::new(from).map_err(reading)?);
    let mut unpack = Unpack::new(&stage, options, progress)?;
    while let Some(entry) = archive.next_entry()? {
        unpack.entry(&entry, &mut archive).context(|| crate::tools::oci::printable(&entry.path))?;
    }
    let counts = unpack.finish()?;
    let (summary, compression) = archive.into_inner().finish().map_err(reading)?;
    stage.publish()?;
    Ok(Unpacked { summary, compression, counts })
}
