//! The nodes that the client knows: the table of them by number, where each of them is, and the
//! locks of vfs in their order. Nothing here uses the rest of vfs.

pub mod exports;
pub mod ids;
mod known_protection;
pub mod locks;
pub mod node;
pub mod place;
mod shards;
pub mod table;
mod told;
