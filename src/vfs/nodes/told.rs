//! Telling the kernel of directories whose attributes change as a side effect.
//!
//! A change of all files of a lower directory copies them up one by one, and each copy changes the
//! times of the directory. If the kernel were told each time, it would ask for the attributes of
//! the directory before each next file. So one telling serves for a while, and attributes that are
//! given out meanwhile are valid for no longer than that while.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// For how long one telling serves.
const WHILE: Duration = Duration::from_secs(1);

/// When the kernel was last told of a directory: milliseconds since the mount began, 0 for never.
#[derive(Debug, Default)]
pub struct Told(AtomicU32);

impl Told {
    /// Whether the kernel has to be told now. The next calls return false for a while.
    pub fn is_due(&self, begun: Instant) -> bool {
        let now = since(begun);
        let last = self.0.load(Ordering::Acquire);
        let due = last == 0 || now.wrapping_sub(last) >= millis(WHILE);
        // Two threads at once may both tell.
        if due {
            self.0.store(now, Ordering::Release);
        }
        due
    }

    /// How long attributes that are given out now may be kept; `None` for ever. This holds for
    /// twice as long as a telling serves, for attributes that were read a little earlier.
    pub fn settles_in(&self, begun: Instant) -> Option<Duration> {
        let last = self.0.load(Ordering::Acquire);
        let recent = last != 0 && since(begun).wrapping_sub(last) < 2 * millis(WHILE);
        recent.then_some(WHILE)
    }
}

/// Milliseconds since the mount began. They wrap around after 49 days, when an old telling may seem
/// recent: the kernel asks once more, or hears of a change a second late.
fn since(begun: Instant) -> u32 {
    millis(begun.elapsed()).max(1)
}

fn millis(time: Duration) -> u32 {
    // The lower 32 bits are wanted.
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
