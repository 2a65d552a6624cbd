//! Copying data into the upper, and the ways of copying that work.

use std::os::fd::BorrowedFd;

use parking_lot::RwLock;

use super::Upper;
use crate::error::Result;
use crate::sys::copy::{self, Moved, Ways};
use crate::sys::{Stat, WritableFd};

/// The ways that lead into the upper, for each device from which some do not.
#[derive(Debug, Default)]
pub(super) struct KnownWays(RwLock<Vec<(u64, Ways)>>);

/// The number of devices to remember: more than an image has layers. For any other device each file
/// tries all ways.
const MOST: usize = 256;

impl KnownWays {
    fn from(&self, dev: u64) -> Ways {
        let known = self.0.read();
        known.iter().find(|(from, _)| *from == dev).map_or(Ways::ALL, |(_, ways)| *ways)
    }

    fn learn(&self, dev: u64, ways: Ways) {
        let mut known = self.0.write();
        if let Some((_, before)) = known.iter_mut().find(|(from, _)| *from == dev) {
            *before = before.and(ways);
        } else if known.len() < MOST {
            known.push((dev, ways));
        }
    }
}

impl Upper {
    /// Copies the first `len` bytes of `from`, which has the attributes `was`, to `to`, a file
    /// without data.
    ///
    /// # Errors
    /// As [`copy::data`].
    pub fn copy_data(
        &self,
        from: BorrowedFd<'_>,
        to: WritableFd<'_>,
        was: &Stat,
        len: u64,
    ) -> Result<()> {
        let known = self.ways.from(was.dev);
        let mut ways = known;
        let moved = copy::data(from, to, was, len, &mut ways);
        if ways != known {
            self.ways.learn(was.dev, ways);
        }
        match moved? {
            Moved::Shared => self.counters.reflinks.count(),
            Moved::Copied(bytes) => self.counters.copied_bytes.add(bytes),
        }
        Ok(())
    }
}
