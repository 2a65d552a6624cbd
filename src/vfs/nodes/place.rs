//! Where a non-directory is: its names, and what is behind them.
//!
//! Most nodes are files with one name and nothing special about them, and there may be millions:
//! what few of them need is kept apart.

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

/// Names of an object, and what is behind them.
#[derive(Debug)]
pub struct Place {
    first: Option<Link>,
    /// The object itself.
    pub real: Real,
    rare: Option<Box<Rare>>,
}

/// What most objects do not have.
#[derive(Debug, Default)]
struct Rare {
    /// Names but the first; there may be tens of thousands.
    others: BTreeSet<Link>,
    data: Contents,
    linked: Option<Box<Linked>>,
    /// Device and inode number of the lower file that the index keeps together.
    shared: Option<(u64, u64)>,
    /// When a name went last while others stayed.
    dropped: Option<Instant>,
}

/// One name. In their order those that the upper has come first.
#[derive(Clone)]
pub struct Link {
    /// The directory.
    pub parent: Arc<Node>,
    /// Beside it whether the upper has it.
    name: PackedName<bool>,
}

impl Link {
    /// The name `name` in `parent`. A name in a lower is not in the upper for as long as only
    /// another name of the same object is.
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

    /// Whether it is this name.
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

/// So long after the answer to UNLINK or RENAME at the latest the kernel has counted.
const UNTIL_COUNTED: Duration = Duration::from_secs(1);

/// Where a non-directory really is.
#[derive(Clone, Debug)]
pub enum Real {
    /// In the upper, under each link that says so and in the index of hard links.
    Upper {
        /// Device number there.
        dev: Dev,
        /// Inode number there.
        ino: u64,
    },
    /// In a lower, under its first name.
    Lower {
        /// The directory that holds it.
        dir: LowerDir,
        /// How long it is: it does not change there.
        size: Size,
    },
    /// It lost its last name, or never had one.
    Orphan(Box<Orphan>),
}

/// There may be millions of them (see [`Node`]).
const _: () = assert!(size_of::<Real>() == 16);

/// A size in bytes, as far as 32 bits hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u32);

impl Size {
    const UNKNOWN: u32 = u32::MAX;

    /// Of so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(u32::try_from(bytes).unwrap_or(Self::UNKNOWN))
    }

    /// How many bytes, if that is known.
    pub fn bytes(self) -> Option<u64> {
        (self.0 != Self::UNKNOWN).then_some(self.0.into())
    }
}

/// An object without a name.
#[derive(Clone, Debug)]
pub enum Orphan {
    /// In the upper, where a descriptor keeps it: readable and writable, or `O_PATH` for what is
    /// not a regular file. With its device and inode number there.
    Upper(Arc<Fd>, (u64, u64)),
    /// In this directory of a lower, which goes on to have it under this name.
    Lower(LowerDir, Box<[u8]>),
}

impl Real {
    /// In the upper, with this device and inode number.
    pub fn upper((dev, ino): (u64, u64)) -> Self {
        Self::Upper { dev: Dev::new(dev), ino }
    }

    /// In the upper, without a name, but with a descriptor.
    pub fn orphan(fd: Arc<Fd>, key: (u64, u64)) -> Self {
        Self::Orphan(Box::new(Orphan::Upper(fd, key)))
    }

    /// The descriptor of what is in the upper without a name.
    pub fn orphaned(&self) -> Option<&Arc<Fd>> {
        match self {
            Self::Orphan(orphan) => match &**orphan {
                Orphan::Upper(fd, _) => Some(fd),
                Orphan::Lower(..) => None,
            },
            _ => None,
        }
    }

    /// Its size, if that is known and cannot change.
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
    /// Of an object with one known name, or with none.
    pub fn new(first: Option<Link>, real: Real, data: Contents) -> Self {
        let mut place = Self { first, real, rare: None };
        place.set_data(data);
        place
    }

    /// The names that are known; none once the last of these is removed.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.first.iter().chain(self.rare.iter().flat_map(|rare| &rare.others))
    }

    /// How many names are known.
    pub fn known(&self) -> usize {
        let others = self.rare.as_ref().map_or(0, |rare| rare.others.len());
        others + usize::from(self.first.is_some())
    }

    /// Whether other names than this one are known.
    pub fn has_others(&self, parent: &Arc<Node>, name: &[u8]) -> bool {
        self.known() > usize::from(self.find(parent, name).is_some())
    }

    /// A name under which the upper has the object.
    pub fn upper_link(&self) -> Option<&Link> {
        self.first.as_ref().filter(|link| link.in_upper())
    }

    /// This name, if it is one of the known.
    // What links are ordered by does not change.
    #[allow(clippy::mutable_key_type)]
    pub fn find<'a>(&'a self, parent: &Arc<Node>, name: &[u8]) -> Option<&'a Link> {
        if let Some(first) = self.first.as_ref().filter(|link| link.is(parent, name)) {
            return Some(first);
        }
        let others = self.rare.as_ref().map(|rare| &rare.others)?;
        [true, false].iter().find_map(|at| others.get(&Link::new(parent, name, *at)))
    }

    /// The directory of the lower that has the object, and its name there; `None` for what is in
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

    /// Adds a name, or notes that the upper has it now. The first is one of those that the upper
    /// has, if there is any.
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

    /// Takes a name away.
    pub fn remove(&mut self, parent: &Arc<Node>, name: &[u8]) {
        if self.first.take_if(|link| link.is(parent, name)).is_some() {
            self.first = self.rare.as_mut().and_then(|rare| rare.others.pop_first());
        } else if let Some(rare) = &mut self.rare {
            for in_upper in [true, false] {
                rare.others.remove(&Link::new(parent, name, in_upper));
            }
        }
    }

    /// Takes all names away, of an object that is left without any.
    pub fn clear_links(&mut self) -> Vec<Link> {
        let others = self.rare.as_mut().map(|rare| std::mem::take(&mut rare.others));
        self.first.take().into_iter().chain(others.unwrap_or_default()).collect()
    }

    /// Where its data is.
    pub fn data(&self) -> &Contents {
        self.rare.as_ref().map_or(&Contents::Own, |rare| &rare.data)
    }

    /// Whether its data is with the rest of it.
    pub fn has_own_data(&self) -> bool {
        matches!(self.data(), Contents::Own)
    }

    /// Notes where its data is.
    pub fn set_data(&mut self, data: Contents) {
        if !matches!(data, Contents::Own) || self.rare.is_some() {
            self.rare().data = data;
        }
    }

    /// Notes that a name went and others stayed.
    pub fn note_dropped(&mut self) {
        self.rare().dropped = Some(Instant::now());
    }

    /// Notes that the kernel knows of all names that went.
    pub fn settle_dropped(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.dropped = None;
        }
    }

    /// Whether the kernel may not have counted yet that a name went.
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

    /// Where it stands in the index of hard links.
    pub fn linked(&self) -> Option<&Linked> {
        self.rare.as_ref()?.linked.as_deref()
    }

    /// Where it stands in the index of hard links, to change it.
    pub fn linked_mut(&mut self) -> Option<&mut Linked> {
        self.rare.as_mut()?.linked.as_deref_mut()
    }

    /// Notes that it stands in the index of hard links.
    pub fn set_linked(&mut self, linked: Box<Linked>) {
        self.rare().linked = Some(linked);
    }

    /// Takes it out of the index of hard links.
    pub fn take_linked(&mut self) -> Option<Box<Linked>> {
        self.rare.as_mut()?.linked.take()
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}
