//! Counters of requests by opcode, and of failed requests by errno.
//!
//! Each request is counted, so each thread has counters of its own: an addition to a cache line
//! that no other CPU writes to takes a few nanoseconds.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::abi::opcode;

/// Number of shards, one for each reader while none is held up. Further threads share them.
const SHARDS: usize = 8;

/// Opcodes that are counted separately. Larger ones are counted as the last.
const OPCODES: usize = 64;

/// Errno values that are counted separately: EHWPOISON, 133, is the last (asm-generic/errno.h).
const ERRNOS: usize = 134;

/// Counters of one shard, aligned to two cache lines, as CPUs fetch these in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    requests: [AtomicU64; OPCODES],
    errors: [AtomicU64; ERRNOS],
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            requests: std::array::from_fn(|_| AtomicU64::new(0)),
            errors: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// Counters of one connection.
#[derive(Debug, Default)]
pub struct Counters([Shard; SHARDS]);

thread_local! {
    /// Number of this thread, in the order in which threads first counted something.
    static NUMBER: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}

impl Counters {
    /// Counts a request.
    pub fn came(&self, opcode: u32) {
        self.count(|shard| &shard.requests, opcode as usize);
    }

    /// Counts an error answer.
    pub fn failed(&self, errno: i32) {
        self.count(|shard| &shard.errors, usize::try_from(errno).unwrap_or(0));
    }

    fn count(&self, of: impl Fn(&Shard) -> &[AtomicU64], number: usize) {
        let Some(shard) = self.0.get(NUMBER.with(|number| number % SHARDS)) else { return };
        let numbers = of(shard);
        if let Some(counter) = numbers.get(number.min(numbers.len() - 1)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the counts by opcode name, without zeros.
    pub fn requests(&self) -> Vec<(String, u64)> {
        let name = |number: usize| opcode::name(u32::try_from(number).unwrap_or(u32::MAX));
        self.sums(|shard| &shard.requests).map(|(number, sum)| (name(number), sum)).collect()
    }

    /// Returns the counts by errno, without zeros.
    pub fn errors(&self) -> Vec<(i32, u64)> {
        let errno = |number| i32::try_from(number).unwrap_or(0);
        self.sums(|shard| &shard.errors).map(|(number, sum)| (errno(number), sum)).collect()
    }

    fn sums<'a>(
        &'a self,
        of: impl Fn(&'a Shard) -> &'a [AtomicU64],
    ) -> impl Iterator<Item = (usize, u64)> {
        let all: Vec<_> = self.0.iter().map(of).collect();
        let count = all.first().map_or(0, |numbers| numbers.len());
        let sum = move |number: usize| -> u64 {
            let numbers = all.iter().filter_map(|numbers| numbers.get(number));
            numbers.map(|counter| counter.load(Ordering::Relaxed)).sum()
        };
        (0..count).map(move |number| (number, sum(number))).filter(|(_, sum)| *sum > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_count() {
        let counters = Counters::default();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        counters.came(opcode::LOOKUP);
                        counters.failed(libc::ENOENT);
                    }
                    counters.came(7);
                    counters.came(u32::MAX);
                });
            }
        });
        let requests = [("LOOKUP", 2000), ("7", 20), ("63", 20)].map(|(n, c)| (n.to_owned(), c));
        assert_eq!(counters.requests(), requests);
        assert_eq!(counters.errors(), [(libc::ENOENT, 2000)]);
    }
}
