//! Removal of a name: the object of the upper goes, the lowers get hidden, or both.

use super::index::{self, Index};
use super::stack::DirStack;
use crate::error::{Errno, Result};
use crate::format::aufs::AufsName;
use crate::layer::staged::TakenOut;
use crate::layer::{Over, Upper, UpperDir};
use crate::sys::Name;

/// The layers in which a name stands that is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The upper has an object of this name.
    pub in_upper: bool,
    /// A lower has an object of this name, so that a whiteout is needed.
    pub in_lowers: bool,
}

/// Removes a non-directory. `dir` is its directory in the upper.
///
/// One call makes the change: unlink(2), or the link or rename that puts a whiteout there.
pub fn unlink(upper: &Upper, dir: &UpperDir, name: Name<'_>, standing: Standing) -> Result<()> {
    match (standing.in_upper, standing.in_lowers) {
        (true, false) => upper.unlink(dir, name),
        (true, true) => upper.whiteout(dir, name, Over::SameKind),
        (false, true) => upper.whiteout(dir, name, Over::Nothing),
        (false, false) => Err(Errno::ENOENT.into()),
    }
}

/// A directory that is to be removed.
#[derive(Clone, Copy, Debug)]
pub struct Victim<'a> {
    /// The parts of the directory.
    pub stack: &'a DirStack,
    /// The index of the directory, if several layers merge into it.
    pub index: Option<&'a Index>,
}

/// Removes a directory that shows nothing. Its upper part may still hold markers.
///
/// # Errors
/// ENOTEMPTY; those of the system calls.
pub fn rmdir(
    upper: &Upper,
    dir: &UpperDir,
    name: Name<'_>,
    standing: Standing,
    victim: Victim<'_>,
) -> Result<()> {
    let upper_alone = standing.in_upper && !standing.in_lowers;
    if upper_alone && victim.index.is_none() {
        // The call itself tells whether the directory is empty.
        match upper.rmdir(dir, name) {
            Err(err) if holds_something(err.errno()) => {}
            other => return other,
        }
    }
    victim.check_empty()?;
    match (standing.in_upper, standing.in_lowers) {
        (true, false) => match upper.rmdir(dir, name) {
            Err(err) if holds_something(err.errno()) => {
                victim.sweep(upper, upper.take_out(dir, name)?);
                Ok(())
            }
            other => other,
        },
        (true, true) => {
            if let Some(taken) = upper.replace_by_whiteout(dir, name, Over::Directory)? {
                victim.sweep(upper, taken);
            }
            Ok(())
        }
        (false, true) => upper.whiteout(dir, name, Over::Nothing),
        (false, false) => Err(Errno::ENOENT.into()),
    }
}

/// Whether rmdir(2) gives this errno for a directory that is not empty.
fn holds_something(errno: Errno) -> bool {
    matches!(errno, Errno::ENOTEMPTY | Errno::EEXIST)
}

impl Victim<'_> {
    /// Checks that the directory shows no name.
    ///
    /// # Errors
    /// ENOTEMPTY if it shows one; those of listing it.
    pub fn check_empty(&self) -> Result<()> {
        if let Some(index) = self.index {
            let shows = index.iter().any(|(_, entry)| entry.kind().is_some());
            return if shows { Err(Errno::ENOTEMPTY.into()) } else { Ok(()) };
        }
        let top = self.stack.top()?;
        top.for_each(|entry| {
            if top.classify(entry.name) != AufsName::Plain {
                return Ok(());
            }
            if index::object(top, &entry)?.is_none() {
                return Ok(());
            }
            Err(Errno::ENOTEMPTY.into())
        })
    }

    /// Removes the directory from the work directory. The index has the names of its whiteouts, so
    /// nothing has to be listed.
    fn sweep(&self, upper: &Upper, taken: TakenOut) {
        if let (Some(here), Some(index)) = (&self.stack.upper, self.index) {
            let mut names = index.iter().map(|(name, _)| name);
            let emptied = names.try_for_each(|name| match upper.unlink(here, Name::new(name)?) {
                // The whiteout is a file beside the name.
                Err(err) if err.errno() == Errno::ENOENT => Ok(()),
                other => other,
            });
            if let Err(err) = emptied {
                tracing::debug!("a removed directory has to be listed: {err}");
            }
        }
        taken.sweep();
    }
}
