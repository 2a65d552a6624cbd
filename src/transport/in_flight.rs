//! Requests that were read from the kernel and are not finished.
//!
//! The kernel does not wait for answers when a mount ends. Before Linux 6.16 it writes pages back
//! through copies, and no version waits when a connection is aborted. The data of such a request
//! then exists in this process alone. So the process ends only when the last [`Taken`] is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Interval between two checks for progress.
const LOOK: Duration = Duration::from_secs(1);

/// The unfinished requests of one connection.
#[derive(Debug, Default)]
pub struct InFlight {
    taken: AtomicU64,
    finished: AtomicU64,
    /// Set when the session ends: no more requests are taken.
    closed: AtomicBool,
    waits: Mutex<()>,
    none_left: Condvar,
}

/// One request, from the moment it is read until all that it asked for is done.
#[derive(Debug)]
pub struct Taken(Arc<InFlight>);

impl Taken {
    /// Registers a request; `None` if the session is ending.
    pub fn from(requests: &Arc<InFlight>) -> Option<Self> {
        // Counted before the check, so that a later `finish` waits for it.
        requests.taken.fetch_add(1, Ordering::SeqCst);
        let taken = Self(Arc::clone(requests));
        (!requests.closed.load(Ordering::SeqCst)).then_some(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let requests = &self.0;
        requests.finished.fetch_add(1, Ordering::SeqCst);
        if requests.closed.load(Ordering::SeqCst) {
            drop(requests.waits.lock());
            requests.none_left.notify_all();
        }
    }
}

impl InFlight {
    /// Returns the number of unfinished requests.
    pub fn count(&self) -> u64 {
        // In this order, a request that comes and goes between the loads counts as unfinished.
        let finished = self.finished.load(Ordering::SeqCst);
        self.taken.load(Ordering::SeqCst).saturating_sub(finished)
    }

    /// Takes no more requests, and waits until none is left; with `patience`, gives up when none
    /// was finished for so long. Returns how many are left.
    pub fn finish(&self, patience: Option<Duration>) -> u64 {
        self.closed.store(true, Ordering::SeqCst);
        let mut progress = Progress::of(self);
        let mut waits = self.waits.lock();
        let mut told = false;
        while self.count() > 0 && patience.is_none_or(|most| progress.idle(self) < most) {
            let timed_out = self.none_left.wait_for(&mut waits, LOOK).timed_out();
            if timed_out && !told {
                told = true;
                tracing::info!("leaving when {} requests are finished", self.count());
            }
        }
        self.count()
    }

    /// Waits until there are requests, and none of them was finished for `patience`.
    pub fn wait_until_stuck(&self, patience: Duration) {
        let mut progress = Progress::of(self);
        while progress.idle(self) < patience {
            std::thread::sleep(LOOK);
        }
    }
}

/// Time of the last progress.
struct Progress {
    finished: u64,
    since: Instant,
}

impl Progress {
    fn of(requests: &InFlight) -> Self {
        Self { finished: requests.finished.load(Ordering::SeqCst), since: Instant::now() }
    }

    /// Returns for how long there have been requests without one being finished.
    fn idle(&mut self, requests: &InFlight) -> Duration {
        let now = Self::of(requests);
        if now.finished != self.finished || requests.count() == 0 {
            *self = now;
        }
        self.since.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn the_end_waits_for_what_was_taken() {
        let requests = Arc::new(InFlight::default());
        let taken = Taken::from(&requests).unwrap();
        let waits = Arc::clone(&requests);
        let end = std::thread::spawn(move || waits.finish(None));
        while Taken::from(&requests).is_some() {
            std::thread::yield_now();
        }
        assert!(!end.is_finished(), "one is not finished");
        drop(taken);
        assert_eq!(end.join().unwrap(), 0);
    }

    #[test]
    fn what_is_never_finished_is_waited_for_no_longer_than_asked() {
        let requests = Arc::new(InFlight::default());
        let hangs = Taken::from(&requests).unwrap();
        requests.wait_until_stuck(Duration::from_millis(10));
        assert_eq!(requests.finish(Some(Duration::from_millis(10))), 1);
        drop(hangs);
        assert_eq!(requests.finish(Some(Duration::ZERO)), 0);
    }
}
