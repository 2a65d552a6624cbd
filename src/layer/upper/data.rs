//! Data of copies, and what has been learned of the ways that it may take.

use std::os::fd::BorrowedFd;

use parking_lot::RwLock;

use super::Upper;
use crate::error::Result;
use crate::sys::copy::{self, Moved, Ways};
use crate::sys::{Stat, WritableFd};

/// The ways from the devices from which not all lead into the upper.
#[derive(Debug, Default)]
pub(super) struct KnownWays(RwLock<Vec<(u64, Ways)>>);

/// Of so many devices something is learned: more than there are layers in an image. Of each further
/// one everything is tried for each file.
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
    /// Makes the first `len` bytes of `to`, a file without data, those of `from`, which has the
    /// attributes `was`.
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
