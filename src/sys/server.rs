//! The process that serves a mount, and the place of the mount, as another process finds them by
//! the number of the server.
//!
//! A server outlives its mountpoint: after a lazy unmount it goes on until its last user leaves,
//! and as long as another mount namespace has a copy of the mount.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use super::descriptors::{proc_text, with_room};
use super::mountinfo::{self, Mount};
use super::process::{self, Called};
use crate::error::Error;

/// A server, and the place of its mount.
#[derive(Debug)]
pub struct Server {
    pid: u32,
    called: Called,
    place: Place,
}

/// The place where a mount is seen.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// In our mount namespace, on this path.
    Here(PathBuf),
    /// In the mount namespace of its server, which is not ours, on this path.
    There(PathBuf),
    /// Only in the mount namespace of this other process.
    Copied(u32),
    /// Nowhere: a process has files of it open, or its current directory in it.
    Nowhere,
    /// The place cannot be found out.
    Unknown,
}

impl Server {
    /// The server that has this process number.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let called = Called::of(pid);
        let place = place(pid, &called);
        Self { pid, called, place }
    }

    /// A text for the server: its process, its program and its mountpoint.
    #[must_use]
    pub fn describe(&self) -> String {
        let named = self.called.named(self.pid);
        let from = || match &self.called.last {
            Some(point) => format!(" from {}", process::printable(point)),
            None => String::new(),
        };
        match &self.place {
            Place::Here(point) => format!("{named}, mounted on {}", point.display()),
            Place::There(point) => {
                format!("{named}, mounted on {} in another mount namespace", point.display())
            }
            Place::Copied(pid) => format!(
                "{named}, unmounted{}, with a copy of the mount at {}",
                from(),
                process::describe(*pid)
            ),
            Place::Nowhere => {
                format!("{named}, unmounted{}, and something still uses its files", from())
            }
            Place::Unknown => process::describe(self.pid),
        }
    }

    /// A text that says how to end the server.
    #[must_use]
    pub fn advice(&self) -> String {
        let pid = self.pid;
        match &self.place {
            Place::Here(point) => {
                format!("unmount that one (ovlmerge umount {})", point.display())
            }
            Place::There(point) => {
                format!("unmount that one ({} umount {})", enter(pid), point.display())
            }
            Place::Copied(holder) => end_copy(*holder),
            Place::Nowhere => format!("end what uses it, or cut it off (kill {pid}, twice)"),
            Place::Unknown => "unmount that one".into(),
        }
    }
}

/// A text that says how to end the copy of a mount that a process in another mount namespace has.
#[must_use]
pub fn end_copy(pid: u32) -> String {
    format!("end that process, or unmount the copy there ({} umount ...)", enter(pid))
}

/// The command that runs another one in the mount namespace of a process. A user other than root
/// may enter it only together with the user namespace that it belongs to (setns(2)).
fn enter(pid: u32) -> String {
    let users = if process::has_other_users(pid) { " --user --preserve-credentials" } else { "" };
    format!("nsenter --target {pid}{users} --mount")
}

fn place(pid: u32, called: &Called) -> Place {
    let is_elsewhere = process::lives_in_other_mounts(pid);
    let Ok(theirs) = mountinfo::mounts_of(pid) else { return Place::Unknown };
    let Some(device) = device(pid) else {
        let Some(written) = called.last.clone() else { return Place::Unknown };
        let written = PathBuf::from(OsString::from_vec(written));
        return match on_top(&theirs, &written) {
            Some(point) if is_elsewhere => Place::There(point),
            Some(point) => Place::Here(point),
            // The caller has mounted it, and we do not know where.
            None if written.starts_with("/dev/fd") => Place::Unknown,
            None => Place::Nowhere,
        };
    };
    let on = |mounts: Vec<Mount>| {
        mounts.into_iter().find(|mount| mount.device == device).map(|mount| mount.point)
    };
    if let Some(point) = mountinfo::mounts().ok().and_then(on) {
        return Place::Here(point);
    }
    if let Some(point) = on(theirs) {
        return Place::There(point);
    }
    match mountinfo::seen_elsewhere(&device).first() {
        Some(holder) => Place::Copied(*holder),
        None => Place::Nowhere,
    }
}

/// The device of the file system that a process serves. Linux tells it since 6.18, and only of a
/// process of one's own (`fuse_dev_show_fdinfo`, fs/fuse/dev.c).
fn device(pid: u32) -> Option<Vec<u8>> {
    /// The number of descriptors that are searched. A server opens /dev/fuse before its layers, of
    /// which it may have very many open.
    const FIRST: usize = 256;
    let dir = format!("/proc/{pid}/fdinfo");
    let list = with_room(|| fs::read_dir(&dir).map_err(Error::from)).ok()?;
    list.flatten().take(FIRST).find_map(|entry| {
        let text = proc_text(entry.path()).ok()?;
        let number = text.lines().find_map(|line| line.strip_prefix("fuse_connection:"))?;
        // The file system has an anonymous device, whose major number is 0.
        Some(format!("0:{}", number.trim()).into_bytes())
    })
}

/// The mountpoint for a path on a command line, if the file system that was mounted there last is
/// one of FUSE. A relative path is compared with the end of each mountpoint, as the server has left
/// the directory where it began.
fn on_top(mounts: &[Mount], written: &Path) -> Option<PathBuf> {
    let plain: PathBuf =
        written.components().filter(|part| !matches!(part, Component::CurDir)).collect();
    let is_it = |point: &Path| match plain.is_absolute() {
        true => point == plain,
        false => !plain.as_os_str().is_empty() && point.ends_with(&plain),
    };
    let top = mounts.iter().rfind(|mount| is_it(&mount.point))?;
    top.is_fuse.then(|| top.point.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(point: &str, is_fuse: bool) -> Mount {
        Mount { id: 1, device: b"0:1".to_vec(), point: point.into(), is_idmapped: false, is_fuse }
    }

    #[test]
    fn a_mountpoint_is_known_as_it_was_written() {
        let mounts = [mount("/a/m", true), mount("/b", true), mount("/b", false)];
        for (written, wanted) in
            [("/a/m", Some("/a/m")), ("m", Some("/a/m")), ("./m", Some("/a/m")), ("/m", None)]
        {
            assert_eq!(on_top(&mounts, Path::new(written)), wanted.map(PathBuf::from), "{written}");
        }
        assert_eq!(on_top(&mounts, Path::new("/b")), None, "something lies over it");
        assert_eq!(on_top(&mounts, Path::new(".")), None);
    }

    #[test]
    fn who_serves_nothing() {
        let nobody = Server::of(u32::MAX);
        assert_eq!(nobody.describe(), format!("process {}", u32::MAX));
        assert_eq!(nobody.advice(), "unmount that one");
    }
}
