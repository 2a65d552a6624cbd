//! Lower files with several names, and the index of hard links.
//!
//! Without the index, each name of such a file is a file of its own: a change copies that name up
//! alone, and the other names stay as they are in the layers (`ovl_hash_bylower`,
//! fs/overlayfs/inode.c). With the index, all of them are names of one file. So are the names of
//! one inode in several layers.

use std::os::fd::AsFd;

use super::context::LookupContext;
use crate::error::{Errno, Error, Result};
use crate::format::metacopy::FileMarks;
use crate::format::nlink::{Count, entry_name};
use crate::layer::LowerDir;
use crate::layer::link_index::Indexed;
use crate::sys::{Name, Stat};

/// A file of the upper that the index of hard links has.
#[derive(Clone, Debug)]
pub struct Linked {
    /// Its entry in the index.
    pub entry: Box<[u8]>,
    /// The number of its names in the mount.
    pub count: u32,
    /// Link count of the lower file, once it was seen.
    pub lower: Option<u32>,
    /// `P nlink` is relative to the link count in the upper, so that one call changes both.
    pub settled: bool,
}

/// The place of a new copy in the index of hard links.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The name of the entry.
    pub entry: Box<[u8]>,
    /// The handle that gives the entry its name.
    pub handle: Vec<u8>,
}

/// The meaning of the names of a file in a lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// The file has one name.
    One,
    /// All names stand for one file, because nothing in this mount can be changed.
    Fixed,
    /// All names stand for one file, which the index keeps together.
    Together,
    /// Each name stands for a file of its own.
    Apart,
}

/// The meaning of the names of a lower file with these attributes.
#[must_use]
pub fn names_of(context: LookupContext<'_>, stat: &Stat) -> Names {
    if stat.nlink < 2 || stat.kind().is_dir() {
        return Names::One;
    }
    if !context.has_upper {
        return Names::Fixed;
    }
    let sure = |trusting| context.filesystems.has_sure_handles(stat.dev, trusting);
    match context.links {
        Some(links) if links.takes(stat.kind()) && sure(links.is_trusting()) => Names::Together,
        _ => Names::Apart,
    }
}

/// The place in the index for a copy of the entry `name` of a lower directory.
///
/// # Errors
/// EOPNOTSUPP for a file without a handle, or with one that is too long.
pub fn plan(
    context: LookupContext<'_>,
    dir: &LowerDir,
    name: Name<'_>,
    stat: &Stat,
) -> Result<Plan> {
    let handle = handle(context, dir, name, stat)?;
    let lacks = || Error::new(Errno::EOPNOTSUPP, format!("{name}: a file handle is needed"));
    Ok(Plan { entry: entry_name(&handle).ok_or_else(lacks)?, handle })
}

fn handle(
    context: LookupContext<'_>,
    dir: &LowerDir,
    name: Name<'_>,
    stat: &Stat,
) -> Result<Vec<u8>> {
    let fd = dir.dir().fd()?;
    context.filesystems.origin(stat.dev, fd.as_ref().as_fd(), name)
}

/// Finds the entry of the index for the entry `name` of a lower directory.
///
/// # Errors
/// Those of the layers; EIO for an entry that cannot be of this file.
pub fn of_lower(
    context: LookupContext<'_>,
    dir: &LowerDir,
    name: Name<'_>,
    stat: &Stat,
) -> Result<Option<(Indexed, Linked)>> {
    let Some(links) = context.links.filter(|links| links.may_have(stat.ino)) else {
        return Ok(None);
    };
    if names_of(context, stat) != Names::Together {
        return Ok(None);
    }
    let handle = handle(context, dir, name, stat)?;
    let Some(entry) = entry_name(&handle) else { return Ok(None) };
    let Some(indexed) = links.find(&entry, stat)? else { return Ok(None) };
    if indexed.marks.handle != handle {
        return Ok(None);
    }
    let count = count(&indexed.marks, indexed.stat.nlink, Some(stat.nlink));
    let settled = matches!(indexed.marks.count, Some(Count::Upper(_)));
    // A mark without sense counts as in the kernel: the file has the names that the upper has.
    let count = count.unwrap_or(indexed.stat.nlink);
    Ok(Some((indexed, Linked { entry, count, lower: Some(stat.nlink), settled })))
}

/// The state of a file of the upper in the index.
#[derive(Clone, Debug)]
pub enum InIndex {
    /// It has no entry: it is a copy of its own.
    No,
    /// It has an entry, but the count of its names is relative to a lower file that is not known
    /// here. A crash between two steps leaves this. The next lookup of a name in the lower ends it.
    Uncounted,
    /// It has an entry, and the count of its names is known.
    Counted(Linked),
}

/// Finds the state in the index of a file of the upper that has these marks.
///
/// # Errors
/// Those of the upper.
pub fn of_upper(context: LookupContext<'_>, stat: &Stat, marks: &FileMarks) -> Result<InIndex> {
    let links = context.links.filter(|_| stat.nlink > 1 && marks.count.is_some());
    let (Some(links), Some(entry)) = (links, entry_name(&marks.handle)) else {
        return Ok(InIndex::No);
    };
    if !links.is_entry_of(&entry, stat)? {
        return Ok(InIndex::No);
    }
    Ok(match count(marks, stat.nlink, None) {
        Some(count) => InIndex::Counted(Linked { entry, count, lower: None, settled: true }),
        None => InIndex::Uncounted,
    })
}

fn count(marks: &FileMarks, upper: u32, lower: Option<u32>) -> Option<u32> {
    marks.count?.resolve(upper, lower)
}
