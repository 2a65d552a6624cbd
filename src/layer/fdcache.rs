//! A bounded number of open descriptors.
//!
//! Directories and files remember how to open themselves again, so a descriptor is only a cache.
//! The cache is a queue with a second chance: what was used since it was looked at last goes to the
//! back, what was not is closed. Using a descriptor takes no lock of the cache.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

/// A place for one descriptor.
#[derive(Debug, Default)]
pub struct FdSlot {
    fd: RwLock<Option<Arc<OwnedFd>>>,
    used: AtomicBool,
}

impl FdSlot {
    /// The descriptor, if it is open.
    #[must_use]
    pub fn get(&self) -> Option<Arc<OwnedFd>> {
        let fd = self.fd.read().clone();
        if fd.is_some() {
            self.used.store(true, Ordering::Relaxed);
        }
        fd
    }

    /// Puts a descriptor in; what was there is closed once nobody uses it.
    pub fn put(&self, fd: Arc<OwnedFd>) {
        self.used.store(true, Ordering::Relaxed);
        *self.fd.write() = Some(fd);
    }

    /// Takes the descriptor out.
    pub fn take(&self) -> Option<Arc<OwnedFd>> {
        self.fd.write().take()
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
    /// A cache for `limit` descriptors.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(16), queue: Mutex::new(VecDeque::new()) }
    }

    /// A cache sized after the number of files that this process may open (RLIMIT_NOFILE). A
    /// quarter is left for unlinked files in use, listings and the rest.
    #[must_use]
    pub fn for_open_files(rlimit: u64) -> Self {
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

    /// Takes a freshly opened descriptor into account and closes others if there are too many.
    pub fn opened(&self, owner: Weak<dyn Closable>) {
        let mut queue = self.queue.lock();
        queue.push_back(owner);
        // Bounded: after one round everything has lost its second chance.
        let mut looks = queue.len() * 2;
        while queue.len() > self.limit && looks > 0 {
            looks -= 1;
            let Some(oldest) = queue.pop_front() else { break };
            let Some(owner) = oldest.upgrade() else { continue };
            if owner.pinned() || owner.slot().used.swap(false, Ordering::Relaxed) {
                queue.push_back(oldest);
            } else {
                owner.slot().take();
            }
        }
    }
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
        thing.slot.put(Arc::new(std::fs::File::open("/").unwrap().into()));
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
}
