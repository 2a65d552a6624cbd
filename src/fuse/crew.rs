//! The threads that read requests, and the watch over them.
//!
//! The thread that read a request serves it, whatever it waits for: a disk, a network, a layer that
//! hangs, a lock. So nothing has to predict which requests will wait. Instead the thread that began
//! the session keeps **watch**. It adds readers when all of them are in requests, and other
//! requests are pending or a reader says that it will wait. A reader without work ends after a
//! while, if enough are left.
//!
//! The watch costs no system call while some reader is free: readers note the begin and the end of
//! a request by additions to memory. While no request is under way the watch sleeps.
//!
//! Each reader has a [`Seat`], which holds the request that it serves. So another thread can answer
//! a request whose reader waits for a layer that hangs; the reader goes on alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::seat::{Call, Seat};
use crate::control::stat::Readers;
use crate::error::{Error, Result};
use crate::transport::in_flight::Taken;
use crate::transport::init;
use crate::transport::waiting::Waiting;

/// Interval of the watch while all readers are in requests. A request that comes then waits about
/// as long for another reader.
const LOOK: Duration = Duration::from_millis(5);
/// Interval of the watch while some reader is free.
const GLANCE: Duration = Duration::from_secs(1);
/// Number of looks with a free reader, after which the watch only glances.
const CALM: u32 = 20;
/// A request that is served for so long waits for something: most take a hundredth of it.
const HELD_UP: Duration = Duration::from_millis(1);
/// When all readers are held up for so long, one more is added for the next request, and the watch
/// rests.
const STUCK: Duration = Duration::from_millis(100);
/// How long a reader that is not needed waits for a request before it ends.
const IDLE: Duration = Duration::from_secs(10);
/// The most requests that can wait for layers before others have to wait for them.
const MOST: u32 = init::MAX_BACKGROUND as u32;
/// The most readers, including those that nobody waits for because their callers were killed. A
/// tenth of the threads that a system of 32 GiB allows by default (`fork_init`, kernel/fork.c).
const MOST_OF_ALL: u32 = 25_000;
/// Descriptors that a reader may take: one to wait with, two of a pipe, and the file that it reads.
/// Half of all descriptors are left for the layers.
const OF_A_READER: u64 = 4;
/// How long no reader is added after a failure to add one.
const REST: Duration = Duration::from_secs(1);

/// Levels of alert, of the readers and of the watch. A higher one includes the lower ones.
mod alert {
    /// Nothing happened; the watch sleeps.
    pub const NONE: u8 = 0;
    /// A request began; the watch glances.
    pub const SERVING: u8 = 1;
    /// All readers serve requests; the watch looks.
    pub const ALL_SERVING: u8 = 2;
    /// All readers serve requests, and one of them says that it will wait.
    pub const WILL_WAIT: u8 = 3;
}

/// All readers of a connection.
#[derive(Debug)]
pub struct Crew {
    /// How readers wait for requests.
    pub waiting: Waiting,
    wanted: u32,
    /// The most requests that may be waited for at the same time.
    most: u32,
    /// The most readers, including those whose requests another thread has answered.
    most_of_all: u32,
    /// The number of readers that serve no request.
    free: AtomicU32,
    /// The highest level that readers noted since the last look of the watch.
    noted: AtomicU8,
    /// The level that the watch is at.
    pace: AtomicU8,
    state: Mutex<State>,
    roused: Condvar,
}

#[derive(Debug, Default)]
struct State {
    seats: Vec<Arc<Seat>>,
    /// The number of seats that there have been.
    numbers: u32,
    /// The mount is gone.
    is_over: bool,
    /// The first error of a reader.
    failed: Option<Error>,
}

/// A request that is being served, until this is dropped.
#[derive(Debug)]
pub struct Serving<'a> {
    crew: &'a Crew,
    seat: &'a Seat,
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.seat.end();
        self.crew.free.fetch_add(1, Ordering::SeqCst);
    }
}

impl Crew {
    /// A crew with `wanted` readers while none is held up. The process may open `descriptors`,
    /// which limits the number of readers.
    pub fn new(wanted: u32, descriptors: u64, waiting: Waiting) -> Self {
        let one_in = |part: u64| u32::try_from(descriptors / part).unwrap_or(u32::MAX);
        let most = one_in(2 * OF_A_READER).min(MOST).max(wanted);
        Self {
            waiting,
            wanted,
            most,
            most_of_all: one_in(OF_A_READER * 3 / 2).min(MOST_OF_ALL).max(most),
            free: AtomicU32::new(0),
            noted: AtomicU8::new(alert::NONE),
            pace: AtomicU8::new(alert::NONE),
            state: Mutex::default(),
            roused: Condvar::new(),
        }
    }

    /// The number of readers, and its limits.
    pub fn fill(&self) -> Readers {
        let now = self.count(&self.state.lock());
        Readers { wanted: self.wanted, now, most: self.most }
    }

    fn count(&self, state: &State) -> u32 {
        number(state.seats.len())
    }

    /// Adds a seat for one more reader, which is free at first.
    pub fn join(&self) -> Arc<Seat> {
        let mut state = self.state.lock();
        state.numbers = state.numbers.wrapping_add(1).max(1);
        let seat = Arc::new(Seat::new(state.numbers));
        state.seats.push(Arc::clone(&seat));
        self.free.fetch_add(1, Ordering::SeqCst);
        seat
    }

    /// Gives up a seat: the mount is gone, or reading from it failed.
    pub fn leave(&self, seat: &Arc<Seat>, end: Result<()>) {
        let mut state = self.state.lock();
        self.remove(&mut state, seat);
        state.is_over |= end.is_ok() || state.seats.is_empty();
        state.failed = state.failed.take().or(end.err());
        self.roused.notify_all();
    }

    /// Gives up a seat whose thread could not start.
    pub fn withdraw(&self, seat: &Arc<Seat>) {
        self.remove(&mut self.state.lock(), seat);
    }

    fn remove(&self, state: &mut State, seat: &Arc<Seat>) {
        state.seats.retain(|other| !Arc::ptr_eq(other, seat));
        self.free.fetch_sub(1, Ordering::SeqCst);
    }

    /// How long a reader waits for a request before it asks whether it may retire.
    pub fn patience(&self) -> Option<Duration> {
        (self.count(&self.state.lock()) > self.wanted).then_some(IDLE)
    }

    /// Gives up the seat of a reader that waited in vain, if enough others are free.
    pub fn may_retire(&self, seat: &Arc<Seat>) -> bool {
        let mut state = self.state.lock();
        let others = self.free.load(Ordering::SeqCst).saturating_sub(1);
        if others >= self.wanted {
            self.remove(&mut state, seat);
        }
        others >= self.wanted
    }

    /// Notes that a reader serves a request.
    pub fn begin<'a>(&'a self, seat: &'a Seat, call: Call, taken: Option<Taken>) -> Serving<'a> {
        seat.begin(call, taken);
        let was_free = self.free.fetch_sub(1, Ordering::SeqCst);
        self.note(if was_free <= 1 { alert::ALL_SERVING } else { alert::SERVING });
        Serving { crew: self, seat }
    }

    /// Notes that the request of this thread will wait for something, so that other requests do not
    /// wait for this thread.
    pub fn will_wait(&self) {
        self.waiting.stop_spinning();
        if self.are_all_serving() {
            self.note(alert::WILL_WAIT);
        }
    }

    fn are_all_serving(&self) -> bool {
        self.free.load(Ordering::SeqCst) == 0
    }

    fn note(&self, what: u8) {
        if self.noted.load(Ordering::SeqCst) < what {
            self.noted.fetch_max(what, Ordering::SeqCst);
            if self.pace.load(Ordering::SeqCst) < what {
                self.rouse();
            }
        }
    }

    /// Wakes the watch, so that it looks now.
    pub fn rouse(&self) {
        // With this lock the watch waits already, or it will see what there is to see.
        drop(self.state.lock());
        self.roused.notify_all();
    }

    /// The requests that are being served.
    pub fn calls(&self) -> Vec<(Arc<Seat>, Call)> {
        let seats = self.state.lock().seats.clone();
        seats.into_iter().filter_map(|seat| seat.call().map(|call| (seat, call))).collect()
    }

    /// Keeps watch until the mount is gone; fails with the first error of a reader. `requests_wait`
    /// tells whether requests are pending, `add` adds a reader, and `look` is called at each look.
    pub fn watch(
        &self,
        requests_wait: impl Fn() -> bool,
        add: impl Fn() -> Result<()>,
        look: impl Fn(),
    ) -> Result<()> {
        let mut calm = CALM;
        let mut rests_until = None;
        while !self.sleep() {
            let noted = self.noted.swap(alert::NONE, Ordering::SeqCst);
            if rests_until.is_none_or(|until| until < Instant::now()) {
                let wanted = self.lacks(noted, &requests_wait);
                let added = (0..wanted).try_for_each(|_| add());
                rests_until = added.err().map(|err| {
                    tracing::warn!("no thread for more requests, which may have to wait: {err}");
                    Instant::now() + REST
                });
            }
            look();
            let is_tense = noted >= alert::ALL_SERVING || self.are_all_serving();
            calm = if is_tense { 0 } else { calm.saturating_add(1) };
            self.pace.store(self.next_pace(calm, noted), Ordering::SeqCst);
        }
        self.state.lock().failed.take().map_or(Ok(()), Err)
    }

    /// The number of readers to add.
    fn lacks(&self, noted: u8, requests_wait: &impl Fn() -> bool) -> u32 {
        if !self.are_all_serving() {
            return 0;
        }
        let readers = self.count(&self.state.lock());
        let calls = self.calls();
        let waited_for: Vec<_> =
            calls.iter().map(|(_, call)| call).filter(|call| call.is_waited_for()).collect();
        let useful = useful(readers, &calls);
        let held_up = number(waited_for.iter().filter(|call| call.age() >= HELD_UP).count());
        let lacks = match held_up {
            // The readers are quick; more of them would only get into each other's way.
            few if few < useful.div_ceil(2) => 0,
            // The pending requests may wait for what these wait for.
            many if requests_wait() => many.max(1),
            _ if waited_for.iter().all(|call| call.age() >= STUCK) => 1,
            _ => 0,
        };
        let will_wait = u32::from(noted >= alert::WILL_WAIT);
        lacks.max(will_wait).min(self.room(readers, useful))
    }

    /// How many readers may be added, if `useful` of them are useful. A reader whose request
    /// another thread has answered is not: there may be more and more of these while a layer hangs.
    fn room(&self, readers: u32, useful: u32) -> u32 {
        let room = self.most.saturating_sub(useful);
        room.min(self.most_of_all.saturating_sub(readers))
    }

    /// Whether no reader can be added. Then nobody may read that a caller got a signal.
    pub fn is_full(&self) -> bool {
        let readers = self.count(&self.state.lock());
        self.are_all_serving() && self.room(readers, useful(readers, &self.calls())) == 0
    }

    fn next_pace(&self, calm: u32, noted: u8) -> u8 {
        if calm < CALM {
            alert::ALL_SERVING
        } else if noted == alert::NONE && self.calls().is_empty() {
            alert::NONE
        } else {
            alert::SERVING
        }
    }

    /// Waits until it is time for the next look; true if the mount is gone.
    fn sleep(&self) -> bool {
        let mut state = self.state.lock();
        let pace = self.pace.load(Ordering::SeqCst);
        if !state.is_over && self.noted.load(Ordering::SeqCst) <= pace {
            let until = match pace {
                alert::NONE => None,
                alert::SERVING => Some(GLANCE),
                _ => Some(LOOK),
            };
            match until {
                None => self.roused.wait(&mut state),
                Some(until) => {
                    self.roused.wait_for(&mut state, until);
                }
            }
        }
        state.is_over
    }

    /// Waits, once the mount is gone, for all readers that may still change something; others may
    /// hang. A reader without a request may just have taken one, and is waited for.
    pub fn finish(&self) {
        while !self.state.lock().seats.iter().all(|seat| seat.is_harmless()) {
            std::thread::sleep(LOOK);
        }
        self.calls().iter().for_each(|(seat, call)| seat.let_go(call.header.unique));
    }
}

/// The number of readers, without those whose requests nobody waits for any more.
fn useful(readers: u32, calls: &[(Arc<Seat>, Call)]) -> u32 {
    let lost = calls.iter().filter(|(_, call)| !call.is_waited_for()).count();
    readers.saturating_sub(number(lost))
}

/// A length as a number of readers.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::reply::Claim;
    use crate::transport::request::Header;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn call(only_reads: bool) -> Call {
        let opcode = 1;
        let header = Header { opcode, unique: 2, node: 1, uid: 0, gid: 0, pid: 1 };
        Call::new(header, only_reads)
    }

    fn crew(wanted: u32) -> (Crew, Vec<Arc<Seat>>) {
        let crew = Crew::new(wanted, 4000, Waiting::new(Duration::ZERO));
        let seats = (0..wanted).map(|_| crew.join()).collect();
        (crew, seats)
    }

    /// Keeps watch while `act` runs; added readers do nothing.
    fn watched(crew: &Crew, requests_wait: bool, act: impl FnOnce()) {
        let add = || {
            crew.join();
            Ok(())
        };
        std::thread::scope(|scope| {
            scope.spawn(|| crew.watch(|| requests_wait, add, || {}));
            act();
            crew.leave(&crew.join(), Ok(()));
        });
    }

    #[test]
    fn readers_that_are_held_up_are_made_up_for() {
        for (requests_wait, then) in [(true, 4), (false, 3)] {
            let (crew, seats) = crew(2);
            watched(&crew, requests_wait, || {
                let _held_up: Vec<_> =
                    seats.iter().map(|seat| crew.begin(seat, call(true), None)).collect();
                while crew.fill().now < then {
                    std::thread::yield_now();
                }
                std::thread::sleep(4 * LOOK);
                assert_eq!(crew.fill().now, then, "there are free ones");
            });
        }
    }

    #[test]
    fn who_says_that_he_waits_is_made_up_for_at_once() {
        let (crew, seats) = crew(1);
        watched(&crew, false, || {
            let _waits = crew.begin(&seats[0], call(false), None);
            crew.will_wait();
            while crew.fill().now < 2 {
                std::thread::yield_now();
            }
        });
    }

    #[test]
    fn a_request_that_panics_leaves_its_reader_free() {
        let (crew, seats) = crew(1);
        let panics = catch_unwind(AssertUnwindSafe(|| {
            let _serving = crew.begin(&seats[0], call(true), None);
            panic!("a bug");
        }));
        assert!(panics.is_err() && !crew.are_all_serving() && seats[0].call().is_none());
    }

    #[test]
    fn readers_retire_until_enough_are_left() {
        let (crew, seats) = crew(2);
        assert_eq!(crew.patience(), None);
        assert!(!crew.may_retire(&seats[0]));
        let more = [crew.join(), crew.join()];
        assert_eq!(crew.patience(), Some(IDLE));
        let held_up = crew.begin(&seats[0], call(true), None);
        assert!(crew.may_retire(&more[0]) && !crew.may_retire(&more[1]));
        drop(held_up);
        assert!(crew.may_retire(&more[1]));
    }

    /// Claims the request of a seat, as another thread does when the caller was killed.
    fn answered(crew: &Crew, seat: &Seat) -> bool {
        let is_there = crew.calls().iter().any(|(other, _)| std::ptr::eq(&**other, seat));
        is_there && seat.claim(2)
    }

    #[test]
    fn readers_that_nobody_waits_for_are_made_up_for_at_the_limit() {
        // Room for three that are waited for, and four in all.
        let crew = Crew::new(2, 24, Waiting::new(Duration::ZERO));
        assert_eq!((crew.most, crew.most_of_all), (3, 4));
        let seats: Vec<_> = (0..3).map(|_| crew.join()).collect();
        let _hang: Vec<_> = seats.iter().map(|seat| crew.begin(seat, call(true), None)).collect();
        std::thread::sleep(STUCK);
        assert!(crew.is_full());
        assert_eq!(crew.lacks(alert::NONE, &|| true), 0);
        assert!(answered(&crew, &seats[0]) && answered(&crew, &seats[1]));
        assert!(!crew.is_full());
        assert_eq!(crew.lacks(alert::NONE, &|| true), 1, "no more than there may be in all");
        let more = crew.join();
        let _hangs = crew.begin(&more, call(true), None);
        assert!(crew.is_full());
    }

    #[test]
    fn what_only_forgets_keeps_nothing_from_ending() {
        let (crew, seats) = crew(1);
        let header = call(false).header;
        let _forgets = crew.begin(&seats[0], Call::forgetting(header), None);
        assert!(crew.calls().iter().all(|(_, call)| !call.is_waited_for()));
        crew.finish();
    }

    #[test]
    fn the_end_waits_for_changes_alone() {
        let (crew, seats) = crew(2);
        let _reads = crew.begin(&seats[0], call(true), None);
        let writes = crew.begin(&seats[1], call(false), None);
        std::thread::scope(|scope| {
            let end = scope.spawn(|| crew.finish());
            std::thread::sleep(2 * LOOK);
            assert!(!end.is_finished());
            drop(writes);
            crew.leave(&seats[1], Ok(()));
        });
    }
}
