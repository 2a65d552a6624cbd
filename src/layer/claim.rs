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
use super::work::{Claim, Work};
use crate::error::{Errno, Error, Result};
use crate::sys::locks::Locks;
use crate::sys::server::Server;
use crate::sys::{daemon, file, process};

/// How long a directory may stay locked: umount(8) returns before the server of the mount is gone.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long it may be while the mount before writes what it has to the disk.
const PATIENCE_WITH_ENDING: Duration = Duration::from_secs(300);

/// A process of which no number is known: procfs shows none of another process namespace.
const UNSEEN: &str = "a process that cannot be seen from here";

/// How directories are claimed.
#[derive(Debug)]
pub(super) struct Claims {
    begun: Instant,
    /// What others use is refused.
    alone: bool,
    /// Directories that others use too, and by which process they have them.
    shared: Vec<(String, Option<u32>)>,
}

impl Claims {
    pub fn begin(alone: bool) -> Self {
        Self { begun: Instant::now(), alone, shared: Vec::new() }
    }

    /// Locks a directory, for us alone if nobody else uses it. Waits for a mount that has begun to
    /// end, as is seen at the work directory.
    ///
    /// # Errors
    /// EBUSY if it is used and should not be, or is just now being emptied or repaired. EINTR if
    /// nobody wants the mount any more.
    pub fn take(&mut self, dir: &Opened<'_>, work: BorrowedFd<'_>) -> Result<Claim> {
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

    fn share(&mut self, dir: &Opened<'_>) -> Result<Claim> {
        let holder = Locks::read().holder(dir.fd.as_fd())?;
        if self.alone {
            let (user, advice) = in_use(&[&dir.named()], holder);
            let text = format!("{user}; {advice}, or use another directory");
            return Err(Error::new(Errno::EBUSY, text));
        }
        match file::lock_shared(dir.fd.as_fd()) {
            Err(err) if err.errno() == Errno::EAGAIN => {
                let user = holder.map_or_else(|| UNSEEN.to_owned(), process::describe);
                let text = format!(
                    "{}: it is in use ({user}), for itself alone; try again when it is done",
                    dir.named()
                );
                Err(Error::new(Errno::EBUSY, text))
            }
            other => {
                other?;
                self.shared.push((dir.named(), holder));
                Ok(Claim::Shared)
            }
        }
    }

    /// Says who uses what was taken: once for each of the others, as most have upper and work
    /// directory both.
    pub fn warn(&self) {
        for (user, advice) in users(&self.shared) {
            tracing::warn!(
                "{user}: what one of the two changes the other may not see, and what both change \
                 may be lost; {advice}, or use other directories"
            );
        }
    }

    /// Says that lowers are the upper or work directory of other mounts, or lie in one.
    ///
    /// # Errors
    /// EBUSY if that is not wanted.
    pub fn of_lowers(&self, held: &[(String, Option<u32>)]) -> Result<()> {
        for (user, advice) in users(held) {
            if self.alone {
                let text = format!("{user} as its upper; {advice}, or use another directory");
                return Err(Error::new(Errno::EBUSY, text));
            }
            tracing::warn!(
                "{user} as its upper: what that one changes may be seen or not; {advice}, or give \
                 timeout=1"
            );
        }
        Ok(())
    }
}

/// For each process that has some of the directories: what it has, in words, and what to do.
fn users(held: &[(String, Option<u32>)]) -> Vec<(String, String)> {
    let mut by_process: Vec<(Option<u32>, Vec<&str>)> = Vec::new();
    for (named, pid) in held {
        match by_process.iter_mut().find(|(known, _)| known == pid) {
            Some((_, names)) => names.push(named),
            None => by_process.push((*pid, vec![named])),
        }
    }
    by_process.into_iter().map(|(pid, names)| in_use(&names, pid)).collect()
}

/// That a process has these directories, in words, and what to do.
fn in_use(names: &[&str], holder: Option<u32>) -> (String, String) {
    let (who, advice) = match holder.map(Server::of) {
        Some(server) => (server.describe(), server.advice()),
        None => (UNSEEN.to_owned(), "unmount that one".to_owned()),
    };
    let them = if names.len() > 1 { "them" } else { "it" };
    (format!("{}: another mount is using {them} ({who})", names.join(" and ")), advice)
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
