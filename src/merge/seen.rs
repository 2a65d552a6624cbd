//! When the lowers of a merged directory were looked at, and what they looked like: where others
//! change them, an index is good for as long as they stay so.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::stack::DirStack;
use crate::error::Result;
use crate::layer::LowerDir;
use crate::sys::Stat;
use crate::sys::stat::Time;

/// Two changes within this time may leave a directory with the same time: the coarsest that a file
/// system keeps (vfat, two seconds).
const GRAIN: Duration = Duration::from_secs(2);

/// The state of the lowers of a directory at one moment.
#[derive(Debug)]
pub struct Seen {
    at: Instant,
    settles: Duration,
    lowers: Box<[Mark]>,
    /// Some of them had changed so shortly before that the next change may leave no trace.
    is_fresh: bool,
}

/// The object and the times, which tell a directory from another, and from itself before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    object: (u64, u64),
    mtime: Time,
    ctime: Time,
}

impl Mark {
    fn of(stat: &Stat) -> Self {
        Self { object: (stat.dev, stat.ino), mtime: stat.mtime, ctime: stat.ctime }
    }
}

impl Seen {
    /// Of a directory that is about to be listed; `None` if its lowers do not change.
    ///
    /// # Errors
    /// What stat(2) says of any of them.
    pub fn of(dir: &DirStack) -> Result<Option<Box<Self>>> {
        let Some(settles) = dir.lowers.first().and_then(|lower| lower.dir().settles()) else {
            return Ok(None);
        };
        let (at, now) = (Instant::now(), SystemTime::now());
        let lowers = marks(dir)?;
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(GRAIN);
        let since = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let is_fresh = lowers.iter().any(|mark| mark.mtime.sec.max(mark.ctime.sec) >= since);
        Ok(Some(Box::new(Self { at, settles, lowers, is_fresh })))
    }

    /// Whether it is time to look again.
    pub fn is_due(&self) -> bool {
        self.at.elapsed() >= self.settles
    }

    /// Looks again.
    ///
    /// # Errors
    /// What stat(2) says of any of them.
    pub fn is_still_true(&mut self, dir: &DirStack) -> Result<bool> {
        let at = Instant::now();
        if self.is_fresh || marks(dir)? != self.lowers {
            return Ok(false);
        }
        self.at = at;
        Ok(true)
    }
}

fn marks(dir: &DirStack) -> Result<Box<[Mark]>> {
    let mark = |lower: &LowerDir| lower.dir().stat().map(|stat| Mark::of(&stat));
    dir.lowers.iter().map(mark).collect()
}
