//! Taking a name away: by removing what the upper has, by hiding what the lowers have, or both.

use crate::error::{Errno, Result, best_effort};
use crate::layer::{Over, Upper, UpperDir};
use crate::sys::Name;

/// Where a name that is to go stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The upper has an object of this name.
    pub in_upper: bool,
    /// A lower has one, so that a whiteout is needed.
    pub in_lowers: bool,
}

/// Removes what is not a directory. `dir` is the parent in the upper.
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

/// Removes a directory that shows nothing. In the upper it may still hold markers.
pub fn rmdir(upper: &Upper, dir: &UpperDir, name: Name<'_>, standing: Standing) -> Result<()> {
    match (standing.in_upper, standing.in_lowers) {
        (true, false) => match upper.rmdir(dir, name) {
            Err(err) if matches!(err.errno(), Errno::ENOTEMPTY | Errno::EEXIST) => {
                let taken = upper.take_out(dir, name)?;
                best_effort(
                    "a removed directory stays in work until the next mount",
                    taken.discard(),
                );
                Ok(())
            }
            other => other,
        },
        (true, true) => upper.whiteout(dir, name, Over::OtherKind),
        (false, true) => upper.whiteout(dir, name, Over::Nothing),
        (false, false) => Err(Errno::ENOENT.into()),
    }
}
