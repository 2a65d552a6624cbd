//! The objects that all layers have at a path, and what hides them ([`super::trace`] finds it).

use super::found::{Contents, Found, What};
use super::key::Key;
use super::signs::Signs;
use super::trace::Place;
use crate::error::{Error, Result};
use crate::sys::FileType;

/// The form of a whiteout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteout {
    /// A device 0:0.
    Device,
    /// An empty file with an attribute.
    Xattr,
    /// A file `.wh.NAME` beside the name.
    File,
}

/// The kind of a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A whiteout.
    Whiteout(Whiteout),
    /// An opaque directory: nothing below shows through it.
    Opaque,
    /// An object that nothing merges with: it, or the object below, is no directory.
    Object,
    /// A directory with a redirect, which goes on elsewhere in the layers below.
    Redirect,
}

/// The cause that hides an object, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Number of the layer.
    pub layer: u16,
    /// Path from the root of the layer. For a whiteout it is the name that is hidden.
    pub path: Vec<u8>,
    /// The kind of the cause.
    pub why: Why,
}

/// The role of an object of a layer in what shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// It is the object that shows.
    Shown,
    /// It merges with the objects above.
    Merged,
    /// It holds data of the object that shows.
    Data,
    /// It is a whiteout, which hides what is below.
    Whiteout(Whiteout),
    /// It does not show.
    Hidden(Cause),
}

/// The object of one layer.
#[derive(Clone, Debug)]
pub struct Level {
    /// Number of the layer.
    pub layer: u16,
    /// Path from the root of the layer.
    pub path: Vec<u8>,
    /// Type; `None` for a whiteout.
    pub kind: Option<FileType>,
    /// Its role in what shows.
    pub part: Part,
    /// Its marks.
    pub signs: Signs,
    /// The directory, to go on from it.
    pub(super) dir: Option<Place>,
}

/// The answer for one path.
#[derive(Debug)]
pub struct Which {
    /// The path in the mount.
    pub path: Vec<u8>,
    /// The object that shows, or the error that keeps it from being found.
    pub found: Result<Option<Found>>,
    /// The objects of the layers, topmost first.
    pub levels: Vec<Level>,
}

/// A summary of the object that shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its type.
    pub kind: FileType,
    /// The layer of its topmost object.
    pub layer: u16,
    /// Whether the object was copied up from below; `None` if nothing tells.
    pub copied_up: Option<bool>,
    /// The layer that lends owner, mode, times and attributes.
    pub metadata: u16,
    /// The layer that has the data of a file; `None` if no layer has it.
    pub data: Option<u16>,
    /// The object that gives this one its number.
    pub origin: Key,
    /// Link count in the mount.
    pub links: u32,
    /// It is in the index of hard links.
    pub indexed: bool,
}

impl Which {
    /// A summary of the object that shows.
    ///
    /// # Errors
    /// The error that keeps the object from being found.
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
                // Without a mark, the object may be a copy of the one that it hides, or a new one.
                let kind = Some(found.stat.kind());
                let may_be_copy = self.levels.iter().skip(1).any(|level| level.kind == kind);
                (!may_be_copy).then_some(false)
            }
        }
    }
}
