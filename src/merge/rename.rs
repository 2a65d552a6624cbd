//! Moving an object of the upper to another name.
//!
//! Whoever calls has copied the source up (and, for an exchange, the destination), and has made
//! sure that a directory which moves has nothing below it in the lowers (see
//! [`subtree`](super::subtree)) or a redirect to it. What is left is to get from one tree to the
//! other in one call:
//!
//! | source name needs | destination holds | call |
//! |---|---|---|
//! | nothing | nothing, or the same kind | rename |
//! | a whiteout | nothing, or the same kind | rename with `RENAME_WHITEOUT` |
//! | a whiteout | a whiteout device, and a directory moves | exchange: the whiteout changes places |
//! | nothing | a whiteout device, and a directory moves | exchange, then unlink of the whiteout |
//!
//! Where the file system knows no flags of renameat2(2) it takes more calls, behind a guard (see
//! [`Upper::rename_over_whiteout`]).
//!
//! Steps before that call leave the tree as it looks: an opaque mark on a directory that has
//! nothing below it, or in the place of the markers that an empty one holds.

use crate::error::{Errno, Result, best_effort};
use crate::layer::upper::WhiteoutForm;
use crate::layer::{Over, Upper, UpperDir};
use crate::sys::Name;
use crate::sys::at::Replace;

/// One end of a rename.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The parent in the upper.
    pub dir: &'a UpperDir,
    /// The name.
    pub name: Name<'a>,
    /// A lower has this name.
    pub in_lowers: bool,
}

/// What is to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moving {
    /// A directory.
    pub is_dir: bool,
    /// A directory that goes on merging with lowers, by a redirect that it has already. It needs no
    /// opaque mark, wherever it goes: a redirect passes by what the lowers have at the new name.
    pub redirected: bool,
}

/// What the destination's name holds in the upper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupied {
    /// Nothing.
    Free,
    /// A whiteout device.
    WhiteoutDevice,
    /// A whiteout file beside the name.
    WhiteoutFile,
    /// A file, link, device, FIFO or socket.
    Object,
    /// A directory that shows nothing, but may hold markers.
    EmptyDir,
}

/// Moves `from` to `to`, replacing what is there.
pub fn rename(
    upper: &Upper,
    what: Moving,
    from: &End<'_>,
    to: &End<'_>,
    occupied: Occupied,
) -> Result<()> {
    if what.is_dir {
        cover(upper, what, from, to)?;
        if occupied == Occupied::EmptyDir {
            clear_markers(upper, to)?;
        }
    }
    match (occupied, what.is_dir) {
        (Occupied::WhiteoutDevice, true) => {
            upper.rename_over_whiteout(from.dir, from.name, to.dir, to.name, from.in_lowers)?;
        }
        _ => move_over(upper, from, to)?,
    }
    if occupied == Occupied::WhiteoutFile {
        // The object shows all the same: a marker hides only what is below.
        best_effort("a whiteout stays", upper.remove_whiteout_file(to.dir, to.name));
    }
    uncover(upper, what, to);
    Ok(())
}

/// Marks a directory before it moves to where a lower has something.
fn cover(upper: &Upper, what: Moving, from: &End<'_>, to: &End<'_>) -> Result<()> {
    if !what.is_dir || what.redirected || !to.in_lowers {
        return Ok(());
    }
    upper.with_entry(from.dir, from.name, |target| upper.set_opaque(target))
}

/// Takes the mark off a directory that has come to where no lower has anything.
fn uncover(upper: &Upper, what: Moving, to: &End<'_>) {
    if what.is_dir && !what.redirected && !to.in_lowers {
        best_effort("a needless opaque mark stays", upper.drop_opaque(to.dir, to.name));
    }
}

fn move_over(upper: &Upper, from: &End<'_>, to: &End<'_>) -> Result<()> {
    if !from.in_lowers {
        return upper.rename(from.dir, from.name, to.dir, to.name, Replace::Yes);
    }
    match upper.forms().whiteout {
        WhiteoutForm::Device | WhiteoutForm::Xattr => {
            upper.rename_leaving_whiteout(from.dir, from.name, to.dir, to.name)
        }
        WhiteoutForm::Aufs => {
            // The marker hides only what is below, so the object beside it still shows.
            upper.whiteout(from.dir, from.name, Over::Nothing)?;
            upper.rename(from.dir, from.name, to.dir, to.name, Replace::Yes)
        }
    }
}

/// Lets two objects of the upper change places.
pub fn exchange(
    upper: &Upper,
    (one, other): (Moving, Moving),
    a: &End<'_>,
    b: &End<'_>,
) -> Result<()> {
    cover(upper, one, a, b)?;
    cover(upper, other, b, a)?;
    upper.rename(a.dir, a.name, b.dir, b.name, Replace::Exchange)?;
    uncover(upper, one, b);
    uncover(upper, other, a);
    Ok(())
}

/// Takes the markers out of a directory that shows nothing, as renameat(2) replaces only an empty
/// one. It is opaque before the first goes.
fn clear_markers(upper: &Upper, at: &End<'_>) -> Result<()> {
    if at.in_lowers {
        // A file cannot say that an empty directory is opaque.
        if upper.opaque_is_a_file() {
            return Err(Errno::EXDEV.into());
        }
        upper.with_entry(at.dir, at.name, |target| upper.set_opaque(target))?;
    }
    upper.empty(at.dir, at.name)
}
