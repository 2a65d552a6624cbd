//! All nodes, by number; and, for what was copied up, by its place in the upper.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;

use super::ids::{Ids, NodeId};
use super::node::{Link, Node, Real};
use crate::merge::{DirStack, Found, What};

/// The nodes of a mount.
#[derive(Debug)]
pub struct Table {
    nodes: DashMap<NodeId, Arc<Node>, FxBuildHasher>,
    /// Numbers of nodes whose number is not that of their object in the upper.
    by_upper: DashMap<(u64, u64), NodeId, FxBuildHasher>,
    ids: Ids,
    /// Forgotten, but something still held on to them: looked at again later.
    lingering: Mutex<Vec<NodeId>>,
}

/// After how many forgets the lingering nodes are looked at: rare enough not to count.
const SWEEP: usize = 64;

impl Table {
    /// A table with the root in it.
    pub fn new(root: DirStack) -> Self {
        let nodes = DashMap::default();
        nodes.insert(NodeId::ROOT, Arc::new(Node::directory(NodeId::ROOT, None, root)));
        let (by_upper, ids) = (DashMap::default(), Ids::default());
        Self { nodes, by_upper, ids, lingering: Mutex::default() }
    }

    /// The node of a number.
    pub fn get(&self, id: NodeId) -> Option<Arc<Node>> {
        self.nodes.get(&id).map(|node| Arc::clone(&node))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The number that users see for an object on a layer, as far as it has one of its own.
    pub fn number(&self, key: (u64, u64), in_upper: bool) -> Option<NodeId> {
        if in_upper && let Some(id) = self.by_upper.get(&key) {
            return Some(*id);
        }
        self.ids.of(key)
    }

    /// Notes that a node is now in the upper under another number than its own.
    pub fn copied_up(&self, node: &Node, key: (u64, u64)) {
        if self.ids.of(key) != Some(node.id) {
            self.by_upper.insert(key, node.id);
        }
    }

    /// The node for what was found under a name; made if it is not known. `lookups` are added to
    /// its count in the same step, so that no forget can come between.
    pub fn intern(&self, found: Found, parent: &Arc<Node>, name: &[u8], lookups: u64) -> Arc<Node> {
        let in_upper = matches!(found.what, What::Upper);
        let key = if in_upper { (found.stat.dev, found.stat.ino) } else { found.origin };
        let link = |in_upper| Link { parent: Arc::clone(parent), name: name.into(), in_upper };
        let id = self.number(key, in_upper).unwrap_or_else(|| self.ids.free());
        match self.nodes.entry(id) {
            Slot::Occupied(known) if recognise(known.get(), &found, parent, name) => {
                known.get().lookups.fetch_add(lookups, Ordering::Relaxed);
                return Arc::clone(known.get());
            }
            Slot::Occupied(_) => {}
            Slot::Vacant(free) => {
                let node = Arc::new(build(id, found, link(in_upper)));
                node.lookups.fetch_add(lookups, Ordering::Relaxed);
                return Arc::clone(&free.insert(node));
            }
        }
        // Taken by another object: a number for the life of this node.
        let id = self.ids.free();
        if in_upper {
            self.by_upper.insert(key, id);
        }
        let node = Arc::new(build(id, found, link(in_upper)));
        node.lookups.fetch_add(lookups, Ordering::Relaxed);
        self.nodes.insert(id, Arc::clone(&node));
        node
    }

    /// The node of what was found, if there is one.
    pub fn known(&self, found: &Found, parent: &Arc<Node>, name: &[u8]) -> Option<Arc<Node>> {
        let in_upper = matches!(found.what, What::Upper);
        let key = if in_upper { (found.stat.dev, found.stat.ino) } else { found.origin };
        let node = self.get(self.number(key, in_upper)?)?;
        recognise(&node, found, parent, name).then_some(node)
    }

    /// Takes lookups back; a node that nobody needs any more goes.
    pub fn forget(&self, id: NodeId, count: u64) {
        if id == NodeId::ROOT {
            return;
        }
        let Some(node) = self.get(id) else { return };
        let before = node.lookups.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |lookups| {
            Some(lookups.saturating_sub(count))
        });
        drop(node);
        if before.is_ok_and(|before| before <= count) {
            self.drop_if_unused(id);
        }
    }

    fn drop_if_unused(&self, id: NodeId) {
        let unused = |_: &NodeId, node: &Arc<Node>| {
            node.lookups.load(Ordering::Relaxed) == 0 && Arc::strong_count(node) == 1
        };
        match self.nodes.remove_if(&id, unused) {
            Some((_, node)) => self.forget_upper(&node),
            None => self.linger(id),
        }
    }

    fn forget_upper(&self, node: &Node) {
        let key = node.as_leaf().ok().and_then(|leaf| leaf.place.read().real.upper_key());
        if let Some(key) = key {
            self.by_upper.remove_if(&key, |_, id| *id == node.id);
        }
    }

    /// A child or a running operation holds on to the node: try again after some time.
    fn linger(&self, id: NodeId) {
        let due = {
            let mut lingering = self.lingering.lock();
            lingering.push(id);
            if lingering.len() < SWEEP {
                return;
            }
            std::mem::take(&mut *lingering)
        };
        let mut kept = Vec::new();
        for id in due {
            let Some(node) = self.get(id) else { continue };
            if node.lookups.load(Ordering::Relaxed) > 0 {
                continue;
            }
            drop(node);
            let unused = |_: &NodeId, node: &Arc<Node>| {
                node.lookups.load(Ordering::Relaxed) == 0 && Arc::strong_count(node) == 1
            };
            match self.nodes.remove_if(&id, unused) {
                Some((_, node)) => self.forget_upper(&node),
                None => kept.push(id),
            }
        }
        self.lingering.lock().extend(kept);
    }
}

fn build(id: NodeId, found: Found, link: Link) -> Node {
    let (kind, bare) = (found.stat.kind(), found.bare);
    let node = match found.what {
        What::Dir(stack) => Node::directory(id, Some(link), stack),
        What::Upper => {
            let key = (found.stat.dev, found.stat.ino);
            Node::leaf(id, kind, link, Real::Upper { key }, found.data)
        }
        What::Lower(dir) => {
            let name = link.name.clone();
            Node::leaf(id, kind, link, Real::Lower { dir, name }, found.data)
        }
    };
    node.bare.store(bare, Ordering::Relaxed);
    node
}

/// Whether a known node is the object that was found; if so it learns the name.
///
/// Names of one file in one lower are one node, also after a copy-up: that is what hard links are. The
/// same inode met in two layers (stores link equal files of different layers) is two objects.
fn recognise(node: &Arc<Node>, found: &Found, parent: &Arc<Node>, name: &[u8]) -> bool {
    if node.kind() != found.stat.kind() {
        return false;
    }
    let Ok(leaf) = node.as_leaf() else { return is_same_dir(node, parent, name) };
    let mut place = leaf.place.write();
    let known = place.position(parent, name).is_some();
    let link = |in_upper| Link { parent: Arc::clone(parent), name: name.into(), in_upper };
    match (&found.what, &place.real) {
        (What::Upper, real) if real.upper_key() == Some((found.stat.dev, found.stat.ino)) => {
            let key = (found.stat.dev, found.stat.ino);
            place.add(link(true));
            if matches!(place.real, Real::Orphan { .. }) {
                place.real = Real::Upper { key };
            }
            true
        }
        (What::Lower(_), Real::Lower { .. }) if known => true,
        // Another name of the same file, which may have been copied up under the first.
        (What::Lower(dir), Real::Lower { .. } | Real::Upper { .. }) => {
            let same = found.stat.nlink > 1 && dir.dir().layer() == leaf.layer;
            if same {
                place.add(link(false));
            }
            same
        }
        _ => false,
    }
}

fn is_same_dir(node: &Arc<Node>, parent: &Arc<Node>, name: &[u8]) -> bool {
    let Ok(dir) = node.dir() else { return false };
    let link = dir.link.read();
    link.as_ref().is_some_and(|link| link.parent.id == parent.id && *link.name == *name)
}
