//! From the plain data of [`crate::transport`] to the types of [`crate::vfs`], and back.

use crate::transport::reply;
use crate::transport::request::{Header, SetAttr};
use crate::vfs::{Change, DirEntry, Entry, NodeId};

/// The node that a request is about.
pub fn node(header: &Header) -> NodeId {
    NodeId(header.node)
}

/// A change of attributes.
pub fn change(set: &SetAttr) -> Change {
    let SetAttr { mode, uid, gid, size, atime, mtime } = *set;
    Change { mode, uid, gid, size, atime, mtime }
}

/// A name with its node, for an answer.
pub fn entry(entry: &Entry) -> reply::Entry {
    reply::Entry { node: entry.node.0, generation: entry.generation, stat: entry.stat }
}

/// A name of a listing, for an answer.
pub fn dir_entry<'a>(entry: &DirEntry<'a>) -> reply::DirEntry<'a> {
    let DirEntry { name, number, kind, next } = *entry;
    reply::DirEntry { name, number, kind, next }
}
