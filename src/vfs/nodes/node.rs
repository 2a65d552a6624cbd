//! A node: one object of the merged tree, as long as the kernel or the server uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use smallvec::SmallVec;

use super::ids::NodeId;
use super::known_protection::KnownProtection;
use super::locks::{Lock2Gate, Lock3Names, Lock6Place, Lock7Link, Lock8Orphan, Lock9Stack};
use super::place::{Link, Place, Real};
use super::told::Told;
use crate::error::{Errno, Result};
use crate::layer::UpperDir;
use crate::layer::fdcache::{Closable, FdSlot};
use crate::merge::create::Inherit;
use crate::merge::found::Contents;
use crate::merge::{DirStack, Index};
use crate::sys::FileType;

/// One object of the merged tree.
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// How many lookups the kernel has not taken back by FORGET.
    pub lookups: AtomicU64,
    /// Whether it is known to have no extended attribute that users see.
    pub no_xattrs: NoXattrs,
    /// The changes that its inode flags forbid.
    pub protection: KnownProtection,
    /// It is known to have no set-id bits, which a write would clear.
    pub no_set_id: AtomicBool,
    /// It is known to have no file capabilities, which we would have to clear.
    pub no_capability: AtomicBool,
    /// Serialises its copy-ups.
    pub gate: Lock2Gate,
    body: Body,
}

/// Whether an object is known to have no extended attribute that users see.
///
/// The lowest bit says so. The others count changes, so that a look which a change has overtaken
/// does not set it.
#[derive(Debug, Default)]
pub struct NoXattrs(AtomicU32);

/// The count of changes when a look began.
#[derive(Clone, Copy, Debug)]
pub struct Look(u32);

impl NoXattrs {
    /// Whether the object is known to have none.
    pub fn is_known(&self) -> bool {
        self.0.load(Ordering::Acquire) & 1 == 1
    }

    /// Begins a look at the attributes.
    pub fn begin(&self) -> Look {
        Look(self.0.load(Ordering::Acquire))
    }

    /// Ends a look that found no attribute.
    pub fn found_nothing(&self, Look(then): Look) {
        // If this fails, something has changed meanwhile, and nothing is known.
        self.0.compare_exchange(then, then | 1, Ordering::AcqRel, Ordering::Acquire).ok();
    }

    /// Notes a change. It is called before the change and after it.
    pub fn changes(&self) {
        let next = |now: u32| Some(now.wrapping_add(2) & !1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok();
    }
}

enum Body {
    Dir(Box<Dir>),
    Leaf(Leaf),
}

/// The state that only a directory has.
pub struct Dir {
    /// Its name; `None` for the root and for a removed directory.
    pub link: Lock7Link,
    /// The directories of the layers that merge into it.
    pub stack: Lock9Stack,
    /// The lock of the directory, around what is known of its names.
    pub names: Lock3Names,
    /// The descriptor that keeps a removed directory usable.
    pub orphan: Lock8Orphan,
    /// Its part in the upper is known to have no marks of other programs.
    pub unified: AtomicBool,
    /// When the kernel was last told that its attributes changed as a side effect.
    pub told: Told,
}

/// What is known of the names in a directory.
#[derive(Debug, Default)]
pub struct Names {
    /// The index of a merged directory, built when first needed and kept true.
    pub index: Option<Index>,
    /// What new objects inherit, once it was read.
    pub inherit: Option<Inherit>,
    /// The directory was removed, and nothing can be made in it.
    pub dead: bool,
}

impl Names {
    /// What new objects inherit from the directory whose part in the upper is `upper_dir`. It is
    /// read once.
    pub fn inherited(&mut self, upper_dir: &UpperDir) -> Result<Inherit> {
        match self.inherit {
            Some(inherit) => Ok(inherit),
            None => Ok(*self.inherit.insert(Inherit::of(upper_dir)?)),
        }
    }
}

/// The state that only a non-directory has.
pub struct Leaf {
    /// Its type.
    pub kind: FileType,
    /// The layer in which it was first found; 0 for the upper.
    pub layer: u16,
    /// Its names, and the object behind them.
    pub place: Lock6Place,
    /// A descriptor to read it, or also to write it once it is in the upper.
    pub io: FdSlot,
    /// The number of open files that need the descriptor to stay open.
    pub pins: AtomicU32,
}

/// There may be millions of nodes. With the counts of an `Arc` and a word of the allocator one
/// takes 128 bytes; one byte more would make it 144.
const _: () = assert!(size_of::<Node>() <= 104);

impl Node {
    /// A node for a directory.
    pub fn directory(id: NodeId, link: Option<Link>, stack: DirStack) -> Self {
        let dir = Dir {
            link: Lock7Link::new(link),
            stack: Lock9Stack::new(stack),
            names: Lock3Names::default(),
            orphan: Lock8Orphan::default(),
            unified: AtomicBool::new(false),
            told: Told::default(),
        };
        Self::new(id, Body::Dir(Box::new(dir)))
    }

    /// A node for any other object.
    pub fn leaf(id: NodeId, kind: FileType, link: Link, real: Real, data: Contents) -> Self {
        Self::other(id, kind, Place::new(Some(link), real, data))
    }

    /// A node for a file without a name.
    pub fn unnamed(id: NodeId, real: Real) -> Self {
        Self::other(id, FileType::Regular, Place::new(None, real, Contents::Own))
    }

    fn other(id: NodeId, kind: FileType, place: Place) -> Self {
        let layer = match &place.real {
            Real::Lower { dir, .. } => dir.dir().layer(),
            _ => 0,
        };
        let leaf = Leaf {
            kind,
            layer,
            place: Lock6Place::new(place),
            io: FdSlot::default(),
            pins: AtomicU32::new(0),
        };
        Self::new(id, Body::Leaf(leaf))
    }

    fn new(id: NodeId, body: Body) -> Self {
        Self {
            id,
            lookups: AtomicU64::new(0),
            no_xattrs: NoXattrs::default(),
            protection: KnownProtection::default(),
            no_set_id: AtomicBool::new(false),
            no_capability: AtomicBool::new(false),
            gate: Lock2Gate::default(),
            body,
        }
    }

    /// The type of the object.
    pub fn kind(&self) -> FileType {
        match &self.body {
            Body::Dir(_) => FileType::Directory,
            Body::Leaf(leaf) => leaf.kind,
        }
    }

    /// Whether it can be reached from the root by a name.
    pub fn has_name(&self) -> bool {
        match &self.body {
            Body::Dir(dir) => self.id == NodeId::ROOT || dir.link.read().is_some(),
            Body::Leaf(leaf) => leaf.place.read().known() > 0,
        }
    }

    /// Whether it has this name.
    pub fn is_called(&self, parent: &Arc<Self>, name: &[u8]) -> bool {
        match &self.body {
            Body::Dir(dir) => dir.link.read().as_ref().is_some_and(|link| link.is(parent, name)),
            Body::Leaf(leaf) => leaf.place.read().find(parent, name).is_some(),
        }
    }

    /// The state of a directory.
    ///
    /// # Errors
    /// ENOTDIR for any other object.
    pub fn dir(&self) -> Result<&Dir> {
        match &self.body {
            Body::Dir(dir) => Ok(dir),
            Body::Leaf(_) => Err(Errno::ENOTDIR.into()),
        }
    }

    /// The state of a non-directory.
    ///
    /// # Errors
    /// EISDIR for a directory.
    pub fn as_leaf(&self) -> Result<&Leaf> {
        match &self.body {
            Body::Leaf(leaf) => Ok(leaf),
            Body::Dir(_) => Err(Errno::EISDIR.into()),
        }
    }

    /// Takes out the directories above, which keep a chain of nodes alive.
    fn take_parents(&mut self) -> SmallVec<[Arc<Node>; 1]> {
        match &mut self.body {
            Body::Dir(dir) => {
                dir.link.get_mut().take().map(|link| link.parent).into_iter().collect()
            }
            Body::Leaf(leaf) => {
                let links = leaf.place.get_mut().clear_links();
                links.into_iter().map(|link| link.parent).collect()
            }
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({}, {:?})", self.id.0, self.kind())
    }
}

impl Drop for Node {
    /// Drops a chain of directories in a loop, because a tree may be deeper than a stack.
    fn drop(&mut self) {
        let mut above = self.take_parents();
        while let Some(parent) = above.pop() {
            if let Some(mut parent) = Arc::into_inner(parent) {
                above.extend(parent.take_parents());
            }
        }
    }
}

impl Closable for Node {
    fn slot(&self) -> &FdSlot {
        // Directories have their descriptors in the layers, and never get into the cache from here.
        static NONE: std::sync::LazyLock<FdSlot> = std::sync::LazyLock::new(FdSlot::default);
        match &self.body {
            Body::Leaf(leaf) => &leaf.io,
            Body::Dir(_) => &NONE,
        }
    }

    fn pinned(&self) -> bool {
        matches!(&self.body, Body::Leaf(leaf) if leaf.pins.load(Ordering::Relaxed) > 0)
    }
}
