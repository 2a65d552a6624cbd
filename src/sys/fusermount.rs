//! The set-uid program that mounts and unmounts for users without privilege.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{AccessFlags, access};

use crate::error::{Errno, Error, Result};

/// Its names: that of libfuse 3, then that of libfuse 2, which takes the same arguments.
const NAMES: [&str; 2] = ["fusermount3", "fusermount"];

/// The directories where packages install it. They are searched after $PATH, which a caller may
/// have emptied.
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

/// A command that runs it, still without arguments.
///
/// # Errors
/// ENOENT with a sentence if it is not installed.
pub fn command() -> Result<Command> {
    let helper = find().map(|path| {
        let mut command = Command::new(path);
        // Its messages are read: see `failure`.
        command.env("LC_ALL", "C");
        command
    });
    helper.ok_or_else(|| {
        let text = "fusermount3 is not installed; without it only root, or root of a user namespace \
                    (unshare -Urm), can mount: install the package fuse3";
        Error::new(Errno::ENOENT, text)
    })
}

/// Errors of mount(2) and umount(2) that it passes on as text (strerror(3)).
const PASSED_ON: [Errno; 9] = [
    Errno::EBUSY,
    Errno::EPERM,
    Errno::EACCES,
    Errno::ENOENT,
    Errno::EINVAL,
    Errno::ENODEV,
    Errno::ENOMEM,
    Errno::ENOTCONN,
    Errno::ENOTDIR,
];

/// The reason why it failed: the last line that it wrote to standard error, and the errno that the
/// line tells of.
#[must_use]
pub fn failure(said: &[u8]) -> Error {
    let said = String::from_utf8_lossy(said);
    let line = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    // The line begins with the path by which the program was started.
    let line = match line.split_once(": ") {
        Some((path, text)) if path.contains("fusermount") => text,
        _ => line,
    };
    if line.is_empty() {
        return Error::new(Errno::EPERM, "fusermount3 failed without a word");
    }
    for errno in PASSED_ON {
        let words = std::io::Error::from_raw_os_error(errno.raw()).to_string();
        let words = words.split(" (os error").next().unwrap_or_default().to_owned();
        if let Some(text) = line.strip_suffix(&format!(": {words}")) {
            return Error::new(errno, format!("fusermount3: {text}"));
        }
    }
    let advice = match line {
        _ if line.contains("no write access to mountpoint") => {
            "; give the directory to this user, or mount as root"
        }
        _ => "",
    };
    // EINVAL is what umount(2) gives for this.
    let errno = if line.contains("not found in") { Errno::EINVAL } else { Errno::EPERM };
    Error::new(errno, format!("fusermount3: {line}{advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_has_one_errno() {
        for (said, errno, text) in [
            (
                "/usr/bin/fusermount3: mount failed: Device or resource busy\n",
                Errno::EBUSY,
                "fusermount3: mount failed: Device or resource busy (os error 16)",
            ),
            (
                "fusermount3: unsafe option dev ignored\n/bin/fusermount3: bad mount point /m: \
                 Permission denied\n",
                Errno::EACCES,
                "fusermount3: bad mount point /m: Permission denied (os error 13)",
            ),
            (
                "/bin/fusermount: option allow_other only allowed if 'user_allow_other' is set\n",
                Errno::EPERM,
                "fusermount3: option allow_other only allowed if 'user_allow_other' is set: \
                 Operation not permitted (os error 1)",
            ),
            (
                "fusermount3: entry for /m not found in /etc/mtab",
                Errno::EINVAL,
                "fusermount3: entry for /m not found in /etc/mtab: Invalid argument (os error 22)",
            ),
        ] {
            let err = failure(said.as_bytes());
            assert_eq!((err.errno(), err.to_string()), (errno, text.to_owned()));
        }
        assert_eq!(failure(b"\n").errno(), Errno::EPERM);
    }
}
