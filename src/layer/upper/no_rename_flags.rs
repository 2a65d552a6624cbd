//! Renames that leave or replace a whiteout. They take one call where the file system knows the
//! flags of renameat2(2), and several behind a [`Guard`] where it does not.

use super::forms::{WhiteoutForm, mark_xattr_whiteouts};
use super::{Upper, UpperDir};
use crate::error::{Errno, Result, best_effort};
use crate::layer::guard::Guard;
use crate::layer::staged::{Over, Staged};
use crate::layer::work;
use crate::sys::at::Replace;
use crate::sys::{Name, at};

impl Upper {
    /// Removes everything in a directory.
    pub fn empty(&self, dir: &UpperDir, name: Name<'_>) -> Result<()> {
        dir.reach_entry(name, |full| work::sweep(at::open_writable_dir(full)?.writable()))
    }

    /// Runs `put`, which puts a directory in the place of one that shows nothing but holds markers.
    /// The old one is taken out before, as renameat(2) replaces only an empty one. A crash between
    /// the two shows nothing at the name.
    pub fn in_place_of(
        &self,
        dir: &UpperDir,
        name: Name<'_>,
        put: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let hidden = Guard::set(dir, name)?;
        let old = self.take_out(dir, name)?;
        if let Err(err) = put() {
            let back = old.put_back(dir, name);
            best_effort("what was to be replaced stays in work until the next mount", back);
            return Err(err);
        }
        old.sweep();
        if let Some(hidden) = hidden {
            hidden.lift();
        }
        Ok(())
    }

    /// Renames an object and leaves a whiteout at its old name.
    ///
    /// The kernel renames and leaves a device 0:0 in one step. If the whiteouts of the upper are
    /// files with a mark, one of these replaces the device at once. A crash between the two leaves
    /// the device, which is read as a whiteout as well.
    pub fn rename_leaving_whiteout(
        &self,
        from: &UpperDir,
        name: Name<'_>,
        to: &UpperDir,
        new: Name<'_>,
    ) -> Result<()> {
        let own = match self.forms.whiteout {
            WhiteoutForm::Xattr => Some(self.stage_xattr_whiteout(from)?),
            WhiteoutForm::Device | WhiteoutForm::Aufs => None,
        };
        match self.rename(from, name, to, new, Replace::LeaveWhiteout) {
            Err(err) if matches!(err.errno(), Errno::EINVAL | Errno::EPERM | Errno::EOPNOTSUPP) => {
                return self.rename_then_whiteout((from, name), (to, new), own);
            }
            other => other?,
        }
        self.counters.whiteouts.count();
        if let Some(own) = own {
            let replaced = own.publish(from, name, Over::SameKind);
            best_effort("a whiteout has the form of a device", replaced);
        }
        Ok(())
    }

    /// Renames, then makes the whiteout. `own` is one that has been built already.
    fn rename_then_whiteout(
        &self,
        (from, name): (&UpperDir, Name<'_>),
        (to, new): (&UpperDir, Name<'_>),
        own: Option<Staged>,
    ) -> Result<()> {
        let guard = Guard::set(from, name)?;
        self.rename(from, name, to, new, Replace::Yes)?;
        let left = match own {
            Some(own) => own.publish(from, name, Over::Nothing),
            None => self.whiteout(from, name, Over::Nothing),
        };
        match (left, guard) {
            (Err(err), Some(guard)) => {
                guard.stay();
                best_effort::<()>("a whiteout has the form of AUFS", Err(err));
                Ok(())
            }
            (Ok(()), Some(guard)) => {
                guard.lift();
                Ok(())
            }
            (done, None) => done,
        }
    }

    /// Gives a whiteout that moved to a new name, and that another program made, our form.
    fn unify_whiteout(&self, dir: &UpperDir, name: Name<'_>) -> Result<()> {
        let found = dir.dir().stat_entry(name)?;
        let is_device = found.is_some_and(|stat| stat.is_whiteout_device());
        if is_device == (self.forms.whiteout == WhiteoutForm::Device) {
            return Ok(());
        }
        self.whiteout(dir, name, Over::SameKind)
    }

    /// Renames a directory to the name of a whiteout. The two are exchanged, and the whiteout is
    /// removed unless the old name needs it (`leaves`).
    pub fn rename_over_whiteout(
        &self,
        from: &UpperDir,
        name: Name<'_>,
        to: &UpperDir,
        new: Name<'_>,
        leaves: bool,
    ) -> Result<()> {
        if let (true, WhiteoutForm::Xattr, Some(namespace)) =
            (leaves, self.forms.whiteout, self.forms.namespace)
        {
            self.with_dir(from, |target| mark_xattr_whiteouts(target, namespace))?;
        }
        match self.rename(from, name, to, new, Replace::Exchange) {
            Err(err) if err.errno() == Errno::EINVAL => {}
            Err(err) => return Err(err),
            Ok(()) => {
                if leaves {
                    best_effort("a whiteout keeps its form", self.unify_whiteout(from, name));
                } else {
                    best_effort("a needless whiteout stays", self.unlink(from, name));
                }
                return Ok(());
            }
        }
        // A directory replaces nothing but directories (rename(2)).
        let guard = Guard::set(to, new)?;
        self.unlink(to, new)?;
        let moved = match leaves {
            true => self.rename_then_whiteout((from, name), (to, new), None),
            false => self.rename(from, name, to, new, Replace::Yes),
        };
        let stays = moved.is_err() && self.whiteout(to, new, Over::Nothing).is_err();
        match guard {
            Some(guard) if stays => guard.stay(),
            Some(guard) => guard.lift(),
            None => {}
        }
        moved
    }
}
