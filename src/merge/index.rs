//! The merged index of a directory: every name in it, and which layers it comes from.
//!
//! Built from one listing of each layer, it answers an absent name with no system call and a
//! present one with one, however many layers there are. It also knows what decides about markers:
//! whether a lower has a name (so that its removal needs a whiteout) and whether the upper holds a
//! whiteout. The engine is the only writer of the upper, so the index can be kept true.

use smallvec::SmallVec;

use super::names::{self, NameMap};
use super::seen::Seen;
use super::stack::DirStack;
use crate::error::{Errno, Error, Result};
use crate::format::aufs::AufsName;
use crate::layer::LayerDir;
use crate::sys::dir::Entry as DirEntry;
use crate::sys::{FileType, Name};
use std::sync::Arc;

/// What the upper has under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InUpper {
    /// Nothing.
    Absent,
    /// An object.
    Object {
        /// Its type.
        kind: FileType,
        /// Its inode number.
        ino: u64,
        /// A whiteout file beside it cuts off what the lowers have.
        cut: bool,
    },
    /// A whiteout, in either form.
    Whiteout,
}

/// What the lowers have under a name, once their own whiteouts are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InLowers<'a> {
    /// Positions in [`DirStack::lowers`], topmost first: one for a file, all down to the first that
    /// is not a directory for a directory.
    pub levels: &'a [u16],
    /// Type and inode number of the topmost, for as long as the upper has nothing under the name.
    shown: Option<(FileType, u64)>,
}

impl InLowers<'_> {
    /// Inode number of the topmost, if it shows.
    #[must_use]
    pub fn ino(&self) -> Option<u64> {
        self.shown.map(|(_, ino)| ino)
    }
}

/// One name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// In the upper.
    pub upper: InUpper,
    /// Below.
    pub lowers: InLowers<'a>,
}

impl Entry<'_> {
    /// Whether any lower shows this name, so that removing it takes a whiteout.
    #[must_use]
    pub fn in_lowers(&self) -> bool {
        !self.lowers.levels.is_empty()
    }

    /// The type that the name shows, or `None` if it shows nothing.
    #[must_use]
    pub fn kind(&self) -> Option<FileType> {
        match self.upper {
            InUpper::Object { kind, .. } => Some(kind),
            InUpper::Whiteout => None,
            InUpper::Absent => self.lowers.shown.map(|(kind, _)| kind),
        }
    }
}

/// The names of one merged directory, in the order in which the layers list them: that a file was
/// copied up does not move it.
#[derive(Debug, Default)]
pub struct Index {
    entries: NameMap<Packed>,
    /// The levels of all names, one list behind the other.
    levels: Box<[u16]>,
    /// Of lowers that change.
    seen: Option<Box<Seen>>,
}

/// What is kept of an [`Entry`]. Only of what shows are type and inode number ever asked for; what
/// a lower has shows again under no name that was in the upper.
#[derive(Clone, Copy, Debug)]
struct Packed {
    ino: u64,
    /// Where its levels begin.
    first: u32,
    levels: u16,
    upper: Upper,
    kind: FileType,
}

/// A million names, three words each: what it takes is what it is for.
const _: () = assert!(size_of::<Packed>() == 16);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upper {
    Absent,
    Object { cut: bool },
    Whiteout,
}

impl Index {
    /// Lists all layers of `dir`.
    ///
    /// # Errors
    /// Any error of any layer: a listing is complete or it is an error.
    pub fn build(dir: &DirStack) -> Result<Self> {
        let seen = Seen::of(dir)?;
        let listed = Self::list(dir)?;
        Ok(Self { seen, ..listed })
    }

    /// Whether it may not be believed any more without another look.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.is_due())
    }

    /// Looks again whether the lowers are as they were; if so it may be believed for a while.
    ///
    /// # Errors
    /// What stat(2) says of any of them.
    pub fn is_still_true(&mut self, dir: &DirStack) -> Result<bool> {
        match &mut self.seen {
            Some(seen) => seen.is_still_true(dir),
            None => Ok(true),
        }
    }

    fn list(dir: &DirStack) -> Result<Self> {
        let mut building = Building::default();
        if let Some(upper) = &dir.upper
            && building.add_upper(upper.dir())?
        {
            return building.finish();
        }
        for (level, lower) in (0u16..).zip(dir.lowers.iter()) {
            if building.add_lower(lower.dir(), level)? {
                break;
            }
        }
        building.finish()
    }

    /// How many names it has, and how many bytes of memory it takes.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.entries.bytes() + size_of_val(&*self.levels))
    }

    /// An index of a few names, without listing the lowers: what it costs depends on how many
    /// names and layers there are, not on how much is in the directory.
    pub fn of_names<'a>(
        dir: &DirStack,
        names: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<Self> {
        let mut building = Building::default();
        if let Some(upper) = &dir.upper
            && building.add_upper(upper.dir())?
        {
            return building.finish();
        }
        for (level, lower) in (0u16..).zip(dir.lowers.iter()) {
            for name in names.clone() {
                building.probe_lower(lower.dir(), level, name)?;
            }
        }
        building.finish()
    }

    /// What is known of a name.
    #[must_use]
    pub fn get(&self, name: Name<'_>) -> Option<Entry<'_>> {
        self.entries.get(name.bytes()).map(|packed| self.unpack(packed))
    }

    /// Names and what they stand for, visible or not.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Entry<'_>)> {
        self.entries.iter().map(|(name, packed)| (name, self.unpack(packed)))
    }

    fn unpack(&self, packed: &Packed) -> Entry<'_> {
        let Packed { ino, kind, .. } = *packed;
        let upper = match packed.upper {
            Upper::Absent => InUpper::Absent,
            Upper::Object { cut } => InUpper::Object { kind, ino, cut },
            Upper::Whiteout => InUpper::Whiteout,
        };
        let levels = usize::try_from(packed.first)
            .ok()
            .and_then(|first| self.levels.get(first..)?.get(..usize::from(packed.levels)));
        let shown = (upper == InUpper::Absent).then_some((kind, ino));
        Entry { upper, lowers: InLowers { levels: levels.unwrap_or_default(), shown } }
    }

    /// How many names there are, hidden ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no names at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }

    /// Notes that the upper now has an object under this name. A directory made here hides what is
    /// below; one that was copied up does not, and that is seen from its own marks.
    pub fn put_upper(&mut self, name: Name<'_>, kind: FileType, ino: u64) {
        let upper = Upper::Object { cut: false };
        match self.entries.get_mut(name.bytes()) {
            Some(entry) => *entry = Packed { ino, upper, kind, ..*entry },
            None => {
                let entry = Packed { ino, first: 0, levels: 0, upper, kind };
                self.entries.insert(name.bytes(), entry);
            }
        }
    }

    /// Notes that the name shows nothing any more: a whiteout if a lower has it, else no trace.
    pub fn remove(&mut self, name: Name<'_>) {
        match self.entries.get_mut(name.bytes()) {
            Some(entry) if entry.levels > 0 => entry.upper = Upper::Whiteout,
            Some(_) => self.entries.remove(name.bytes()),
            None => {}
        }
    }
}

/// An entry while layers are being added.
struct Open {
    upper: InUpper,
    levels: SmallVec<[u16; 2]>,
    /// Type and inode number of the topmost of these.
    top: Option<(FileType, u64)>,
    /// May lower layers still add to it?
    open: bool,
}

#[derive(Default)]
struct Building {
    entries: NameMap<Open>,
}

impl Building {
    /// Changes the entry of a name.
    fn change(&mut self, name: &[u8], change: impl FnOnce(&mut Open)) -> Result<()> {
        if let Some(known) = self.entries.get_mut(name) {
            change(known);
            return Ok(());
        }
        if self.entries.len() >= names::MOST {
            return Err(Errno::EFBIG.into());
        }
        let levels = SmallVec::new();
        let mut new = Open { upper: InUpper::Absent, levels, top: None, open: true };
        change(&mut new);
        self.entries.insert(name, new);
        Ok(())
    }

    /// Returns whether the directory hides all that is below.
    fn add_upper(&mut self, dir: &Arc<LayerDir>) -> Result<bool> {
        let mut hidden = Vec::new();
        let mut opaque = false;
        dir.for_each(|found| {
            match dir.classify(found.name) {
                AufsName::Plain => {
                    let upper = match object(dir, &found)? {
                        Some(kind) => InUpper::Object { kind, ino: found.ino, cut: false },
                        None => InUpper::Whiteout,
                    };
                    self.change(found.name, |entry| entry.upper = upper)?;
                }
                AufsName::Whiteout(name) => hidden.push(Box::<[u8]>::from(name)),
                AufsName::Opaque => opaque = true,
                AufsName::Meta => {}
            }
            Ok(())
        })?;
        for name in hidden {
            self.change(&name, |entry| match &mut entry.upper {
                InUpper::Object { cut, .. } => *cut = true,
                other => *other = InUpper::Whiteout,
            })?;
        }
        Ok(opaque)
    }

    fn add_lower(&mut self, dir: &Arc<LayerDir>, level: u16) -> Result<bool> {
        let mut hidden = Vec::new();
        let mut opaque = false;
        dir.for_each(|found| {
            match dir.classify(found.name) {
                AufsName::Plain => {
                    let kind = object(dir, &found)?;
                    self.change(found.name, |entry| entry.add_lower(level, kind, found.ino))?;
                }
                AufsName::Whiteout(name) => hidden.push(Box::<[u8]>::from(name)),
                AufsName::Opaque => opaque = true,
                AufsName::Meta => {}
            }
            Ok(())
        })?;
        // After the layer's own entries: a whiteout hides what is below, not what is beside it.
        for name in hidden {
            self.change(&name, |entry| entry.open = false)?;
        }
        Ok(opaque)
    }

    /// What one lower has under one name. That no level is below an opaque one is known.
    fn probe_lower(&mut self, dir: &Arc<LayerDir>, level: u16, name: &[u8]) -> Result<()> {
        if dir.classify(name) != AufsName::Plain
            || self.entries.get(name).is_some_and(|known| !known.open)
        {
            return Ok(());
        }
        let checked = Name::new(name)?;
        if let Some(stat) = dir.stat_entry(checked)? {
            let kind = (!dir.is_whiteout(checked, &stat)?).then(|| stat.kind());
            self.change(name, |entry| entry.add_lower(level, kind, stat.ino))?;
        }
        if dir.has_whiteout_file(checked)? {
            self.change(name, |entry| entry.open = false)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Index> {
        let (mut entries, mut levels) = (NameMap::default(), Vec::new());
        for (name, open) in self.entries.iter() {
            let top = open.top;
            let (upper, shown) = match open.upper {
                InUpper::Absent => (Upper::Absent, top),
                InUpper::Object { kind, ino, cut } => (Upper::Object { cut }, Some((kind, ino))),
                // Nobody asks what it would be.
                InUpper::Whiteout => (Upper::Whiteout, top.or(Some((FileType::CharDevice, 0)))),
            };
            let Some((kind, ino)) = shown else { continue };
            let too_many = |_| Error::from(Errno::EFBIG);
            let first = u32::try_from(levels.len()).map_err(too_many)?;
            let count = u16::try_from(open.levels.len()).map_err(too_many)?;
            levels.extend_from_slice(&open.levels);
            entries.insert(name, Packed { ino, first, levels: count, upper, kind });
        }
        entries.shrink();
        Ok(Index { entries, levels: levels.into(), seen: None })
    }
}

impl Open {
    /// Adds what a lower has: an object of a kind, or (`None`) a whiteout.
    fn add_lower(&mut self, level: u16, kind: Option<FileType>, ino: u64) {
        if !self.open {
            return;
        }
        let is_dir = kind == Some(FileType::Directory);
        match kind {
            Some(kind) if self.top.is_none() => {
                self.top = Some((kind, ino));
                self.levels.push(level);
            }
            // A file below a directory is hidden by it, and hides what is below.
            Some(_) if is_dir => self.levels.push(level),
            _ => {}
        }
        self.open = is_dir;
    }
}

/// The type of an entry, or `None` if it is a whiteout.
pub(crate) fn object(dir: &Arc<LayerDir>, found: &DirEntry<'_>) -> Result<Option<FileType>> {
    match found.kind {
        Some(kind) if !dir.may_be_other(Some(kind)) => Ok(Some(kind)),
        _ => {
            let name = Name::new(found.name)?;
            match dir.stat_entry(name)? {
                Some(stat) if !dir.is_whiteout(name, &stat)? => Ok(Some(stat.kind())),
                _ => Ok(None),
            }
        }
    }
}
