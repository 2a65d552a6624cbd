//! An object of the merged tree: its attributes, and where it and its data are.

use std::os::fd::OwnedFd;

use super::key::Key;
use super::links::{self, Linked};
use super::stack::DirStack;
use crate::error::Result;
use crate::layer::LowerDir;
use crate::sys::{Name, Stat};

/// What a name stands for.
#[derive(Clone, Debug)]
pub struct Found {
    /// Effective attributes; number and device are those of the topmost object.
    pub stat: Stat,
    /// The object that it gets its number from.
    pub origin: Key,
    /// Where it is.
    pub what: What,
    /// Where its data is.
    pub data: Contents,
    /// Known to have no extended attributes at all.
    pub no_xattrs: bool,
    /// Where it stands in the index of hard links.
    pub linked: Option<Box<Linked>>,
    /// If it is in a lower: whether its other names, if any, stand for it too.
    pub names: links::Names,
}

impl Found {
    /// With its data, and with nothing else to know of it.
    #[must_use]
    pub fn new(stat: Stat, origin: Key, what: What) -> Self {
        let (data, names) = (Contents::Own, links::Names::One);
        Self { stat, origin, what, data, no_xattrs: false, linked: None, names }
    }

    /// What tells the object from every other: in the upper the inode itself, elsewhere the origin.
    #[must_use]
    pub fn identity(&self) -> Key {
        match self.what {
            What::Upper | What::Linked => Key { dev: self.stat.dev, ino: self.stat.ino, layer: 0 },
            _ => self.origin,
        }
    }
}

/// Where the data of an object is.
#[derive(Clone, Debug, Default)]
pub enum Contents {
    /// With the rest of it.
    #[default]
    Own,
    /// In another file (metacopy).
    Elsewhere(Box<Source>),
    /// In another file, which is not there, or which the marks do not tell: reading is EIO. Never
    /// because of an error that may pass.
    Missing,
}

/// A file of a lower that holds the data of another.
#[derive(Clone, Debug)]
pub struct Source {
    /// The directory that holds it.
    pub dir: LowerDir,
    /// Its name there.
    pub name: Box<[u8]>,
}

impl Source {
    /// A descriptor to read it.
    ///
    /// # Errors
    /// Those of openat(2).
    pub fn open(&self) -> Result<OwnedFd> {
        self.dir.dir().open_to_read(Name::new(&self.name)?)
    }
}

/// Where an object is.
#[derive(Clone, Debug)]
pub enum What {
    /// A directory, with all that merges into it.
    Dir(DirStack),
    /// Something else, in the upper.
    Upper,
    /// Something else, in the upper, where only the index of hard links has it: the name is in a
    /// lower.
    Linked,
    /// Something else, in this directory of a lower, under the name that was looked up.
    Lower(LowerDir),
}
