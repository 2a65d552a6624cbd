//! Why a path shows what it shows: what every layer has there, and what hides it. See
//! [`super::trace`] for how that is found out.

use super::found::{Contents, Found, What};
use super::key::Key;
use super::signs::Signs;
use super::trace::Place;
use crate::error::{Error, Result};
use crate::sys::FileType;

/// How a name is marked as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteout {
    /// A device 0:0.
    Device,
    /// An empty file with an attribute.
    Xattr,
    /// A file `.wh.NAME` beside the name.
    File,
}

/// What hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A whiteout.
    Whiteout(Whiteout),
    /// A directory that nothing below shows through.
    Opaque,
    /// Something that nothing merges with: either of the two is no directory.
    Object,
    /// A directory that goes on elsewhere in the layers below.
    Redirect,
}

/// What hides something, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Number of the layer.
    pub layer: u16,
    /// Path from its root. Of a whiteout, the name that it hides.
    pub path: Vec<u8>,
    /// What it is.
    pub why: Why,
}

/// What an object of a layer is for what shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// It is what shows.
    Shown,
    /// It merges with what is above.
    Merged,
    /// Data of what shows is in it.
    Data,
    /// It is a whiteout, which hides what is below.
    Whiteout(Whiteout),
    /// It does not show.
    Hidden(Cause),
}

/// What one layer has.
#[derive(Clone, Debug)]
pub struct Level {
    /// Number of the layer.
    pub layer: u16,
    /// Path from its root.
    pub path: Vec<u8>,
    /// Type; `None` for a whiteout.
    pub kind: Option<FileType>,
    /// What it is for what shows.
    pub part: Part,
    /// What its marks say.
    pub signs: Signs,
    /// To go on from, if it is a directory.
    pub(super) dir: Option<Place>,
}

/// All that there is to know of a path.
#[derive(Debug)]
pub struct Which {
    /// The path in the mount.
    pub path: Vec<u8>,
    /// What shows; an error where that cannot be told.
    pub found: Result<Option<Found>>,
    /// What the layers have, the topmost first.
    pub levels: Vec<Level>,
}

/// What shows, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its type.
    pub kind: FileType,
    /// The layer of its topmost object.
    pub layer: u16,
    /// Whether it came into the upper from below; `None` where nothing tells.
    pub copied_up: Option<bool>,
    /// The layer that lends owner, mode, times and attributes.
    pub metadata: u16,
    /// The layer that has the data of a file, `None` if none has.
    pub data: Option<u16>,
    /// The object that its number is of.
    pub origin: Key,
    /// Link count in the mount.
    pub links: u32,
    /// It is in the index of hard links.
    pub indexed: bool,
}

impl Which {
    /// What shows, in short.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub fn shown(&self) -> Result<Option<Shown>> {
        let found = match &self.found {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(err) => return Err(Error::clone(err)),
        };
        let layer = match &found.what {
            What::Dir(stack) => stack.top()?.layer(),
            What::Upper | What::Linked => 0,
            What::Lower(dir) => dir.dir().layer(),
        };
        let metadata = match &found.what {
            What::Dir(stack) => stack.meta_dir()?.layer(),
            _ => layer,
        };
        let data = match &found.data {
            Contents::Own => Some(layer),
            Contents::Elsewhere(source) => Some(source.dir.dir().layer()),
            Contents::Missing => None,
        };
        Ok(Some(Shown {
            kind: found.stat.kind(),
            layer,
            copied_up: self.copied_up(found),
            metadata,
            data,
            origin: found.origin,
            links: found.stat.nlink,
            indexed: found.linked.is_some(),
        }))
    }

    fn copied_up(&self, found: &Found) -> Option<bool> {
        match &found.what {
            What::Lower(_) => Some(false),
            What::Linked => Some(true),
            What::Dir(_) if self.path == b"/" => Some(false),
            What::Dir(stack) => Some(stack.upper.is_some() && !stack.lowers.is_empty()),
            What::Upper => {
                let marked = |level: &Level| level.signs.origin || level.signs.metacopy;
                if found.linked.is_some() || self.levels.first().is_some_and(marked) {
                    return Some(true);
                }
                // Without a mark it may be a copy of what it hides, or have taken its place.
                let kind = Some(found.stat.kind());
                let may_be_copy = self.levels.iter().skip(1).any(|level| level.kind == kind);
                (!may_be_copy).then_some(false)
            }
        }
    }
}
