//! What was done to the upper since the mount began. Nobody waits for these numbers, and each
//! stands for at least one system call that writes, so that counting costs nothing beside it.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn count(&self) {
        self.add(1);
    }

    /// Some more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What was done.
#[derive(Debug, Default)]
pub struct Counters {
    /// Objects that are no directories and got into the upper.
    pub copy_ups: Counter,
    /// Directories that got into the upper.
    pub copied_dirs: Counter,
    /// Bytes of data that were copied for it.
    pub copied_bytes: Counter,
    /// Files that share their data with the original instead (reflink).
    pub reflinks: Counter,
    /// Whiteouts of all forms.
    pub whiteouts: Counter,
    /// fsync(2), fdatasync(2) and syncfs(2), those that users ask for among them.
    pub syncs: Counter,
}
