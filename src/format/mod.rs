//! The bytes of the markers: names and values, pure functions, no system calls.
//!
//! Each marker has one owner here. What a layer may contain and what we write is in the format
//! page of the documentation.

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
