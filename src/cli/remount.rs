//! `-o remount`: a mount gets other flags, and all else stays as it is.
//!
//! mount(8) passes a helper everything that the mount has or that fstab says of it. So options that
//! are not flags are accepted here and change nothing, as with file systems of the kernel.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::request::Request;
use super::tools::ask::Asked;
use super::{Exit, complain};
use crate::config::MountOptions;
use crate::control::Question;
use crate::error::{Errno, Error};
use crate::fuse::{self, StartError};

/// Other flags for a mount.
#[derive(Debug, PartialEq, Eq)]
pub struct Remount {
    mountpoint: PathBuf,
    options: Vec<OsString>,
}

impl Remount {
    /// A remount of `mountpoint` with the values of `-o`, which have been read once without an
    /// error.
    #[must_use]
    pub fn new(mountpoint: &Path, options: &[&OsString]) -> Self {
        let options = options.iter().copied().cloned().collect();
        Self { mountpoint: mountpoint.to_owned(), options }
    }

    /// Changes the flags.
    pub(super) fn run(&self) -> Exit {
        match self.change() {
            Ok(()) => Exit::Done,
            Err(err) => {
                complain(err);
                Exit::Failed
            }
        }
    }

    fn change(&self) -> Result<(), StartError> {
        let mount = Asked::in_dir(&self.mountpoint)?;
        // Without an answer, a write finds out that there is no upper: EROFS.
        let state = mount.ask(&Question::Stat).ok();
        let no_upper = state.is_some_and(|state| state.get("upper").is_some_and(Value::is_null));
        fuse::remount(&self.mountpoint, |flags| {
            self.apply(flags)?;
            if no_upper && !flags.read_only {
                let text = format!(
                    "{} cannot be made writable, as it was mounted with `ro` or without upperdir: \
                     unmount it and mount it again",
                    self.mountpoint.display()
                );
                return Err(Error::new(Errno::EROFS, text));
            }
            Ok(())
        })
    }

    /// Applies the options to the flags that the mount has.
    fn apply(&self, flags: &mut MountOptions) -> Result<(), Error> {
        let mut request = Request::default();
        std::mem::swap(&mut request.config.mount, flags);
        for options in &self.options {
            let read = request.add(options.as_bytes());
            read.map_err(|err| Error::new(Errno::EINVAL, err.to_string()))?;
        }
        *flags = request.config.mount;
        Ok(())
    }
}
