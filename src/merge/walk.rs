//! A walk through the files and directories that lowers have. Its order is that of a program that
//! lists a directory and enters each directory at once.
//!
//! The walk locks nothing. It may or may not meet an object that came after the listing.

use super::context::LookupContext;
use super::found::{Found, What};
use super::index::{Entry, InUpper, Index};
use super::lookup;
use super::stack::DirStack;
use crate::error::Result;
use crate::layer::LowerDir;
use crate::sys::{FileType, Name};

/// The order in which a walk meets the names of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The order of the listing (`chmod -R`, `find`).
    #[default]
    Listed,
    /// The order of their bytes (`chmod *` in a shell, package managers).
    Sorted,
}

/// A walk that is under way.
#[derive(Debug)]
pub struct Walk<'a> {
    context: LookupContext<'a>,
    order: Order,
    /// The file system of the lowers that it walks through.
    device: u64,
    /// The directories from the first one to the present one. Not recursive: a tree may be deeper
    /// than a stack.
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    dir: DirStack,
    index: Option<Index>,
    names: std::vec::IntoIter<Box<[u8]>>,
}

/// An object that the walk has met.
#[derive(Debug)]
pub struct Step {
    /// Its name.
    pub name: Box<[u8]>,
    /// The result of its lookup.
    pub found: Found,
}

impl<'a> Walk<'a> {
    /// Begins a walk through `dir`. It enters no directory with a lower off the file system
    /// `device`.
    ///
    /// # Errors
    /// Those of listing the layers.
    pub fn through(
        context: LookupContext<'a>,
        dir: &DirStack,
        order: Order,
        device: u64,
    ) -> Result<Self> {
        let mut walk = Self { context, order, device, open: Vec::new() };
        walk.enter(dir)?;
        Ok(walk)
    }

    /// Skips the names of the first directory up to `name`, and `name` itself.
    #[must_use]
    pub fn behind(mut self, name: &[u8]) -> Self {
        if let Some(begin) = self.open.first_mut() {
            let position = begin.names.as_slice().iter().position(|known| **known == *name);
            begin.names.by_ref().take(position.map_or(0, |position| position + 1)).for_each(drop);
        }
        self
    }

    /// Finds the next regular file that only lowers have, or the next directory that lowers have.
    ///
    /// # Errors
    /// Those of reading the layers.
    pub fn step(&mut self) -> Result<Option<Step>> {
        while let Some(here) = self.open.last_mut() {
            let Some(name) = here.names.next() else {
                self.open.pop();
                continue;
            };
            let index = here.index.as_ref();
            let found = lookup::lookup(self.context, &here.dir, index, Name::new(&name)?)?;
            let Some(found) = found else { continue };
            if let What::Dir(inner) = &found.what {
                self.enter(&inner.clone())?;
            }
            return Ok(Some(Step { name, found }));
        }
        Ok(None)
    }
}

impl Walk<'_> {
    fn enter(&mut self, dir: &DirStack) -> Result<()> {
        if dir.lowers.iter().all(|lower| is_on(self.context, lower, self.device)) {
            self.open.push(Open::list(dir, self.order)?);
        }
        Ok(())
    }
}

impl Open {
    fn list(dir: &DirStack, order: Order) -> Result<Self> {
        let index = if dir.is_merged() { Some(Index::build(dir)?) } else { None };
        let mut names: Vec<Box<[u8]>> = match (&index, dir.lowers.first()) {
            (Some(index), _) => index
                .iter()
                .filter(|(_, entry)| is_wanted(*entry))
                .map(|(name, _)| name.into())
                .collect(),
            (None, Some(lower)) => {
                let mut names = Vec::new();
                lower.dir().for_each(|entry| {
                    if entry.kind.is_none_or(|kind| kind.is_dir() || kind == FileType::Regular) {
                        names.push(Box::from(entry.name));
                    }
                    Ok(())
                })?;
                names
            }
            (None, None) => Vec::new(),
        };
        order.apply(&mut names);
        Ok(Self { dir: dir.clone(), index, names: names.into_iter() })
    }
}

/// Whether the layer of a directory is on a file system. The layer is not asked.
fn is_on(context: LookupContext<'_>, dir: &LowerDir, device: u64) -> bool {
    let above = usize::from(dir.dir().layer()).checked_sub(1);
    let root = above.and_then(|above| context.roots.get(above));
    root.is_some_and(|root| root.dir().known_dev() == Some(device))
}

/// The names that a walk meets after `name` in the directory of this index. A name counts if all
/// lowers that have it are on the file system `device`: another one may hang.
#[must_use]
pub fn behind(
    context: LookupContext<'_>,
    (index, dir): (&Index, &DirStack),
    name: &[u8],
    order: Order,
    device: u64,
) -> Vec<Box<[u8]>> {
    let lies_there = |entry: Entry<'_>| {
        let mut lowers =
            entry.lowers.levels.iter().map(|level| dir.lowers.get(usize::from(*level)));
        lowers.all(|lower| lower.is_some_and(|lower| is_on(context, lower, device)))
    };
    let mut met = order == Order::Sorted;
    let mut names = Vec::new();
    for (other, entry) in index.iter() {
        let is_behind = met && (order == Order::Listed || other > name);
        if is_behind && is_wanted(entry) && lies_there(entry) {
            names.push(Box::from(other));
        }
        met = met || other == name;
    }
    order.apply(&mut names);
    names
}

impl Order {
    /// The other order.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Listed => Self::Sorted,
            Self::Sorted => Self::Listed,
        }
    }

    fn apply(self, names: &mut [Box<[u8]>]) {
        if self == Self::Sorted {
            names.sort_unstable();
        }
    }
}

/// Whether an entry is a directory that lowers have, or a regular file that only they have.
fn is_wanted(entry: Entry<'_>) -> bool {
    entry.in_lowers()
        && entry.kind().is_some_and(|kind| {
            kind.is_dir() || (kind == FileType::Regular && entry.upper == InUpper::Absent)
        })
}
