//! An entry of an archive, for writers and readers.

use std::collections::BTreeMap;

use crate::id::Id;
use crate::sys::stat::Time;

/// Type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, whose data follows.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Another name for an earlier entry.
    HardLink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

/// Names and values of attributes, in the order in which they are written.
pub type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// An entry, without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path in the layer. When written, that of a directory ends with a slash.
    pub path: Vec<u8>,
    /// Type of the object.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: Id,
    /// Group.
    pub gid: Id,
    /// Modification time.
    pub mtime: Time,
    /// Length of the data that follows, in bytes.
    pub size: u64,
    /// Target of a symbolic or hard link.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Attributes,
}

impl Entry {
    /// Creates an empty entry that belongs to root, with mode 0 and a time of 1970.
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
