//! Which threads get attributes together with the names that they list.
//!
//! The kernel's first READDIRPLUS of a directory asks for all attributes with the names. A program
//! that only reads names (find, a shell's glob, git looking for new files) never uses them, and on
//! a cold disk they cost a read for each file. They save a LOOKUP for each file to a program that
//! looks at them all (ls -l, tar, rm). A request does not tell the two apart, but the LOOKUPs that
//! follow do. A thread gets names until it has looked up about a third of them, and attributes from
//! then on. Not half: rm -r lists each directory twice, first to see whether it is empty.
//! Directories always come with attributes, as walkers enter them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::vfs::Attributes;

/// The number of threads that are told apart. More of them share a place, and its answer.
const PLACES: usize = 256;

/// Names to judge a thread by: as many as a listing gives in one or two answers.
const ENOUGH: u32 = 16;

/// Counts are halved when they pass this, so that a thread which changes its ways is noticed.
const MANY: u32 = 4096;

/// The use that threads made of names without attributes.
#[derive(Debug)]
pub struct ReaddirplusPolicy {
    /// The upper half counts the names given, the lower half those of them that were looked up.
    places: Box<[AtomicU64]>,
}

impl Default for ReaddirplusPolicy {
    fn default() -> Self {
        Self { places: (0..PLACES).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl ReaddirplusPolicy {
    /// Notes that a thread was given names without attributes.
    pub fn listed(&self, thread: u32, names: u32) {
        if names > 0 {
            self.update(thread, |given, looked| (given.saturating_add(names), looked));
        }
    }

    /// Notes that a thread looked up an existing name.
    pub fn looked_up(&self, thread: u32) {
        let Some(place) = self.place(thread) else { return };
        let (given, looked) = halves(place.load(Ordering::Relaxed));
        // A thread that lists nothing is not counted, and costs nothing.
        if looked < given {
            self.update(thread, |given, looked| (given, looked.saturating_add(1).min(given)));
        }
    }

    /// The attributes that a thread gets with the names that it lists.
    pub fn want(&self, thread: u32) -> Attributes {
        let Some(place) = self.place(thread) else { return Attributes::All };
        let (given, looked) = halves(place.load(Ordering::Relaxed));
        if given >= ENOUGH && looked >= given / 3 {
            Attributes::All
        } else {
            Attributes::OfDirectories
        }
    }

    fn place(&self, thread: u32) -> Option<&AtomicU64> {
        self.places.get(thread as usize % PLACES)
    }

    fn update(&self, thread: u32, change: impl Fn(u32, u32) -> (u32, u32)) {
        let Some(place) = self.place(thread) else { return };
        let next = |counts: u64| {
            let (given, looked) = halves(counts);
            let (given, looked) = change(given, looked);
            Some(if given > MANY { whole(given / 2, looked / 2) } else { whole(given, looked) })
        };
        place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok();
    }
}

fn halves(counts: u64) -> (u32, u32) {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
    (half(counts >> 32), half(counts))
}

fn whole(given: u32, looked: u32) -> u64 {
    u64::from(given) << 32 | u64::from(looked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_gets_attributes() {
        let walkers = ReaddirplusPolicy::default();
        assert_eq!(walkers.want(1), Attributes::OfDirectories, "nothing is known of it");
        walkers.listed(1, 100);
        for _ in 0..32 {
            walkers.looked_up(1);
        }
        assert_eq!(walkers.want(1), Attributes::OfDirectories);
        walkers.looked_up(1);
        assert_eq!(walkers.want(1), Attributes::All);
        assert_eq!(walkers.want(2), Attributes::OfDirectories, "another thread");
        // Names with attributes are not counted, so the answer stays.
        walkers.listed(1, 0);
        assert_eq!(walkers.want(1), Attributes::All);
    }

    #[test]
    fn lookups_without_a_listing_do_not_count() {
        let walkers = ReaddirplusPolicy::default();
        for _ in 0..100 {
            walkers.looked_up(1);
        }
        walkers.listed(1, 100);
        assert_eq!(walkers.want(1), Attributes::OfDirectories);
    }
}
