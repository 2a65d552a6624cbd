//! Asking a running mount: see [`crate::control`].

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::Value;

use crate::control::{LONGEST, Question};
use crate::error::{Errno, Error, Result};
use crate::sys::{Stat, Target, file, mountinfo, stat, xattr};

/// The magic number of FUSE file systems (`FUSE_SUPER_MAGIC`, linux/magic.h).
const FUSE: u32 = 0x6573_5546;

/// An object on a running mount.
#[derive(Debug)]
pub(in crate::cli) struct Asked {
    object: File,
    path: String,
}

impl Asked {
    /// The object at a path. It is not opened, and a symbolic link is not followed.
    ///
    /// # Errors
    /// Those of open(2); ENODEV if the object is not on a mount of ours.
    pub(super) fn at(path: &Path) -> Result<Self> {
        Self::open(path, libc::O_NOFOLLOW)
    }

    /// The directory at a path, which may be a symbolic link to it.
    ///
    /// # Errors
    /// As [`Self::at`].
    pub(in crate::cli) fn in_dir(path: &Path) -> Result<Self> {
        Self::open(path, libc::O_DIRECTORY)
    }

    fn open(path: &Path, flags: i32) -> Result<Self> {
        let name = path.display().to_string();
        let flags = libc::O_PATH | flags;
        let object = File::options().read(true).custom_flags(flags).open(path);
        let object = object.map_err(|err| of_open(&err, &name))?;
        let asked = Self { object, path: name };
        // The kernel's overlayfs passes questions on to a layer, which would answer for itself.
        let kind = file::fs_kind(asked.object.as_fd()).map_err(|err| asked.or_dead(err))?;
        if kind.magic == FUSE { Ok(asked) } else { Err(asked.not_ours()) }
    }

    /// Attributes of the object.
    ///
    /// # Errors
    /// Those of stat(2).
    pub(super) fn stat(&self) -> Result<Stat> {
        stat::fstat(self.object.as_fd()).map_err(|err| self.or_dead(err))
    }

    /// Asks the mount and returns its answer.
    ///
    /// # Errors
    /// ENODEV if the mount does not know the question, EACCES if we may not ask, EPROTO if the
    /// answer is not JSON.
    pub(in crate::cli) fn ask(&self, question: &Question) -> Result<Value> {
        let name = CString::new(question.name()).map_err(|_| Errno::EINVAL)?;
        let text = xattr::get_with_room(Target::Fd(self.object.as_fd()), &name, LONGEST);
        let text = text.map_err(|err| match err.errno() {
            Errno::EOPNOTSUPP | Errno::ENODATA => self.not_ours(),
            Errno::EACCES => err.context(format!(
                "{}: a mount tells about itself only to the user of its server and to root, in \
                 its server's mount namespace and root directory (nsenter(1), podman unshare)",
                self.path
            )),
            _ => self.or_dead(err),
        })?;
        serde_json::from_slice(&text)
            .map_err(|err| Error::new(Errno::EPROTO, format!("{}: {err}", self.path)))
    }

    fn or_dead(&self, err: Error) -> Error {
        of_path(err, &self.path)
    }

    fn not_ours(&self) -> Error {
        let text = format!(
            "{} is not on a mount of ovlmerge, or on one of another version that cannot tell",
            self.path
        );
        Error::new(Errno::ENODEV, text)
    }
}

fn of_open(err: &io::Error, path: &str) -> Error {
    of_path(Errno::from_raw(err.raw_os_error().unwrap_or(libc::EIO)).into(), path)
}

/// Adds the path to an error, and advice if the server of the mount is dead.
fn of_path(err: Error, path: &str) -> Error {
    if err.errno() != Errno::ENOTCONN {
        return err.context(path);
    }
    let point = std::path::absolute(path).ok().and_then(|path| mountinfo::point_of(&path));
    let point = point.map_or_else(|| "MOUNTPOINT".to_owned(), |point| point.display().to_string());
    err.context(format!(
        "{path}: the server of this mount is dead; unmount it (ovlmerge umount {point})"
    ))
}

/// All layers of a mount.
///
/// # Errors
/// Those of [`Asked::ask`].
pub(super) fn layers(asked: &Asked) -> Result<Vec<Value>> {
    let mut layers = Vec::new();
    loop {
        let Value::Array(more) = asked.ask(&Question::Layers(layers.len()))? else {
            return Err(Error::new(Errno::EPROTO, "layers that are no list"));
        };
        if more.is_empty() {
            return Ok(layers);
        }
        layers.extend(more);
    }
}
