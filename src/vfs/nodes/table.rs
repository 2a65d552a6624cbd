//! All nodes, by number.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::exports::{Called, Exports};
use super::ids::{Ids, NodeId};
use super::locks::{Alone, Lock4Meeting};
use super::node::Node;
use super::place::{Link, Place, Real, Size};
use super::shards::{Shards, Slot};
use crate::error::Result;
use crate::merge::key::Key;
use crate::merge::links::{Linked, Names};
use crate::merge::lookup::{Known, Sighted};
use crate::merge::{DirStack, Found, What};
use crate::sys::{OwnedWritable, Stat};

/// The nodes of a mount.
#[derive(Debug)]
pub struct Table {
    nodes: Shards,
    /// Numbers of nodes that do not follow from the object: a copy keeps the number of the lower
    /// object, and some numbers do not fit or are taken.
    aliases: DashMap<Key, NodeId, FxBuildHasher>,
    /// The keys of each node in `aliases`, to remove them.
    aliased: DashMap<NodeId, SmallVec<[Key; 1]>, FxBuildHasher>,
    ids: Ids,
    /// Held while the node of an object of the upper is looked for or made: its names may be looked
    /// up at the same time in several directories.
    meeting: [Lock4Meeting; MEETINGS],
    /// The objects of file handles, with `nfs_export`.
    exports: Option<Box<Exports>>,
    /// Nodes that linger: forgotten, but something still uses them.
    lingering: Mutex<Vec<NodeId>>,
    /// The number of nodes that went since memory was given back last.
    gone: AtomicUsize,
}

/// The number of nodes that go before memory is given back: 2 MiB, if they lie side by side. Giving
/// it back takes about a millisecond, in which other threads may have to wait for memory.
const MANY: usize = (2 << 20) / 128;

/// The number of locks: so many that threads seldom meet.
const MEETINGS: usize = 16;

/// The number of lingering nodes from which on they are looked at: seldom enough not to count.
const SWEEP: usize = 64;

impl Table {
    /// A table with the root in it.
    pub fn new(root: DirStack, ids: Ids, exports: Option<Exports>) -> Self {
        let nodes = Shards::default();
        let root = Arc::new(Node::directory(NodeId::ROOT, None, root));
        nodes.slot(NodeId::ROOT).put(root);
        let (aliases, aliased) = (DashMap::default(), DashMap::default());
        let exports = exports.map(Box::new);
        let (lingering, gone) = (Mutex::default(), AtomicUsize::new(0));
        let meeting = Default::default();
        Self { nodes, aliases, aliased, ids, meeting, exports, lingering, gone }
    }

    /// The node of a number.
    pub fn get(&self, id: NodeId) -> Option<Arc<Node>> {
        self.nodes.get(id)
    }

    /// Whether so many nodes went that memory can be given back. A second call returns false.
    pub fn has_slack(&self) -> bool {
        // Giving back takes longer the more nodes are left, so as many have to go.
        let many = |gone: usize| (gone >= MANY && gone >= self.len()).then_some(0);
        self.gone.fetch_update(Ordering::Relaxed, Ordering::Relaxed, many).is_ok()
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Calls `see` with each node. `see` must not wait for a lock: its holder may wait for the
    /// table.
    pub fn for_each(&self, see: impl FnMut(&Node)) {
        self.nodes.for_each(see);
    }

    /// The number of the node that an object of a layer has, or would have, if it is known already.
    pub fn id(&self, key: Key) -> Option<NodeId> {
        match self.aliases.get(&key) {
            Some(id) => Some(*id),
            None => self.ids.of_key(key),
        }
    }

    /// The number that users see for an object of a layer, if it has one already.
    pub fn number(&self, key: Key) -> Option<u64> {
        self.id(key).map(|id| self.ids.shown(id, (key.dev, key.ino)))
    }

    /// The number that users see for what a lookup found, if it has one already.
    pub fn number_of(&self, found: &Found) -> Option<u64> {
        let id = self.id_of(found, found.identity(), found.origin)?;
        Some(self.shown(id, &found.stat))
    }

    /// The number that users see for a node whose object has these attributes now.
    pub fn shown(&self, id: NodeId, stat: &Stat) -> u64 {
        self.ids.shown(id, (stat.dev, stat.ino))
    }

    /// The node of the object that an index has at a name, if it is known by that name.
    pub fn by_entry(&self, object: Key, parent: &Arc<Node>, name: &[u8]) -> Option<Held<'_>> {
        let is_it = |node: &Arc<Node>| node.is_called(parent, name);
        let of = |key| self.id(key).and_then(|id| self.get(id)).filter(is_it);
        let by_name = || of(self.ids.key_of_name(parent.id, name, (object.dev, object.ino)));
        let node = of(object).or_else(by_name)?;
        Some(Held { node, table: self })
    }

    /// The identity of the object behind a name, and the key that gives it its number.
    fn keys(&self, found: &Found, parent: NodeId, name: &[u8]) -> (Key, Key) {
        match found.names {
            Names::Apart => {
                let object = (found.origin.dev, found.origin.ino);
                let key = self.ids.key_of_name(parent, name, object);
                (key, key)
            }
            Names::Together => {
                let key = Ids::key_of_shared((found.origin.dev, found.origin.ino));
                let in_lower = matches!(found.what, What::Lower(_));
                (if in_lower { key } else { found.identity() }, key)
            }
            Names::One | Names::Fixed => (found.identity(), found.origin),
        }
    }

    /// The number of the node of what a lookup found: by the object, wherever it was found first,
    /// or else by the key that gives it its number.
    fn id_of(&self, found: &Found, identity: Key, origin: Key) -> Option<NodeId> {
        if let Some(id) = self.aliases.get(&identity) {
            return Some(*id);
        }
        let in_upper = matches!(found.what, What::Upper | What::Linked);
        let own = self.ids.of_key(identity).filter(|_| in_upper && identity != origin);
        let is_it = |node: Arc<Node>| {
            let key = node.as_leaf().ok().and_then(|leaf| leaf.place.read().real.upper_key());
            key == Some((identity.dev, identity.ino))
        };
        match own {
            Some(id) if self.get(id).is_some_and(is_it) => Some(id),
            _ => self.id(origin),
        }
    }

    /// Notes that a node is now in the upper, where its object has another key.
    pub fn copied_up(&self, node: &Node, key: Key) {
        if self.ids.of_key(key) != Some(node.id) {
            self.alias(key, node.id);
        }
        if let Some(exports) = &self.exports {
            exports.copied_up(node.id, key);
        }
    }

    fn alias(&self, key: Key, id: NodeId) {
        if self.aliases.insert(key, id) == Some(id) {
            return;
        }
        self.aliased.entry(id).or_default().push(key);
    }

    /// The node of what a lookup found under a name, made if it is not known. `lookups` are added
    /// to its count in the same step, so that no FORGET can come between.
    pub fn intern(&self, found: Found, parent: &Arc<Node>, name: &[u8], lookups: u64) -> Arc<Node> {
        let (identity, origin) = self.keys(&found, parent.id, name);
        let _alone = self.meet(&found);
        let follows = self.ids.of_key(identity);
        let id = self.id_of(&found, identity, origin).unwrap_or_else(|| self.ids.free(identity));
        let slot = self.settled_slot(id);
        match slot.node() {
            Some(known) if recognise(known, &found, parent, name) => {
                let known = Arc::clone(known);
                known.lookups.fetch_add(lookups, Ordering::Relaxed);
                self.given_out(id, identity, lookups);
                return known;
            }
            None if !self.is_of_another(id, identity, parent.id, name) => {
                if follows != Some(id) {
                    self.alias(identity, id);
                }
                self.alias_part(id, &found);
                return self.put(slot, build(id, found, parent, name), identity, lookups);
            }
            _ => drop(slot),
        }
        // Another object has the number: this node gets a free one for its life.
        let slot = self.free_slot(identity);
        let id = slot.id();
        self.alias(identity, id);
        self.alias_part(id, &found);
        self.put(slot, build(id, found, parent, name), identity, lookups)
    }

    fn meet(&self, found: &Found) -> Option<Alone<'_, 4>> {
        let in_upper = matches!(found.what, What::Upper | What::Linked);
        let at = usize::try_from(found.stat.ino).unwrap_or_default() % MEETINGS;
        self.meeting.get(at).filter(|_| in_upper).map(Lock4Meeting::lock)
    }

    /// Locks the slot of a number once nobody holds its node's place. A holder may wait for a
    /// layer, and must not hold up all nodes that share the lock of the slot.
    fn settled_slot(&self, id: NodeId) -> Slot<'_> {
        loop {
            let slot = self.nodes.slot(id);
            let is_locked =
                |node: &&Arc<Node>| node.as_leaf().is_ok_and(|leaf| leaf.place.is_locked());
            let Some(node) = slot.node().filter(is_locked).map(Arc::clone) else { return slot };
            drop(slot);
            if let Ok(leaf) = node.as_leaf() {
                drop(leaf.place.write());
            }
        }
    }

    fn alias_part(&self, id: NodeId, found: &Found) {
        if let What::Dir(DirStack { upper: Some(_), .. }) = &found.what {
            self.has_upper_part(id, Key::of(&found.stat, 0));
        }
    }

    /// Notes the part of a directory in the upper. The directory's number follows from another
    /// part, but lookups meet this one first.
    pub fn has_upper_part(&self, id: NodeId, part: Key) {
        if self.ids.of_key(part) != Some(id) {
            self.alias(part, id);
        }
    }

    fn put(&self, slot: Slot<'_>, node: Node, identity: Key, lookups: u64) -> Arc<Node> {
        let node = Arc::new(node);
        node.lookups.fetch_add(lookups, Ordering::Relaxed);
        self.given_out(node.id, identity, lookups);
        slot.put(Arc::clone(&node));
        node
    }

    /// The number that a listing shows for an object whose own number only a lookup finds.
    pub fn unknown_number(&self) -> u64 {
        self.ids.unknown()
    }

    /// Makes a node, looked up once, for a new file of the upper without a name.
    pub fn add_unnamed(&self, stat: &Stat, file: OwnedWritable) -> Arc<Node> {
        let key = Key { dev: stat.dev, ino: stat.ino, layer: 0 };
        self.is_new(key);
        let follows = self.ids.of_key(key).map(|id| self.nodes.slot(id));
        let slot = follows.filter(|slot| slot.node().is_none());
        let slot = slot.unwrap_or_else(|| {
            let slot = self.free_slot(key);
            self.alias(key, slot.id());
            slot
        });
        let real = Real::orphan(Arc::new(file.into()), (stat.dev, stat.ino));
        let node = Node::unnamed(slot.id(), real);
        self.put(slot, node, key, 1)
    }

    /// A number that no node has, with its place locked.
    fn free_slot(&self, key: Key) -> Slot<'_> {
        loop {
            let slot = self.nodes.slot(self.ids.free(key));
            if slot.node().is_none() {
                return slot;
            }
        }
    }

    /// Whether file handles have to outlive nodes.
    pub fn exports(&self) -> bool {
        self.exports.is_some()
    }

    /// The generation of a number; 0 unless file handles have to outlive nodes.
    pub fn generation(&self, id: NodeId) -> u32 {
        self.exports.as_ref().map_or(0, |exports| exports.generation(id))
    }

    /// Whether there may be a file handle of what a lookup found.
    pub fn remembers(&self, found: &Found, parent: NodeId, name: &[u8]) -> bool {
        let Some(exports) = &self.exports else { return false };
        let (identity, origin) = self.keys(found, parent, name);
        self.id_of(found, identity, origin).is_some_and(|id| exports.has(id))
    }

    /// The names of a forgotten object.
    pub fn names(&self, id: NodeId) -> SmallVec<[Called; 1]> {
        self.exports.as_ref().map(|exports| exports.names(id)).unwrap_or_default()
    }

    /// Upper bound of the number of forgotten objects.
    pub fn remembered(&self) -> usize {
        self.exports.as_ref().map_or(0, |exports| exports.len())
    }

    /// Notes that an object of the upper has just been made: the one that had its key is gone,
    /// whoever removed it.
    pub fn is_new(&self, key: Key) {
        if let Some(exports) = &self.exports
            && let Some(id) = self.ids.of_key(key)
        {
            let slot = self.nodes.slot(id);
            if slot.node().is_none() {
                exports.is_gone(id, key);
            }
        }
    }

    fn given_out(&self, id: NodeId, identity: Key, lookups: u64) {
        if let Some(exports) = self.exports.as_ref().filter(|_| lookups > 0) {
            exports.given_out(id, identity);
        }
    }

    fn is_of_another(&self, id: NodeId, identity: Key, parent: NodeId, name: &[u8]) -> bool {
        let Some(exports) = &self.exports else { return false };
        exports.is_of_another(id, identity, parent, name)
    }

    /// The node of a number, held during an operation.
    pub fn held(&self, id: NodeId) -> Option<Held<'_>> {
        Some(Held { node: self.get(id)?, table: self })
    }

    /// The node of what a lookup found, held during an operation.
    pub fn hold(&self, found: Found, parent: &Arc<Node>, name: &[u8]) -> Held<'_> {
        Held { node: self.intern(found, parent, name, 0), table: self }
    }

    /// The node of what a lookup found, if it is known.
    pub fn known(&self, found: &Found, parent: &Arc<Node>, name: &[u8]) -> Option<Arc<Node>> {
        let (identity, origin) = self.keys(found, parent.id, name);
        let node = self.get(self.id_of(found, identity, origin)?)?;
        recognise(&node, found, parent, name).then_some(node)
    }

    /// Takes back lookups, and drops the node if nobody uses it any more.
    pub fn forget(&self, id: NodeId, count: u64) {
        if id == NodeId::ROOT {
            return;
        }
        let Some(node) = self.get(id) else { return };
        let before = node.lookups.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |lookups| {
            Some(lookups.saturating_sub(count))
        });
        drop(node);
        if before.is_ok_and(|before| before <= count) && !self.drop_if_unused(id, 1) {
            self.linger(id);
        }
    }

    /// Drops a node that the kernel does not know and that at most `holders` hold, with the table.
    /// False if somebody else holds it, so that it has to be looked at again.
    fn drop_if_unused(&self, id: NodeId, holders: usize) -> bool {
        if id == NodeId::ROOT {
            return true;
        }
        let slot = self.nodes.slot(id);
        let Some(node) = slot.node() else { return true };
        if node.lookups.load(Ordering::Relaxed) > 0 {
            return true;
        }
        if Arc::strong_count(node) > holders {
            return false;
        }
        let remembered = self.exports.as_ref().is_some_and(|exports| exports.leaves(node));
        drop(slot.take());
        self.gone.fetch_add(1, Ordering::Relaxed);
        if remembered {
            self.expire();
        } else {
            self.remove_aliases(id);
        }
        true
    }

    fn remove_aliases(&self, id: NodeId) {
        if let Some((_, keys)) = self.aliased.remove(&id) {
            for key in keys {
                self.aliases.remove_if(&key, |_, alias| *alias == id);
            }
        }
    }

    /// Drops the objects that were forgotten first, if there are too many.
    fn expire(&self) {
        let Some(exports) = &self.exports else { return };
        while let Some(id) = exports.overdue() {
            let slot = self.nodes.slot(id);
            let is_live = slot.node().is_some();
            exports.expire(id, is_live);
            if !is_live {
                self.remove_aliases(id);
            }
        }
    }

    /// Notes a node that a child or a running operation uses, to look at it again later.
    fn linger(&self, id: NodeId) {
        let due = {
            let mut lingering = self.lingering.lock();
            lingering.push(id);
            if lingering.len() < SWEEP {
                return;
            }
            std::mem::take(&mut *lingering)
        };
        let kept: Vec<_> = due.into_iter().filter(|id| !self.drop_if_unused(*id, 1)).collect();
        self.lingering.lock().extend(kept);
    }
}

impl Table {
    /// What is known of the object that a lookup is at. It is still true: nobody changes a lower,
    /// and only we change the upper.
    pub fn known_of(&self, sighted: &Sighted<'_>) -> Result<Known> {
        let known = match sighted.is_dir() {
            true => self.known_dir(sighted.key()).map(Known::Dir),
            false if sighted.may_be_marked()? => self.known_unmarked(sighted.key()),
            false => None,
        };
        Ok(known.unwrap_or(Known::Nothing))
    }

    fn known_unmarked(&self, object: Key) -> Option<Known> {
        let node = self.get(self.id(object)?)?;
        // A thread that changes the place may call this, so it must not wait.
        let place = node.as_leaf().ok()?.place.try_read()?;
        let is_this = match &place.real {
            Real::Upper { .. } => {
                object.layer == 0 && place.real.upper_key() == Some((object.dev, object.ino))
            }
            Real::Lower { dir, .. } => dir.dir().layer() == object.layer,
            Real::Orphan { .. } => false,
        };
        let unmarked = place.has_own_data() && place.linked().is_none();
        let no_xattrs = node.no_xattrs.is_known();
        (is_this && unmarked).then_some(Known::Unmarked { no_xattrs })
    }

    fn known_dir(&self, part: Key) -> Option<DirStack> {
        let node = self.get(self.id(part)?)?;
        let dir = node.dir().ok()?;
        // As above. A directory without a name was removed.
        let link = dir.link.try_read()?;
        link.as_ref()?;
        Some(dir.stack.try_read()?.clone())
    }
}

/// A node that is held during an operation.
#[derive(Debug)]
pub struct Held<'a> {
    table: &'a Table,
    node: Arc<Node>,
}

impl Deref for Held<'_> {
    type Target = Arc<Node>;

    fn deref(&self) -> &Arc<Node> {
        &self.node
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // The table, and this one.
        const HOLDERS: usize = 2;
        if !self.table.drop_if_unused(self.node.id, HOLDERS) {
            self.table.linger(self.node.id);
        }
    }
}

fn build(id: NodeId, found: Found, parent: &Arc<Node>, name: &[u8]) -> Node {
    let (kind, no_xattrs) = (found.stat.kind(), found.no_xattrs);
    let in_upper = matches!(found.what, What::Upper);
    let linked = found.linked;
    // The inode tells all flags of an object that can carry no mark of ours.
    let is_told = found.no_marks || matches!(&found.what, What::Lower(_));
    let link = Link::new(parent, name, in_upper);
    let node = match found.what {
        What::Dir(stack) => Node::directory(id, Some(link), stack),
        What::Upper | What::Linked => {
            let key = (found.stat.dev, found.stat.ino);
            Node::leaf(id, kind, link, Real::upper(key), found.data)
        }
        What::Lower(dir) => {
            let size = Size::new(found.stat.size);
            Node::leaf(id, kind, link, Real::Lower { dir, size }, found.data)
        }
    };
    if let Ok(leaf) = node.as_leaf() {
        let mut place = leaf.place.write();
        if let Some(linked) = linked {
            place.set_linked(linked);
        }
        if found.names == Names::Together {
            place.set_shared((found.origin.dev, found.origin.ino));
        }
    }
    if is_told {
        node.protection.set(found.stat.protection);
    }
    if no_xattrs {
        node.no_xattrs.found_nothing(node.no_xattrs.begin());
    }
    node
}

/// Whether a known node is the object that a lookup found; if so, adds the name to it.
///
/// Names that the index keeps together lead to one node, also after a copy-up, and whichever layers
/// have the inode.
fn recognise(node: &Arc<Node>, found: &Found, parent: &Arc<Node>, name: &[u8]) -> bool {
    if node.kind() != found.stat.kind() {
        return false;
    }
    let Ok(leaf) = node.as_leaf() else { return is_same_dir(node, parent, name) };
    let mut place = leaf.place.write();
    let known = place.find(parent, name).is_some();
    let link = |in_upper| Link::new(parent, name, in_upper);
    match (&found.what, &place.real) {
        (What::Upper | What::Linked, real)
            if real.upper_key() == Some((found.stat.dev, found.stat.ino)) =>
        {
            let key = (found.stat.dev, found.stat.ino);
            place.add(link(matches!(found.what, What::Upper)));
            if found.names == Names::Together {
                place.set_shared((found.origin.dev, found.origin.ino));
            }
            learn(&mut place, found.linked.as_deref());
            if matches!(place.real, Real::Orphan(_)) {
                place.real = Real::upper(key);
            }
            true
        }
        // The layer is compared, because another one may show the same inode if lowers change.
        (What::Lower(_), Real::Lower { .. }) if known && leaf.layer == found.origin.layer => true,
        // Another name of a file whose names all stay as they are.
        (What::Lower(_), Real::Lower { .. }) if found.names == Names::Fixed => {
            place.add(link(false));
            true
        }
        // Another name of a file that may have been copied up under its first one.
        (What::Lower(_), Real::Lower { .. } | Real::Upper { .. }) => {
            let same = found.names == Names::Together
                && place.shared() == Some((found.origin.dev, found.origin.ino));
            if same {
                place.add(link(false));
                if let Some(linked) = place.linked_mut() {
                    linked.lower.get_or_insert(found.stat.nlink);
                }
            }
            same
        }
        _ => false,
    }
}

/// Takes over what a name tells of the index. The node knows the count better.
fn learn(place: &mut Place, found: Option<&Linked>) {
    let Some(found) = found else { return };
    match place.linked_mut() {
        Some(known) => known.lower = known.lower.or(found.lower),
        None => place.set_linked(Box::new(found.clone())),
    }
}

fn is_same_dir(node: &Arc<Node>, parent: &Arc<Node>, name: &[u8]) -> bool {
    let Ok(dir) = node.dir() else { return false };
    let link = dir.link.read();
    link.as_ref().is_some_and(|link| link.is(parent, name))
}
