//! A bounded number of open descriptors.
//!
//! Directories and files remember how to open themselves again, so a descriptor is only a cache.
//! Eviction is by second chance: a descriptor that was used since its last turn goes to the back of
//! the queue, and any other is closed. Using a descriptor takes no lock of the cache.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use crate::error::{Errno, Result, best_effort};
use crate::sys::descriptors::{GivesWay, ask_to_give_way};
use crate::sys::{OwnedWritable, WritableFd};

/// An open descriptor and its state, kept apart from objects, of which there are far more.
#[derive(Debug)]
pub struct Fd {
    fd: OwnedFd,
    /// Used since the cache looked at it last.
    used: AtomicBool,
    of: Of,
    path_only: bool,
    end: Option<u64>,
}

/// The object that a descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// An object that may be in a lower.
    Anything,
    /// An object of the upper, not open for writing: a file that is cannot be run (ETXTBSY).
    Upper,
    /// A file of the upper, open for writing.
    UpperToWrite,
}

impl Fd {
    /// A descriptor of an object of the upper, not open for writing.
    #[must_use]
    pub(super) fn of_upper(fd: OwnedFd) -> Self {
        Self { of: Of::Upper, ..fd.into() }
    }

    /// The right to change the object.
    ///
    /// # Errors
    /// EROFS if the object may be in a lower.
    pub fn writable(&self) -> Result<WritableFd<'_>> {
        match self.of {
            Of::Anything => Err(Errno::EROFS.into()),
            Of::Upper | Of::UpperToWrite => Ok(WritableFd::vouch(self.fd.as_fd())),
        }
    }

    /// A descriptor of a directory that can look up names but not list (`O_PATH`).
    #[must_use]
    pub fn path_only(fd: OwnedFd) -> Self {
        Self { path_only: true, ..fd.into() }
    }

    /// Whether it can only look up names.
    #[must_use]
    pub fn is_path_only(&self) -> bool {
        self.path_only
    }

    /// A descriptor of a file whose size stays as it is: `end` bytes, if known.
    #[must_use]
    pub fn ending(fd: OwnedFd, end: Option<u64>) -> Self {
        Self { end, ..fd.into() }
    }

    /// The size of the file in bytes, if it is known and does not change.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.end
    }

    /// Whether it is of a file of the upper, open for writing.
    #[must_use]
    pub fn is_open_to_write(&self) -> bool {
        self.of == Of::UpperToWrite
    }
}

impl From<OwnedFd> for Fd {
    fn from(fd: OwnedFd) -> Self {
        Self { fd, used: AtomicBool::new(true), of: Of::Anything, path_only: false, end: None }
    }
}

impl From<OwnedWritable> for Fd {
    fn from(file: OwnedWritable) -> Self {
        Self { of: Of::UpperToWrite, ..OwnedFd::from(file).into() }
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A place for one descriptor.
#[derive(Debug, Default)]
pub struct FdSlot(ArcSwapOption<Fd>);

impl FdSlot {
    /// The descriptor, if it is open.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Fd>> {
        let fd = self.0.load_full();
        if let Some(fd) = &fd {
            fd.used.store(true, Ordering::Relaxed);
        }
        fd
    }

    /// Puts a descriptor in. The one before is closed once nobody uses it.
    pub fn put(&self, fd: Arc<Fd>) {
        self.0.store(Some(fd));
    }

    /// Takes the descriptor out.
    pub fn take(&self) -> Option<Arc<Fd>> {
        self.0.swap(None)
    }

    /// Whether the descriptor was used since the last call of this.
    fn was_used(&self) -> bool {
        self.0.load().as_ref().is_some_and(|fd| fd.used.swap(false, Ordering::Relaxed))
    }
}

/// An object whose descriptor can be closed and opened again.
pub trait Closable: Send + Sync {
    /// The slot of the descriptor.
    fn slot(&self) -> &FdSlot;

    /// Whether the descriptor has to stay open although nobody used it lately.
    fn pinned(&self) -> bool {
        false
    }
}

/// Keeps the number of cached descriptors below a limit.
pub struct FdCache {
    limit: usize,
    queue: Mutex<VecDeque<Weak<dyn Closable>>>,
    closer: Closer,
}

impl std::fmt::Debug for FdCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FdCache").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl FdCache {
    /// A cache for `limit` descriptors, at least 16. It closes some if the process has no room.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        let limit = limit.max(16);
        let cache = Arc::new(Self { limit, queue: Mutex::default(), closer: Closer::default() });
        let weak: Weak<Self> = Arc::downgrade(&cache);
        ask_to_give_way(weak);
        cache
    }

    /// A cache sized after the number of files that this process may open (RLIMIT_NOFILE). A
    /// quarter is left for unlinked files in use, listings and the rest.
    #[must_use]
    pub fn for_open_files(rlimit: u64) -> Arc<Self> {
        // Above this, open files cost more kernel memory than opening them again costs time.
        const ENOUGH: u64 = 16384;
        Self::new(usize::try_from((rlimit / 4 * 3).min(ENOUGH)).unwrap_or(1024))
    }

    /// The number of descriptors that it keeps, and the limit. The first also counts those of
    /// objects that are gone.
    #[must_use]
    pub fn fill(&self) -> (usize, usize) {
        (self.queue.lock().len(), self.limit)
    }

    /// Removes objects that are gone from the queue.
    pub fn tidy(&self) {
        let mut queue = self.queue.lock();
        queue.retain(|owner| owner.strong_count() > 0);
        queue.shrink_to_fit();
    }

    /// Adds the owner of a new descriptor. If there are too many, a thread closes a few.
    pub fn opened(&self, owner: Weak<dyn Closable>) {
        let unused = {
            let mut queue = self.queue.lock();
            queue.push_back(owner);
            if queue.len() <= self.limit {
                return;
            }
            let enough = self.limit - self.limit / PART;
            take_out(&mut queue, |left, _| left <= enough)
        };
        self.closer.close(unused, self.limit);
    }
}

/// If there are too many descriptors, one in so many is closed.
const PART: usize = 16;

impl GivesWay for FdCache {
    /// Closes a part of the descriptors that were not used lately; most will be used again.
    fn give_way(&self) -> bool {
        /// One in so many is closed.
        const PART: usize = 8;
        let unused = {
            let mut queue = self.queue.lock();
            let wanted = (queue.len() / PART).max(1);
            take_out(&mut queue, |_, taken| taken >= wanted)
        };
        // They are closed here and now, as a caller waits for the room.
        !unused.is_empty()
    }
}

/// Closes descriptors on a thread of its own. close(2) may wait for a layer that hangs (FUSE sends
/// a FLUSH), and a thread that opens something else should not wait for that.
#[derive(Default)]
struct Closer(Mutex<Option<ClosingThread>>);

struct ClosingThread {
    to: Sender<Vec<Fd>>,
    /// The number of descriptors that it was given and has not closed.
    left: Arc<AtomicUsize>,
}

impl Closer {
    /// Closes these soon. A thread that has a quarter of `limit` left hangs, and another one takes
    /// its place. Where there can be no thread they are closed at once.
    fn close(&self, unused: Vec<Fd>, limit: usize) {
        let hangs = |thread: &ClosingThread| thread.left.load(Ordering::Relaxed) > limit / 4;
        let mut thread = self.0.lock();
        if thread.as_ref().is_none_or(hangs) {
            *thread = best_effort("a thread to close descriptors", ClosingThread::begin());
        }
        let unsent = match &*thread {
            Some(thread) => thread.take(unused),
            None => unused,
        };
        drop(thread);
        drop(unsent);
    }
}

impl ClosingThread {
    fn begin() -> Result<Self> {
        let (to, from) = mpsc::channel::<Vec<Fd>>();
        let left = Arc::new(AtomicUsize::new(0));
        let closed = Arc::clone(&left);
        let close = move || {
            for unused in from {
                let count = unused.len();
                drop(unused);
                closed.fetch_sub(count, Ordering::Relaxed);
            }
        };
        std::thread::Builder::new().name("closer".into()).spawn(close)?;
        Ok(Self { to, left })
    }

    /// Hands descriptors over. Returns them if the thread is gone.
    fn take(&self, unused: Vec<Fd>) -> Vec<Fd> {
        self.left.fetch_add(unused.len(), Ordering::Relaxed);
        self.to.send(unused).map_or_else(|unsent| unsent.0, |()| Vec::new())
    }
}

/// Takes descriptors out of their slots, the least recently used first. `enough` gets how many are
/// left and how many were taken, and says when to stop. The caller closes them without locks,
/// because closing may take time.
fn take_out(
    queue: &mut VecDeque<Weak<dyn Closable>>,
    enough: impl Fn(usize, usize) -> bool,
) -> Vec<Fd> {
    // Bounded: after one round everything has lost its second chance.
    let (mut looks, mut taken) = (queue.len() * 2, Vec::new());
    while looks > 0 && !enough(queue.len(), taken.len()) {
        looks -= 1;
        let Some(oldest) = queue.pop_front() else { break };
        let Some(owner) = oldest.upgrade() else { continue };
        if owner.pinned() || owner.slot().was_used() {
            queue.push_back(oldest);
        } else {
            // A descriptor in use is closed by its last user.
            taken.extend(owner.slot().take().and_then(Arc::into_inner));
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Thing {
        slot: FdSlot,
        pin: bool,
    }

    impl Closable for Thing {
        fn slot(&self) -> &FdSlot {
            &self.slot
        }
        fn pinned(&self) -> bool {
            self.pin
        }
    }

    fn open(cache: &FdCache, thing: &Arc<Thing>) {
        let fd: OwnedFd = std::fs::File::open("/").unwrap().into();
        thing.slot.put(Arc::new(fd.into()));
        let weak: Weak<Thing> = Arc::downgrade(thing);
        cache.opened(weak);
    }

    #[test]
    fn the_limit_holds_and_pins_are_kept() {
        let cache = FdCache::new(20);
        let things: Vec<_> =
            (0..100).map(|i| Arc::new(Thing { pin: i == 0, ..Thing::default() })).collect();
        for thing in &things {
            open(&cache, thing);
        }
        let open_now = things.iter().filter(|t| t.slot.get().is_some()).count();
        assert!(open_now <= 21, "{open_now} are open");
        assert!(things[0].slot.get().is_some(), "pinned");
        assert!(things[99].slot.get().is_some(), "the newest is there");
    }

    /// A receiver that takes nothing stands for a thread that waits in close(2).
    #[test]
    fn what_hangs_when_it_is_closed_holds_up_nobody() {
        let closer = Closer::default();
        let (to, from) = mpsc::channel::<Vec<Fd>>();
        *closer.0.lock() = Some(ClosingThread { to, left: Arc::default() });
        let descriptor = || Fd::from(OwnedFd::from(std::fs::File::open("/").unwrap()));
        let left = || closer.0.lock().as_ref().unwrap().left.load(Ordering::Relaxed);
        (0..3).for_each(|_| closer.close(vec![descriptor(), descriptor()], 16));
        assert_eq!(left(), 6);
        closer.close(vec![descriptor()], 16);
        let begun = std::time::Instant::now();
        while left() > 0 {
            assert!(begun.elapsed().as_secs() < 60, "no other thread took its place");
            std::thread::yield_now();
        }
        assert_eq!(from.try_iter().map(|unused| unused.len()).sum::<usize>(), 6);
    }

    #[test]
    fn what_is_neither_pinned_nor_in_use_gives_way() {
        let cache = FdCache::new(200);
        let things: Vec<_> =
            (0..100).map(|i| Arc::new(Thing { pin: i == 0, ..Thing::default() })).collect();
        for thing in &things {
            open(&cache, thing);
        }
        let in_use = things[1].slot.get();
        let is_open = |thing: &&Arc<Thing>| thing.slot.0.load().is_some();
        assert!(cache.give_way());
        let left = things.iter().filter(is_open).count();
        assert!((80..100).contains(&left), "{left} are left");
        while cache.give_way() {}
        assert_eq!(things.iter().filter(is_open).count(), 1, "what is pinned stays");
        assert!(things[0].slot.get().is_some() && in_use.is_some());
    }

    #[test]
    fn what_is_gone_leaves_no_note_behind() {
        let cache = FdCache::new(20);
        let things: Vec<_> = std::iter::repeat_with(Arc::<Thing>::default).take(15).collect();
        for thing in &things {
            open(&cache, thing);
        }
        let kept = things.into_iter().next();
        cache.tidy();
        assert_eq!(cache.fill().0, usize::from(kept.is_some()));
    }
}
