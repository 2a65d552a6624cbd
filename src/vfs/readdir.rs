//! Listing directories.
//!
//! A reader sees a snapshot, made when it or another reader begins. So it neither misses a name
//! that is there all the time nor sees it twice, whatever happens meanwhile.

use std::sync::Arc;

use super::listing::{DirEntry, Listing, Position};
use super::lookup::shown_by;
use super::nodes::node::Node;
use super::{Entry, NodeId, Vfs};
use crate::error::{Errno, Result};
use crate::format::aufs::AufsName;
use crate::layer::LayerDir;
use crate::merge::DirStack;
use crate::merge::index::{self, InUpper, Index};
use crate::merge::key::Key;
use crate::sys::{FileType, Name};

/// The part of an entry besides its name, in a listing with attributes.
#[derive(Clone, Copy, Debug)]
pub enum Plus {
    /// A node, counted as looked up once.
    Known(Entry),
    /// Nothing. The entry is `.` or `..`, or its attributes are not wanted, or the lookup of it
    /// failed: a program that uses the name gets the error.
    NameOnly,
}

/// The entries of a listing that come with attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attributes {
    /// All entries.
    All,
    /// Directories. Other entries come as names.
    OfDirectories,
}

impl Vfs {
    /// Passes entries to `each`, from a position on, until it returns false or none are left.
    /// Position 0 makes a new snapshot, as rewinddir(3) has to.
    ///
    /// # Errors
    /// ENOTDIR; any error of any layer.
    pub fn readdir(
        &self,
        id: NodeId,
        from: u64,
        mut each: impl FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let (listing, position) = self.reader(&self.node(id)?, from)?;
        for entry in listing.from(position) {
            if !each(entry) {
                break;
            }
        }
        Ok(())
    }

    /// Lists with attributes. Each entry that has them counts as looked up once if `each` takes it.
    /// A name that was found to be gone since the snapshot is left out.
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
        let (listing, position) = self.reader(&node, from)?;
        for entry in listing.from(position) {
            let wanted = attributes == Attributes::All || entry.kind.is_dir();
            let plus = if wanted && !matches!(entry.name, b"." | b"..") {
                match self.entry_in(&node, entry.name) {
                    Ok(None) => continue,
                    Ok(Some(given)) => Plus::Known(given),
                    // A broken object does not hide the others.
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

    /// Looks up a name and gives it out.
    fn entry_in(&self, node: &Arc<Node>, name: &[u8]) -> Result<Option<Entry>> {
        self.with_found(node, Name::new(name)?, |found| self.give_out(found, node, name))
    }

    /// The listing that a reader goes on with, and its position there.
    fn reader(&self, node: &Arc<Node>, from: u64) -> Result<(Arc<Listing>, Position)> {
        // A number that is no position is behind all entries.
        let position = Position::try_from(from).unwrap_or(Position::MAX);
        if position > 0
            && let Some((listing, is_read)) = self.snapshots.get(node)
        {
            if listing.is_end(position) {
                self.snapshots.finished(node);
                return Ok((listing, position));
            }
            if !is_read {
                return Ok((listing, position));
            }
        }
        let begun = self.snapshots.begin();
        let listing = self.list(node)?;
        Ok((self.snapshots.add(node, begun, listing), position))
    }

    fn list(&self, node: &Arc<Node>) -> Result<Listing> {
        let dir = node.dir()?;
        let mut listing = Listing::default();
        let above = dir.link.read().as_ref().map_or(node.id, |link| link.parent.id);
        listing.push(b".", node.id.0, FileType::Directory)?;
        listing.push(b"..", above.0, FileType::Directory)?;
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
                // Only a lookup knows the number of a directory that may merge, and of an object
                // that may have been copied up.
                InUpper::Object { .. } if impure || (kind.is_dir() && entry.in_lowers()) => {
                    self.number_by_name(stack, Some(index), name)?
                }
                _ => {
                    let (layer, ino) = shown_by(stack, entry).ok_or(Errno::EIO)?;
                    self.shown_number(layer, ino)?
                }
            };
            listing.push(name, number, kind)?;
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
            listing.push(entry.name, number, kind)?;
            Ok(())
        })
    }

    /// The number that a lookup of the name gives; the unknown one if the lookup fails.
    fn number_by_name(&self, stack: &DirStack, index: Option<&Index>, name: &[u8]) -> Result<u64> {
        let found = self.look_up(stack, index, Name::new(name)?);
        let number = found.ok().flatten().and_then(|found| self.table.number_of(&found));
        Ok(number.unwrap_or_else(|| self.table.unknown_number()))
    }

    /// The number of an entry. It is never 0, which some readers take for "no entry".
    fn shown_number(&self, layer: &Arc<LayerDir>, ino: u64) -> Result<u64> {
        let key = Key { dev: layer.dev()?, ino, layer: layer.layer() };
        // A lookup will give the object a number of its own.
        Ok(self.table.number(key).unwrap_or_else(|| self.table.unknown_number()))
    }
}
