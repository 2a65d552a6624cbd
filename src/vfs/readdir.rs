//! Listing directories.
//!
//! What a reader sees is a snapshot, made when it begins: no name is missed or seen twice, whatever
//! happens meanwhile.

use std::sync::Arc;

use super::lookup::shown_by;
use super::node::{Names, Node};
use super::snapshots::Cookie;
use super::{Entry, NodeId, Vfs};
use crate::error::{Errno, Result};
use crate::format::aufs::AufsName;
use crate::layer::LayerDir;
use crate::merge::index::{self, InUpper, Index};
use crate::merge::lookup::Key;
use crate::merge::{DirStack, lookup};
use crate::sys::{FileType, Name};

/// The names of a directory at one moment, in one block of memory.
#[derive(Debug, Default)]
pub struct Listing {
    names: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    /// End of the name in `names`; it begins where the one before ends.
    end: usize,
    number: u64,
    kind: FileType,
}

/// One entry as readdir(3) shows it.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The number that stat(2) will show.
    pub number: u64,
    /// The type.
    pub kind: FileType,
    /// Where to go on after this entry.
    pub next: u64,
}

/// What is told of an entry besides its name.
#[derive(Clone, Copy, Debug)]
pub enum Plus {
    /// A node, counted as looked up once.
    Known(Entry),
    /// Nothing: it is `.` or `..`, nobody wants to know, or looking it up fails, which who uses the
    /// name finds out.
    NameOnly,
}

/// Which entries of a listing come with attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attributes {
    /// All.
    All,
    /// Directories; the rest are names.
    OfDirectories,
}

impl Listing {
    fn push(&mut self, name: &[u8], number: u64, kind: FileType) {
        self.names.extend_from_slice(name);
        self.items.push(Item { end: self.names.len(), number, kind });
    }

    /// The entry at a position.
    fn get(&self, position: usize, reader: Cookie) -> Option<DirEntry<'_>> {
        let item = self.items.get(position)?;
        let start = match position.checked_sub(1) {
            Some(before) => self.items.get(before)?.end,
            None => 0,
        };
        let name = self.names.get(start..item.end)?;
        let next = reader.after(position + 1);
        Some(DirEntry { name, number: item.number, kind: item.kind, next })
    }

    /// Memory that the listing takes, in bytes.
    pub fn bytes(&self) -> usize {
        // What the maps, counters and vectors around it take, about.
        const AROUND: usize = 256;
        AROUND + self.names.capacity() + self.items.capacity() * size_of::<Item>()
    }
}

impl Vfs {
    /// Hands entries to `each`, from a position on, until it returns false or there are no more.
    /// Position 0 makes a new snapshot (rewinddir(3) asks for one too).
    ///
    /// # Errors
    /// ENOTDIR; any error of any layer.
    pub fn readdir(
        &self,
        id: NodeId,
        from: u64,
        mut each: impl FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let (listing, cookie) = self.reader(&self.node(id)?, from)?;
        let mut position = cookie.position;
        while let Some(entry) = listing.get(position, cookie) {
            if !each(entry) {
                break;
            }
            position += 1;
        }
        Ok(())
    }

    /// The same with attributes: each entry that has them counts as looked up once if `each` takes
    /// it. A name that went since the snapshot is left out, where that is noticed.
    ///
    /// # Errors
    /// ENOTDIR; any error of any layer.
    pub fn readdir_plus(
        &self,
        id: NodeId,
        from: u64,
        attributes: Attributes,
        mut each: impl FnMut(DirEntry<'_>, Plus) -> bool,
    ) -> Result<()> {
        let node = self.node(id)?;
        let (listing, cookie) = self.reader(&node, from)?;
        let dir = node.dir()?;
        let names = self.names(dir)?;
        let stack = dir.stack.read().clone();
        let mut position = cookie.position;
        while let Some(entry) = listing.get(position, cookie) {
            position += 1;
            let wanted = attributes == Attributes::All || entry.kind.is_dir();
            let plus = if wanted && !matches!(entry.name, b"." | b"..") {
                match self.entry_in(&node, &names, &stack, entry.name) {
                    Ok(None) => continue,
                    Ok(Some(given)) => Plus::Known(given),
                    // One object that is broken does not hide the others.
                    Err(err) => {
                        tracing::debug!("{}: {err}", entry.name.escape_ascii());
                        Plus::NameOnly
                    }
                }
            } else {
                Plus::NameOnly
            };
            if !each(entry, plus) {
                if let Plus::Known(given) = plus {
                    self.forget(given.node, 1);
                }
                break;
            }
            if let Plus::Known(given) = plus
                && attributes == Attributes::All
            {
                self.read_ahead.listed(given.node, entry.kind, given.stat.size);
            }
        }
        Ok(())
    }

    /// Looks up a name of a directory whose names are locked, and gives it out.
    fn entry_in(
        &self,
        node: &Arc<Node>,
        names: &Names,
        stack: &DirStack,
        name: &[u8],
    ) -> Result<Option<Entry>> {
        if names.dead {
            return Ok(None);
        }
        let found = lookup::lookup(self.rules(), stack, names.index.as_ref(), Name::new(name)?)?;
        found.map(|found| self.give_out(found, node, name)).transpose()
    }

    /// The snapshot that a reader is in, and where.
    fn reader(&self, node: &Arc<Node>, from: u64) -> Result<(Arc<Listing>, Cookie)> {
        let Some(cookie) = Cookie::from_raw(from) else {
            let listing = Arc::new(self.list(node)?);
            let cookie = self.snapshots.add(node.id, &listing);
            return Ok((listing, cookie));
        };
        if let Some(listing) = self.snapshots.get(node.id, cookie) {
            if cookie.position >= listing.items.len() {
                self.snapshots.finished(cookie);
            }
            return Ok((listing, cookie));
        }
        let listing = Arc::new(self.list(node)?);
        let begin = self.snapshots.add(node.id, &listing);
        Ok((listing, begin.at(cookie.position)))
    }

    fn list(&self, node: &Arc<Node>) -> Result<Listing> {
        let dir = node.dir()?;
        let mut listing = Listing::default();
        let above = dir.link.read().as_ref().map_or(node.id, |link| link.parent.id);
        listing.push(b".", node.id.0, FileType::Directory);
        listing.push(b"..", above.0, FileType::Directory);
        let names = self.names(dir)?;
        if names.dead {
            return Ok(listing);
        }
        let stack = dir.stack.read().clone();
        match &names.index {
            Some(index) => self.list_merged(&stack, index, &mut listing)?,
            None => self.list_single(&stack, &mut listing)?,
        }
        Ok(listing)
    }

    fn list_merged(&self, stack: &DirStack, index: &Index, listing: &mut Listing) -> Result<()> {
        let impure = match &stack.upper {
            Some(upper) => upper.dir().is_impure()?,
            None => false,
        };
        for (name, entry) in index.iter() {
            let Some(kind) = entry.kind() else { continue };
            let number = match entry.upper {
                // Of a directory that may merge, and of what may have been copied up, only a lookup
                // knows the number.
                InUpper::Object { .. } if impure || (kind.is_dir() && entry.in_lowers()) => {
                    self.number_by_name(stack, Some(index), name)?
                }
                _ => {
                    let (layer, ino) = shown_by(stack, entry).ok_or(Errno::EIO)?;
                    self.shown_number(layer, ino)?
                }
            };
            listing.push(name, number, kind);
        }
        Ok(())
    }

    fn list_single(&self, stack: &DirStack, listing: &mut Listing) -> Result<()> {
        let top = stack.top()?;
        let in_upper = stack.upper.is_some();
        let impure = in_upper && top.is_impure()?;
        top.for_each(|entry| {
            if top.classify(entry.name) != AufsName::Plain {
                return Ok(());
            }
            let Some(kind) = index::object(top, &entry)? else { return Ok(()) };
            let number = if impure {
                self.number_by_name(stack, None, entry.name)?
            } else {
                self.shown_number(top, entry.ino)?
            };
            listing.push(entry.name, number, kind);
            Ok(())
        })
    }

    /// The number that a lookup of the name gives; what cannot be looked up has none of its own.
    fn number_by_name(&self, stack: &DirStack, index: Option<&Index>, name: &[u8]) -> Result<u64> {
        let found = lookup::lookup(self.rules(), stack, index, Name::new(name)?);
        let number = found.ok().flatten().and_then(|found| self.table.number_of(&found));
        Ok(number.map_or_else(|| self.table.unknown_number(), |id| id.0))
    }

    /// The number of an entry; never 0, which some readers take for "no entry".
    fn shown_number(&self, layer: &Arc<LayerDir>, ino: u64) -> Result<u64> {
        let key = Key { dev: layer.dev()?, ino, layer: layer.layer() };
        // Another one will get one of its own when it is looked up.
        Ok(self.table.number(key).map_or_else(|| self.table.unknown_number(), |id| id.0))
    }
}
