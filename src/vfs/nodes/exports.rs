//! Facts that outlive a node, so that a file handle finds it again (`nfs_export=on`).
//!
//! The handle that name_to_handle_at(2) returns on a FUSE mount is the number of a node and its
//! generation (`fuse_encode_fh`, fs/fuse/inode.c). When the kernel has forgotten the object of a
//! handle that is opened, it looks up `.` of that number. So this table keeps the names and the
//! generation of each object that the kernel was told of, as long as the mount lives.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::ids::NodeId;
use super::node::Node;
use crate::merge::key::Key;

/// The most forgotten objects that are remembered. One takes some 150 bytes and its name. This many
/// take 160 MB, and are more than a large root file system has.
const MOST: usize = 1 << 20;

/// One name of a forgotten object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// The directory.
    pub parent: NodeId,
    /// The name in it.
    pub name: Box<[u8]>,
}

#[derive(Debug)]
struct Known {
    /// Differs between objects that get the same number one after the other.
    generation: u32,
    /// The object on its layer.
    identity: Key,
    /// Its names when the node was dropped.
    names: SmallVec<[Called; 1]>,
    /// Whether it is in the queue of forgotten objects.
    queued: bool,
}

/// The objects that file handles may refer to.
#[derive(Debug)]
pub struct Exports {
    known: DashMap<NodeId, Known, FxBuildHasher>,
    next_generation: AtomicU32,
    /// Forgotten objects, the oldest first. The kernel may know some of them again.
    forgotten: Mutex<VecDeque<NodeId>>,
    most: usize,
}

impl Exports {
    /// A table for one mount. Generations begin at a random number, so that a handle of an earlier
    /// mount of the same layers hardly ever means anything in this one.
    pub fn new() -> Self {
        let random = RandomState::new().build_hasher().finish();
        Self::with(u32::try_from(random >> u32::BITS).unwrap_or(0), MOST)
    }

    fn with(first: u32, most: usize) -> Self {
        let (known, forgotten) = (DashMap::default(), Mutex::default());
        Self { known, next_generation: AtomicU32::new(first), forgotten, most }
    }

    /// Notes that the kernel is told of an object. The caller holds the slot of the number.
    pub fn given_out(&self, id: NodeId, identity: Key) {
        self.known.entry(id).or_insert_with(|| Known {
            generation: self.next_generation.fetch_add(1, Ordering::Relaxed),
            identity,
            names: SmallVec::new(),
            queued: false,
        });
    }

    /// The generation of a number; 0 for the root, as the kernel has it.
    pub fn generation(&self, id: NodeId) -> u32 {
        self.known.get(&id).map_or(0, |known| known.generation)
    }

    /// Whether the number is that of a forgotten object, and the one at this name is another.
    pub fn is_of_another(&self, id: NodeId, identity: Key, parent: NodeId, name: &[u8]) -> bool {
        self.known.get(&id).is_some_and(|known| {
            let is_name = |called: &Called| called.parent == parent && *called.name == *name;
            known.identity != identity && !known.names.iter().any(is_name)
        })
    }

    /// Notes that the object of a number is now `identity`.
    pub fn copied_up(&self, id: NodeId, identity: Key) {
        if let Some(mut known) = self.known.get_mut(&id) {
            known.identity = identity;
        }
    }

    /// Whether there may be handles of this number.
    pub fn has(&self, id: NodeId) -> bool {
        self.known.contains_key(&id)
    }

    /// The number of objects in the table.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Names of a forgotten object.
    pub fn names(&self, id: NodeId) -> SmallVec<[Called; 1]> {
        self.known.get(&id).map(|known| known.names.clone()).unwrap_or_default()
    }

    /// Notes the names of a node that is about to be dropped. Returns whether it is remembered: an
    /// object without a name is gone for good.
    ///
    /// The caller holds the slot of the number, and nobody else the node. So this waits for
    /// nothing.
    pub fn leaves(&self, node: &Node) -> bool {
        let Slot::Occupied(mut known) = self.known.entry(node.id) else { return false };
        let names = names_of(node);
        if names.is_empty() {
            known.remove();
            return false;
        }
        let known = known.get_mut();
        known.names = names;
        if !known.queued {
            known.queued = true;
            self.forgotten.lock().push_back(node.id);
        }
        true
    }

    /// Forgets an object for good if its identity is `identity`. The caller holds the slot of the
    /// number.
    pub fn is_gone(&self, id: NodeId, identity: Key) {
        self.known.remove_if(&id, |_, known| known.identity == identity);
    }

    /// Takes out the object that was forgotten first, if too many are remembered.
    pub fn overdue(&self) -> Option<NodeId> {
        let mut forgotten = self.forgotten.lock();
        if forgotten.len() > self.most { forgotten.pop_front() } else { None }
    }

    /// Forgets an overdue object for good, unless the kernel knows it again. The caller holds the
    /// slot of the number.
    pub fn expire(&self, id: NodeId, is_live: bool) {
        if let Slot::Occupied(mut known) = self.known.entry(id) {
            if is_live {
                known.get_mut().queued = false;
            } else {
                known.remove();
            }
        }
    }
}

fn names_of(node: &Node) -> SmallVec<[Called; 1]> {
    let called =
        |link: &super::place::Link| Called { parent: link.parent.id, name: link.name().into() };
    match (node.dir(), node.as_leaf()) {
        (Ok(dir), _) => dir.link.read().iter().map(called).collect(),
        (_, Ok(leaf)) => leaf.place.read().links().map(called).collect(),
        _ => SmallVec::new(),
    }
}
