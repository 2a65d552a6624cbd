//! What outlives a node so that a file handle finds it again (`nfs_export=on`).
//!
//! The handle that name_to_handle_at(2) gives out on a FUSE mount is the number of a node and its
//! generation (`fuse_encode_fh`, fs/fuse/inode.c). Who opens one of an object that the kernel has
//! forgotten makes it look up `.` of that number. So what has been told to the kernel is noted here
//! for as long as the mount lives: under which names, and which generation.

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

/// How many forgotten objects are remembered. One takes some 150 bytes and its name; this many, 160
/// MB, are more than a large root file system has.
const MOST: usize = 1 << 20;

/// A name of an object that was forgotten.
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
    /// As they were when the node went.
    names: SmallVec<[Called; 1]>,
    /// It is in the queue.
    queued: bool,
}

/// The objects that handles can be of.
#[derive(Debug)]
pub struct Exports {
    known: DashMap<NodeId, Known, FxBuildHasher>,
    next_generation: AtomicU32,
    /// Forgotten objects, the oldest first. Some may be known to the kernel again.
    forgotten: Mutex<VecDeque<NodeId>>,
    most: usize,
}

impl Exports {
    /// For a mount. Generations begin anywhere, so that a handle of an earlier mount of the same
    /// layers hardly ever means anything in this one.
    pub fn new() -> Self {
        let random = RandomState::new().build_hasher().finish();
        Self::with(u32::try_from(random >> u32::BITS).unwrap_or(0), MOST)
    }

    fn with(first: u32, most: usize) -> Self {
        let (known, forgotten) = (DashMap::default(), Mutex::default());
        Self { known, next_generation: AtomicU32::new(first), forgotten, most }
    }

    /// Notes that the kernel is told of an object. Called with the number locked in the table.
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

    /// Whether the number is that of a forgotten object, and what stands at this name is another.
    pub fn is_of_another(&self, id: NodeId, identity: Key, parent: NodeId, name: &[u8]) -> bool {
        self.known.get(&id).is_some_and(|known| {
            let is_name = |called: &Called| called.parent == parent && *called.name == *name;
            known.identity != identity && !known.names.iter().any(is_name)
        })
    }

    /// Notes that an object is elsewhere now.
    pub fn copied_up(&self, id: NodeId, identity: Key) {
        if let Some(mut known) = self.known.get_mut(&id) {
            known.identity = identity;
        }
    }

    /// Whether handles of this number may be about.
    pub fn has(&self, id: NodeId) -> bool {
        self.known.contains_key(&id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Names of a forgotten object.
    pub fn names(&self, id: NodeId) -> SmallVec<[Called; 1]> {
        self.known.get(&id).map(|known| known.names.clone()).unwrap_or_default()
    }

    /// Notes where a node stands that goes now. One without a name is gone for good. Called with
    /// the number locked in the table, of a node that nobody else holds: nothing is waited for.
    ///
    /// Says whether the object is remembered.
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

    /// Forgets an object for good if it is the one behind `identity`. Called with the number
    /// locked in the table.
    pub fn is_gone(&self, id: NodeId, identity: Key) {
        self.known.remove_if(&id, |_, known| known.identity == identity);
    }

    /// The one that was forgotten first, if there are too many.
    pub fn overdue(&self) -> Option<NodeId> {
        let mut forgotten = self.forgotten.lock();
        if forgotten.len() > self.most { forgotten.pop_front() } else { None }
    }

    /// Forgets an object that is overdue for good, unless the kernel knows it again. Called with
    /// the number locked in the table.
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
