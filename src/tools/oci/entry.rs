//! What an archive says of one object: the same for who writes it and for who reads it.

use std::collections::BTreeMap;

use crate::id::Id;
use crate::sys::stat::Time;

/// What kind of entry it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; the data follows.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// One more name for an entry before.
    HardLink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

/// Names and values, in the order in which they are written.
pub type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// One entry, without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path in the layer, as it stands there; that of a directory ends with a slash where we write.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: Id,
    /// Group.
    pub gid: Id,
    /// Last change of the contents.
    pub mtime: Time,
    /// Length of the data that follows, in bytes.
    pub size: u64,
    /// Target of a link of either kind.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Attributes,
}

impl Entry {
    /// Something empty of nobody's, from 1970.
    #[must_use]
    pub fn new(path: Vec<u8>, kind: Kind) -> Self {
        Self {
            path,
            kind,
            mode: 0,
            uid: Id::ROOT,
            gid: Id::ROOT,
            mtime: Time::default(),
            size: 0,
            link: Vec::new(),
            device: (0, 0),
            xattrs: Attributes::new(),
        }
    }
}
