//! Nodes by number, in shards with a lock each. A shard is a hash table of pointers, which takes
//! half of what a map from numbers to pointers would.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use super::ids::NodeId;
use super::locks::{Lock5Nodes, WriteNodes};
use super::node::Node;

type Shard = HashTable<Arc<Node>>;

/// A table with room for so many times its nodes is replaced by a smaller one.
const TOO_LARGE: usize = 8;

/// All nodes of a mount.
#[derive(Debug)]
pub struct Shards {
    first: Lock5Nodes<Shard>,
    /// The other shards. With the first one, their number is a power of two.
    others: Box<[Lock5Nodes<Shard>]>,
}

/// The entry of one number in the table, with its shard locked.
pub struct Slot<'a> {
    shard: WriteNodes<'a, Shard>,
    id: NodeId,
}

impl Default for Shards {
    fn default() -> Self {
        // So many shards that threads seldom meet.
        const PER_PROCESSOR: usize = 4;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let others = (processors * PER_PROCESSOR).next_power_of_two() - 1;
        let others = std::iter::repeat_with(Lock5Nodes::default).take(others).collect();
        Self { first: Lock5Nodes::default(), others }
    }
}

impl Shards {
    fn shard(&self, id: NodeId) -> &Lock5Nodes<Shard> {
        // The hash table uses the highest and the lowest bits, so the shard depends on others.
        const BEHIND: u32 = 40;
        let place = (hash(id) >> BEHIND) as usize & self.others.len();
        place.checked_sub(1).and_then(|at| self.others.get(at)).unwrap_or(&self.first)
    }

    /// The node of a number.
    pub fn get(&self, id: NodeId) -> Option<Arc<Node>> {
        self.shard(id).read().find(hash(id), |node| node.id == id).cloned()
    }

    /// Locks the slot of a number. No other thread uses any slot of its shard meanwhile.
    pub fn slot(&self, id: NodeId) -> Slot<'_> {
        Slot { shard: self.shard(id).write(), id }
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.shards().map(|shard| shard.read().len()).sum()
    }

    /// Calls `see` with each node, while its shard is locked.
    pub fn for_each(&self, mut see: impl FnMut(&Node)) {
        for shard in self.shards() {
            shard.read().iter().for_each(|node| see(node));
        }
    }

    fn shards(&self) -> impl Iterator<Item = &Lock5Nodes<Shard>> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl Slot<'_> {
    /// The number.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The node in the slot.
    pub fn node(&self) -> Option<&Arc<Node>> {
        self.shard.find(hash(self.id), |node| node.id == self.id)
    }

    /// Puts a node in, and drops the one that was there.
    pub fn put(mut self, node: Arc<Node>) {
        drop(self.take_out());
        self.shard.insert_unique(hash(self.id), node, |node| hash(node.id));
    }

    /// Takes the node out. The caller drops it after the lock is released.
    pub fn take(mut self) -> Option<Arc<Node>> {
        self.take_out()
    }

    fn take_out(&mut self) -> Option<Arc<Node>> {
        let found = self.shard.find_entry(hash(self.id), |node| node.id == self.id).ok()?;
        let node = found.remove().0;
        let (used, room) = (self.shard.len(), self.shard.capacity());
        if used < room / TOO_LARGE {
            // Leaves room, so that the next few nodes do not make it grow again.
            self.shard.shrink_to(2 * used, |node| hash(node.id));
        }
        Some(node)
    }
}

fn hash(id: NodeId) -> u64 {
    FxBuildHasher.hash_one(id)
}

#[cfg(test)]
mod tests {
    use super::super::place::Real;
    use super::*;

    #[test]
    fn tables_shrink_with_what_is_in_them() {
        let nodes = Shards::default();
        let room = || nodes.shards().map(|shard| shard.read().capacity()).sum::<usize>();
        let put = |id| {
            let node = Node::unnamed(NodeId(id), Real::upper((1, id)));
            nodes.slot(NodeId(id)).put(Arc::new(node));
        };
        (2..20_000).for_each(put);
        assert!(room() >= 19_998, "{}", room());
        assert!((100..20_000).all(|id| nodes.slot(NodeId(id)).take().is_some()));
        assert!(room() < 4096, "{}", room());
        assert!((2..100).all(|id| nodes.get(NodeId(id)).is_some()));
        assert_eq!(nodes.len(), 98);
    }
}
