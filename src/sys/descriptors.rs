//! The gate for new descriptors.
//!
//! The number of descriptors is limited, for a process (EMFILE, RLIMIT_NOFILE) and for the system
//! (ENFILE). Many of ours are kept only so that something need not be opened again. When a call
//! finds no room, those that nobody uses are closed, and the call is made again. It fails when
//! there are none left to close.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Weak;

use crate::error::{Errno, Error, Result};
use parking_lot::RwLock;

/// A keeper of descriptors that we can do without.
pub trait GivesWay: Send + Sync {
    /// Closes some of them; false if none is left to close.
    fn give_way(&self) -> bool;
}

/// The keepers that are asked to give way. There is one list, as there is one limit for the
/// process.
static ASKED: RwLock<Vec<Weak<dyn GivesWay>>> = RwLock::new(Vec::new());

/// From now on `who` is asked to give way, as long as it lives.
pub fn ask_to_give_way(who: Weak<dyn GivesWay>) {
    let mut asked = ASKED.write();
    asked.retain(|known| known.strong_count() > 0);
    asked.push(who);
}

fn make_room() -> bool {
    // The list is not locked while descriptors are closed: that may drop a keeper.
    let asked = ASKED.read().clone();
    let gave_way = asked.iter().filter_map(Weak::upgrade).filter(|who| who.give_way());
    // Counting asks all of them, not only the first that gives way.
    gave_way.count() > 0
}

/// Runs `open`, which opens something. If there is no room, room is made and it is run again.
///
/// # Errors
/// Those of `open`.
pub fn with_room<T>(mut open: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match open() {
            Err(err) if matches!(err.errno(), Errno::EMFILE | Errno::ENFILE) && make_room() => {}
            other => return other,
        }
    }
}

/// The descriptor that a system call returns. If there is no room for it, room is made.
///
/// # Errors
/// Those of the call, which is made again after EINTR.
pub(super) fn opened<E: Into<Error>>(
    mut call: impl FnMut() -> std::result::Result<OwnedFd, E>,
) -> Result<OwnedFd> {
    with_room(|| {
        loop {
            match call().map_err(E::into) {
                Err(err) if err.errno() == Errno::EINTR => {}
                other => return other,
            }
        }
    })
}

/// The text of a file of procfs.
///
/// # Errors
/// Those of open(2) and read(2).
pub fn proc_text(path: impl AsRef<Path>) -> Result<String> {
    with_room(|| std::fs::read_to_string(&path).map_err(Error::from))
}
