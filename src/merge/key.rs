//! What tells an object of a layer from every other.

use crate::sys::Stat;

/// One object of one layer. The same inode may be met in two layers, as two objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Device number of the file system.
    pub dev: u64,
    /// Inode number there.
    pub ino: u64,
    /// Number of the layer: 0 is the upper.
    pub layer: u16,
}

impl Key {
    /// The object with these attributes.
    #[must_use]
    pub fn of(stat: &Stat, layer: u16) -> Self {
        Self { dev: stat.dev, ino: stat.ino, layer }
    }
}
