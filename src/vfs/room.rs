//! Changes that find no room on the disk.
//!
//! Some room can be freed, and some is about to become free. Copies that were made ahead are not
//! needed yet. A removed file is kept until the kernel forgets it, because no request tells whether
//! it is open. The kernel forgets it at once, but by a message of its own, which the next request
//! may overtake.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Vfs;
use crate::error::{Errno, Result};

/// How long a change waits at first before it is tried again. FORGET comes within a millisecond.
const WAIT: Duration = Duration::from_millis(1);

/// How long the further tries wait for the file system to have more room: FORGET may take a few
/// milliseconds on a busy machine. Without more room the change is not tried again.
const FURTHER_WAITS: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(60)];

/// How long after a removal room may still become free. A file that is open for longer will not be
/// closed soon.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// When an object of the upper last lost its last name, or was made without one.
#[derive(Debug, Default)]
pub struct Removals(Mutex<Option<Instant>>);

impl Removals {
    /// Notes a removal, which happened now.
    pub fn note(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    fn are_recent(&self) -> bool {
        self.0.lock().is_some_and(|last| last.elapsed() < ON_ITS_WAY)
    }
}

/// Free blocks and inodes of the upper's file system, as statfs(2) counts them for ordinary users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Free {
    blocks: u64,
    files: u64,
}

impl Vfs {
    /// Runs a change, and again if it finds no room while some can become free.
    ///
    /// # Errors
    /// Those of `act`.
    pub(super) fn with_room<T>(&self, mut act: impl FnMut() -> Result<T>) -> Result<T> {
        let mut done = act();
        if lacks_room(&done) && self.ahead.drop_all() {
            done = act();
        }
        if !lacks_room(&done) || !self.removals.are_recent() {
            return done;
        }
        std::thread::sleep(WAIT);
        // Looked at before each try, so that none of what comes later is missed.
        let mut free = self.free();
        done = act();
        for wait in FURTHER_WAITS {
            if !lacks_room(&done) {
                break;
            }
            std::thread::sleep(wait);
            let before = std::mem::replace(&mut free, self.free());
            if has_grown(before, free) {
                done = act();
            }
        }
        done
    }

    fn free(&self) -> Option<Free> {
        let found = self.statfs().ok()?;
        Some(Free { blocks: found.bavail, files: found.ffree })
    }
}

fn lacks_room<T>(done: &Result<T>) -> bool {
    matches!(done, Err(err) if matches!(err.errno(), Errno::ENOSPC | Errno::EDQUOT))
}

fn has_grown(before: Option<Free>, now: Option<Free>) -> bool {
    let (Some(before), Some(now)) = (before, now) else { return false };
    now.blocks > before.blocks || now.files > before.files
}
