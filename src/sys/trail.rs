//! The way down a tree, which may be deeper than the number of descriptors that we may have.
//!
//! Only the innermost directories are kept open. A directory further up is opened again when the
//! way leads back to it: as the parent of the one below it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{at, stat};
use crate::error::{Errno, Error, Result};

/// The number of directories that are kept open. It is more than the depth of a tree that nobody
/// made deep on purpose, and small beside the usual limit of open files (1024, getrlimit(2)).
const KEPT: usize = 64;

/// Directories, each in the one before.
#[derive(Debug, Default)]
pub struct Trail(Vec<Level>);

#[derive(Debug)]
enum Level {
    Open(OwnedFd),
    /// Its device and inode number.
    Closed((u64, u64)),
}

impl Trail {
    /// The innermost directory.
    #[must_use]
    pub fn here(&self) -> Option<BorrowedFd<'_>> {
        match self.0.last() {
            Some(Level::Open(fd)) => Some(fd.as_fd()),
            _ => None,
        }
    }

    /// Goes down into a directory of the innermost one.
    ///
    /// # Errors
    /// Those of statx(2).
    pub fn enter(&mut self, dir: OwnedFd) -> Result<()> {
        let far = self.0.len().checked_sub(KEPT).and_then(|far| self.0.get_mut(far));
        if let Some(level) = far
            && let Level::Open(fd) = level
        {
            let stat = stat::fstat(fd.as_fd())?;
            *level = Level::Closed((stat.dev, stat.ino));
        }
        self.0.push(Level::Open(dir));
        Ok(())
    }

    /// Goes up again.
    ///
    /// # Errors
    /// Those of openat(2); ESTALE if the directory that is left was moved elsewhere meanwhile.
    pub fn leave(&mut self) -> Result<()> {
        let left = self.0.pop();
        if let (Some(Level::Open(left)), Some(level)) = (left, self.0.last_mut())
            && let Level::Closed(was) = *level
        {
            let above = at::open_parent(left.as_fd())?;
            let stat = stat::fstat(above.as_fd())?;
            if (stat.dev, stat.ino) != was {
                return Err(Error::new(Errno::ESTALE, "a directory was moved meanwhile"));
            }
            *level = Level::Open(at::reopen_dir(above.as_fd())?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Name;
    use crate::sys::stat::Stat;
    use nix::fcntl::OFlag;

    fn down(trail: &mut Trail) -> Stat {
        let here = trail.here().unwrap();
        let name = Name::new(b"d").unwrap();
        at::mkdir(crate::sys::WritableFd::vouch(here), name, 0o700).unwrap();
        let next = at::open(here, name, OFlag::O_DIRECTORY).unwrap();
        let stat = stat::fstat(next.as_fd()).unwrap();
        trail.enter(next).unwrap();
        stat
    }

    #[test]
    fn few_are_open_and_the_way_back_is_the_same() {
        let tmp = tempfile::tempdir().unwrap();
        let mut trail = Trail::default();
        trail.enter(std::fs::File::open(tmp.path()).unwrap().into()).unwrap();
        let mut way: Vec<_> = (0..3 * KEPT).map(|_| down(&mut trail)).collect();
        let open = trail.0.iter().filter(|level| matches!(level, Level::Open(_))).count();
        assert_eq!(open, KEPT);
        while let Some(expected) = way.pop() {
            let found = stat::fstat(trail.here().unwrap()).unwrap();
            assert!(found.same_object(&expected));
            trail.leave().unwrap();
        }
        assert!(trail.here().is_some(), "the directory where it began");
        trail.leave().unwrap();
        assert!(trail.here().is_none());
    }

    #[test]
    fn a_directory_that_was_moved_leads_nowhere() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("from")).unwrap();
        let mut trail = Trail::default();
        trail.enter(std::fs::File::open(tmp.path().join("from")).unwrap().into()).unwrap();
        for _ in 0..KEPT + 1 {
            down(&mut trail);
        }
        std::fs::rename(tmp.path().join("from/d/d"), tmp.path().join("elsewhere")).unwrap();
        let left = (0..KEPT + 1).try_for_each(|_| trail.leave());
        assert_eq!(left.unwrap_err().errno(), Errno::ESTALE);
    }
}
