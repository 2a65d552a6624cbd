//! Finds and removes the directories that killed runs left behind.
//!
//! A run holds a lock (flock(2)) on its directory as long as it lives. A directory that is not
//! locked is abandoned.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;

use crate::error::{Errno, Error, Result};
use crate::layer::work;
use crate::sys::{Name, Target, WritableFd, at, dir, file, stat};

/// Prefix of the directories in which layers are built.
const PREFIX: &str = ".ovlmerge-apply-";

/// Makes a directory for building a layer, and locks it.
///
/// # Errors
/// Those of mkdirat(2); EBUSY if other runs remove each new directory.
pub(super) fn make(above: WritableFd<'_>) -> Result<(String, OwnedFd)> {
    // Limit of tries. Another run may remove the directory as abandoned before it is locked.
    const TRIES: u32 = 16;
    for _ in 0..TRIES {
        let text = temporary_name();
        let name = Name::new(text.as_bytes())?;
        at::mkdir(above, name, 0o700)?;
        match take(above.borrowed(), name)? {
            Taken::Locked(fd) | Taken::NoLocks(fd) => return Ok((text, fd)),
            Taken::No => {}
        }
    }
    Err(Error::new(Errno::EBUSY, "others remove what this makes"))
}

/// Finds the abandoned directories of this user in `above`. The returned descriptors hold their
/// locks.
///
/// # Errors
/// Those of reading the directory.
pub fn find(above: BorrowedFd<'_>) -> Result<Vec<(Box<[u8]>, OwnedFd)>> {
    let mut names: Vec<Box<[u8]>> = Vec::new();
    dir::for_each(at::reopen_dir(above)?.as_fd(), |entry| {
        if entry.name.starts_with(PREFIX.as_bytes()) {
            names.push(entry.name.into());
        }
        Ok(())
    })?;
    let own = nix::unistd::geteuid().as_raw();
    let mut found = Vec::new();
    for text in names {
        let name = Name::new(&text)?;
        let stat = stat::stat_if_exists(Target::At(above, name))?;
        if stat.is_some_and(|stat| stat.kind().is_dir() && stat.uid == own)
            && let Taken::Locked(fd) = take(above, name)?
        {
            found.push((text, fd));
        }
    }
    Ok(found)
}

/// Removes the abandoned directories. Returns their number.
///
/// # Errors
/// Those of reading and removing.
pub fn sweep(above: WritableFd<'_>) -> Result<usize> {
    let found = find(above.borrowed())?;
    for (name, _locked) in &found {
        work::remove_tree(above, Name::new(name)?)?;
    }
    Ok(found.len())
}

enum Taken {
    Locked(OwnedFd),
    /// The file system has no locks, so that the owner is unknown.
    NoLocks(OwnedFd),
    /// Another run has locked the directory, or it is gone.
    No,
}

fn take(above: BorrowedFd<'_>, name: Name<'_>) -> Result<Taken> {
    let fd = match at::open(above, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Err(err) if matches!(err.errno(), Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => {
            return Ok(Taken::No);
        }
        other => other?,
    };
    match file::lock_exclusive(fd.as_fd()) {
        Err(err) if err.errno() == Errno::EAGAIN => return Ok(Taken::No),
        Err(err) if matches!(err.errno(), Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EBADF) => {
            return Ok(Taken::NoLocks(fd));
        }
        other => other?,
    }
    let here = stat::stat_if_exists(Target::At(above, name))?;
    let own = stat::fstat(fd.as_fd())?;
    Ok(if here.is_some_and(|it| it.same_object(&own)) { Taken::Locked(fd) } else { Taken::No })
}

fn temporary_name() -> String {
    // Unique among running processes, and not the name of a killed one with the same id.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanoseconds = now.map_or(0, |now| now.as_nanos());
    format!("{PREFIX}{}-{nanoseconds:x}", std::process::id())
}
