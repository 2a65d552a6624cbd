//! Rename of an object of the upper.
//!
//! The caller has copied up the source and, for an exchange, the destination. A directory that
//! moves has nothing below it in the lowers (see [`subtree`](super::subtree)), or has a redirect to
//! it. One call then makes the change:
//!
//! | source name needs | destination holds | call |
//! |---|---|---|
//! | nothing | nothing, or the same kind | rename |
//! | a whiteout | nothing, or the same kind | rename with `RENAME_WHITEOUT` |
//! | a whiteout | a whiteout object, and a directory moves | exchange: the whiteout moves too |
//! | nothing | a whiteout object, and a directory moves | exchange, then unlink of the whiteout |
//! | anything | a directory with markers, which are files | the directory is taken out, then as above |
//!
//! Where the file system does not know the flags of renameat2(2), the change takes more calls,
//! behind a guard (see [`Upper::rename_over_whiteout`]).
//!
//! Earlier steps do not change what the tree shows. They mark a directory that has nothing below it
//! as opaque, or put an opaque mark in place of the markers that an empty directory holds.

use crate::error::{Result, best_effort};
use crate::layer::upper::WhiteoutForm;
use crate::layer::{Over, Upper, UpperDir};
use crate::sys::Name;
use crate::sys::at::Replace;

/// One end of a rename.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The directory in the upper.
    pub dir: &'a UpperDir,
    /// The name.
    pub name: Name<'a>,
    /// A lower has this name.
    pub in_lowers: bool,
}

/// The object that moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moving {
    /// It is a directory.
    pub is_dir: bool,
    /// It is a directory that goes on merging with lowers, by a redirect that it has already. It
    /// needs no opaque mark: a redirect leads past the objects that lowers have at the new name.
    pub redirected: bool,
}

/// The state of the new name in the upper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupied {
    /// Nothing.
    Free,
    /// A whiteout at the name itself: a device, or a file with the mark.
    WhiteoutDevice,
    /// A whiteout file `.wh.NAME` beside the name.
    WhiteoutFile,
    /// A file, link, device, FIFO or socket.
    Object,
    /// A directory that shows nothing, but may hold markers.
    EmptyDir {
        /// Directories of lowers merge into it, by its name or by a redirect.
        merges: bool,
    },
}

/// Moves `from` to `to`, and replaces the object there.
pub fn rename(
    upper: &Upper,
    what: Moving,
    from: &End<'_>,
    to: &End<'_>,
    occupied: Occupied,
) -> Result<()> {
    if what.is_dir {
        cover(upper, what, from, to)?;
    }
    match (occupied, what.is_dir) {
        (Occupied::WhiteoutDevice, true) => {
            upper.rename_over_whiteout(from.dir, from.name, to.dir, to.name, from.in_lowers)?;
        }
        // A file cannot say that an empty directory is opaque.
        (Occupied::EmptyDir { merges: true }, true) if upper.opaque_is_a_file() => {
            upper.in_place_of(to.dir, to.name, || move_over(upper, from, to))?;
        }
        (Occupied::EmptyDir { merges }, true) => {
            clear_markers(upper, to, merges)?;
            move_over(upper, from, to)?;
        }
        _ => move_over(upper, from, to)?,
    }
    if occupied == Occupied::WhiteoutFile {
        // A failure does no harm: the whiteout file hides only what is below the object.
        best_effort("a whiteout stays", upper.remove_whiteout_file(to.dir, to.name));
    }
    uncover(upper, what, to);
    Ok(())
}

/// Marks a directory as opaque before it moves to a name that a lower has.
fn cover(upper: &Upper, what: Moving, from: &End<'_>, to: &End<'_>) -> Result<()> {
    if !what.is_dir || what.redirected || !to.in_lowers {
        return Ok(());
    }
    upper.with_entry(from.dir, from.name, |target| upper.set_opaque(target))
}

/// Removes the opaque mark of a directory that has moved to a name that no lower has.
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
            // The whiteout file hides only what is below, so the object beside it still shows.
            upper.whiteout(from.dir, from.name, Over::Nothing)?;
            upper.rename(from.dir, from.name, to.dir, to.name, Replace::Yes)
        }
    }
}

/// Exchanges two objects of the upper.
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

/// Removes the markers from a directory that shows nothing, as renameat(2) replaces only an empty
/// one. If lowers merge into it, the directory is made opaque first.
fn clear_markers(upper: &Upper, at: &End<'_>, merges: bool) -> Result<()> {
    if merges {
        upper.with_entry(at.dir, at.name, |target| upper.set_opaque(target))?;
    }
    upper.empty(at.dir, at.name)
}
