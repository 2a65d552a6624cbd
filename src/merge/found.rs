//! The result of a lookup: the attributes of an object, and where it and its data are.

use std::os::fd::OwnedFd;

use super::key::Key;
use super::links::{self, Linked};
use super::stack::DirStack;
use crate::error::Result;
use crate::layer::LowerDir;
use crate::sys::{Name, Stat};

/// An object that a lookup has found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Effective attributes. Device and inode number are those of the topmost object.
    pub stat: Stat,
    /// The object that gives this one its number.
    pub origin: Key,
    /// Where the object is.
    pub what: What,
    /// Where its data is.
    pub data: Contents,
    /// The object is known to have no extended attributes that users see.
    pub no_xattrs: bool,
    /// This lookup has read its attributes, and there are none, so that it has no mark.
    pub no_marks: bool,
    /// Its entry in the index of hard links, if it has one.
    pub linked: Option<Box<Linked>>,
    /// For an object in a lower: whether its other names, if any, stand for it too.
    pub names: links::Names,
}

impl Found {
    /// An object with its own data, of which nothing else is known.
    #[must_use]
    pub fn new(stat: Stat, origin: Key, what: What) -> Self {
        let (data, names) = (Contents::Own, links::Names::One);
        Self { stat, origin, what, data, no_xattrs: false, no_marks: false, linked: None, names }
    }

    /// The identity of the object: in the upper its inode, elsewhere its origin.
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
    /// In the object itself.
    #[default]
    Own,
    /// In another file (metacopy).
    Elsewhere(Box<Source>),
    /// In another file that does not exist, or that the marks do not name. Reading gives EIO. An
    /// error that may pass never leads to this state.
    Missing,
}

/// A file of a lower that holds the data of another file.
#[derive(Clone, Debug)]
pub struct Source {
    /// The directory of the file.
    pub dir: LowerDir,
    /// The name of the file in that directory.
    pub name: Box<[u8]>,
}

impl Source {
    /// Opens the file to read it.
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
    /// A directory, with all parts that merge into it.
    Dir(DirStack),
    /// A non-directory in the upper.
    Upper,
    /// A non-directory in the upper that only the index of hard links has; the name is in a lower.
    Linked,
    /// A non-directory in this directory of a lower, under the name that was looked up.
    Lower(LowerDir),
}
