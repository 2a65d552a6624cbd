//! The processes that hold locks by flock(2), as `/proc/locks` tells of them (proc_locks(5)).
//!
//! Any user may read that file. It leaves out the locks of processes that have no number in our
//! process namespace (`locks_show`, fs/locks.c).

use std::fs;
use std::os::fd::BorrowedFd;

use super::stat;
use crate::error::Result;

/// The locks by flock(2) that are held now.
#[derive(Debug, Default)]
pub struct Locks {
    held: Vec<Held>,
    /// `/proc/self/mountinfo`: the table names the device of a file system, which stat(2) does not
    /// show on btrfs and on overlays.
    mounts: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    device: (u64, u64),
    ino: u64,
    shared: bool,
    pid: u32,
}

impl Locks {
    /// Reads the table; without procfs there is no lock in it.
    #[must_use]
    pub fn read() -> Self {
        let table = fs::read_to_string("/proc/locks").unwrap_or_default();
        let held: Vec<_> = table.lines().filter_map(parse).collect();
        let mounts = match held.is_empty() {
            true => String::new(),
            false => fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
        };
        Self { held, mounts }
    }

    /// Whether nobody holds a shared lock on any file.
    #[must_use]
    pub fn none_is_shared(&self) -> bool {
        !self.held.iter().any(|held| held.shared)
    }

    /// A process that holds a lock on this file, shared or not.
    ///
    /// # Errors
    /// Those of statx(2).
    pub fn holder(&self, file: BorrowedFd<'_>) -> Result<Option<u32>> {
        self.find(file, |_| true)
    }

    /// A process that holds a shared lock on this file.
    ///
    /// # Errors
    /// Those of statx(2).
    pub fn sharer(&self, file: BorrowedFd<'_>) -> Result<Option<u32>> {
        self.find(file, |held| held.shared)
    }

    fn find(&self, file: BorrowedFd<'_>, is_wanted: fn(&Held) -> bool) -> Result<Option<u32>> {
        let found = stat::fstat(file)?;
        let mut same = self.held.iter().filter(|held| held.ino == found.ino && is_wanted(held));
        let device = device_of_mount(&self.mounts, stat::mount_id(file)?);
        let numbers = (libc::major(found.dev).into(), libc::minor(found.dev).into());
        let device = device.unwrap_or(numbers);
        Ok(same.find(|held| held.device == device).map(|held| held.pid))
    }
}

/// A line such as `1: FLOCK  ADVISORY  WRITE 8571 00:2b:1234 0 EOF`. A process that only waits for
/// a lock has a line with `->` behind the first word.
fn parse(line: &str) -> Option<Held> {
    let mut words = line.split_ascii_whitespace().skip(1);
    if words.next()? != "FLOCK" {
        return None;
    }
    let shared = words.nth(1)? == "READ";
    let pid = words.next()?.parse().ok()?;
    let mut file = words.next()?.split(':');
    let mut device = || u64::from_str_radix(file.next()?, 16).ok();
    let device = (device()?, device()?);
    Some(Held { device, ino: file.next()?.parse().ok()?, shared, pid })
}

/// The device of the file system of a mount (proc_pid_mountinfo(5)).
fn device_of_mount(mountinfo: &str, mount: u64) -> Option<(u64, u64)> {
    let mount = mount.to_string();
    let line = mountinfo.lines().find(|line| line.split(' ').next() == Some(&*mount))?;
    let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::file;

    #[test]
    fn lines_of_the_table() {
        let held = parse("3: FLOCK  ADVISORY  WRITE 8571 00:2b:1234 0 EOF").unwrap();
        assert_eq!(held, Held { device: (0, 0x2b), ino: 1234, shared: false, pid: 8571 });
        assert!(parse("3: FLOCK  ADVISORY  READ 1 08:01:7 0 EOF").unwrap().shared);
        for other in [
            "1: POSIX  ADVISORY  READ 1 08:01:7 0 EOF",
            "3: -> FLOCK  ADVISORY  WRITE 2 08:01:7 0 EOF",
            "",
            "1: FLOCK",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_holder_is_found() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = std::fs::File::open(tmp.path()).unwrap();
        assert_eq!(Locks::read().holder(dir.as_fd()).unwrap(), None);
        file::lock_exclusive(dir.as_fd()).unwrap();
        let us = Some(std::process::id());
        assert_eq!(Locks::read().holder(dir.as_fd()).unwrap(), us);
        assert_eq!(Locks::read().sharer(dir.as_fd()).unwrap(), None);
        file::lock_shared(dir.as_fd()).unwrap();
        assert_eq!(Locks::read().sharer(dir.as_fd()).unwrap(), us);
    }
}
