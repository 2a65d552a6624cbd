//! Hard links of lowers that were copied up: which file of the upper their names stand for.

use std::os::fd::AsFd;

use super::descent::Rules;
use crate::error::Result;
use crate::format::links::{Count, entry_name};
use crate::format::metacopy::FileMarks;
use crate::format::origin::{self, NO_UUID, Side};
use crate::layer::LowerDir;
use crate::layer::links::Indexed;
use crate::sys::{Name, Stat, handle};

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
    /// The root of the layer; empty if no other layer can have the same file.
    pub layer: Vec<u8>,
}

/// Whether hard links of this lower file can be kept together.
#[must_use]
pub fn can_index(rules: Rules<'_>, stat: &Stat) -> bool {
    let Some(links) = rules.links else { return false };
    stat.nlink > 1
        && !stat.kind().is_dir()
        && rules.filesystems.has_sure_handles(stat.dev, links.is_eager())
}

/// How the entry `name` of a directory of a lower would get into the index; `None` if it cannot.
///
/// # Errors
/// Those of the layers.
pub fn plan(rules: Rules<'_>, dir: &LowerDir, name: Name<'_>, stat: &Stat) -> Result<Option<Plan>> {
    let Some(links) = rules.links.filter(|_| can_index(rules, stat)) else { return Ok(None) };
    let handle = {
        let fd = dir.dir().fd()?;
        rules.filesystems.origin(stat.dev, fd.as_ref().as_fd(), name)
    };
    let Some(entry) = entry_name(&handle) else { return Ok(None) };
    // The same file of another layer has it: the two stay two files.
    if links.may_have(stat.ino) && links.find(&entry, stat)?.is_some() {
        return Ok(None);
    }
    let shared = rules.filesystems.is_shared(stat.dev);
    let layer = if shared { layer_mark(rules, dir.dir().layer())? } else { Vec::new() };
    Ok(Some(Plan { entry, handle, layer }))
}

/// What the index has for the entry `name` of a directory of a lower.
///
/// # Errors
/// Those of the layers; EIO for an entry that cannot be of this file.
pub fn of_lower(
    rules: Rules<'_>,
    dir: &LowerDir,
    name: Name<'_>,
    stat: &Stat,
) -> Result<Option<(Indexed, Linked)>> {
    let Some(links) = rules.links.filter(|links| links.may_have(stat.ino)) else {
        return Ok(None);
    };
    if !can_index(rules, stat) {
        return Ok(None);
    }
    let handle = {
        let fd = dir.dir().fd()?;
        rules.filesystems.origin(stat.dev, fd.as_ref().as_fd(), name)
    };
    let Some(entry) = entry_name(&handle) else { return Ok(None) };
    let Some(indexed) = links.find(&entry, stat)? else { return Ok(None) };
    if indexed.marks.handle != handle || !is_of_layer(rules, dir, &indexed.marks)? {
        return Ok(None);
    }
    let count = count(&indexed.marks, indexed.stat.nlink, Some(stat.nlink));
    let settled = matches!(indexed.marks.count, Some(Count::Upper(_)));
    // As the kernel says where the mark makes no sense: the names that the upper has.
    let count = count.unwrap_or(indexed.stat.nlink);
    Ok(Some((indexed, Linked { entry, count, lower: Some(stat.nlink), settled })))
}

/// What the index has for a file of the upper with these marks.
///
/// # Errors
/// Those of the upper.
pub fn of_upper(rules: Rules<'_>, stat: &Stat, marks: &FileMarks) -> Result<Option<Linked>> {
    let Some(links) = rules.links.filter(|_| stat.nlink > 1) else { return Ok(None) };
    let counted = count(marks, stat.nlink, None);
    let (Some(count), Some(entry)) = (counted, entry_name(&marks.handle)) else {
        return Ok(None);
    };
    let is_entry = links.is_entry_of(&entry, stat)?;
    Ok(is_entry.then_some(Linked { entry, count, lower: None, settled: true }))
}

fn count(marks: &FileMarks, upper: u32, lower: Option<u32>) -> Option<u32> {
    marks.count?.resolve(upper, lower)
}

/// Whether a copy is of the file in this layer, and not of the same file in another. Entries that
/// the kernel made are for all layers.
fn is_of_layer(rules: Rules<'_>, dir: &LowerDir, marks: &FileMarks) -> Result<bool> {
    match &marks.layer {
        Some(layer) => Ok(*layer == layer_mark(rules, dir.dir().layer())?),
        None => Ok(true),
    }
}

/// The handle of the root of a layer.
fn layer_mark(rules: Rules<'_>, layer: u16) -> Result<Vec<u8>> {
    let Some(root) = usize::from(layer).checked_sub(1).and_then(|at| rules.roots.get(at)) else {
        return Ok(Vec::new());
    };
    let fd = root.dir().fd()?;
    let handle = handle::of_open(fd.as_ref().as_fd())?;
    Ok(origin::encode(Side::Lower, &NO_UUID, handle.kind, &handle.bytes))
}
