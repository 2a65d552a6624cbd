//! Telling a client of directories whose attributes move although it changes something else.
//!
//! A change of all files of a lower directory copies them up one by one, and each copy moves the
//! directory's time of change. To tell of each would make the client ask for the attributes of the
//! directory before each next file. So one telling serves for a while, in which attributes are
//! given out for no longer than that while.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// For how long one telling serves.
const WHILE: Duration = Duration::from_secs(1);

/// When the client was told of a directory last: milliseconds since the mount began, 0 for never.
#[derive(Debug, Default)]
pub struct Told(AtomicU32);

impl Told {
    /// Whether the client has to be told now that something moved; asked again, not for a while.
    pub fn is_due(&self, begun: Instant) -> bool {
        let now = since(begun);
        let last = self.0.load(Ordering::Acquire);
        let due = last == 0 || now.wrapping_sub(last) >= millis(WHILE);
        // Two at once may both tell.
        if due {
            self.0.store(now, Ordering::Release);
        }
        due
    }

    /// How long attributes that are given out now may be kept, if not for good. Twice as long as a
    /// telling serves, for those that were looked at a little earlier.
    pub fn settles_in(&self, begun: Instant) -> Option<Duration> {
        let last = self.0.load(Ordering::Acquire);
        let recent = last != 0 && since(begun).wrapping_sub(last) < 2 * millis(WHILE);
        recent.then_some(WHILE)
    }
}

/// Wraps around after 49 days, when a telling from then may seem to be from now: the client asks
/// once more, or hears of a change a second late.
fn since(begun: Instant) -> u32 {
    millis(begun.elapsed()).max(1)
}

fn millis(time: Duration) -> u32 {
    // The lower bits are wanted.
    (time.as_millis() & u128::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_telling_serves_for_a_while() {
        let (told, begun) = (Told::default(), Instant::now());
        assert_eq!(told.settles_in(begun), None);
        assert!(told.is_due(begun));
        assert!(!told.is_due(begun));
        assert_eq!(told.settles_in(begun), Some(WHILE));
        let later = begun.checked_sub(WHILE + WHILE / 2).unwrap();
        assert!(told.settles_in(later).is_some(), "what was looked at before");
        assert!(told.is_due(later));
        let last = begun.checked_sub(WHILE * 4).unwrap();
        assert_eq!(told.settles_in(last), None);
    }
}
