//! The merged index of a directory: every name in it, and which layers it comes from.
//!
//! Built from one listing of each layer, it answers an absent name with no system call and a
//! present one with one, however many layers there are. It also knows what decides about markers:
//! whether a lower has a name (so that its removal needs a whiteout) and whether the upper holds a
//! whiteout. The engine is the only writer of the upper, so the index can be kept true.

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::stack::DirStack;
use crate::error::Result;
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InLowers {
    /// Positions in [`DirStack::lowers`], topmost first: one for a file, all down to the first that
    /// is not a directory for a directory.
    pub levels: SmallVec<[u16; 2]>,
    /// Inode number of the topmost.
    pub ino: u64,
    /// Type of the topmost.
    pub kind: Option<FileType>,
}

/// One name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// In the upper.
    pub upper: InUpper,
    /// Below.
    pub lowers: InLowers,
}

impl Entry {
    fn nothing() -> Self {
        Self { upper: InUpper::Absent, lowers: InLowers::default() }
    }

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
            InUpper::Absent => self.lowers.kind,
        }
    }
}

/// The names of one merged directory, in the order in which the layers list them: that a file was
/// copied up does not move it.
#[derive(Debug, Default)]
pub struct Index {
    entries: Map<Entry>,
}

/// In the order in which names were added.
type Map<T> = IndexMap<Box<[u8]>, T, FxBuildHasher>;

impl Index {
    /// Lists all layers of `dir`.
    ///
    /// # Errors
    /// Any error of any layer: a listing is complete or it is an error.
    pub fn build(dir: &DirStack) -> Result<Self> {
        let mut building = Building::default();
        if let Some(upper) = &dir.upper
            && building.add_upper(upper.dir())?
        {
            return Ok(building.finish());
        }
        for (level, lower) in (0u16..).zip(dir.lowers.iter()) {
            if building.add_lower(lower.dir(), level)? {
                break;
            }
        }
        Ok(building.finish())
    }

    /// How many names it has, and about how many bytes of memory it takes: what the entries have in
    /// the table, with the eighth that it leaves free, and the names.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let entry = size_of::<(Box<[u8]>, Entry)>() + 1;
        let names: usize = self.entries.keys().map(|name| name.len()).sum();
        (self.entries.len(), self.entries.capacity() / 7 * 8 * entry + names)
    }

    /// The same for a few names, without listing the lowers: what it costs depends on how many
    /// names and layers there are, not on how much is in the directory.
    pub fn of_names<'a>(
        dir: &DirStack,
        names: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<Self> {
        let mut building = Building::default();
        if let Some(upper) = &dir.upper
            && building.add_upper(upper.dir())?
        {
            return Ok(building.finish());
        }
        for (level, lower) in (0u16..).zip(dir.lowers.iter()) {
            for name in names.clone() {
                building.probe_lower(lower.dir(), level, name)?;
            }
        }
        Ok(building.finish())
    }

    /// What is known of a name.
    #[must_use]
    pub fn get(&self, name: Name<'_>) -> Option<&Entry> {
        self.entries.get(name.bytes())
    }

    /// Names and what they stand for, visible or not.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.entries.iter().map(|(name, entry)| (&**name, entry))
    }

    /// How many names there are, hidden ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no names at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Notes that the upper now has an object under this name. A directory made here hides what is
    /// below; one that was copied up does not, and that is seen from its own marks.
    pub fn put_upper(&mut self, name: Name<'_>, kind: FileType, ino: u64) {
        let upper = InUpper::Object { kind, ino, cut: false };
        match self.entries.get_mut(name.bytes()) {
            Some(entry) => entry.upper = upper,
            None => {
                self.entries.insert(name.bytes().into(), Entry { upper, ..Entry::nothing() });
            }
        }
    }

    /// Notes that the name shows nothing any more: a whiteout if a lower has it, else no trace.
    pub fn remove(&mut self, name: Name<'_>) {
        let keep = self.entries.get(name.bytes()).is_some_and(Entry::in_lowers);
        if !keep {
            self.entries.swap_remove(name.bytes());
        } else if let Some(entry) = self.entries.get_mut(name.bytes()) {
            entry.upper = InUpper::Whiteout;
        }
    }
}

/// An entry while layers are being added: may lower layers still add to it?
struct Open {
    entry: Entry,
    open: bool,
}

#[derive(Default)]
struct Building {
    entries: Map<Open>,
}

impl Building {
    fn at(&mut self, name: &[u8]) -> &mut Open {
        // Looked up first, so that a name which is there is not copied.
        if !self.entries.contains_key(name) {
            self.entries.insert(name.into(), Open { entry: Entry::nothing(), open: true });
        }
        self.entries.entry(name.into()).or_insert(Open { entry: Entry::nothing(), open: true })
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
                    self.at(found.name).entry.upper = upper;
                }
                AufsName::Whiteout(name) => hidden.push(Box::<[u8]>::from(name)),
                AufsName::Opaque => opaque = true,
                AufsName::Meta => {}
            }
            Ok(())
        })?;
        for name in hidden {
            let entry = &mut self.at(&name).entry;
            match &mut entry.upper {
                InUpper::Object { cut, .. } => *cut = true,
                other => *other = InUpper::Whiteout,
            }
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
                    self.at(found.name).add_lower(level, kind, found.ino);
                }
                AufsName::Whiteout(name) => hidden.push(Box::<[u8]>::from(name)),
                AufsName::Opaque => opaque = true,
                AufsName::Meta => {}
            }
            Ok(())
        })?;
        // After the layer's own entries: a whiteout hides what is below, not what is beside it.
        for name in hidden {
            self.at(&name).open = false;
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
            self.at(name).add_lower(level, kind, stat.ino);
        }
        if dir.has_whiteout_file(checked)? {
            self.at(name).open = false;
        }
        Ok(())
    }

    fn finish(self) -> Index {
        let known = |entry: &Entry| entry.in_lowers() || entry.upper != InUpper::Absent;
        let entries = self.entries.into_iter().map(|(name, open)| (name, open.entry));
        Index { entries: entries.filter(|(_, entry)| known(entry)).collect() }
    }
}

impl Open {
    /// Adds what a lower has: an object of a kind, or (`None`) a whiteout.
    fn add_lower(&mut self, level: u16, kind: Option<FileType>, ino: u64) {
        if !self.open {
            return;
        }
        let is_dir = kind == Some(FileType::Directory);
        let lowers = &mut self.entry.lowers;
        match kind {
            None => {}
            Some(kind) if lowers.levels.is_empty() => {
                *lowers =
                    InLowers { levels: SmallVec::from_slice(&[level]), ino, kind: Some(kind) };
            }
            Some(_) if is_dir => lowers.levels.push(level),
            // A file below a directory is hidden by it, and hides what is below.
            Some(_) => {}
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
