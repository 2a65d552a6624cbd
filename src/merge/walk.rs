//! A walk through the files and directories that lowers have, in the order in which a program meets
//! them that lists a directory and enters each directory at once.
//!
//! What has changed since a directory was listed may be met or not. Nothing is locked.

use super::descent::Rules;
use super::index::{Entry, InUpper, Index};
use super::lookup::{self, Found, What};
use super::stack::DirStack;
use crate::error::Result;
use crate::sys::{FileType, Name};

/// The rest of a walk.
#[derive(Debug)]
pub struct Walk<'a> {
    rules: Rules<'a>,
    /// From the directory where it began to the one where it is. Not recursive: a tree may be
    /// deeper than a stack.
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    dir: DirStack,
    index: Option<Index>,
    names: std::vec::IntoIter<Box<[u8]>>,
}

/// Something that was met.
#[derive(Debug)]
pub struct Step {
    /// Its name.
    pub name: Box<[u8]>,
    /// What that stands for.
    pub found: Found,
}

impl<'a> Walk<'a> {
    /// Of all that is in `dir`.
    ///
    /// # Errors
    /// What listing the layers says.
    pub fn through(rules: Rules<'a>, dir: &DirStack) -> Result<Self> {
        Ok(Self { rules, open: vec![Open::list(dir)?] })
    }

    /// Leaves out what is met before `name` where the walk begins, and that itself.
    #[must_use]
    pub fn behind(mut self, name: &[u8]) -> Self {
        if let Some(begin) = self.open.first_mut() {
            let position = begin.names.as_slice().iter().position(|known| **known == *name);
            begin.names.by_ref().take(position.map_or(0, |position| position + 1)).for_each(drop);
        }
        self
    }

    /// The next regular file that only lowers have, or directory that lowers have.
    ///
    /// # Errors
    /// What reading the layers says.
    pub fn step(&mut self) -> Result<Option<Step>> {
        while let Some(here) = self.open.last_mut() {
            let Some(name) = here.names.next() else {
                self.open.pop();
                continue;
            };
            let index = here.index.as_ref();
            let found = lookup::lookup(self.rules, &here.dir, index, Name::new(&name)?)?;
            let Some(found) = found else { continue };
            if let What::Dir(inner) = &found.what {
                self.open.push(Open::list(inner)?);
            }
            return Ok(Some(Step { name, found }));
        }
        Ok(None)
    }
}

impl Open {
    fn list(dir: &DirStack) -> Result<Self> {
        let index = if dir.is_merged() { Some(Index::build(dir)?) } else { None };
        let names = match (&index, dir.lowers.first()) {
            (Some(index), _) => index
                .iter()
                .filter(|(_, entry)| is_wanted(entry))
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
        Ok(Self { dir: dir.clone(), index, names: names.into_iter() })
    }
}

/// The names of an index that a walk meets behind `name`.
pub fn behind<'a>(index: &'a Index, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let rest = index.iter().skip_while(move |(other, _)| *other != name).skip(1);
    rest.filter(|(_, entry)| is_wanted(entry)).map(|(name, _)| name)
}

/// Whether an entry is a directory of lowers, or a regular file that only they have.
fn is_wanted(entry: &Entry) -> bool {
    entry.in_lowers()
        && entry.kind().is_some_and(|kind| {
            kind.is_dir() || (kind == FileType::Regular && entry.upper == InUpper::Absent)
        })
}
