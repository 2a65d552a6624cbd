//! Tools that work on layers without a mount.
//!
//! | tool | what it does |
//! |---|---|
//! | [`diff`](mod@diff) | makes an OCI layer of what an upper changes |
//! | [`apply`] | unpacks an OCI layer into a layer for an overlay |
//! | [`check`] | finds what is wrong with an upper, and repairs what is safe to |
//! | [`convert`] | rewrites the markers of a layer |
//!
//! [`diff`](mod@diff) and [`check`] read layers through [`crate::merge`], as a mount does, so that
//! a mark means the same to them. [`oci`] is the form of the archives.

pub mod apply;
pub mod check;
pub mod convert;
pub mod diff;
mod mounted;
pub mod oci;
mod paths;
pub mod views;
mod way;
