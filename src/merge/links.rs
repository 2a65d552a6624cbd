//! Files of lowers with several names, and the index of those that were copied up.
//!
//! Without the index each name of such a file is a file of its own: the change of one copies that
//! name up alone, and the others stay what the layers say (`ovl_hash_bylower`,
//! fs/overlayfs/inode.c). With it they are names of one file, and so are those of one inode in
//! several layers.

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
    /// How many names it has in the mount.
    pub count: u32,
    /// Link count of the lower file, once that was seen.
    pub lower: Option<u32>,
    /// `P nlink` is relative to the upper's link count, so that both change together.
    pub settled: bool,
}

/// How the copy of a hard link gets into the index.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The entry.
    pub entry: Box<[u8]>,
    /// The handle that it is called after.
    pub handle: Vec<u8>,
}

/// What the names of a file in a lower stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// One file, as it has only one.
    One,
    /// One file, as nothing here can be changed.
    Fixed,
    /// One file, which the index keeps together.
    Together,
    /// Each a file of its own.
    Apart,
}

/// What the names of a lower file with these attributes stand for.
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

/// How the entry `name` of a directory of a lower gets into the index.
///
/// # Errors
/// EOPNOTSUPP for what has no handle, or too long a one.
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

/// What the index has for the entry `name` of a directory of a lower.
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
    // As the kernel says where the mark makes no sense: the names that the upper has.
    let count = count.unwrap_or(indexed.stat.nlink);
    Ok(Some((indexed, Linked { entry, count, lower: Some(stat.nlink), settled })))
}

/// A file of the upper, as the index has it.
#[derive(Clone, Debug)]
pub enum InIndex {
    /// Not at all: it is a copy of its own.
    No,
    /// The count of its names is relative to the lower, of which we know nothing here. A crash
    /// leaves that between two steps; the next name in the lower that is looked up tells the count.
    Uncounted,
    /// With all that there is to know.
    Counted(Linked),
}

/// What the index has for a file of the upper with these marks.
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
