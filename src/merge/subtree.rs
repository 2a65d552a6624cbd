//! Making a merged directory one of the upper alone, so that it can be moved without a redirect.
//!
//! Everything that it shows is copied up where it is, one object after the other; that changes
//! nothing of the tree. Then one opaque mark on the directory cuts off all lowers below it at once,
//! which changes nothing either, as they show no longer. What is left is an ordinary directory of
//! the upper. A crash on the way leaves copies, and at most markers that hide nothing.

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

/// Blocks of stat(2) are of this many bytes, whatever the file system (`st_blocks`, stat(3type)).
const BLOCK: u64 = 512;

/// Whether a directory is small enough to be copied up whole. Changes nothing. Returns how many
/// bytes of data that takes.
///
/// # Errors
/// EXDEV beyond the limit; what reading the layers says.
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
            // What went since the listing counts for nothing.
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
    /// Files with several names that the index keeps together, which are copied once.
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
        // Holes stay holes.
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

/// What of a directory's index stands in the way of cutting the lowers off.
pub fn only_in_lowers(index: &Index) -> bool {
    index.iter().any(|(_, entry)| entry.upper == InUpper::Absent && entry.in_lowers())
}

/// Names that the upper hides.
#[must_use]
pub fn hidden(index: &Index) -> Vec<Box<[u8]>> {
    let hides =
        |upper: InUpper| matches!(upper, InUpper::Whiteout | InUpper::Object { cut: true, .. });
    index.iter().filter(|(_, entry)| hides(entry.upper)).map(|(name, _)| name.into()).collect()
}

/// Takes away the markers in a directory that lies in or is an opaque one now. Its times stay.
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
