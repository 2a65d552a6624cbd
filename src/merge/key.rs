//! The identity of an object of a layer.

use crate::sys::Stat;

/// The identity of one object of one layer. One inode in two layers counts as two objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Device number of the file system.
    pub dev: u64,
    /// Inode number in that file system.
    pub ino: u64,
    /// Number of the layer; 0 is the upper.
    pub layer: u16,
}

impl Key {
    /// The key of an object with these attributes.
    #[must_use]
    pub fn of(stat: &Stat, layer: u16) -> Self {
        Self { dev: stat.dev, ino: stat.ino, layer }
    }
}
