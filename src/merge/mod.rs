//! The engine: the tree that a stack of layers shows, and the changes of that tree.
//!
//! The functions know layers and names. They know no inode numbers of the mount, no open files and
//! no FUSE. They take none of the locks of the mount: [`crate::vfs`] takes those that a call needs.
//!
//! | module that changes a layer | how |
//! | |---|---|
//! | [`create`] | builds in the work directory, or makes in place what one call can make |
//! | [`copyup`] | builds in the work directory, then publishes by one rename |
//! | [`remove`] | one call that puts a whiteout there, or unlinks |
//! | [`rename`] | one renameat2, after steps that do not change what the tree shows |
//! | [`attr`], [`xattr`] | calls on an object that is already in the upper |

pub mod attr;
mod context;
pub mod copyup;
pub mod create;
pub mod descent;
pub mod found;
pub mod index;
pub mod key;
pub mod links;
pub mod lookup;
mod merging;
mod names;
pub mod owner;
pub mod remove;
pub mod rename;
mod seen;
pub mod signs;
pub mod stack;
pub mod subtree;
pub mod trace;
pub mod walk;
pub mod which;
pub mod xattr;

pub use context::LookupContext;
pub use found::{Found, What};
pub use index::Index;
pub use owner::Owners;
pub use stack::DirStack;
