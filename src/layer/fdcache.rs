//! A bounded number of open descriptors.
//!
//! Directories and files remember how to open themselves again, so a descriptor is only a cache.
//! The cache is a queue with a second chance: what was used since it was looked at last goes to the
//! back, what was not is closed. Using a descriptor takes no lock of the cache.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use crate::sys::descriptors::{GivesWay, ask_to_give_way};

/// An open descriptor, and what concerns it alone: there are far more objects than descriptors.
#[derive(Debug)]
pub struct Fd {
    fd: OwnedFd,
    /// Used since the cache looked at it last.
    used: AtomicBool,
    read_only: bool,
    path_only: bool,
    end: Option<u64>,
}

impl Fd {
    /// Of a file of the upper that is open to read alone. What is open to write cannot be run as a
    /// program (ETXTBSY).
    #[must_use]
    pub fn read_only(fd: OwnedFd) -> Self {
        Self { read_only: true, ..fd.into() }
    }

    /// Of a directory in which names can be looked up, and which cannot be listed (`O_PATH`).
    #[must_use]
    pub fn path_only(fd: OwnedFd) -> Self {
        Self { path_only: true, ..fd.into() }
    }

    /// Whether it only serves to look up names.
    #[must_use]
    pub fn is_path_only(&self) -> bool {
        self.path_only
    }

    /// Of a file that ends where it does for good, if it is known where.
    #[must_use]
    pub fn ending(fd: OwnedFd, end: Option<u64>) -> Self {
        Self { end, ..fd.into() }
    }

    /// Where the file ends, if that is known and does not change.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.end
    }

    /// Whether it is of a file of the upper that is open to read alone.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }
}

impl From<OwnedFd> for Fd {
    fn from(fd: OwnedFd) -> Self {
        Self { fd, used: AtomicBool::new(true), read_only: false, path_only: false, end: None }
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

    /// Puts a descriptor in; what was there is closed once nobody uses it.
    pub fn put(&self, fd: Arc<Fd>) {
        self.0.store(Some(fd));
    }

    /// Takes the descriptor out.
    pub fn take(&self) -> Option<Arc<Fd>> {
        self.0.swap(None)
    }

    /// Whether the descriptor was used since this was asked last.
    fn was_used(&self) -> bool {
        self.0.load().as_ref().is_some_and(|fd| fd.used.swap(false, Ordering::Relaxed))
    }
}

/// Something that has a descriptor which it can do without.
pub trait Closable: Send + Sync {
    /// Where the descriptor is.
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
}

impl std::fmt::Debug for FdCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FdCache").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl FdCache {
    /// A cache for `limit` descriptors, which gives way where there is no room for others.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        let cache = Arc::new(Self { limit: limit.max(16), queue: Mutex::new(VecDeque::new()) });
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

    /// How many descriptors it keeps, and how many it may keep. Some of the first may be closed
    /// already, with the object that had them.
    #[must_use]
    pub fn fill(&self) -> (usize, usize) {
        (self.queue.lock().len(), self.limit)
    }

    /// Lets go of what is not there any more but for the note that it had a descriptor.
    pub fn tidy(&self) {
        let mut queue = self.queue.lock();
        queue.retain(|owner| owner.strong_count() > 0);
        queue.shrink_to_fit();
    }

    /// Takes a freshly opened descriptor into account and closes others if there are too many.
    pub fn opened(&self, owner: Weak<dyn Closable>) {
        let mut queue = self.queue.lock();
        queue.push_back(owner);
        close(&mut queue, |left, _| left <= self.limit);
    }
}

impl GivesWay for FdCache {
    /// Closes a part of what was not used lately. Not all: most of it will be used again.
    fn give_way(&self) -> bool {
        /// One in so many.
        const PART: usize = 8;
        let mut queue = self.queue.lock();
        let wanted = (queue.len() / PART).max(1);
        close(&mut queue, |_, closed| closed >= wanted) > 0
    }
}

/// Takes descriptors out of their places, those that were not used for the longest time first,
/// until `enough` says so of how many are left and how many were closed. Returns the latter.
fn close(queue: &mut VecDeque<Weak<dyn Closable>>, enough: impl Fn(usize, usize) -> bool) -> usize {
    // Bounded: after one round everything has lost its second chance.
    let (mut looks, mut closed) = (queue.len() * 2, 0);
    while looks > 0 && !enough(queue.len(), closed) {
        looks -= 1;
        let Some(oldest) = queue.pop_front() else { break };
        let Some(owner) = oldest.upgrade() else { continue };
        if owner.pinned() || owner.slot().was_used() {
            queue.push_back(oldest);
        } else if owner.slot().take().and_then(Arc::into_inner).is_some() {
            // Else somebody uses it just now, and closes it afterwards.
            closed += 1;
        }
    }
    closed
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
