//! Numbers of nodes.
//!
//! The number of a node is what stat(2) shows as `st_ino`. It follows from the inode number of the
//! object on its layer and from the file system of the layer, so that it stays over copy-up and
//! remount. The option `xino` selects its form; the usual one is that of the kernel's overlayfs. If
//! the number does not fit or is taken, the node gets one from a separate range for its life.
//!
//! There is one exception: names of one lower file that are files of their own. Their nodes are
//! numbered by the names. They all show the number of that file, and after their copy-up that of
//! the copy.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use crate::config::Numbers;
use crate::layer::FileSystems;
use crate::merge::key::Key;

/// Takes the place of the layer in the key of a name.
const NAME: u16 = u16::MAX;
/// Takes the place of the layer in the key of a lower file that the index keeps together.
const SHARED: u16 = NAME - 1;

/// The number of a node, never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root of the mount, as FUSE fixes it (`FUSE_ROOT_ID`, linux/fuse.h).
    pub const ROOT: Self = Self(1);
}

/// The form of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// The inode number itself, on file system 0. With `others`, numbers of objects on other file
    /// systems have a tag in the upper byte.
    Plain { others: bool },
    /// The inode number in the lower bits, and the file system above bit `shift`. Bit `shift` is
    /// set in numbers that follow from no object (`ovl_map_dev_ino`, fs/overlayfs/inode.c).
    Tagged { shift: u32 },
    /// 32 bits: a small inode number of file system 0 as it is, and a hash of any other.
    Short,
}

/// The lowest bit of the tag of `Scheme::Plain`.
const TAG: u32 = 56;
/// The first tag of ours. Smaller ones occur in large inode numbers of file system 0.
const FIRST_TAG: u64 = 0x80;
/// The tag of names in `Scheme::Plain`.
const NAMES: u64 = 0xfe << TAG;
/// The tag of numbers that follow from no object, in `Scheme::Plain`.
const FREE: u64 = 0xff << TAG;
/// Set in numbers of names; in `Scheme::Tagged` besides bit `shift`.
const NAMED: u64 = 1 << 63;
/// Set in numbers of `Scheme::Short` that are hashes, or follow from no object.
const HASHED: u64 = 1 << 31;

/// The source of numbers.
#[derive(Debug)]
pub struct Ids {
    filesystems: FileSystems,
    scheme: Scheme,
    /// Devices of no layer's root, such as other subvolumes of btrfs, with numbers in the order in
    /// which they were met.
    strangers: DashMap<u64, u64>,
    next_stranger: AtomicU64,
    next_free: AtomicU64,
    /// A random key for the hashes of names: nobody can make names that get the same number.
    names: RandomState,
}

impl Ids {
    /// Numbers for the objects of these file systems.
    pub fn new(filesystems: FileSystems, numbers: Numbers) -> Self {
        let scheme = match numbers {
            Numbers::Short => Scheme::Short,
            Numbers::Tagged if !filesystems.is_single() => {
                Scheme::Tagged { shift: 64 - tag_bits(&filesystems) }
            }
            Numbers::Tagged => Scheme::Plain { others: true },
            Numbers::Plain => Scheme::Plain { others: false },
        };
        let next_stranger = AtomicU64::new(filesystems.count() as u64);
        let (strangers, next_free) = (DashMap::new(), AtomicU64::new(0));
        let names = RandomState::new();
        Self { filesystems, scheme, strangers, next_stranger, next_free, names }
    }

    /// The key of a name that is a file of its own, as long as the name stands for this object. Two
    /// names of one directory have the same key with a probability of 2^-64.
    pub fn key_of_name(&self, parent: NodeId, name: &[u8], object: (u64, u64)) -> Key {
        Key { dev: parent.0, ino: self.names.hash_one((name, object)), layer: NAME }
    }

    /// The key of a lower file that the index keeps together, in whichever layers it is.
    pub fn key_of_shared((dev, ino): (u64, u64)) -> Key {
        Key { dev, ino, layer: SHARED }
    }

    /// The number that follows from a key, or `None` if a free one is needed.
    pub fn of_key(&self, key: Key) -> Option<NodeId> {
        match key.layer {
            NAME => Some(self.as_name(self.names.hash_one((key.dev, key.ino)))),
            _ => self.of((key.dev, key.ino)),
        }
    }

    /// A number in the range of names.
    fn as_name(&self, number: u64) -> NodeId {
        NodeId(match self.scheme {
            Scheme::Plain { .. } => NAMES | number & !FREE,
            Scheme::Tagged { shift } => NAMED | 1 << shift | number,
            Scheme::Short => NAMED | number,
        })
    }

    /// Whether a number is in the range of names.
    fn is_of_name(&self, NodeId(id): NodeId) -> bool {
        match self.scheme {
            Scheme::Plain { .. } => id & FREE == NAMES,
            Scheme::Tagged { shift } => id & (NAMED | 1 << shift) == NAMED | 1 << shift,
            Scheme::Short => id & NAMED != 0,
        }
    }

    /// The number that users see for a node whose object is `(device, inode)` now. All names of one
    /// object show one number, even if none follows from its inode number.
    pub fn shown(&self, id: NodeId, object: (u64, u64)) -> u64 {
        if !self.is_of_name(id) {
            return id.0;
        }
        self.of(object).unwrap_or_else(|| self.as_name(self.names.hash_one(object))).0
    }

    /// The number of the file system on a device.
    fn file_system(&self, dev: u64) -> u64 {
        if let Some(known) = self.filesystems.number(dev) {
            return known;
        }
        if let Some(met) = self.strangers.get(&dev) {
            return *met;
        }
        let next = || self.next_stranger.fetch_add(1, Ordering::Relaxed);
        *self.strangers.entry(dev).or_insert_with(next)
    }

    /// The number that follows from the object `(device, inode)`, or `None` if a free one is
    /// needed.
    pub fn of(&self, (dev, ino): (u64, u64)) -> Option<NodeId> {
        let fs = self.file_system(dev);
        let tag = fs.saturating_add(FIRST_TAG - 1);
        let number = match self.scheme {
            Scheme::Plain { .. } if fs == 0 && ino < FIRST_TAG << TAG => ino,
            Scheme::Plain { others: true } if ino >> TAG == 0 && tag < NAMES >> TAG => {
                tag << TAG | ino
            }
            Scheme::Tagged { shift } if ino >> shift == 0 && fs < 1 << (63 - shift) => {
                fs << (shift + 1) | ino
            }
            Scheme::Short if fs == 0 && ino > NodeId::ROOT.0 && ino < HASHED => ino,
            Scheme::Short => HASHED | mix(fs << 56 ^ ino) & (HASHED - 1),
            Scheme::Plain { .. } | Scheme::Tagged { .. } => return None,
        };
        (number > NodeId::ROOT.0).then_some(NodeId(number))
    }

    /// A number that no object has, or with `Scheme::Short` hardly any. For the key of a name it is
    /// in the range of names.
    pub fn free(&self, key: Key) -> NodeId {
        let next = self.next_free.fetch_add(1, Ordering::Relaxed);
        if key.layer == NAME {
            return self.as_name(mix(next));
        }
        NodeId(match self.scheme {
            Scheme::Plain { .. } => FREE | next,
            Scheme::Tagged { shift } => 1 << shift | next,
            Scheme::Short => HASHED | mix(!next) & (HASHED - 1),
        })
    }

    /// The number that a listing shows for an object whose own number only a lookup finds. It is
    /// the largest one.
    pub fn unknown(&self) -> u64 {
        match self.scheme {
            Scheme::Short => u32::MAX.into(),
            _ => u64::MAX,
        }
    }
}

/// How many upper bits the kernel takes for the file system, with the one for free numbers: 32 if
/// no file system needs them, else as few as suffice (fs/overlayfs/super.c).
fn tag_bits(filesystems: &FileSystems) -> u32 {
    if filesystems.have_short_numbers() {
        return u32::BITS;
    }
    let others = u64::try_from(filesystems.count()).unwrap_or(u64::MAX).saturating_sub(1);
    others.max(1).ilog2() + 2
}

/// Spreads a number over 64 bits, without a random key (the finalizer of splitmix64).
fn mix(number: u64) -> u64 {
    let step = |n: u64, shift: u32, factor: u64| (n ^ n >> shift).wrapping_mul(factor);
    let n = step(number, 30, 0xbf58_476d_1ce4_e5b9);
    let n = step(n, 27, 0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::filesystems::FileSystem;

    const OBJECT: Key = Key { dev: 0, ino: 0, layer: 0 };

    fn ids(count: u64, short_numbers: bool, numbers: Numbers) -> Ids {
        let fs = |dev| FileSystem { dev, short_numbers, ..FileSystem::default() };
        Ids::new(FileSystems::new(Some(fs(0)), (1..count).map(fs)), numbers)
    }

    #[test]
    fn of_one_file_system_they_are_its_own() {
        let ids = ids(1, false, Numbers::Tagged);
        assert_eq!(ids.of((0, 77)), Some(NodeId(77)));
        assert_eq!(ids.of((0, 1)), None, "the root's");
        assert_eq!(ids.of((0, 0)), None);
        assert_eq!(ids.of((0, u64::MAX)), None, "too large");
        assert_eq!(ids.of((5, 77)), Some(NodeId(0x80 << 56 | 77)), "of no layer's root");
        assert_eq!(ids.of((6, 77)), Some(NodeId(0x81 << 56 | 77)));
        assert_ne!(ids.free(OBJECT), ids.free(OBJECT));
    }

    /// The expected numbers are those of Linux 6.18.
    #[test]
    fn of_several_they_are_tagged_as_the_kernel_does() {
        let long = ids(3, false, Numbers::Tagged);
        assert_eq!(long.of((0, 77)), Some(NodeId(77)));
        assert_eq!(long.of((1, 77)), Some(NodeId(1 << 62 | 77)));
        assert_eq!(long.of((2, 77)), Some(NodeId(2 << 62 | 77)));
        assert_eq!(long.of((1, 1 << 61)), None, "too large");
        assert_eq!(long.of((3, 77)), Some(NodeId(3 << 62 | 77)), "of no layer's root");
        assert_eq!(long.of((4, 77)), None, "no room");
        assert!(long.of((1, 1)).is_some());
        let short = ids(3, true, Numbers::Tagged);
        assert_eq!(short.of((2, 77)), Some(NodeId(2 << 33 | 77)));
        assert_eq!(short.free(OBJECT), NodeId(1 << 32));
    }

    #[test]
    fn without_tags_other_file_systems_have_none() {
        let ids = ids(2, true, Numbers::Plain);
        assert_eq!(ids.of((0, 77)), Some(NodeId(77)));
        assert_eq!(ids.of((1, 77)), None);
    }

    #[test]
    fn thirty_two_bits() {
        let ids = ids(2, false, Numbers::Short);
        assert_eq!(ids.of((0, 77)), Some(NodeId(77)));
        for object in [(0, 0), (0, 1), (1, 77), (0, u64::MAX), (0, 1 << 31), (1, 1 << 40)] {
            let number = ids.of(object).unwrap();
            assert!((1 << 31..1 << 32).contains(&number.0), "{object:?}: {number:?}");
            assert_eq!(ids.of(object), Some(number), "always the same");
        }
        assert_ne!(ids.of((1, 77)), ids.of((1, 78)));
        assert!(ids.free(OBJECT).0 < 1 << 32);
    }

    /// They show the number of their object, and take no number that another object has.
    #[test]
    fn names_that_are_files_of_their_own() {
        for numbers in [Numbers::Plain, Numbers::Tagged, Numbers::Short] {
            for (count, short) in [(1, false), (3, false), (3, true)] {
                let ids = ids(count, short, numbers);
                let key = ids.key_of_name(NodeId(5), b"name", (0, 77));
                assert_ne!(key, ids.key_of_name(NodeId(5), b"other", (0, 77)));
                assert_ne!(key, ids.key_of_name(NodeId(6), b"name", (0, 77)));
                assert_ne!(key, ids.key_of_name(NodeId(5), b"name", (0, 78)));
                let id = ids.of_key(key).unwrap();
                assert_eq!(ids.of_key(key), Some(id));
                for id in [id, ids.free(key)] {
                    assert!(ids.is_of_name(id), "{id:?}");
                    assert_eq!(ids.shown(id, (0, 77)), 77);
                }
                // Also if none follows from the inode number.
                let shown = [id, ids.free(key)].map(|id| ids.shown(id, (0, u64::MAX - 1)));
                assert_eq!(shown[0], shown[1], "one object, one number");
                assert_ne!(shown[0], ids.shown(id, (0, u64::MAX - 2)));
                let objects = (0..count).filter_map(|dev| ids.of((dev, 77)));
                for other in objects.chain([ids.free(OBJECT), NodeId::ROOT]) {
                    assert!(!ids.is_of_name(other), "{other:?}");
                    assert_eq!(ids.shown(other, (0, 78)), other.0);
                }
            }
        }
    }
}
