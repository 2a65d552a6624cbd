//! The state of the lowers when they were listed. If others change the lowers, an index is valid
//! only as long as that state stays the same.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::stack::DirStack;
use crate::error::Result;
use crate::layer::LowerDir;
use crate::sys::Stat;
use crate::sys::stat::Time;

/// Two changes within this time may give a directory the same times: the coarsest resolution of a
/// file system (vfat, two seconds).
const GRAIN: Duration = Duration::from_secs(2);

/// The state of the lowers of a directory at one moment.
#[derive(Debug)]
pub struct Seen {
    at: Instant,
    settles: Duration,
    lowers: Box<[Mark]>,
    /// A lower had changed so shortly before that its next change may not show in its times.
    is_fresh: bool,
}

/// The object and its times: they tell a directory from another, and from itself before a change.
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
    /// The state of a directory that is about to be listed; `None` if its lowers do not change.
    ///
    /// # Errors
    /// Those of stat(2) on a lower.
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

    /// Looks again whether the lowers are as they were.
    ///
    /// # Errors
    /// Those of stat(2) on a lower.
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
