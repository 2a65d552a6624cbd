//! Locks of an upper and its work directory, and the processes that hold them.
//!
//! A mount holds flock(2) locks on its upper and its work directory as long as it lives. They are
//! exclusive while it begins, because it empties the work directory then. After that they are
//! shared, so that other mounts can lock the directories as well. A mount that finds them locked
//! goes on with a warning, as the kernel's overlayfs does: the mount of a container that has ended
//! lives on while a process is still in it. With `strict` or `index=on` it fails.
//!
//! The tools that work on layers without a mount lock them exclusively.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::overlap::Opened;
use super::work::{Claim, Work};
use crate::error::{Errno, Error, Result};
use crate::sys::locks::Locks;
use crate::sys::server::Server;
use crate::sys::{daemon, file, process};

/// How long to wait for a lock: umount(8) returns before the server of the mount is gone.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long to wait while the server of an earlier mount writes its data to the disk.
const PATIENCE_WITH_ENDING: Duration = Duration::from_secs(300);

/// A process whose number is not known: procfs shows none of another process namespace.
const UNSEEN: &str = "a process that cannot be seen from here";

/// The directories that one mount claims.
#[derive(Debug)]
pub(super) struct Claims {
    begun: Instant,
    /// Refuse directories that others use.
    alone: bool,
    /// Directories that others use too, with the number of a process that holds the lock.
    shared: Vec<(String, Option<u32>)>,
}

impl Claims {
    pub fn begin(alone: bool) -> Self {
        Self { begun: Instant::now(), alone, shared: Vec::new() }
    }

    /// Locks a directory, exclusively if nobody else uses it. Waits for a mount that is ending,
    /// which the lock of its work directory tells.
    ///
    /// # Errors
    /// EBUSY if others use it and `alone` is set, or if somebody holds the lock exclusively. EINTR
    /// if the mount was called off meanwhile.
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

    /// Warns of the other users of the directories, once for each process: most have both the upper
    /// and the work directory.
    pub fn warn(&self) {
        for (user, advice) in users(&self.shared) {
            tracing::warn!(
                "{user}: what one of the two changes the other may not see, and what both change \
                 may be lost; {advice}, or use other directories"
            );
        }
    }

    /// Warns of lowers that are, or lie in, the upper or work directory of another mount.
    ///
    /// # Errors
    /// EBUSY if `alone` is set.
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

/// Warns a tool, which reads layers once, of mounts that have them as their uppers.
pub(super) fn warn_reader(held: &[(String, Option<u32>)]) {
    for (user, advice) in users(held) {
        tracing::warn!(
            "{user} as its upper: what changes there meanwhile may be missed or half done; {advice} \
             first, or have nothing change it meanwhile"
        );
    }
}

/// For each process that has some of the directories: a text that says so, and advice.
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

/// A text that says that a process has these directories, and advice.
fn in_use(names: &[&str], holder: Option<u32>) -> (String, String) {
    let (who, advice) = match holder.map(Server::of) {
        Some(server) => (server.describe(), server.advice()),
        None => (UNSEEN.to_owned(), "unmount that one".to_owned()),
    };
    let them = if names.len() > 1 { "them" } else { "it" };
    (format!("{}: another mount is using {them} ({who})", names.join(" and ")), advice)
}

/// Makes our lock shared, so that other mounts can use the directory too.
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
