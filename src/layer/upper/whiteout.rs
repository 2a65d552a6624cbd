//! Whiteouts, in the form of the upper.

use super::forms::{WHITEOUT_FILE, WHITEOUT_MODE, mark_xattr_whiteouts};
use super::{Upper, UpperDir, WhiteoutForm};
use crate::error::{Errno, Result};
use crate::format::aufs;
use crate::format::overlay::Mark;
use crate::layer::staged::{Over, Staged, TakenOut};
use crate::sys::xattr::SetMode;
use crate::sys::{Name, WritableFd, at, xattr};

impl Upper {
    /// Makes a whiteout at `name`, in the place of nothing, a file or a directory of the upper.
    pub fn whiteout(&self, dir: &UpperDir, name: Name<'_>, over: Over) -> Result<()> {
        if let Some(replaced) = self.replace_by_whiteout(dir, name, over)? {
            replaced.sweep();
        }
        Ok(())
    }

    /// Makes a whiteout at `name`. Returns an object that is to be removed from the work directory.
    pub fn replace_by_whiteout(
        &self,
        dir: &UpperDir,
        name: Name<'_>,
        over: Over,
    ) -> Result<Option<TakenOut>> {
        let replaced = match self.forms.whiteout {
            WhiteoutForm::Device => self.whiteout_device(dir, name, over),
            WhiteoutForm::Xattr => self.whiteout_xattr(dir, name, over),
            WhiteoutForm::Aufs => self.whiteout_file(dir, name, over),
        }?;
        self.counters.whiteouts.count();
        Ok(replaced)
    }

    fn whiteout_device(
        &self,
        dir: &UpperDir,
        name: Name<'_>,
        over: Over,
    ) -> Result<Option<TakenOut>> {
        if over == Over::Nothing {
            return dir.reach(|dir| self.link_whiteout(dir, name)).map(|()| None);
        }
        let staged = Staged::build(&self.work, |work, temp| self.link_whiteout(work, temp))?;
        staged.replace(dir, name, over)
    }

    /// Makes a whiteout at a free name: one more link to the shared one, or a new one.
    fn link_whiteout(&self, dir: WritableFd<'_>, name: Name<'_>) -> Result<()> {
        let mut shared = self.shared_whiteout.lock();
        if shared.is_none() {
            let fresh = self.work.fresh_name();
            at::mknod(self.work.fd(), Name::new(fresh.as_bytes())?, WHITEOUT_MODE, 0)?;
            *shared = Some(fresh);
        }
        let Some(source) = shared.as_deref() else { return Err(Errno::EIO.into()) };
        match at::link(self.work.fd(), Name::new(source.as_bytes())?, dir, name) {
            Err(err) if err.errno() == Errno::EEXIST => Err(err),
            // The directory may be the reason; the shared whiteout is kept.
            Err(err) if err.errno() == Errno::EACCES => at::mknod(dir, name, WHITEOUT_MODE, 0),
            // Too many links (EMLINK), or a file system that links no devices: make a new one.
            Err(_) => {
                if let Some(full) = shared.take() {
                    self.work.discard(&full)?;
                }
                at::mknod(dir, name, WHITEOUT_MODE, 0)
            }
            Ok(()) => Ok(()),
        }
    }

    fn whiteout_xattr(
        &self,
        dir: &UpperDir,
        name: Name<'_>,
        over: Over,
    ) -> Result<Option<TakenOut>> {
        self.stage_xattr_whiteout(dir)?.replace(dir, name, over)
    }

    /// Builds an empty file with the mark, and marks the directory that it is for.
    pub(super) fn stage_xattr_whiteout(&self, dir: &UpperDir) -> Result<Staged> {
        let Some(namespace) = self.forms.namespace else {
            return Err(Errno::EOPNOTSUPP.into());
        };
        self.with_dir(dir, |target| mark_xattr_whiteouts(target, namespace))?;
        let staged = self.stage_node(libc::S_IFREG | WHITEOUT_FILE, 0)?;
        let key = namespace.key(Mark::Whiteout);
        xattr::set(staged.object()?, key, b"y", SetMode::Any)?;
        Ok(staged)
    }

    /// Makes the file `.wh.NAME`, then removes the object, which shows until then.
    fn whiteout_file(
        &self,
        dir: &UpperDir,
        name: Name<'_>,
        over: Over,
    ) -> Result<Option<TakenOut>> {
        let marker = aufs::whiteout_of(name.bytes());
        let made = self.mknod(dir, Name::new(&marker)?, libc::S_IFREG | 0o600, 0);
        if let Err(err) = made
            && err.errno() != Errno::EEXIST
        {
            return Err(err);
        }
        match over {
            Over::Nothing => Ok(None),
            Over::SameKind => self.unlink(dir, name).map(|()| None),
            Over::NoDirectory | Over::Directory => self.take_out(dir, name).map(Some),
        }
    }

    /// Removes a whiteout `.wh.NAME` beside a new object. A device is simply replaced when the
    /// object is published.
    pub fn remove_whiteout_file(&self, dir: &UpperDir, name: Name<'_>) -> Result<()> {
        let marker = aufs::whiteout_of(name.bytes());
        match Name::new(&marker).and_then(|marker| self.unlink(dir, marker)) {
            // A name may be too long to have one.
            Err(err) if matches!(err.errno(), Errno::ENOENT | Errno::ENAMETOOLONG) => Ok(()),
            other => other,
        }
    }
}
