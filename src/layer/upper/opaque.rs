//! Opaque marks of other programs, which one of ours replaces.
//!
//! fuse-overlayfs 1.10 marks an opaque directory three times: by an attribute
//! (`user.fuseoverlayfs.opaque`, or the kernel's), by a file `.wh..wh..opq`, and by mistake by a
//! device `.wh..opq`. Our mark is set before theirs are removed, so that what is below never shows.

use super::{OpaqueForm, Upper, UpperDir};
use crate::error::{Errno, Result};
use crate::format::aufs;
use crate::format::overlay::{FUSE_OVERLAYFS_OPAQUE, Mark, Namespace};
use crate::layer::marks::drop_mark;
use crate::sys::{Name, xattr};

/// The device that fuse-overlayfs 1.10 makes in each new directory.
const SLIP: &[u8] = b".wh..opq";

impl Upper {
    /// Leaves one mark, of our form, on an opaque directory that is about to change. The times of
    /// the directory do not change.
    ///
    /// # Errors
    /// Those of setxattr(2), removexattr(2) and unlinkat(2). The directory is opaque all the time.
    pub fn unify_opaque(&self, dir: &UpperDir) -> Result<()> {
        let OpaqueForm::Xattr(namespace) = self.forms.opaque else { return Ok(()) };
        let by_file = dir.dir().has_aufs_opaque()?;
        if !by_file && !dir.dir().marks()?.opaque {
            return Ok(());
        }
        let ours = namespace.key(Mark::Opaque);
        let others = Namespace::BOTH.map(|ns| ns.key(Mark::Opaque)).into_iter();
        let others = others.chain([FUSE_OVERLAYFS_OPAQUE]).filter(|key| *key != ours);
        self.with_dir(dir, |object| {
            let there = xattr::list(object.target())?;
            let has =
                |key: &std::ffi::CStr| xattr::names(&there).any(|name| name == key.to_bytes());
            if !has(ours) || xattr::get(object.target(), ours)? != b"y" {
                self.set_opaque(object)?;
            }
            others.clone().filter(|key| has(key)).try_for_each(|key| drop_mark(object, key))
        })?;
        if by_file {
            let was = dir.dir().stat()?;
            self.remove_debris(dir)?;
            self.restore_times(dir, &was);
        }
        Ok(())
    }

    fn remove_debris(&self, dir: &UpperDir) -> Result<()> {
        let slip = Name::new(SLIP)?;
        if dir.dir().stat_entry(slip)?.is_some_and(|stat| stat.is_whiteout_device()) {
            self.unlink(dir, slip)?;
        }
        match self.unlink(dir, Name::new(aufs::OPAQUE)?) {
            Err(err) if err.errno() == Errno::ENOENT => Ok(()),
            other => other,
        }
    }
}
