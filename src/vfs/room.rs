//! Changes that find no room on the disk.
//!
//! Some of the room is ours, and some is on its way: copies that were made ahead are needed by
//! nobody yet, and a file that was removed is kept until the client forgets it, as nobody tells us
//! whether it is open. The client forgets it at once, but with a message of its own, which the next
//! request may overtake.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Vfs;
use crate::error::{Errno, Result};

/// How long a change waits for room, each time. FORGET comes within a millisecond, or a few on a
/// busy machine.
const WAITS: [Duration; 4] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(60),
];

/// For how long after a file was removed its room may be on its way. What is open for longer will
/// not be let go soon.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// When an object of the upper lost its last name.
#[derive(Debug, Default)]
pub struct Removals(Mutex<Option<Instant>>);

impl Removals {
    /// One has lost it now.
    pub fn note(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    fn are_recent(&self) -> bool {
        self.0.lock().is_some_and(|last| last.elapsed() < ON_ITS_WAY)
    }
}

impl Vfs {
    /// Runs a change, and again if it finds no room while there is some to be had.
    ///
    /// # Errors
    /// Those of `act`.
    pub(super) fn with_room<T>(&self, mut act: impl FnMut() -> Result<T>) -> Result<T> {
        for wait in WAITS {
            match act() {
                Err(err)
                    if matches!(err.errno(), Errno::ENOSPC | Errno::EDQUOT)
                        && self.makes_room(wait) => {}
                other => return other,
            }
        }
        act()
    }

    /// Whether there may be more room now than before.
    fn makes_room(&self, wait: Duration) -> bool {
        if self.ahead.drop_all() {
            return true;
        }
        let is_on_its_way = self.removals.are_recent();
        if is_on_its_way {
            std::thread::sleep(wait);
        }
        is_on_its_way
    }
}
