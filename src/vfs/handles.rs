//! Open directories.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use parking_lot::Mutex;

use super::readdir::Listing;

/// The number of an open directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DirHandle(pub u64);

/// All open directories, each with the listing that was made when it was first read.
#[derive(Debug, Default)]
pub struct Handles {
    next: AtomicU64,
    open: DashMap<DirHandle, Arc<Mutex<Option<Arc<Listing>>>>>,
}

impl Handles {
    /// Opens one, without a listing yet.
    pub fn open(&self) -> DirHandle {
        let handle = DirHandle(self.next.fetch_add(1, Ordering::Relaxed));
        self.open.insert(handle, Arc::default());
        handle
    }

    /// Closes it.
    pub fn close(&self, handle: DirHandle) {
        self.open.remove(&handle);
    }

    /// The place of the listing of an open directory.
    pub fn listing(&self, handle: DirHandle) -> Option<Arc<Mutex<Option<Arc<Listing>>>>> {
        self.open.get(&handle).map(|listing| Arc::clone(&listing))
    }
}
