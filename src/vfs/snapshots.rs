//! Listings that are being read.
//!
//! No request tells when a directory is opened or closed: the kernel leaves them out, which spares
//! two requests for each directory that is listed. So each directory has one listing for all its
//! readers. A reader that begins makes a new one, in which every name of the last one keeps its
//! position. A reader in the middle goes on in the new one: it misses no name that stayed and sees
//! none twice.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::listing::Listing;
use super::nodes::ids::NodeId;
use super::nodes::node::Node;

/// Limit of listings that a reader may be in the middle of. If one was dropped, its reader goes on
/// in a new listing, at the same position.
const BEING_READ: Limit = Limit { bytes: 64 << 20, count: 4096 };

/// Limit of listings whose end a reader has seen. Another reader may be in the middle: the kernel
/// keeps listings as well, and asks again when something has changed.
const READ: Limit = Limit { bytes: 4 << 20, count: 256 };

/// How many entries of a queue may be without a listing before they are removed.
const SLACK: usize = 1024;

/// The turn in which a listing was begun: a later one is not older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Begun(u64);

/// Limits of the listings that are kept.
#[derive(Clone, Copy, Debug)]
struct Limit {
    bytes: usize,
    count: usize,
}

/// Listings, in the order in which they are dropped.
#[derive(Debug)]
struct Queue {
    limit: Limit,
    /// Directories, each with the turn in which it was put here.
    order: VecDeque<(NodeId, u64)>,
    bytes: usize,
    count: usize,
}

impl Queue {
    fn new(limit: Limit) -> Self {
        Self { limit, order: VecDeque::new(), bytes: 0, count: 0 }
    }

    fn is_too_long(&self) -> bool {
        (self.bytes > self.limit.bytes || self.count > self.limit.count) && self.count > 1
    }
}

/// The listing of one directory.
#[derive(Debug)]
struct Kept {
    /// Tells the directory from another one that gets the same number later.
    node: Weak<Node>,
    listing: Arc<Listing>,
    begun: Begun,
    /// A reader has seen the end. A reader in the middle needs the positions, and gets the names of
    /// a new listing.
    is_read: bool,
    turn: u64,
}

#[derive(Debug)]
struct All {
    by_node: FxHashMap<NodeId, Kept>,
    being_read: Queue,
    read: Queue,
    /// The last turn. Listings that begin and listings that are kept take one.
    next: u64,
}

/// All listings that are kept.
#[derive(Debug)]
pub struct Snapshots {
    all: Mutex<All>,
}

impl Default for Snapshots {
    fn default() -> Self {
        let (being_read, read) = (Queue::new(BEING_READ), Queue::new(READ));
        let by_node = FxHashMap::default();
        Self { all: Mutex::new(All { by_node, being_read, read, next: 0 }) }
    }
}

impl Snapshots {
    /// Takes a turn for a new listing, before the layers are listed.
    pub fn begin(&self) -> Begun {
        Begun(self.all.lock().next_turn())
    }

    /// Keeps a new listing and returns it; if a kept one was begun later, returns that.
    pub fn add(&self, node: &Arc<Node>, begun: Begun, mut listing: Listing) -> Arc<Listing> {
        loop {
            let before =
                self.all.lock().of(node).map(|kept| (kept.begun, Arc::clone(&kept.listing)));
            let before = match before {
                Some((later, newer)) if later > begun => return newer,
                Some((_, older)) => Some(older),
                None => None,
            };
            // Not under the lock, for which all other readers wait.
            listing.number(before.as_deref());
            let mut all = self.all.lock();
            let now = all.of(node).map(|kept| Arc::as_ptr(&kept.listing));
            if now == before.as_ref().map(Arc::as_ptr) {
                let listing = Arc::new(listing);
                all.put(node, begun, Arc::clone(&listing), false);
                return listing;
            }
        }
    }

    /// The listing of a directory, and whether a reader has seen its end.
    pub fn get(&self, node: &Arc<Node>) -> Option<(Arc<Listing>, bool)> {
        self.all.lock().of(node).map(|kept| (Arc::clone(&kept.listing), kept.is_read))
    }

    /// Notes that a reader has seen the end of the listing.
    pub fn finished(&self, node: &Arc<Node>) {
        let mut all = self.all.lock();
        let kept = all.of(node).filter(|kept| !kept.is_read);
        let Some((begun, listing)) = kept.map(|kept| (kept.begun, Arc::clone(&kept.listing)))
        else {
            return;
        };
        all.put(node, begun, listing, true);
    }
}

impl All {
    fn next_turn(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn of(&self, node: &Arc<Node>) -> Option<&Kept> {
        let kept = self.by_node.get(&node.id)?;
        std::ptr::eq(kept.node.as_ptr(), Arc::as_ptr(node)).then_some(kept)
    }

    fn put(&mut self, node: &Arc<Node>, begun: Begun, listing: Arc<Listing>, is_read: bool) {
        self.remove(node.id);
        let turn = self.next_turn();
        let queue = if is_read { &mut self.read } else { &mut self.being_read };
        queue.bytes += listing.bytes();
        queue.count += 1;
        queue.order.push_back((node.id, turn));
        let node_now = Arc::downgrade(node);
        let kept = Kept { node: node_now, listing, begun, is_read, turn };
        self.by_node.insert(node.id, kept);
        self.make_room(is_read);
    }

    fn remove(&mut self, id: NodeId) {
        let Some(kept) = self.by_node.remove(&id) else { return };
        let queue = if kept.is_read { &mut self.read } else { &mut self.being_read };
        queue.bytes -= kept.listing.bytes();
        queue.count -= 1;
    }

    fn make_room(&mut self, is_read: bool) {
        loop {
            let queue = if is_read { &mut self.read } else { &mut self.being_read };
            // A listing that was put elsewhere leaves its entry behind.
            let by_node = &self.by_node;
            let is_here = |id: NodeId, turn| by_node.get(&id).is_some_and(|it| it.turn == turn);
            if queue.order.len() > 2 * queue.count + SLACK {
                queue.order.retain(|(id, turn)| is_here(*id, *turn));
            }
            if !queue.is_too_long() {
                return;
            }
            let Some((id, turn)) = queue.order.pop_front() else { return };
            if is_here(id, turn) {
                self.remove(id);
            }
        }
    }
}
