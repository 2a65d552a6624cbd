//! The engine: what a stack of layers looks like as one tree, and how it is changed.
//!
//! Functions here know layers and names. They know no inode numbers of the mount, no open files, no
//! FUSE, and they hold no locks: [`crate::vfs`] calls them with the directory in question locked.
//!
//! | changes a layer | by |
//! |---|---|
//! | [`create`] | building in work, or in place where one call does it all |
//! | [`copyup`] | building in work, then one rename |
//! | [`remove`] | one link or rename of a whiteout, or one unlink |
//! | [`rename`] | one renameat2, preceded by steps that leave the tree as it looks |
//! | [`attr`], [`xattr`] | calls on an object that is in the upper already |

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
