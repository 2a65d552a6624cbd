//! Turning a merged directory into one of the upper alone, so that it moves without a redirect.
//!
//! All objects that the directory shows are copied up in place, one after the other, which does not
//! change the tree. Then one opaque mark on the directory cuts off all lowers below it. That does
//! not change the tree either, as nothing of the lowers shows any more. A crash on the way leaves
//! copies, and at most markers that hide nothing.

use rustc_hash::FxHashSet;

use super::context::LookupContext;
use super::found::What;
use super::index::{InUpper, Index};
use super::links::Names;
use super::lookup;
use super::stack::DirStack;
use crate::config::CopyLimit;
use crate::error::{Errno, Error, Result, best_effort};
use crate::layer::{Upper, UpperDir};
use crate::sys::{FileType, Name, Stat};

/// The size in bytes of a block of stat(2), on any file system (`st_blocks`, stat(3type)).
const BLOCK: u64 = 512;

/// Checks that a directory is small enough to be copied up whole, and changes nothing. Returns the
/// number of bytes of data that have to be copied.
///
/// # Errors
/// EXDEV beyond the limit; those of reading the layers.
pub fn check(context: LookupContext<'_>, top: &DirStack, limit: CopyLimit) -> Result<u64> {
    let mut sum = Sum { entries: 0, bytes: 0, limit, linked: FxHashSet::default() };
    // Not recursive: a tree may be deeper than a stack.
    let mut todo = vec![top.clone()];
    while let Some(dir) = todo.pop() {
        let index = Index::build(&dir)?;
        for (name, entry) in index.iter() {
            let Some(kind) = entry.kind() else { continue };
            sum.add_entry()?;
            let is_file = kind == FileType::Regular && entry.upper == InUpper::Absent;
            if !kind.is_dir() && !is_file {
                continue;
            }
            // A name that has gone since the listing does not count.
            let found = lookup::lookup(context, &dir, Some(&index), Name::new(name)?)?;
            let Some(found) = found else { continue };
            match found.what {
                What::Dir(inner) if !inner.lowers.is_empty() => todo.push(inner),
                What::Lower(_) => sum.add_file(&found.stat, found.names)?,
                _ => {}
            }
        }
    }
    Ok(sum.bytes)
}

struct Sum {
    entries: u64,
    bytes: u64,
    limit: CopyLimit,
    /// Files with several names that the index keeps together. Each is copied once.
    linked: FxHashSet<(u64, u64)>,
}

impl Sum {
    fn add_entry(&mut self) -> Result<()> {
        self.entries += 1;
        if self.entries <= self.limit.entries {
            return Ok(());
        }
        Err(beyond(format!("more than {} names", self.limit.entries)))
    }

    fn add_file(&mut self, stat: &Stat, names: Names) -> Result<()> {
        if names == Names::Together && !self.linked.insert((stat.dev, stat.ino)) {
            return Ok(());
        }
        // Holes are not copied.
        let bytes = stat.size.min(stat.blocks.saturating_mul(BLOCK));
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= self.limit.bytes {
            return Ok(());
        }
        Err(beyond(format!("more than {} bytes", self.limit.bytes)))
    }
}

fn beyond(what: String) -> Error {
    Error::new(Errno::EXDEV, format!("rename_lower: {what} below a directory of a lower layer"))
}

/// Whether a name shows an object of the lowers alone, so that these cannot be cut off yet.
pub fn only_in_lowers(index: &Index) -> bool {
    index.iter().any(|(_, entry)| entry.upper == InUpper::Absent && entry.in_lowers())
}

/// Names that have a whiteout in the upper.
#[must_use]
pub fn hidden(index: &Index) -> Vec<Box<[u8]>> {
    let hides =
        |upper: InUpper| matches!(upper, InUpper::Whiteout | InUpper::Object { cut: true, .. });
    index.iter().filter(|(_, entry)| hides(entry.upper)).map(|(name, _)| name.into()).collect()
}

/// Removes the markers of a directory that is, or lies in, an opaque one. Its times stay.
pub fn sweep(upper: &Upper, dir: &UpperDir, hidden: &[Box<[u8]>]) {
    if hidden.is_empty() {
        return;
    }
    let swept = dir.dir().stat().and_then(|times| {
        hidden.iter().try_for_each(|name| upper.drop_whiteout(dir, Name::new(name)?))?;
        upper.restore_times(dir, &times);
        Ok(())
    });
    best_effort("whiteouts stay that hide nothing", swept);
}
