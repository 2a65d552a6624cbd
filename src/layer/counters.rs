//! Counters of changes to the upper since the mount began. No code waits for their values. Each
//! comes with at least one system call that writes, beside which counting costs nothing.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn count(&self) {
        self.add(1);
    }

    /// Adds `more`.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The present value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one upper.
#[derive(Debug, Default)]
pub struct Counters {
    /// Copy-ups of objects that are not directories.
    pub copy_ups: Counter,
    /// Copy-ups of directories.
    pub copied_dirs: Counter,
    /// Bytes of file data that were copied.
    pub copied_bytes: Counter,
    /// Files that share their data with the original (reflink) instead of a copy.
    pub reflinks: Counter,
    /// Whiteouts that were made, of all forms.
    pub whiteouts: Counter,
    /// Calls of fsync(2), fdatasync(2) and syncfs(2), also those that programs ask for.
    pub syncs: Counter,
}
