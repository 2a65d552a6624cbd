//! The merged index of a directory: all its names, and the layers that have them.
//!
//! The index is built from one listing of each layer. With it, an absent name takes no system call
//! and a file takes one, whatever the number of layers. A change learns from it whether a lower has
//! a name, so that its removal needs a whiteout, and whether the upper has a whiteout. Only this
//! process changes the upper, so the index can be kept true.

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

/// The state of a name in the upper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InUpper {
    /// Nothing is there.
    Absent,
    /// An object that is not a whiteout.
    Object {
        /// The type of the object.
        kind: FileType,
        /// The inode number of the object.
        ino: u64,
        /// A whiteout file beside the object hides what the lowers have.
        cut: bool,
    },
    /// A whiteout, in any form.
    Whiteout,
}

/// The lowers that show a name, once their own whiteouts are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InLowers<'a> {
    /// Positions in [`DirStack::lowers`], topmost first. A file has one position. A directory has
    /// all of them, down to the first object that is no directory.
    pub levels: &'a [u16],
    /// Type and inode number of the topmost object, as long as the upper has nothing at the name.
    shown: Option<(FileType, u64)>,
}

impl InLowers<'_> {
    /// Inode number of the topmost object, if it shows.
    #[must_use]
    pub fn ino(&self) -> Option<u64> {
        self.shown.map(|(_, ino)| ino)
    }
}

/// The layers that have one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The state of the name in the upper.
    pub upper: InUpper,
    /// The lowers that show the name.
    pub lowers: InLowers<'a>,
}

impl Entry<'_> {
    /// Whether a lower shows the name, so that its removal needs a whiteout.
    #[must_use]
    pub fn in_lowers(&self) -> bool {
        !self.lowers.levels.is_empty()
    }

    /// The type of the object that the name shows; `None` if it shows nothing.
    #[must_use]
    pub fn kind(&self) -> Option<FileType> {
        match self.upper {
            InUpper::Object { kind, .. } => Some(kind),
            InUpper::Whiteout => None,
            InUpper::Absent => self.lowers.shown.map(|(kind, _)| kind),
        }
    }
}

/// The names of one merged directory, in the order of the listings. A copy-up does not move a name.
#[derive(Debug, Default)]
pub struct Index {
    entries: NameMap<Packed>,
    /// The levels of all names, one list after the other.
    levels: Box<[u16]>,
    /// The state of the lowers when they were listed, if others may change them.
    seen: Option<Box<Seen>>,
}

/// The stored form of an [`Entry`]. One type and inode number are enough, as only those of the
/// object that shows are asked for. A lower never shows again under a name that was in the upper.
#[derive(Clone, Copy, Debug)]
struct Packed {
    ino: u64,
    /// The position of its first level in the list of levels.
    first: u32,
    levels: u16,
    upper: Upper,
    kind: FileType,
}

/// Two words, and one more for the span of the name: a directory may have a million names.
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
    /// Any error of any layer: a listing is complete, or it is an error.
    pub fn build(dir: &DirStack) -> Result<Self> {
        let seen = Seen::of(dir)?;
        let listed = Self::list(dir)?;
        Ok(Self { seen, ..listed })
    }

    /// Whether the lowers have to be looked at again before the index is used.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.is_due())
    }

    /// Looks whether the lowers are as they were. If so, the index may be used for a while.
    ///
    /// # Errors
    /// Those of stat(2) on a lower.
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

    /// The number of names, and the bytes of memory that the index takes.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.entries.bytes() + size_of_val(&*self.levels))
    }

    /// Builds an index of a few names. The upper is listed, but each lower is only asked for these
    /// names, so that the cost does not grow with the size of the lowers.
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

    /// The entry of a name.
    #[must_use]
    pub fn get(&self, name: Name<'_>) -> Option<Entry<'_>> {
        self.entries.get(name.bytes()).map(|packed| self.unpack(packed))
    }

    /// All names with their entries, including names that show nothing.
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

    /// The number of names, including names that show nothing.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the index has no names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }

    /// Notes that the upper now has an object under this name. The index does not say whether a
    /// directory hides the lowers (a new one) or merges with them (a copy): its marks do.
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

    /// Notes that the name shows nothing any more. It stays as a whiteout if a lower has it.
    pub fn remove(&mut self, name: Name<'_>) {
        match self.entries.get_mut(name.bytes()) {
            Some(entry) if entry.levels > 0 => entry.upper = Upper::Whiteout,
            Some(_) => self.entries.remove(name.bytes()),
            None => {}
        }
    }
}

/// An entry while the layers are listed.
struct Open {
    upper: InUpper,
    levels: SmallVec<[u16; 2]>,
    /// Type and inode number of the topmost of these levels.
    top: Option<(FileType, u64)>,
    /// Layers further down may still add to the entry.
    open: bool,
}

#[derive(Default)]
struct Building {
    entries: NameMap<Open>,
}

impl Building {
    /// Changes the entry of a name, made if it is missing. EFBIG if there are too many names.
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

    /// Adds the names of the upper. Returns whether a file in the directory makes it opaque.
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
        // The layer's own entries come first: a whiteout hides only what is below its layer.
        for name in hidden {
            self.change(&name, |entry| entry.open = false)?;
        }
        Ok(opaque)
    }

    /// Adds what one lower has under one name. The stack of the directory ends at an opaque one.
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
                // Nobody asks for the type, as no object shows.
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
    /// Adds an object of a lower by its type, or a whiteout (`None`).
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
            // A file below a directory does not show, and hides what is below it.
            Some(_) if is_dir => self.levels.push(level),
            _ => {}
        }
        self.open = is_dir;
    }
}

/// The type of an entry; `None` for a whiteout, or for an entry that has gone.
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
