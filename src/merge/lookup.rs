//! One name of a merged directory: what it stands for, and in which layers.

use std::sync::Arc;

use smallvec::SmallVec;

use super::index::{Entry, InUpper, Index};
use super::stack::{DirStack, MetaSource, lend};
use crate::error::Result;
use crate::format::aufs;
use crate::layer::{LayerDir, LowerDir, UpperDir};
use crate::sys::{FileType, Name, Stat};

/// What a name stands for.
#[derive(Debug)]
pub struct Found {
    /// Effective attributes; number and device are those of the topmost object.
    pub stat: Stat,
    /// Device and inode that the object gets its number from.
    pub origin: (u64, u64),
    /// Where it is.
    pub what: What,
}

/// Where an object is.
#[derive(Debug)]
pub enum What {
    /// A directory, with all that merges into it.
    Dir(DirStack),
    /// Something else, in the upper.
    Upper,
    /// Something else, in this directory of a lower, under the name that was looked up.
    Lower {
        /// The directory that holds it.
        dir: LowerDir,
        /// Position of the layer's directory in the stack of the parent.
        level: u16,
    },
}

/// Where to look for a name, topmost first.
struct Candidates {
    upper: bool,
    lowers: SmallVec<[u16; 2]>,
}

impl Candidates {
    fn of_entry(entry: &Entry) -> Self {
        let (upper, cut) = match entry.upper {
            InUpper::Absent => (false, false),
            InUpper::Object { kind, cut, .. } => (true, cut || !kind.is_dir()),
            InUpper::Whiteout => (false, true),
        };
        let lowers = if cut { SmallVec::new() } else { entry.lowers.levels.clone() };
        Self { upper, lowers }
    }

    /// In a directory of one layer there is only one place.
    fn single(dir: &DirStack) -> Self {
        let upper = dir.upper.is_some();
        Self { upper, lowers: if upper { SmallVec::new() } else { SmallVec::from_slice(&[0]) } }
    }
}

/// Looks up `name`. A directory that several layers merge into needs its index.
///
/// # Errors
/// Those of the layers; a name that shows nothing is `None`.
pub fn lookup(
    dir: &DirStack,
    index: Option<&Index>,
    name: Name<'_>,
    delegation: bool,
) -> Result<Option<Found>> {
    if aufs::is_reserved(name.bytes()) {
        return Ok(None);
    }
    let candidates = match index {
        Some(index) => match index.get(name) {
            Some(entry) => Candidates::of_entry(entry),
            None => return Ok(None),
        },
        None => Candidates::single(dir),
    };
    resolve(dir, name, &candidates, delegation)
}

fn resolve(
    dir: &DirStack,
    name: Name<'_>,
    candidates: &Candidates,
    delegation: bool,
) -> Result<Option<Found>> {
    let mut gathered = Gathered::new(delegation);
    let mut left = usize::from(candidates.upper) + candidates.lowers.len();
    if candidates.upper
        && let Some(upper) = &dir.upper
    {
        left -= 1;
        match upper.dir().stat_entry(name)? {
            None => return Ok(None),
            Some(stat) if stat.is_whiteout_device() => return Ok(None),
            Some(stat) if !stat.kind().is_dir() => return Ok(Some(other(stat, What::Upper))),
            Some(stat) => {
                gathered.upper = Some(upper.child(name, &stat));
                gathered.add(upper.dir(), name, stat, left > 0)?;
            }
        }
    }
    for &level in &candidates.lowers {
        if gathered.closed {
            break;
        }
        left -= 1;
        let Some(lower) = dir.lowers.get(usize::from(level)) else { break };
        match lower.dir().stat_entry(name)? {
            None => {}
            Some(stat) if stat.is_whiteout_device() => break,
            Some(stat) if stat.kind() == FileType::Directory => {
                gathered.lowers.push(lower.child(name, &stat));
                gathered.add(lower.dir(), name, stat, left > 0)?;
            }
            Some(stat) if gathered.top.is_none() => {
                return Ok(Some(other(stat, What::Lower { dir: lower.clone(), level })));
            }
            Some(_) => break,
        }
    }
    gathered.finish()
}

fn other(stat: Stat, what: What) -> Found {
    Found { stat, origin: (stat.dev, stat.ino), what }
}

/// The directories of one name, as they are found from the top down.
struct Gathered {
    delegation: bool,
    upper: Option<UpperDir>,
    lowers: Vec<LowerDir>,
    top: Option<Stat>,
    /// Attributes and position of the first directory that is not marked as delegating.
    source: Option<(Stat, MetaSource)>,
    closed: bool,
}

impl Gathered {
    fn new(delegation: bool) -> Self {
        let (upper, lowers, top, source) = (None, Vec::new(), None, None);
        Self { delegation, upper, lowers, top, source, closed: false }
    }

    /// Takes one directory in. Its marks are read only if they can mean something: opacity where
    /// something may follow, delegation as long as no source is known and this is not the only one.
    fn add(&mut self, above: &Arc<LayerDir>, name: Name<'_>, stat: Stat, more: bool) -> Result<()> {
        let first = self.top.is_none();
        let undecided = self.delegation && self.source.is_none() && (more || !first);
        let marks = if more || undecided { above.marks_of(name)? } else { Default::default() };
        self.top.get_or_insert(stat);
        if self.source.is_none() && !(undecided && marks.dirmeta_delegate) {
            let position = match self.lowers.len() {
                _ if first => MetaSource::Top,
                count => MetaSource::Lower(count - 1),
            };
            self.source = Some((stat, position));
        }
        if more {
            self.closed = marks.opaque || self.newest()?.has_aufs_opaque()?;
        }
        Ok(())
    }

    fn newest(&self) -> Result<&Arc<LayerDir>> {
        let newest = self.lowers.last().map(LowerDir::dir);
        newest
            .or(self.upper.as_ref().map(UpperDir::dir))
            .ok_or_else(|| crate::error::Errno::EIO.into())
    }

    fn finish(self) -> Result<Option<Found>> {
        let Some(top) = self.top else { return Ok(None) };
        let (stat, meta) = match self.source {
            None | Some((_, MetaSource::Top)) => (top, MetaSource::Top),
            Some((source, meta)) => (lend(&top, &source), meta),
        };
        let dir = DirStack { upper: self.upper, lowers: self.lowers.into(), meta };
        let origin = dir.origin()?;
        Ok(Some(Found { stat, origin, what: What::Dir(dir) }))
    }
}
