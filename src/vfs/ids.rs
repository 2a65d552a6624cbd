//! Numbers for nodes.
//!
//! A node's number is what stat(2) shows as `st_ino`: the inode number of the object on its layer,
//! so that it stays over copy-up and remount. Objects of a second file system get a tag in the
//! upper byte. What does not fit, or is taken, gets a number from a range of its own, for the life
//! of the node.

use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

/// The number of a node, never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root of the mount, as FUSE fixes it (`FUSE_ROOT_ID`, linux/fuse.h).
    pub const ROOT: Self = Self(1);
}

/// Bits that are left for the number of an object; the upper byte tells the file system.
const OBJECT_BITS: u32 = 56;
/// Tag of numbers that stand for nothing on a disk.
const FREE_TAG: u64 = 0xff;

/// Gives out numbers.
#[derive(Debug, Default)]
pub struct Ids {
    /// Device number to tag, in the order in which they are met.
    tags: DashMap<u64, u64>,
    next_tag: AtomicU64,
    next_free: AtomicU64,
}

impl Ids {
    /// The number of the object `(device, inode)`, or `None` if it has to get a free one.
    pub fn of(&self, (dev, ino): (u64, u64)) -> Option<NodeId> {
        let tag = match self.tags.get(&dev) {
            Some(tag) => *tag,
            None => *self
                .tags
                .entry(dev)
                .or_insert_with(|| self.next_tag.fetch_add(1, Ordering::Relaxed)),
        };
        let number = tag << OBJECT_BITS | ino;
        let fits = tag < FREE_TAG && ino >> OBJECT_BITS == 0 && number > NodeId::ROOT.0;
        fits.then_some(NodeId(number))
    }

    /// A number that nothing else has.
    pub fn free(&self) -> NodeId {
        NodeId(FREE_TAG << OBJECT_BITS | self.next_free.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_apart() {
        let ids = Ids::default();
        assert_eq!(ids.of((5, 77)), Some(NodeId(77)));
        assert_eq!(ids.of((5, 1)), None, "the root's");
        assert_eq!(ids.of((5, 0)), None);
        let other = ids.of((6, 77)).unwrap();
        assert_ne!(other, NodeId(77));
        assert_eq!(ids.of((6, 77)), Some(other), "the same again");
        assert!(ids.of((6, 1)).is_some());
        assert_eq!(ids.of((5, u64::MAX)), None);
        assert_ne!(ids.free(), ids.free());
    }
}
