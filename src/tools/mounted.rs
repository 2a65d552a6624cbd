//! Finds out whether the kernel's overlayfs uses a directory.
//!
//! Unlike ovlmerge, it does not lock its layers, so the mount table is the only source. That shows
//! mounts of our own mount namespace, but not those of containers.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::sys::mountinfo::unescape;

/// How an overlay uses a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// As its upper.
    Upper,
    /// As its upper or as one of its lowers.
    Layer,
}

/// Whether an overlay of the kernel uses `dir`; false if the mount table cannot be read.
#[must_use]
pub fn by_kernel(dir: &Path, role: Role) -> bool {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    uses(&table, role).iter().any(|used| is_same(used, dir))
}

/// The directory to which a relative path refers is unknown, so its last component decides.
fn is_same(used: &Path, dir: &Path) -> bool {
    let identity = |path: &Path| path.metadata().map(|at| (at.dev(), at.ino())).ok();
    match used.is_absolute() {
        true => identity(used).is_some_and(|used| identity(dir) == Some(used)),
        false => dir.canonicalize().is_ok_and(|dir| dir.file_name() == used.file_name()),
    }
}

/// Returns the directories that overlays in a mount table use (`/proc/PID/mountinfo`,
/// proc_pid_mountinfo(5)).
fn uses(table: &[u8], role: Role) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in table.split(|byte| *byte == b'\n') {
        // Fields after the separator: type, source, options.
        let mut fields =
            line.split(|byte| *byte == b' ').skip_while(|field| *field != b"-").skip(1);
        let (kind, options) = (fields.next(), fields.nth(1).unwrap_or_default());
        if kind != Some(b"overlay") {
            continue;
        }
        for option in options.split(|byte| *byte == b',') {
            let mut parts = option.splitn(2, |byte| *byte == b'=');
            let (key, value) = (parts.next().unwrap_or_default(), parts.next());
            let value = unescape(value.unwrap_or_default());
            match key {
                b"upperdir" => found.push(path(value)),
                b"lowerdir" if role == Role::Layer => found.extend(split(&value)),
                b"lowerdir+" | b"datadir+" if role == Role::Layer => found.push(path(value)),
                _ => {}
            }
        }
    }
    found
}

fn path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

/// Splits a list of lowers: `::` precedes data-only ones, and `\:` is a colon in a path.
fn split(value: &[u8]) -> Vec<PathBuf> {
    let mut paths = vec![Vec::new()];
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b':' => paths.push(Vec::new()),
            b'\\' => paths.last_mut().into_iter().for_each(|path| path.extend(bytes.next())),
            other => paths.last_mut().into_iter().for_each(|path| path.push(*other)),
        }
    }
    paths.into_iter().filter(|path| !path.is_empty()).map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_found_in_the_table() {
        let table = b"29 1 8:1 / / rw - ext4 /dev/sda1 rw,upperdir=/no\n\
            90 29 0:50 / /m rw shared:5 - overlay none rw,lowerdir=/l\\134:1:/l2::/d,upperdir=/a\\040b\\054c,workdir=/w\n\
            91 29 0:51 / /n rw - overlay none rw,lowerdir+=/x,datadir+=/y";
        let paths = |role| {
            let text = |path: PathBuf| path.to_str().unwrap().to_owned();
            uses(table, role).into_iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(paths(Role::Upper), ["/a b,c"]);
        assert_eq!(paths(Role::Layer), ["/l:1", "/l2", "/d", "/a b,c", "/x", "/y"]);
    }
}
