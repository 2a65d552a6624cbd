//! The place of a non-directory: its names, and the object behind them.
//!
//! Most nodes are files with one name and nothing special about them, and there may be millions. So
//! state that few of them need is kept apart.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::node::Node;
use crate::error::{Errno, Result};
use crate::layer::{Fd, LowerDir, PackedName};
use crate::merge::found::Contents;
use crate::merge::links::Linked;
use crate::sys::stat::Dev;

/// The names of an object, and the object behind them.
#[derive(Debug)]
pub struct Place {
    first: Option<Link>,
    /// The object itself.
    pub real: Real,
    rare: Option<Box<Rare>>,
}

/// State that most objects do not need.
#[derive(Debug, Default)]
struct Rare {
    /// All names but the first; there may be tens of thousands.
    others: BTreeSet<Link>,
    data: Contents,
    linked: Option<Box<Linked>>,
    /// Device and inode number of the lower file whose names the index keeps together.
    shared: Option<(u64, u64)>,
    /// When the object last lost a name and kept others.
    dropped: Option<Instant>,
}

/// One name of an object. Names that the upper has come first in the order.
#[derive(Clone)]
pub struct Link {
    /// The directory of the name.
    pub parent: Arc<Node>,
    /// The name in the directory, packed with the flag of [`Self::in_upper`].
    name: PackedName<bool>,
}

impl Link {
    /// The name `name` in `parent`. `in_upper` says whether the upper has this name, which it may
    /// lack even if it has the object.
    pub fn new(parent: &Arc<Node>, name: &[u8], in_upper: bool) -> Self {
        Self { parent: Arc::clone(parent), name: PackedName::new(name, in_upper) }
    }

    /// The name in the directory.
    pub fn name(&self) -> &[u8] {
        self.name.bytes()
    }

    /// Whether the upper has this name.
    pub fn in_upper(&self) -> bool {
        self.name.beside()
    }

    /// Whether this is the name `name` in `parent`.
    pub fn is(&self, parent: &Node, name: &[u8]) -> bool {
        self.parent.id == parent.id && self.name() == name
    }
}

impl Ord for Link {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |link: &Self| (!link.in_upper(), link.parent.id);
        key(self).cmp(&key(other)).then_with(|| self.name().cmp(other.name()))
    }
}

impl PartialOrd for Link {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Link {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Link {}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}/{}", self.parent.id, self.name().escape_ascii())
    }
}

/// Limit of the time from an answer to UNLINK or RENAME until the kernel has lowered its count.
const UNTIL_COUNTED: Duration = Duration::from_secs(1);

/// The object behind the names of a non-directory.
#[derive(Clone, Debug)]
pub enum Real {
    /// In the upper: under each link that says so, and in the index of hard links.
    Upper {
        /// Device number in the upper.
        dev: Dev,
        /// Inode number in the upper.
        ino: u64,
    },
    /// In a lower, under its first name.
    Lower {
        /// The directory of the lower.
        dir: LowerDir,
        /// Its size, which does not change there.
        size: Size,
    },
    /// An object that lost its last name, or never had one.
    Orphan(Box<Orphan>),
}

/// There may be millions of these (see [`Node`]).
const _: () = assert!(size_of::<Real>() == 16);

/// A size in bytes, if it fits in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u32);

impl Size {
    const UNKNOWN: u32 = u32::MAX;

    /// A size of so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(u32::try_from(bytes).unwrap_or(Self::UNKNOWN))
    }

    /// The size in bytes, if it is known.
    pub fn bytes(self) -> Option<u64> {
        (self.0 != Self::UNKNOWN).then_some(self.0.into())
    }
}

/// An object without a name.
#[derive(Clone, Debug)]
pub enum Orphan {
    /// In the upper, with device and inode number, kept by a descriptor. That of a regular file is
    /// open as far as the mode allows; that of any other object is `O_PATH`.
    Upper(Arc<Fd>, (u64, u64)),
    /// In this directory of a lower, which still has it under this name.
    Lower(LowerDir, Box<[u8]>),
}

impl Real {
    /// An object of the upper with this device and inode number.
    pub fn upper((dev, ino): (u64, u64)) -> Self {
        Self::Upper { dev: Dev::new(dev), ino }
    }

    /// An object of the upper without a name, kept by a descriptor.
    pub fn orphan(fd: Arc<Fd>, key: (u64, u64)) -> Self {
        Self::Orphan(Box::new(Orphan::Upper(fd, key)))
    }

    /// The descriptor of an object of the upper without a name.
    pub fn orphaned(&self) -> Option<&Arc<Fd>> {
        match self {
            Self::Orphan(orphan) => match &**orphan {
                Orphan::Upper(fd, _) => Some(fd),
                Orphan::Lower(..) => None,
            },
            _ => None,
        }
    }

    /// Its size, if it is known and cannot change.
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::Lower { size, .. } => size.bytes(),
            _ => None,
        }
    }

    /// Device and inode number in the upper, if it is there.
    pub fn upper_key(&self) -> Option<(u64, u64)> {
        match self {
            Self::Upper { dev, ino } => Some((dev.number(), *ino)),
            Self::Lower { .. } => None,
            Self::Orphan(orphan) => match &**orphan {
                Orphan::Upper(_, key) => Some(*key),
                Orphan::Lower(..) => None,
            },
        }
    }
}

impl Place {
    /// The place of an object with one known name, or with none.
    pub fn new(first: Option<Link>, real: Real, data: Contents) -> Self {
        let mut place = Self { first, real, rare: None };
        place.set_data(data);
        place
    }

    /// The known names; none once the last one is removed.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.first.iter().chain(self.rare.iter().flat_map(|rare| &rare.others))
    }

    /// The number of known names.
    pub fn known(&self) -> usize {
        let others = self.rare.as_ref().map_or(0, |rare| rare.others.len());
        others + usize::from(self.first.is_some())
    }

    /// Whether names other than this one are known.
    pub fn has_others(&self, parent: &Arc<Node>, name: &[u8]) -> bool {
        self.known() > usize::from(self.find(parent, name).is_some())
    }

    /// A name under which the upper has the object.
    pub fn upper_link(&self) -> Option<&Link> {
        self.first.as_ref().filter(|link| link.in_upper())
    }

    /// This name, if it is known.
    // Links are ordered by parts of them that do not change.
    #[allow(clippy::mutable_key_type)]
    pub fn find<'a>(&'a self, parent: &Arc<Node>, name: &[u8]) -> Option<&'a Link> {
        if let Some(first) = self.first.as_ref().filter(|link| link.is(parent, name)) {
            return Some(first);
        }
        let others = self.rare.as_ref().map(|rare| &rare.others)?;
        [true, false].iter().find_map(|at| others.get(&Link::new(parent, name, *at)))
    }

    /// The directory of the lower that has the object, and its name there; `None` for an object of
    /// the upper.
    ///
    /// # Errors
    /// ESTALE if the name is not known.
    pub fn in_lower(&self) -> Result<Option<(&LowerDir, &[u8])>> {
        match &self.real {
            Real::Lower { dir, .. } => {
                Ok(Some((dir, self.first.as_ref().map(Link::name).ok_or(Errno::ESTALE)?)))
            }
            Real::Orphan(orphan) => match &**orphan {
                Orphan::Lower(dir, name) => Ok(Some((dir, name))),
                Orphan::Upper(..) => Ok(None),
            },
            Real::Upper { .. } => Ok(None),
        }
    }

    /// Adds a name, or notes that the upper has it now. If the upper has any of the names, the
    /// first one is such a name.
    pub fn add(&mut self, link: Link) {
        match self.find(&link.parent, link.name()) {
            Some(known) if known.in_upper() || !link.in_upper() => return,
            Some(_) => self.remove(&link.parent, link.name()),
            None => {}
        }
        match &mut self.first {
            None => self.first = Some(link),
            Some(first) if link.in_upper() && !first.in_upper() => {
                let second = std::mem::replace(first, link);
                self.rare().others.insert(second);
            }
            Some(_) => {
                self.rare().others.insert(link);
            }
        }
    }

    /// Removes a name.
    pub fn remove(&mut self, parent: &Arc<Node>, name: &[u8]) {
        if self.first.take_if(|link| link.is(parent, name)).is_some() {
            self.first = self.rare.as_mut().and_then(|rare| rare.others.pop_first());
        } else if let Some(rare) = &mut self.rare {
            for in_upper in [true, false] {
                rare.others.remove(&Link::new(parent, name, in_upper));
            }
        }
    }

    /// Removes all names, and returns them.
    pub fn clear_links(&mut self) -> Vec<Link> {
        let others = self.rare.as_mut().map(|rare| std::mem::take(&mut rare.others));
        self.first.take().into_iter().chain(others.unwrap_or_default()).collect()
    }

    /// Where the data of the object is.
    pub fn data(&self) -> &Contents {
        self.rare.as_ref().map_or(&Contents::Own, |rare| &rare.data)
    }

    /// Whether the object holds its own data.
    pub fn has_own_data(&self) -> bool {
        matches!(self.data(), Contents::Own)
    }

    /// Notes where the data of the object is.
    pub fn set_data(&mut self, data: Contents) {
        if !matches!(data, Contents::Own) || self.rare.is_some() {
            self.rare().data = data;
        }
    }

    /// Notes that the object lost a name and kept others.
    pub fn note_dropped(&mut self) {
        self.rare().dropped = Some(Instant::now());
    }

    /// Notes that the kernel has counted all names that went.
    pub fn settle_dropped(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.dropped = None;
        }
    }

    /// Whether a name went that the kernel may not have counted yet.
    pub fn has_dropped(&self) -> bool {
        let dropped = self.rare.as_ref().and_then(|rare| rare.dropped);
        dropped.is_some_and(|at| at.elapsed() < UNTIL_COUNTED)
    }

    /// Device and inode number of the lower file whose names the index keeps together.
    pub fn shared(&self) -> Option<(u64, u64)> {
        self.rare.as_ref()?.shared
    }

    /// Notes that the index keeps the names of this lower file together.
    pub fn set_shared(&mut self, file: (u64, u64)) {
        self.rare().shared = Some(file);
    }

    /// The state of the object in the index of hard links.
    pub fn linked(&self) -> Option<&Linked> {
        self.rare.as_ref()?.linked.as_deref()
    }

    /// The state of the object in the index of hard links, to change it.
    pub fn linked_mut(&mut self) -> Option<&mut Linked> {
        self.rare.as_mut()?.linked.as_deref_mut()
    }

    /// Notes the state of the object in the index of hard links.
    pub fn set_linked(&mut self, linked: Box<Linked>) {
        self.rare().linked = Some(linked);
    }

    /// Takes out the state of the object in the index of hard links.
    pub fn take_linked(&mut self) -> Option<Box<Linked>> {
        self.rare.as_mut()?.linked.take()
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}
