//! Waiting for the next request, in several threads.
//!
//! Waking a sleeping thread costs more than most requests take, above all on virtual processors,
//! which have to be woken as well. A single client sends its next request a few microseconds after
//! the answer to the last. While that goes on, one thread does not sleep. It polls for the next
//! request for a short time, and the other threads stay out of its way.
//!
//! * By default, threads **sleep** in epoll, and the kernel wakes one for each request.
//! * A thread whose requests come in quick succession becomes the **spinner**. Another thread that
//!   wakes and sees a spinner parks for [`PATIENCE`]. If the spinner has then been busy with one
//!   request for that long, it loses its role.
//! * The spinner goes back to sleep in three cases: no request comes for a while, it wasted a
//!   processor that others wanted, or requests of several clients wait, which several threads serve
//!   better.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{UsageWho, getrusage};
use parking_lot::{Condvar, Mutex};

use super::device::{Device, Received};
use crate::error::{Error, Result};
use crate::sys::descriptors::with_room;

/// A request that comes within this time after an answer, waking included, would have been worth
/// spinning for.
const QUICK: Duration = Duration::from_micros(100);
/// Number of quick requests in a row that make a busy client.
const BUSY: u8 = 4;
/// Limit of [`Pace::quick`], so that old quick requests do not count for ever.
const MOST: u8 = 8;
/// Amount by which an unsuccessful spin lowers [`Pace::quick`].
const IN_VAIN: u8 = 4;
/// Number of requests of other clients that had to wait, after which spinning ends for them.
const CROWD: u8 = 4;
/// Time without spinning, after a thread stood in the way of others.
const REST: Duration = Duration::from_millis(5);
/// A request that takes this long waits for something. Its client is not worth spinning for.
const LONG: Duration = Duration::from_millis(1);
/// Time for which other threads rely on the spinner.
const PATIENCE: Duration = Duration::from_millis(10);

/// Value of [`Waiting::spinner`] while no thread spins.
const NOBODY: u32 = 0;

/// State that the waiting threads share.
#[derive(Debug)]
pub struct Waiting {
    /// Longest time to spin; zero turns spinning off.
    spin: Duration,
    /// Number of the thread that spins, or serves a request that it got by spinning.
    spinner: AtomicU32,
    /// When a request was last read or answered, in nanoseconds since `start`.
    last: AtomicU64,
    start: Instant,
    parked: Mutex<()>,
    given_up: Condvar,
}

/// Result of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A request of this length, in bytes.
    Request(usize),
    /// No request came in the given time.
    Nothing,
    /// The file system is unmounted.
    Gone,
}

/// Reason why a thread sleeps no longer.
enum Woken {
    ForRequest,
    ForSpinner,
    InVain,
}

/// A thread that waits for requests and serves them.
#[derive(Debug)]
pub struct Waiter {
    number: u32,
    epoll: Epoll,
    pace: Pace,
}

/// History of the requests of one thread, which decides whether it spins.
#[derive(Debug, Default)]
struct Pace {
    /// Rises with each quick request up to [`MOST`], and falls with each other one.
    quick: u8,
    /// Rises with each request of another client that had to wait.
    crowd: u8,
    /// Client of the last request.
    client: u32,
    /// When the last request was read, since `Waiting::start`.
    taken: Duration,
    /// The last request arrived only after the thread had begun to spin.
    had_to_wait: bool,
    /// The thread does not spin before this time.
    rests_until: Option<Instant>,
    /// Number of involuntary context switches, as of the last unsuccessful spin.
    preempted: Option<i64>,
}

impl Waiting {
    /// Creates the state for threads that spin for at most `spin`.
    pub fn new(spin: Duration) -> Self {
        // On the only processor, a spinner keeps the client from sending the next request.
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

    /// Adds a thread. `number` is its own, from 1.
    ///
    /// # Errors
    /// EMFILE, ENOMEM (epoll_create1(2), epoll_ctl(2)).
    pub fn waiter(&self, number: u32, device: &Device) -> Result<Waiter> {
        let flags = EpollCreateFlags::EPOLL_CLOEXEC;
        let epoll = with_room(|| Epoll::new(flags).map_err(Error::from))?;
        // Exclusive, so that each request wakes one thread.
        let readable = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE, 0);
        epoll.add(device.as_fd(), readable)?;
        Ok(Waiter { number, epoll, pace: Pace::default() })
    }

    /// Waits for the next request; with `patience`, sleeps no longer than that.
    ///
    /// # Errors
    /// Those of [`Device::take`].
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

    /// Notes that the thread has served a request of `client`. Called after each request.
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
            // A failure means that another thread has become the spinner.
            self.spinner.compare_exchange(NOBODY, me, Ordering::Relaxed, Ordering::Relaxed).ok();
        }
    }

    /// Ends spinning because the spinner is about to wait for something else.
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
            // The event is for the spinner, which looks once more before it sleeps.
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

    /// Waits while another thread spins, and ends its role if it is busy for too long.
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

    /// Makes the threads sleep in epoll again. Parked ones follow within [`PATIENCE`].
    fn give_up(&self, spinner: u32) {
        let (relaxed, nobody) = (Ordering::Relaxed, NOBODY);
        self.spinner.compare_exchange(spinner, nobody, relaxed, relaxed).ok();
    }
}

impl Pace {
    /// Notes a request that came `gap` after the last answer.
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

    /// Notes a request served by spinning. Returns whether several clients wait. A waiting request
    /// of the same client does not count, because some clients send without waiting for the answer.
    fn is_crowded(&mut self, other_client: bool) -> bool {
        self.crowd = match other_client && !self.had_to_wait {
            true => self.crowd + 1,
            false => self.crowd.saturating_sub(1),
        };
        self.crowd >= CROWD
    }

    /// Notes an unsuccessful spin.
    fn in_vain(&mut self) {
        self.quick = self.quick.saturating_sub(IN_VAIN);
        // If the number is unknown, it counts as zero.
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

    /// Returns a device, and the end of its socket to which requests are written.
    fn device() -> (Device, OwnedFd) {
        let kind = SockType::SeqPacket;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap();
        (Device::new(ours).unwrap(), theirs)
    }

    /// As on a machine with several processors.
    fn waiting(spin: Duration) -> Waiting {
        Waiting { spin, ..Waiting::new(spin) }
    }

    /// Serves one request for each element of `clients`, all of which are waiting already.
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
        // The spinner never asks for another request.
        write(&end, b"another").unwrap();
        let mut other = waiting.waiter(2, &device).unwrap();
        assert_eq!(
            waiting.next(&mut other, &device, &mut [0; 64], None).unwrap(),
            Next::Request(7)
        );
    }

    /// Other threads are parked meanwhile, so a slow request costs them as much.
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
