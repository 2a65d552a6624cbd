//! The set-uid program that mounts and unmounts for users without privilege.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{AccessFlags, access};

use crate::error::{Errno, Error, Result};

/// Its names: that of libfuse 3, then that of libfuse 2, which takes the same words.
const NAMES: [&str; 2] = ["fusermount3", "fusermount"];

/// Where packages install it: searched after $PATH, which a caller may have emptied.
const PLACES: [&str; 5] = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin"];

/// Its path, if it is installed.
#[must_use]
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::split_paths(&path).filter(|place| place.is_absolute());
    let places: Vec<_> = named.chain(PLACES.map(PathBuf::from)).collect();
    let candidates = NAMES.iter().flat_map(|name| places.iter().map(move |at| at.join(name)));
    candidates.into_iter().find(|candidate| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

/// A call of it, to be given its arguments.
///
/// # Errors
/// ENOENT with a sentence if it is not installed.
pub fn command() -> Result<Command> {
    find().map(Command::new).ok_or_else(|| {
        let text = "fusermount3 is not installed; without it only root, or root of a user namespace \
                    (unshare -Urm), can mount: install the package fuse3";
        Error::new(Errno::ENOENT, text)
    })
}
