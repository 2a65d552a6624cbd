//! Who else uses the directories of an upper.
//!
//! A mount locks its upper and its work directory by flock(2) for as long as it lives: while it
//! begins for itself alone, as it empties the work directory then, and after that so that others
//! can do the same. Another mount that finds them locked knows that somebody lives there. As the
//! kernel's overlayfs it goes on all the same, with a warning, unless it has an index of hard
//! links: the mount of a container that has ended may live on because somebody sits in it.
//!
//! The tools that work on layers without a mount take the lock for themselves alone.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::overlap::Opened;
use super::work::Work;
use crate::error::{Errno, Error, Result};
use crate::sys::locks::Locks;
use crate::sys::process;
use crate::sys::{daemon, file};

/// How long a directory may stay locked: umount(8) returns before the server of the mount is gone.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long it may be while the mount before writes what it has to the disk.
const PATIENCE_WITH_ENDING: Duration = Duration::from_secs(300);

/// Whether a directory is used by others too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is not, and is locked.
    Alone,
    /// It is.
    Shared,
}

/// How directories are claimed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claims {
    begun: Instant,
    /// What others use is refused.
    alone: bool,
}

impl Claims {
    pub fn begin(alone: bool) -> Self {
        Self { begun: Instant::now(), alone }
    }

    /// Locks a directory, for us alone if nobody else uses it. Waits for a mount that has begun to
    /// end, as is seen at the work directory.
    ///
    /// # Errors
    /// EBUSY if it is used and should not be, or is just now being emptied or repaired. EINTR if
    /// nobody wants the mount any more.
    pub fn take(&self, dir: &Opened<'_>, work: BorrowedFd<'_>) -> Result<Claim> {
        const PAUSE: Duration = Duration::from_millis(10);
        let may_wait = || {
            let waited = self.begun.elapsed();
            waited < PATIENCE || (waited < PATIENCE_WITH_ENDING && Work::is_ending(work))
        };
        let locked = loop {
            match file::lock_exclusive(dir.fd.as_fd()) {
                Err(err) if err.errno() == Errno::EAGAIN && may_wait() => {
                    if daemon::is_called_off() {
                        let text = format!("given up while waiting for {}", dir.named());
                        return Err(Error::new(Errno::EINTR, text));
                    }
                    std::thread::sleep(PAUSE);
                }
                other => break other,
            }
        };
        match locked {
            Err(err) if err.errno() == Errno::EAGAIN => self.share(dir),
            // A file system without locks cannot tell us.
            Err(err) if matches!(err.errno(), Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EBADF) => {
                Ok(Claim::Alone)
            }
            other => other.map(|()| Claim::Alone),
        }
    }

    fn share(&self, dir: &Opened<'_>) -> Result<Claim> {
        let user = in_use(dir, Locks::read().holder(dir.fd.as_fd())?);
        if self.alone {
            return Err(Error::new(
                Errno::EBUSY,
                format!("{user}; unmount that one, or use another directory"),
            ));
        }
        match file::lock_shared(dir.fd.as_fd()) {
            Err(err) if err.errno() == Errno::EAGAIN => Err(Error::new(
                Errno::EBUSY,
                format!("{user}, for itself alone; try again when it is done"),
            )),
            other => {
                other?;
                tracing::warn!(
                    "{user}: what one of the two changes the other may not see, and what both \
                     change may be lost"
                );
                Ok(Claim::Shared)
            }
        }
    }

    /// Says that a lower is the upper or work directory of another mount, or lies in one.
    ///
    /// # Errors
    /// EBUSY if that is not wanted.
    pub fn of_lower(&self, dir: &Opened<'_>, pid: u32) -> Result<()> {
        let user = in_use(dir, Some(pid));
        if self.alone {
            let text = format!("{user} as its upper; unmount that one, or use another directory");
            return Err(Error::new(Errno::EBUSY, text));
        }
        tracing::warn!("{user} as its upper: what that one changes may be seen or not");
        Ok(())
    }
}

/// Lets other mounts in that want to share a directory.
///
/// # Errors
/// Those of flock(2).
pub(super) fn let_in(dir: BorrowedFd<'_>) -> Result<()> {
    match file::lock_shared(dir) {
        Err(err) if matches!(err.errno(), Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EBADF) => {
            Ok(())
        }
        other => other,
    }
}

fn in_use(dir: &Opened<'_>, holder: Option<u32>) -> String {
    let who = match holder {
        Some(pid) => process::describe(pid),
        None => "a process that cannot be seen from here".into(),
    };
    format!("{}: another mount is using it ({who})", dir.named())
}
