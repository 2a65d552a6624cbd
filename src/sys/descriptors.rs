//! The gate for new descriptors.
//!
//! A process may have so many (EMFILE, RLIMIT_NOFILE), and so may the system (ENFILE). Many of ours
//! are kept only to spare opening something again. So a call that finds no room has those closed
//! that nobody uses, and is tried again; it fails when there are no more to close.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Weak;

use crate::error::{Errno, Error, Result};
use parking_lot::RwLock;

/// Somebody who keeps descriptors that can be done without.
pub trait GivesWay: Send + Sync {
    /// Closes some; false if there are none left to close.
    fn give_way(&self) -> bool;
}

/// Who is asked to give way: the limit is one for the whole process, and so is this.
static ASKED: RwLock<Vec<Weak<dyn GivesWay>>> = RwLock::new(Vec::new());

/// From now on `who` is asked to give way, as long as it is there.
pub fn ask_to_give_way(who: Weak<dyn GivesWay>) {
    let mut asked = ASKED.write();
    asked.retain(|known| known.strong_count() > 0);
    asked.push(who);
}

fn make_room() -> bool {
    // Not locked while descriptors are closed: what goes with them may be one of those asked.
    let asked = ASKED.read().clone();
    let gave_way = asked.iter().filter_map(Weak::upgrade).filter(|who| who.give_way());
    // All of them are asked, not only the first that gives way.
    gave_way.count() > 0
}

/// Runs what opens something, again if there is no room, as long as room can be made.
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

/// The descriptor that a system call returns.
///
/// # Errors
/// The errno of the call; it is made again after EINTR.
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

/// A file of procfs as text.
///
/// # Errors
/// Those of open(2) and read(2).
pub fn proc_text(path: impl AsRef<Path>) -> Result<String> {
    with_room(|| std::fs::read_to_string(&path).map_err(Error::from))
}
