//! The seat of a reader, which holds its request while it is served.
//!
//! A request gets one answer, from the thread that claims it first. That is mostly its reader, but
//! another thread may answer while the reader waits for a layer that hangs. A request that changes
//! something has to be given up before that, so that it changes nothing any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::gettid;
use parking_lot::Mutex;

use crate::sys::commit::{self, Commit};
use crate::transport::in_flight::Taken;
use crate::transport::reply::Claim;
use crate::transport::request::Header;

/// A request that is being served.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The caller and the kind of the request.
    pub header: Header,
    /// The request changes nothing.
    pub only_reads: bool,
    begun: Instant,
    /// The request has its answer, or is about to get it.
    answered: bool,
    /// The caller got a signal.
    interrupted: bool,
}

impl Call {
    /// A request that begins now.
    pub fn new(header: Header, only_reads: bool) -> Self {
        Self { header, only_reads, begun: Instant::now(), answered: false, interrupted: false }
    }

    /// A request that begins now, changes nothing and gets no answer.
    pub fn forgetting(header: Header) -> Self {
        Self { answered: true, ..Self::new(header, true) }
    }

    /// How long it has been served.
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether the caller still waits for the answer.
    pub fn is_waited_for(&self) -> bool {
        !self.answered
    }

    /// Whether the caller got a signal.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted
    }
}

/// The slot of one reader, with the request that it serves.
#[derive(Debug)]
pub struct Seat {
    /// Distinguishes readers; the first is 1.
    pub number: u32,
    thread: AtomicI32,
    call: Mutex<Option<Call>>,
    /// Whether the request has changed something.
    commit: Arc<Commit>,
    /// Makes the end of the process wait for the request.
    taken: Mutex<Option<Taken>>,
}

impl Seat {
    /// A seat without a request.
    pub fn new(number: u32) -> Self {
        Self {
            number,
            thread: AtomicI32::new(0),
            call: Mutex::default(),
            commit: Arc::default(),
            taken: Mutex::default(),
        }
    }

    /// Sets the thread of the reader. To be called by that thread, once.
    pub fn sit_down(&self) {
        self.thread.store(gettid().as_raw(), Ordering::Relaxed);
        commit::serve(&self.commit);
    }

    /// The thread of the reader.
    pub fn thread(&self) -> i32 {
        self.thread.load(Ordering::Relaxed)
    }

    /// The request that is served here.
    pub fn call(&self) -> Option<Call> {
        *self.call.lock()
    }

    pub(super) fn begin(&self, call: Call, taken: Option<Taken>) {
        let mut place = self.call.lock();
        *self.taken.lock() = taken;
        self.commit.begin();
        *place = Some(call);
    }

    pub(super) fn end(&self) {
        let mut call = self.call.lock();
        *call = None;
        let taken = self.taken.lock().take();
        drop(call);
        drop(taken);
    }

    /// Lets the process end without this request, if it is still served here.
    pub fn let_go(&self, unique: u64) {
        let call = self.call.lock();
        let is_here = call.as_ref().is_some_and(|call| call.header.unique == unique);
        let taken = if is_here { self.taken.lock().take() } else { None };
        drop(call);
        drop(taken);
    }

    /// Notes that the caller of a request got a signal. False if it is not served here.
    pub fn interrupt(&self, unique: u64) -> bool {
        self.change(unique, |call| {
            call.interrupted = true;
            true
        })
    }

    /// Gives a request up. False if it is not served here, or has changed something already.
    pub fn give_up(&self, unique: u64) -> bool {
        self.change(unique, |call| call.only_reads || self.commit.give_up())
    }

    /// Whether the request here can change nothing any more, however long it takes.
    pub fn is_harmless(&self) -> bool {
        self.call().is_some_and(|call| call.only_reads || self.commit.is_given_up())
    }

    fn change(&self, unique: u64, change: impl FnOnce(&mut Call) -> bool) -> bool {
        let mut call = self.call.lock();
        call.as_mut().filter(|call| call.header.unique == unique).is_some_and(change)
    }
}

impl Claim for Seat {
    fn claim(&self, unique: u64) -> bool {
        self.change(unique, |call| !std::mem::replace(&mut call.answered, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::in_flight::InFlight;

    #[test]
    fn a_request_gets_one_answer() {
        let seat = Seat::new(1);
        let header = Header { opcode: 1, unique: 6, node: 1, uid: 0, gid: 0, pid: 7 };
        assert!(!seat.claim(6), "it is not there");
        seat.begin(Call::new(header, true), None);
        assert!(!seat.claim(4) && !seat.interrupt(4), "another one");
        assert!(seat.interrupt(6));
        let call = seat.call().unwrap();
        assert!(call.is_waited_for() && call.is_interrupted());
        assert!(seat.claim(6) && !seat.claim(6));
        assert!(!seat.call().unwrap().is_waited_for());
        seat.end();
        assert!(seat.call().is_none());
    }

    #[test]
    fn the_end_lets_go_of_one_request_and_of_no_later_one() {
        let seat = Seat::new(1);
        let requests = Arc::new(InFlight::default());
        let header = |unique| Header { opcode: 1, unique, node: 1, uid: 0, gid: 0, pid: 7 };
        seat.begin(Call::new(header(8), true), Taken::from(&requests));
        seat.let_go(6);
        assert_eq!(requests.count(), 1);
        seat.let_go(8);
        assert_eq!(requests.count(), 0);
    }

    #[test]
    fn a_change_is_given_up_once_and_for_itself_alone() {
        let seat = Seat::new(1);
        let header = |unique| Header { opcode: 9, unique, node: 1, uid: 0, gid: 0, pid: 7 };
        assert!(!seat.is_harmless(), "nobody is there");
        seat.begin(Call::new(header(6), false), None);
        assert!(!seat.give_up(4) && !seat.is_harmless());
        assert!(seat.give_up(6) && seat.is_harmless());
        seat.end();
        seat.begin(Call::new(header(8), false), None);
        assert!(!seat.give_up(6) && !seat.is_harmless(), "that was the one before");
    }
}
