//! Reading ahead over files: those that a walk through a tree reads next come from the disk
//! together.
//!
//! A program that packs, searches or copies a tree reads one small file after the other, and waits
//! for the disk at each. So while files have to come from the disk, the small files of a directory
//! that is listed with attributes are opened and requested at once. That is a hint to the kernel
//! below (posix_fadvise(2)): no result depends on it, and nothing waits for it.
//!
//! A guess has to be paid for. Each file that came from the disk allows a few to be read ahead. So
//! does each that was read ahead and then read. Each that is read ahead takes one. So nothing is
//! read ahead from layers in memory, and a program that stops reading what it lists has no credit.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashSet;

use super::nodes::place::Real;
use super::{NodeId, Vfs};
use crate::error::{Errno, Result, best_effort};
use crate::layer::counters::Counter;
use crate::sys::{FileType, file};

/// Credit for a file that had to come from the disk: a directory has about so many files.
const FOR_COLD: u32 = 8;
/// Credit for a file that was read ahead and then read: it is enough if every second one is.
const FOR_WANTED: u32 = 2;
/// Limit of the credit.
const MOST: u32 = 512;
/// Limit of a file's size in bytes. In larger ones the kernel reads ahead by itself, 128 KiB at a
/// time (`VM_READAHEAD_PAGES`, include/linux/pagemap.h), so that there is one wait for much.
const LARGEST: u64 = 64 << 10;
/// How many numbers of files that were read ahead are remembered.
const REMEMBERED: usize = 4 * MOST as usize;

/// The files to read ahead, and the credit for them.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// How many files may be read ahead.
    credit: AtomicU32,
    /// Whether some file system cannot tell if a read would wait.
    is_blind: AtomicBool,
    /// The size of `State::expected`, to be read without the lock.
    expected: AtomicUsize,
    state: Mutex<State>,
    /// The number of files that were read ahead.
    pub files: Counter,
    /// The number of these files that were read since.
    pub wanted: Counter,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<NodeId>,
    /// A thread reads ahead what is waiting.
    is_served: bool,
    /// Files that were read ahead and not read since.
    expected: FxHashSet<NodeId>,
}

impl ReadAhead {
    fn earn(&self, more: u32) {
        let add = |credit: u32| Some((credit + more).min(MOST));
        self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok();
    }

    fn pay(&self) -> bool {
        let one = |credit: u32| credit.checked_sub(1);
        self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one).is_ok()
    }

    /// Notes an object that was listed with its attributes.
    pub(super) fn listed(&self, id: NodeId, kind: FileType, size: u64) {
        let is_small = kind == FileType::Regular && (1..=LARGEST).contains(&size);
        if is_small && self.pay() {
            self.state.lock().waiting.push_back(id);
        }
    }

    /// Whether files wait that no thread reads ahead. A caller that gets true has to do so.
    fn begin(&self) -> bool {
        let mut state = self.state.lock();
        !state.waiting.is_empty() && !std::mem::replace(&mut state.is_served, true)
    }

    fn next(&self) -> Option<NodeId> {
        let mut state = self.state.lock();
        let next = state.waiting.pop_front();
        state.is_served = next.is_some();
        next
    }

    fn sent_for(&self, id: NodeId) {
        self.files.count();
        let mut state = self.state.lock();
        if state.expected.len() >= REMEMBERED {
            state.expected.clear();
        }
        state.expected.insert(id);
        self.expected.store(state.expected.len(), Ordering::Relaxed);
    }

    fn is_read(&self, id: NodeId) {
        if self.expected.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut state = self.state.lock();
        if state.expected.remove(&id) {
            self.expected.store(state.expected.len(), Ordering::Relaxed);
            self.wanted.count();
            self.earn(FOR_WANTED);
        }
    }

    /// Reads the beginning of a file as far as it is in memory, and notes whether it was.
    pub(super) fn read_beginning(
        &self,
        id: NodeId,
        fd: BorrowedFd<'_>,
        buf: &mut [u8],
    ) -> Result<usize> {
        if self.is_blind.load(Ordering::Relaxed) {
            return Ok(0);
        }
        self.is_read(id);
        match file::read_from_memory(fd, buf, 0) {
            Err(err) if err.errno() == Errno::EAGAIN => {
                self.earn(FOR_COLD);
                Ok(0)
            }
            Err(err) if err.errno() == Errno::EOPNOTSUPP => {
                self.is_blind.store(true, Ordering::Relaxed);
                Ok(0)
            }
            other => other,
        }
    }
}

impl Vfs {
    /// Whether the caller should have another thread call [`Vfs::read_ahead`].
    pub fn may_read_ahead(&self) -> bool {
        self.read_ahead.begin()
    }

    /// Requests the data of files that were listed and will probably be read.
    pub fn read_ahead(&self) {
        while let Some(id) = self.read_ahead.next() {
            best_effort("reading ahead", self.fetch(id));
        }
    }

    /// How many files were read ahead, and how many of them were read since.
    #[must_use]
    pub fn files_read_ahead(&self) -> (u64, u64) {
        (self.read_ahead.files.get(), self.read_ahead.wanted.get())
    }

    fn fetch(&self, id: NodeId) -> Result<()> {
        let node = self.node(id)?;
        let leaf = node.as_leaf()?;
        // A file of the upper may be written next, and would have to be opened again for that.
        let is_lower = matches!(leaf.place.read().real, Real::Lower { .. });
        if is_lower && leaf.io.get().is_none() {
            file::will_need(self.file(&node)?.as_ref().as_fd())?;
            self.read_ahead.sent_for(id);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FileType::Regular;

    #[test]
    fn without_a_file_from_the_disk_nothing_is_read_ahead() {
        let ahead = ReadAhead::default();
        ahead.listed(NodeId(1), Regular, 100);
        assert!(!ahead.begin());
    }

    #[test]
    fn guesses_that_come_true_go_on_and_others_end() {
        let (right, wrong) = (ReadAhead::default(), ReadAhead::default());
        for (ahead, is_right) in [(&right, true), (&wrong, false)] {
            ahead.earn(FOR_COLD);
            for number in 0..10_000 {
                ahead.listed(NodeId(number), Regular, 100);
                while let Some(id) = ahead.next() {
                    ahead.sent_for(id);
                    if is_right {
                        ahead.is_read(id);
                    }
                }
            }
        }
        assert_eq!((right.files.get(), right.wanted.get()), (10_000, 10_000));
        assert_eq!(wrong.files.get(), u64::from(FOR_COLD));
        assert!(right.credit.load(Ordering::Relaxed) <= MOST);
    }

    #[test]
    fn empty_and_large_files_are_left_alone() {
        let ahead = ReadAhead::default();
        ahead.earn(FOR_COLD);
        ahead.listed(NodeId(1), Regular, 0);
        ahead.listed(NodeId(2), Regular, LARGEST + 1);
        assert!(!ahead.begin());
        ahead.listed(NodeId(3), Regular, LARGEST);
        assert!(ahead.begin());
        assert!(!ahead.begin(), "one thread is enough");
    }
}
