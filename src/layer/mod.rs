//! The layers of a mount: directories that are only read, and the upper, which changes.
//!
//! A mount is made of a [`Stack`]. The type of a lower has no method that changes it. Only
//! [`Upper`] has mutating methods. A change that takes several steps is built in the work
//! directory, and published by one system call.

pub mod claim;
pub mod counters;
pub mod dir;
pub mod fdcache;
pub mod filesystems;
mod grants;
mod guard;
mod idmapped;
pub mod link_index;
pub mod marks;
pub mod name;
pub mod open;
pub mod overlap;
pub mod owner_storage;
pub mod staged;
pub mod upper;
pub mod work;

pub use counters::Counters;
pub use dir::{LayerDir, LowerDir, UpperDir};
pub use fdcache::{Fd, FdCache};
pub use filesystems::FileSystems;
pub use link_index::LinkIndex;
pub use name::PackedName;
pub use overlap::Traps;
pub use owner_storage::OwnerStorage;
pub use staged::{Over, Staged};
pub use upper::Upper;

/// The layers of one mount.
#[derive(Debug)]
pub struct Stack {
    /// Where changes go; `None` for a read-only mount.
    pub upper: Option<Upper>,
    /// Roots of the read-only layers, topmost first; never empty.
    pub lowers: Vec<LowerDir>,
    /// Roots of the data-only layers, in the order of the search. Their layer numbers follow those
    /// of the lowers.
    pub data_only: Vec<LowerDir>,
    /// The file systems that the layers lie on.
    pub filesystems: FileSystems,
    /// The upper and the work directory, if they lie in a lower.
    pub traps: Traps,
}
