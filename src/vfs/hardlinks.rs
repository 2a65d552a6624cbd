//! Hard links of lowers: how many names a file has, and the way to one that no name in the upper
//! leads to.
//!
//! A file in the index counts its names itself (`P nlink`, [`crate::format::links`]). The names of
//! one that is not in the upper are those of the lower, less those that were removed in this mount.

use std::os::fd::AsFd;

use super::Vfs;
use super::node::{Leaf, Node};
use super::place::{Link, Place, Real};
use crate::error::{Errno, Result, best_effort};
use crate::format::links::Count;
use crate::layer::{LinkIndex, Upper, UpperDir};
use crate::merge::links::{self, Linked};
use crate::merge::lookup::Key;
use crate::merge::{Found, What};
use crate::sys::{Name, Stat, stat};

/// What happens to a file when one of its names goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its names are not counted: those that are known are all there are.
    Uncounted,
    /// It has other names, known or not.
    Left,
    /// This is the last.
    Last,
}

/// What is known of the names of a file in a lower, if they are counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    origin: Key,
    nlink: u32,
}

impl Vfs {
    pub(super) fn links(&self) -> Option<&LinkIndex> {
        self.stack.upper.as_ref().and_then(Upper::links)
    }

    /// Directory and name by which a file that is in the upper is found there.
    ///
    /// # Errors
    /// ESTALE if it has none.
    pub(super) fn upper_path<'a>(&self, place: &'a Place) -> Result<(UpperDir, &'a [u8])> {
        if let Some(link) = place.upper_link() {
            let dir = link.parent.dir()?.stack.read().upper.clone().ok_or(Errno::ESTALE)?;
            return Ok((dir, link.name()));
        }
        let linked = place.linked().ok_or(Errno::ESTALE)?;
        let dir = self.links().and_then(LinkIndex::dir).ok_or(Errno::ESTALE)?;
        Ok((dir, &linked.entry))
    }

    /// Whether the names of what was found are counted.
    pub(super) fn is_counted(&self, found: &Found) -> bool {
        match found.what {
            What::Lower(_) => links::can_index(self.rules(), &found.stat),
            _ => found.linked.is_some(),
        }
    }

    /// How many names what was found has in a lower, if they are counted.
    pub(super) fn counted(&self, found: &Found) -> Option<Counted> {
        let counts = matches!(found.what, What::Lower(_)) && self.is_counted(found);
        counts.then_some(Counted { origin: found.origin, nlink: found.stat.nlink })
    }

    /// How many names of a lower file are left.
    pub(super) fn names_left(&self, key: Key, nlink: u32) -> u32 {
        nlink.saturating_sub(self.gone.get(&key).map_or(0, |gone| *gone))
    }

    /// The link count that users see.
    pub(super) fn shown_nlink(&self, leaf: &Leaf, place: &Place, stat: &Stat) -> u32 {
        match (place.linked(), &place.real) {
            (Some(linked), _) => linked.count,
            (None, real) if real.upper_key().is_some() => stat.nlink,
            (None, real) => {
                let left = self.names_left(Key::of(stat, leaf.layer), stat.nlink);
                match real {
                    // The lower still has the name that the mount does not.
                    Real::Orphan(_) if left == stat.nlink => left.saturating_sub(1),
                    _ => left,
                }
            }
        }
    }

    /// What happens to a file when `name` goes.
    ///
    /// # Errors
    /// EAGAIN if the name, or the file, has to be in the upper before.
    pub(super) fn going(
        &self,
        place: &Place,
        parent: &Node,
        name: Name<'_>,
        counted: Option<Counted>,
    ) -> Result<Fate> {
        let here = place.find(parent, name.bytes());
        let others = place.links().count() > usize::from(here.is_some());
        let left = match (place.linked(), &place.real, counted) {
            (Some(linked), ..) => {
                if !here.is_some_and(Link::in_upper) {
                    return Err(Errno::EAGAIN.into());
                }
                linked.count
            }
            (None, Real::Lower { .. }, Some(Counted { origin, nlink })) => {
                if self.links().is_some_and(LinkIndex::is_eager) {
                    return Err(Errno::EAGAIN.into());
                }
                self.names_left(origin, nlink)
            }
            _ => return Ok(Fate::Uncounted),
        };
        Ok(if left > 1 || others { Fate::Left } else { Fate::Last })
    }

    /// Counts one name less, after it went.
    pub(super) fn count_down(&self, place: &mut Place, counted: Option<Counted>) {
        match (place.linked_mut(), counted) {
            (Some(linked), _) => linked.count = linked.count.saturating_sub(1).max(1),
            (None, Some(lower)) => *self.gone.entry(lower.origin).or_insert(0) += 1,
            (None, None) => {}
        }
    }

    /// Takes a file that has lost its last name out of the index. A crash before that is mended by
    /// the next mount.
    pub(super) fn leave_index(&self, linked: &Linked) {
        let remove = || {
            let dir = self.links().and_then(LinkIndex::dir).ok_or(Errno::ESTALE)?;
            self.upper()?.unlink(&dir, Name::new(&linked.entry)?)
        };
        best_effort("an entry without names stays in the index", remove());
    }

    /// Before a name of the upper is made or goes: counts relative to the upper, so that the one
    /// call changes both.
    pub(super) fn settle_count(&self, place: &mut Place) -> Result<()> {
        let Some(linked) = place.linked().filter(|linked| !linked.settled) else {
            return Ok(());
        };
        let (entry, count) = (linked.entry.clone(), linked.count);
        let upper = self.upper()?;
        let dir = self.links().and_then(LinkIndex::dir).ok_or(Errno::ESTALE)?;
        upper.with_entry(&dir, Name::new(&entry)?, |copy| {
            upper.set_count(copy, Count::by_upper(count, stat::stat(copy)?.nlink))
        })?;
        if let Some(linked) = place.linked_mut() {
            linked.settled = true;
        }
        Ok(())
    }

    /// Before a name of the lower becomes one of the upper: counts relative to the lower, as the
    /// number of names stays while the upper's link count does not.
    pub(super) fn unsettle_count(&self, place: &mut Place) -> Result<()> {
        let Some(linked) = place.linked_mut() else { return Ok(()) };
        let lower = linked.lower.ok_or(Errno::ESTALE)?;
        let upper = self.upper()?;
        let dir = self.links().and_then(LinkIndex::dir).ok_or(Errno::ESTALE)?;
        linked.settled = false;
        let count = Count::by_lower(linked.count, lower);
        upper.with_entry(&dir, Name::new(&linked.entry)?, |copy| upper.set_count(copy, count))
    }

    /// Attributes of a name, with the link count that its node knows better.
    pub(super) fn recount(&self, node: &Node, found: Stat) -> Stat {
        match node.as_leaf() {
            Ok(leaf) if found.nlink > 1 => {
                let nlink = self.shown_nlink(leaf, &leaf.place.read(), &found);
                Stat { nlink, ..found }
            }
            _ => found,
        }
    }
}

/// A descriptor is all that is left of an object of the upper.
pub(super) fn orphan(file: std::os::fd::OwnedFd) -> Result<Real> {
    let stat = stat::fstat(file.as_fd())?;
    Ok(Real::orphan(std::sync::Arc::new(file.into()), (stat.dev, stat.ino)))
}
