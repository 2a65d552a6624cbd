//! Names and values of the marks, as pure functions without system calls.
//!
//! Each mark has one module. src/docs/format.md lists what a layer may contain, and what the server
//! writes.

pub mod acl;
pub mod aufs;
pub mod capability;
pub mod dirmark;
pub mod idmap;
pub mod metacopy;
pub mod nlink;
pub mod origin;
pub mod overlay;
pub mod override_stat;
pub mod protattr;
pub mod redirect;
pub mod text;
