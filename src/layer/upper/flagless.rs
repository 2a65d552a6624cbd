//! Renames that leave or replace a whiteout: one call where the file system knows the flags of
//! renameat2(2), several behind a [`Guard`] where it does not.

use std::os::fd::AsFd;

use nix::fcntl::OFlag;

use super::{Upper, UpperDir};
use crate::error::{Errno, Result, best_effort};
use crate::layer::guard::Guard;
use crate::layer::staged::Over;
use crate::layer::work;
use crate::sys::at::Replace;
use crate::sys::{Name, at};

impl Upper {
    /// Takes everything out of a directory.
    pub fn empty(&self, dir: &UpperDir, name: Name<'_>) -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let full = at::open(dir.fd()?.as_ref().as_fd(), name, flags, 0)?;
        work::sweep(full.as_fd())
    }

    /// Renames and leaves a whiteout.
    pub fn rename_leaving_whiteout(
        &self,
        from: &UpperDir,
        name: Name<'_>,
        to: &UpperDir,
        new: Name<'_>,
    ) -> Result<()> {
        match self.rename(from, name, to, new, Replace::LeaveWhiteout) {
            Err(err) if matches!(err.errno(), Errno::EINVAL | Errno::EPERM | Errno::EOPNOTSUPP) => {
                self.rename_then_whiteout(from, name, to, new)
            }
            other => {
                other?;
                self.tally.whiteouts.count();
                Ok(())
            }
        }
    }

    fn rename_then_whiteout(
        &self,
        from: &UpperDir,
        name: Name<'_>,
        to: &UpperDir,
        new: Name<'_>,
    ) -> Result<()> {
        let guard = Guard::set(from, name)?;
        self.rename(from, name, to, new, Replace::Yes)?;
        match (self.whiteout(from, name, Over::Nothing), guard) {
            (Err(err), Some(guard)) => {
                guard.stay();
                best_effort::<()>("a whiteout has the form of AUFS", Err(err));
                Ok(())
            }
            (done, _) => done,
        }
    }

    /// Renames a directory to a name where a whiteout stands, and leaves one if the old name needs
    /// it: the two change places.
    pub fn rename_over_whiteout(
        &self,
        from: &UpperDir,
        name: Name<'_>,
        to: &UpperDir,
        new: Name<'_>,
        leaves: bool,
    ) -> Result<()> {
        match self.rename(from, name, to, new, Replace::Exchange) {
            Err(err) if err.errno() == Errno::EINVAL => {}
            Err(err) => return Err(err),
            Ok(()) => {
                if !leaves {
                    best_effort("a needless whiteout stays", self.unlink(from, name));
                }
                return Ok(());
            }
        }
        // A directory replaces nothing but directories (rename(2)).
        let guard = Guard::set(to, new)?;
        self.unlink(to, new)?;
        let moved = match leaves {
            true => self.rename_then_whiteout(from, name, to, new),
            false => self.rename(from, name, to, new, Replace::Yes),
        };
        if moved.is_err()
            && self.whiteout(to, new, Over::Nothing).is_err()
            && let Some(guard) = guard
        {
            guard.stay();
        }
        moved
    }
}
