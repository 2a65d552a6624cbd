//! Writes the changes of an upper as an OCI layer.

use std::io::{Read, Write};

use rustc_hash::FxHashMap;

use super::{Object, Sink};
use crate::error::{Context, Errno, Error, Result};
use crate::format::aufs;
use crate::sys::stat::Time;
use crate::sys::{FileType, Stat};
use crate::tools::oci::entry::{Attributes, Entry, Kind};
use crate::tools::oci::header::{BLOCK, padding};
use crate::tools::oci::printable;
use crate::tools::paths::{Paths, Place};
use crate::tools::way::push;

/// End of an archive: two blocks of zeros (pax(1)).
const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Size of the pieces in which data is read, in bytes: large enough to make the calls cheap.
const PIECE: usize = 1 << 18;

/// Numbers of objects in a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries, including whiteouts and markers.
    pub entries: u64,
    /// Whiteouts and opaque markers.
    pub whiteouts: u64,
    /// Objects that no archive can hold.
    pub skipped: u64,
}

/// Writer of an archive.
pub struct LayerWriter<'a> {
    to: &'a mut dyn Write,
    /// Latest time in the archive; later ones are replaced by it.
    latest: Option<i64>,
    /// First path of each object with several names that was written.
    links: FxHashMap<(u16, u64, u64), Place>,
    paths: Paths,
    buffer: Vec<u8>,
    counts: Counts,
    progress: &'a mut dyn FnMut(&[u8], u64),
}

impl std::fmt::Debug for LayerWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LayerWriter({:?})", self.counts)
    }
}

impl<'a> LayerWriter<'a> {
    /// Writes an archive to `to`. Times after `latest` (seconds since 1970) become `latest`.
    /// `progress` is called with a path, and the number of bytes written since the last call.
    pub fn new(
        to: &'a mut dyn Write,
        latest: Option<i64>,
        progress: &'a mut dyn FnMut(&[u8], u64),
    ) -> Self {
        let (links, paths, buffer) = (FxHashMap::default(), Paths::default(), Vec::new());
        Self { to, latest, links, paths, buffer, counts: Counts::default(), progress }
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// Those of the last write.
    pub fn finish(self) -> Result<Counts> {
        self.to.write_all(&END).map_err(write_error)?;
        Ok(self.counts)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write_all(bytes).map_err(write_error)
    }

    fn marker(&mut self, dir: &[u8], name: &[u8]) -> Result<()> {
        let mut path = dir.to_vec();
        push(&mut path, name);
        self.counts.entries += 1;
        self.counts.whiteouts += 1;
        self.write(&Entry::new(path, Kind::File).encode()?)
    }

    fn mtime(&self, stat: &Stat) -> Time {
        match self.latest {
            Some(latest) if stat.mtime > (Time { sec: latest, nsec: 0 }) => {
                Time { sec: latest, nsec: 0 }
            }
            _ => stat.mtime,
        }
    }

    /// Returns the first path of an object with several names, if it was written already.
    fn first_path(&mut self, object: &Object<'_>) -> Option<Vec<u8>> {
        if object.kind().is_dir() || object.stat.nlink < 2 {
            return None;
        }
        if let Some(known) = self.links.get(&object.identity()) {
            return Some(self.paths.get(*known));
        }
        let place = self.paths.keep(object.path);
        self.links.insert(object.identity(), place);
        None
    }

    fn data(&mut self, object: &Object<'_>) -> Result<()> {
        let size = object.stat.size;
        if size == 0 {
            return Ok(());
        }
        let mut file = std::fs::File::from(object.open()?);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(PIECE, 0);
        let mut left = size;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let read = file.read(buffer.get_mut(..wanted).unwrap_or_default());
            let read = match read {
                Err(err) if err.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.map_err(Error::from).context(|| printable(object.path))?,
            };
            if read == 0 {
                let text = format!("{} got shorter while it was read", printable(object.path));
                return Err(Error::new(Errno::EIO, text));
            }
            self.write(buffer.get(..read).unwrap_or_default())?;
            (self.progress)(object.path, read as u64);
            left -= read as u64;
        }
        self.buffer = buffer;
        self.write(END.get(..padding(size)).unwrap_or_default())
    }
}

fn write_error(err: std::io::Error) -> Error {
    Error::from(err).context("writing the layer")
}

impl Sink for LayerWriter<'_> {
    fn object(&mut self, object: &Object<'_>) -> Result<()> {
        let last = object.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if aufs::is_reserved(last) {
            let text = format!("{}: a layer cannot hold this name", printable(object.path));
            return Err(Error::new(Errno::EINVAL, text));
        }
        let stat = &object.stat;
        let (kind, link) = match (self.first_path(object), object.kind()) {
            (Some(first), _) => (Kind::HardLink, first),
            (None, FileType::Regular) => (Kind::File, Vec::new()),
            (None, FileType::Directory) => (Kind::Directory, Vec::new()),
            (None, FileType::Symlink) => (Kind::Symlink, object.target()?),
            (None, FileType::CharDevice) => (Kind::CharDevice, Vec::new()),
            (None, FileType::BlockDevice) => (Kind::BlockDevice, Vec::new()),
            (None, FileType::Fifo) => (Kind::Fifo, Vec::new()),
            (None, FileType::Socket) => {
                self.skipped(object.path, "a socket");
                return Ok(());
            }
        };
        let path = match (object.kind().is_dir(), object.path) {
            (true, b"") => b"./".to_vec(),
            (true, path) => [path, b"/"].concat(),
            (false, path) => path.to_vec(),
        };
        let is_link = kind == Kind::HardLink;
        let owner = object.owner()?;
        let entry = Entry {
            path,
            kind,
            mode: stat.permissions(),
            uid: owner.uid,
            gid: owner.gid,
            mtime: self.mtime(stat),
            size: if kind == Kind::File { stat.size } else { 0 },
            link,
            device: (libc::major(stat.rdev), libc::minor(stat.rdev)),
            xattrs: if is_link { Attributes::new() } else { object.xattrs()? },
        };
        let header = entry.encode().context(|| printable(object.path))?;
        self.counts.entries += 1;
        (self.progress)(object.path, 0);
        self.write(&header)?;
        if kind == Kind::File { self.data(object) } else { Ok(()) }
    }

    fn whiteout(&mut self, dir: &[u8], name: &[u8]) -> Result<()> {
        self.marker(dir, &aufs::whiteout_of(name))
    }

    fn opaque(&mut self, dir: &[u8]) -> Result<()> {
        self.marker(dir, aufs::OPAQUE)
    }

    fn skipped(&mut self, path: &[u8], why: &str) {
        self.counts.skipped += 1;
        tracing::warn!("{} is left out: {why}", printable(path));
    }
}
