//! How threads wait for the next request.
//!
//! Waking a thread that sleeps costs more than most requests take, above all where the processors
//! are virtual ones that have to be woken as well. A single client sends its next request a few
//! microseconds after our answer to the last. So, while that goes on, one thread does not sleep: it
//! asks for the next request over and over for a short time, and the other threads keep out of its
//! way.
//!
//! * **Sleeping** is the rule: threads sleep in epoll, and the kernel wakes one for each request.
//! * A thread whose requests came in quick succession becomes the **spinner**. Who wakes and sees
//!   one parks for [`PATIENCE`]. If the spinner has by then been busy with one request for that
//!   long, it is no spinner any more.
//! * It goes back to sleep when no request comes for a while, when it wasted a processor that
//!   others wanted, and when the requests of several clients wait for it: they are served better by
//!   several threads.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{UsageWho, getrusage};
use parking_lot::{Condvar, Mutex};

use super::device::{Device, Received};
use crate::error::{Error, Result};
use crate::sys::descriptors::with_room;

/// A request that comes as soon as this after an answer, waking included, would have been worth
/// spinning for.
const QUICK: Duration = Duration::from_micros(100);
/// So many quick requests in a row are a busy client.
const BUSY: u8 = 4;
/// No amount of quick requests in the past counts for more.
const MOST: u8 = 8;
/// What one time in vain costs.
const IN_VAIN: u8 = 4;
/// Requests of others that had waited, until spinning is given up for them.
const CROWD: u8 = 4;
/// For how long a thread does not spin after it stood in the way of others.
const REST: Duration = Duration::from_millis(5);
/// A request that takes so long waits for something. Its client is not worth spinning for.
const LONG: Duration = Duration::from_millis(1);
/// For how long threads rely on the spinner.
const PATIENCE: Duration = Duration::from_millis(10);

/// No thread spins.
const NOBODY: u32 = 0;

/// What the threads know of each other.
#[derive(Debug)]
pub struct Waiting {
    /// The longest time to spin; none: never.
    spin: Duration,
    /// The number of the thread that spins, or serves what it got by that.
    spinner: AtomicU32,
    /// When a request was last taken or answered, in nanoseconds since `start`.
    last: AtomicU64,
    start: Instant,
    parked: Mutex<()>,
    given_up: Condvar,
}

/// What a thread waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A request of this length.
    Request(usize),
    /// Nothing came for as long as it was to wait.
    Nothing,
    /// The mount is gone.
    Gone,
}

/// Why a thread sleeps no longer.
enum Woken {
    ForRequest,
    ForSpinner,
    InVain,
}

/// One thread that waits and serves.
#[derive(Debug)]
pub struct Waiter {
    number: u32,
    epoll: Epoll,
    pace: Pace,
}

/// What a thread knows of the requests that it got.
#[derive(Debug, Default)]
struct Pace {
    /// How well it goes, up to [`MOST`].
    quick: u8,
    /// How much others had to wait.
    crowd: u8,
    /// The client of the last request.
    client: u32,
    /// When the last request was taken, after `Waiting::start`.
    taken: Duration,
    /// The last request was not there yet when it was asked for.
    had_to_wait: bool,
    /// No spinning before that.
    rests_until: Option<Instant>,
    /// How often this thread had to leave its processor, as of the last time in vain.
    preempted: Option<i64>,
}

impl Waiting {
    /// For threads that spin for at most `spin`.
    pub fn new(spin: Duration) -> Self {
        // A spinner on the only processor keeps the client from sending what it waits for.
        let alone = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1);
        Self {
            spin: if alone { Duration::ZERO } else { spin },
            spinner: AtomicU32::new(NOBODY),
            last: AtomicU64::new(0),
            start: Instant::now(),
            parked: Mutex::new(()),
            given_up: Condvar::new(),
        }
    }

    /// A thread with a number of its own, from 1.
    ///
    /// # Errors
    /// EMFILE, ENOMEM (epoll_create1(2), epoll_ctl(2)).
    pub fn waiter(&self, number: u32, device: &Device) -> Result<Waiter> {
        let flags = EpollCreateFlags::EPOLL_CLOEXEC;
        let epoll = with_room(|| Epoll::new(flags).map_err(Error::from))?;
        // Exclusive: one request wakes one thread.
        let readable = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE, 0);
        epoll.add(device.as_fd(), readable)?;
        Ok(Waiter { number, epoll, pace: Pace::default() })
    }

    /// The next request. With `patience`, a thread sleeps no longer than that.
    ///
    /// # Errors
    /// What [`Device::take`] says.
    pub fn next(
        &self,
        waiter: &mut Waiter,
        device: &Device,
        buffer: &mut [u8],
        patience: Option<Duration>,
    ) -> Result<Next> {
        loop {
            let received = match self.spinner.load(Ordering::Relaxed) {
                NOBODY => match self.sleep(waiter, patience)? {
                    Woken::InVain => return Ok(Next::Nothing),
                    Woken::ForSpinner => Received::Nothing,
                    Woken::ForRequest => device.take(buffer)?,
                },
                spinner if spinner == waiter.number => self.spin(waiter, device, buffer)?,
                spinner => {
                    self.park(spinner);
                    continue;
                }
            };
            let len = match received {
                Received::Nothing => continue,
                Received::Gone => return Ok(Next::Gone),
                Received::Request(len) => len,
            };
            if !self.spin.is_zero() {
                let now = self.start.elapsed();
                let before = self.last.swap(nanoseconds(now), Ordering::Relaxed);
                waiter.pace.took(now.saturating_sub(Duration::from_nanos(before)));
                waiter.pace.taken = now;
            }
            return Ok(Next::Request(len));
        }
    }

    /// To be called after each request, with the number of its client.
    pub fn served(&self, waiter: &mut Waiter, client: u32) {
        if self.spin.is_zero() {
            return;
        }
        let now = self.start.elapsed();
        self.last.store(nanoseconds(now), Ordering::Relaxed);
        let pace = &mut waiter.pace;
        let other_client = std::mem::replace(&mut pace.client, client) != client;
        let was_long = now.saturating_sub(pace.taken) >= LONG;
        if was_long {
            pace.quick = 0;
        }
        let me = waiter.number;
        if self.spinner.load(Ordering::Relaxed) == me {
            if pace.is_crowded(other_client) || was_long {
                pace.rest();
                self.give_up(me);
                self.given_up.notify_all();
            }
        } else if pace.may_spin() {
            // Else another one is faster.
            self.spinner.compare_exchange(NOBODY, me, Ordering::Relaxed, Ordering::Relaxed).ok();
        }
    }

    /// Has nobody spin, as the thread that does will wait for something else now.
    pub fn stop_spinning(&self) {
        let spinner = self.spinner.load(Ordering::Relaxed);
        if spinner != NOBODY {
            self.give_up(spinner);
            self.given_up.notify_all();
        }
    }

    fn sleep(&self, waiter: &Waiter, patience: Option<Duration>) -> Result<Woken> {
        let mut events = [EpollEvent::empty()];
        let timeout = patience.and_then(|most| EpollTimeout::try_from(most).ok());
        match waiter.epoll.wait(&mut events, timeout.unwrap_or(EpollTimeout::NONE)) {
            Ok(0) => return Ok(Woken::InVain),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(err) => return Err(err.into()),
        }
        Ok(match self.spinner.load(Ordering::Relaxed) {
            NOBODY => Woken::ForRequest,
            // What woke us is for the spinner, which looks once more before it sleeps.
            _ => Woken::ForSpinner,
        })
    }

    fn spin(&self, waiter: &mut Waiter, device: &Device, buffer: &mut [u8]) -> Result<Received> {
        let begin = Instant::now();
        waiter.pace.had_to_wait = false;
        loop {
            match device.take(buffer)? {
                Received::Nothing if begin.elapsed() < self.spin => {
                    waiter.pace.had_to_wait = true;
                    std::hint::spin_loop();
                }
                Received::Nothing => {
                    waiter.pace.in_vain();
                    self.give_up(waiter.number);
                    return Ok(Received::Nothing);
                }
                received => return Ok(received),
            }
        }
    }

    /// Leaves the others to the spinner, unless that has been busy for long.
    fn park(&self, spinner: u32) {
        let mut parked = self.parked.lock();
        if self.spinner.load(Ordering::Relaxed) != spinner {
            return;
        }
        let timed_out = self.given_up.wait_for(&mut parked, PATIENCE).timed_out();
        let last = Duration::from_nanos(self.last.load(Ordering::Relaxed));
        if timed_out && self.start.elapsed().saturating_sub(last) > PATIENCE {
            self.give_up(spinner);
        }
    }

    /// Has the threads sleep in epoll again. Those that are parked follow within [`PATIENCE`].
    fn give_up(&self, spinner: u32) {
        let (relaxed, nobody) = (Ordering::Relaxed, NOBODY);
        self.spinner.compare_exchange(spinner, nobody, relaxed, relaxed).ok();
    }
}

impl Pace {
    /// Notes a request that came so long after the last answer.
    fn took(&mut self, gap: Duration) {
        self.quick = match gap {
            gap if gap <= QUICK => (self.quick + 1).min(MOST),
            _ => self.quick.saturating_sub(1),
        };
    }

    fn may_spin(&mut self) -> bool {
        if self.quick < BUSY {
            return false;
        }
        match self.rests_until {
            Some(until) if Instant::now() < until => false,
            _ => {
                self.rests_until = None;
                true
            }
        }
    }

    /// Notes what was just served by spinning, and whether several clients wait for us. That the
    /// request of the same client had waited says nothing: not all wait for their answers.
    fn is_crowded(&mut self, other_client: bool) -> bool {
        self.crowd = match other_client && !self.had_to_wait {
            true => self.crowd + 1,
            false => self.crowd.saturating_sub(1),
        };
        self.crowd >= CROWD
    }

    /// Notes a time of spinning that brought nothing.
    fn in_vain(&mut self) {
        self.quick = self.quick.saturating_sub(IN_VAIN);
        // Unknown counts as none.
        let preempted = getrusage(UsageWho::RUSAGE_THREAD)
            .map_or(0, |usage| usage.involuntary_context_switches());
        if self.preempted.replace(preempted).is_some_and(|before| before < preempted) {
            self.rest();
        }
    }

    fn rest(&mut self) {
        (self.quick, self.crowd) = (0, 0);
        self.rests_until = Some(Instant::now() + REST);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use nix::unistd::write;
    use std::os::fd::OwnedFd;

    const FOR_EVER: Duration = Duration::from_secs(1);

    /// A device, and the end at which requests go in.
    fn device() -> (Device, OwnedFd) {
        let kind = SockType::SeqPacket;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap();
        (Device::new(ours).unwrap(), theirs)
    }

    /// For a machine of several processors, whatever this one has.
    fn waiting(spin: Duration) -> Waiting {
        Waiting { spin, ..Waiting::new(spin) }
    }

    /// Serves `count` requests of these clients that are all there already.
    fn serve(waiting: &Waiting, waiter: &mut Waiter, end: (&Device, &OwnedFd), clients: &[u32]) {
        clients.iter().for_each(|_| assert_eq!(write(end.1, b"request").unwrap(), 7));
        for client in clients {
            assert_eq!(waiting.next(waiter, end.0, &mut [0; 64], None).unwrap(), Next::Request(7));
            waiting.served(waiter, *client);
        }
    }

    fn spins(waiting: &Waiting) -> bool {
        waiting.spinner.load(Ordering::Relaxed) != NOBODY
    }

    #[test]
    fn a_busy_client_is_waited_for_without_sleep() {
        let (device, end) = device();
        let waiting = waiting(FOR_EVER);
        let mut waiter = waiting.waiter(1, &device).unwrap();
        serve(&waiting, &mut waiter, (&device, &end), &[7]);
        assert!(!spins(&waiting), "after a single request");
        serve(&waiting, &mut waiter, (&device, &end), &[7; 2 * BUSY as usize]);
        assert!(spins(&waiting));
    }

    #[test]
    fn nobody_spins_if_it_is_not_wanted() {
        let (device, end) = device();
        let waiting = waiting(Duration::ZERO);
        let mut waiter = waiting.waiter(1, &device).unwrap();
        serve(&waiting, &mut waiter, (&device, &end), &[7; 50]);
        assert!(!spins(&waiting));
    }

    #[test]
    fn several_clients_get_several_threads() {
        let (device, end) = device();
        let waiting = waiting(FOR_EVER);
        let mut waiter = waiting.waiter(1, &device).unwrap();
        serve(&waiting, &mut waiter, (&device, &end), &[7; 20]);
        assert!(spins(&waiting));
        serve(&waiting, &mut waiter, (&device, &end), &[7, 8, 7, 8, 7, 8]);
        assert!(!spins(&waiting));
    }

    #[test]
    fn spinning_ends_when_nothing_comes() {
        let (device, end) = device();
        let waiting = waiting(Duration::from_micros(100));
        let mut waiter = waiting.waiter(1, &device).unwrap();
        serve(&waiting, &mut waiter, (&device, &end), &[7; 20]);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while spins(&waiting) {
                    std::thread::yield_now();
                }
                write(&end, b"late").unwrap();
            });
            assert_eq!(
                waiting.next(&mut waiter, &device, &mut [0; 64], None).unwrap(),
                Next::Request(4)
            );
        });
    }

    #[test]
    fn a_spinner_that_hangs_in_a_request_holds_up_nobody() {
        let (device, end) = device();
        let waiting = waiting(FOR_EVER);
        let mut hanging = waiting.waiter(1, &device).unwrap();
        serve(&waiting, &mut hanging, (&device, &end), &[7; 20]);
        assert!(spins(&waiting));
        // It never asks for another one.
        write(&end, b"another").unwrap();
        let mut other = waiting.waiter(2, &device).unwrap();
        assert_eq!(
            waiting.next(&mut other, &device, &mut [0; 64], None).unwrap(),
            Next::Request(7)
        );
    }

    /// Others are parked meanwhile, so that it costs them as much.
    #[test]
    fn slow_requests_are_not_spun_for() {
        let (device, end) = device();
        let waiting = waiting(FOR_EVER);
        let mut waiter = waiting.waiter(1, &device).unwrap();
        serve(&waiting, &mut waiter, (&device, &end), &[7; 20]);
        assert!(spins(&waiting));
        write(&end, b"slow").unwrap();
        waiting.next(&mut waiter, &device, &mut [0; 64], None).unwrap();
        std::thread::sleep(LONG);
        waiting.served(&mut waiter, 7);
        assert!(!spins(&waiting));
    }

    #[test]
    fn a_thread_that_waits_in_vain_comes_back() {
        let (device, _end) = device();
        let waiting = waiting(FOR_EVER);
        let mut waiter = waiting.waiter(1, &device).unwrap();
        let next = waiting.next(&mut waiter, &device, &mut [0; 64], Some(LONG)).unwrap();
        assert_eq!(next, Next::Nothing);
    }
}
