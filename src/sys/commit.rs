//! The point from which a request cannot be given up any more.
//!
//! A request may wait long before it changes anything: for a layer that hangs, or for a lock. Until
//! then nobody is harmed if it is given up, and its caller can be told so. From its first change on
//! it has to be finished. Both sides ask one [`Commit`], and the first one wins: the side that
//! gives up, or the first call here that changes something. Once a request is given up, such calls
//! fail with EINTR.
//!
//! A change that nobody sees does not count: see [`unseen`].

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Errno, Result};

/// Nothing was changed yet.
const OPEN: u8 = 0;
/// Something was changed.
const COMMITTED: u8 = 1;
/// Nothing may be changed any more.
const GIVEN_UP: u8 = 2;

/// The state of the request that a thread serves.
#[derive(Debug, Default)]
pub struct Commit(AtomicU8);

impl Commit {
    /// Begins the next request.
    pub fn begin(&self) {
        self.0.store(OPEN, Ordering::SeqCst);
    }

    /// Gives the request up. False if it has changed something already.
    pub fn give_up(&self) -> bool {
        self.leave_open(GIVEN_UP)
    }

    /// Whether the request was given up.
    pub fn is_given_up(&self) -> bool {
        self.0.load(Ordering::SeqCst) == GIVEN_UP
    }

    /// Goes from [`OPEN`] to another state. True if the request is in that state now.
    fn leave_open(&self, to: u8) -> bool {
        match self.0.compare_exchange(OPEN, to, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => true,
            Err(state) => state == to,
        }
    }
}

thread_local! {
    static SERVED: RefCell<Option<Arc<Commit>>> = const { RefCell::new(None) };
    static UNSEEN: Cell<u32> = const { Cell::new(0) };
}

/// Lets the changes that this thread makes from now on belong to the requests of `commit`.
pub fn serve(commit: &Arc<Commit>) {
    SERVED.set(Some(Arc::clone(commit)));
}

/// Commits to the request that this thread serves. It must be called before each call that changes
/// something.
///
/// # Errors
/// EINTR if the request was given up.
pub(super) fn before_change() -> Result<()> {
    if UNSEEN.get() > 0 {
        return Ok(());
    }
    let commits =
        SERVED.with_borrow(|served| served.as_ref().is_none_or(|it| it.leave_open(COMMITTED)));
    if commits { Ok(()) } else { Err(Errno::EINTR.into()) }
}

/// Runs work of which nobody sees anything but the time it takes: work on an object that has no
/// name in the tree yet, a copy that shows what was shown before, and what undoes such work. It is
/// run also if the request was given up, and the request can still be given up after it.
pub fn unseen<T>(work: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            UNSEEN.set(UNSEEN.get() - 1);
        }
    }
    UNSEEN.set(UNSEEN.get() + 1);
    let _leave = Leave;
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> bool {
        before_change().is_err_and(|err| err.errno() == Errno::EINTR)
    }

    #[test]
    fn a_request_is_given_up_or_carried_out() {
        let commit = Arc::new(Commit::default());
        serve(&commit);
        before_change().unwrap();
        assert!(!commit.give_up() && !commit.is_given_up());
        before_change().unwrap();
        commit.begin();
        assert!(commit.give_up() && commit.give_up() && commit.is_given_up());
        assert!(refused() && refused());
        commit.begin();
        before_change().unwrap();
    }

    #[test]
    fn what_nobody_sees_commits_to_nothing() {
        let commit = Arc::new(Commit::default());
        serve(&commit);
        unseen(|| unseen(before_change)).unwrap();
        assert!(commit.give_up());
        unseen(before_change).unwrap();
        assert!(refused());
        let panics = std::panic::catch_unwind(|| unseen(|| panic!("a bug")));
        assert!(panics.is_err() && refused());
    }

    #[test]
    fn a_thread_that_serves_nobody_is_never_refused() {
        before_change().unwrap();
    }

    #[test]
    fn of_two_threads_one_wins() {
        for _ in 0..1000 {
            let commit = Arc::new(Commit::default());
            let served = Arc::clone(&commit);
            let change = std::thread::spawn(move || {
                serve(&served);
                before_change().is_ok()
            });
            let given_up = commit.give_up();
            assert_ne!(given_up, change.join().unwrap());
        }
    }
}
