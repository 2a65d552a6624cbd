//! The mounts that processes see (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustc_hash::FxHashSet;

use super::descriptors::with_room;
use crate::error::{Error, Result};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number, which [`super::stat::mount_id`] gives too.
    pub id: u64,
    /// The device of its file system: `MAJOR:MINOR`.
    pub device: Vec<u8>,
    /// Its mountpoint.
    pub point: PathBuf,
    /// Whether it maps owners (mount_setattr(2), `MOUNT_ATTR_IDMAP`).
    pub is_idmapped: bool,
    /// Whether its type is that of a FUSE file system.
    pub is_fuse: bool,
}

/// All mounts that this process sees.
///
/// # Errors
/// Those of read(2); ENOENT without procfs.
pub fn mounts() -> Result<Vec<Mount>> {
    of_process("self")
}

/// The mountpoint at or above an absolute path without links. The mount itself is not asked.
#[must_use]
pub fn point_of(path: &Path) -> Option<PathBuf> {
    let points = mounts().ok()?.into_iter().map(|mount| mount.point);
    points.filter(|point| path.starts_with(point)).max_by_key(|point| point.components().count())
}

/// All mounts that another process sees, with the paths that they have for it.
///
/// # Errors
/// As [`mounts`]; EACCES for a process that we may not look at.
pub fn mounts_of(pid: u32) -> Result<Vec<Mount>> {
    of_process(&pid.to_string())
}

fn of_process(pid: &str) -> Result<Vec<Mount>> {
    let path = format!("/proc/{pid}/mountinfo");
    let text = with_room(|| std::fs::read(&path).map_err(Error::from))?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// Processes that see the file system with this [`Mount::device`] mounted: one for each mount
/// namespace but ours. Processes that we may not look at are left out.
#[must_use]
pub fn seen_elsewhere(device: &[u8]) -> Vec<u32> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let mut known: FxHashSet<PathBuf> = namespace("self").into_iter().collect();
    let list = with_room(|| std::fs::read_dir("/proc").map_err(Error::from));
    let processes = list.into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().into_string().ok()?.parse().ok());
    pids.filter(|pid: &u32| {
        let pid = pid.to_string();
        namespace(&pid).is_some_and(|namespace| known.insert(namespace))
            && of_process(&pid).is_ok_and(|mounts| mounts.iter().any(|m| m.device == device))
    })
    .collect()
}

/// The mount of a line `ID PARENT DEVICE ROOT POINT OPTIONS ... - TYPE SOURCE OPTIONS`.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let device = words.nth(1)?.to_vec();
    let point = PathBuf::from(OsString::from_vec(unescape(words.nth(1)?)));
    let is_idmapped = words.next()?.split(|byte| *byte == b',').any(|word| word == b"idmapped");
    let kind = words.skip_while(|word| *word != b"-").nth(1);
    let is_fuse = kind.is_some_and(|kind| kind == b"fuse" || kind.starts_with(b"fuse."));
    Some(Mount { id, device, point, is_idmapped, is_fuse })
}

/// The word that is meant: a blank, a tab, the end of a line and a backslash are written as `\` and
/// three octal digits (`mangle`, fs/proc_namespace.c).
#[must_use]
pub fn unescape(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| *first == b'\\');
        let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let code = text.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(code.unwrap_or(*first));
        rest = if code.is_some() { behind.get(3..).unwrap_or_default() } else { behind };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let plain = b"29 1 8:1 / /a\\040b\\134 rw,relatime shared:1 - ext4 /dev/sda1 rw";
        let expected = Mount {
            id: 29,
            device: b"8:1".to_vec(),
            point: "/a b\\".into(),
            is_idmapped: false,
            is_fuse: false,
        };
        assert_eq!(parse(plain), Some(expected));
        let fuse = b"43 27 0:39 / /m rw,nodev - fuse.ovlmerge ovlmerge rw,user_id=0";
        assert!(parse(fuse).unwrap().is_fuse);
        let mapped = b"30 29 8:1 /store /m rw,idmapped,noatime - ext4 /dev/sda1 rw";
        assert!(parse(mapped).unwrap().is_idmapped);
        for rubbish in [&b""[..], b"x", b"1 2 3 4 5"] {
            assert_eq!(parse(rubbish), None);
        }
    }
}
