//! `ro` with an upper: it is the topmost of the layers that are only read. No lock is taken and
//! nothing is written, so that it can be mounted beside a mount that writes it: containerd looks at
//! the files of a running container like that.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::MsFlags;

use crate::support::mount::mount_line;
use crate::support::process::{output, text, wait_for};
use crate::support::tree::{Compare, Tree, assert_same_tree, dump};
use crate::support::{LoopFs, Mount, Scratch, Setup, assert_errno};
use crate::{needs, not_the_kernels};

const NO_OPTION: &str = "for it this is a flag of mount(2), not an option";
/// How long a machine may take for what takes a second.
const SOON: Duration = Duration::from_secs(60);

fn below(s: &Scratch) {
    s.lower(0).file("f", "lower").file("gone", "").file("d/x", "x").file("opaque/old", "");
    s.lower(0).file("moved/y", "y");
}

/// What a container does.
fn change(m: &Mount) {
    m.file("f", "changed").file("new/file", "new").mode("d/x", 0o600);
    fs::remove_file(m.path("gone")).unwrap();
    fs::remove_dir_all(m.path("opaque")).unwrap();
    m.dir("opaque").file("opaque/new", "");
    fs::rename(m.path("moved"), m.path("there")).unwrap();
}

fn view(s: &Scratch) -> (Scratch, Setup) {
    let other = Scratch::new();
    let setup = s.setup().mountpoint(other.mnt.root()).option("ro");
    (other, setup)
}

/// Everything in a directory, with the time of its last change and of the last access.
fn stamps(dir: &Path) -> Vec<(PathBuf, [i64; 4])> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        if stat.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push((path, [stat.ctime(), stat.ctime_nsec(), stat.mtime(), stat.mtime_nsec()]));
    }
    found.sort();
    found
}

fn shown(m: &Mount) -> Tree {
    dump(m.root())
}

#[test]
fn beside_a_mount_that_writes() {
    needs!(mount);
    not_the_kernels!(NO_OPTION);
    let s = Scratch::new();
    below(&s);
    let m = s.mount();
    change(&m);
    let before = [stamps(s.upper.root()), stamps(s.work.root())];
    let wanted = shown(&m);
    let (_other, setup) = view(&s);
    let n = setup.mount();
    assert!(mount_line(n.root()).unwrap().split([' ', ',']).any(|word| word == "ro"));
    assert_same_tree(&wanted, &shown(&n), Compare::STRICT);
    assert_errno(fs::write(n.path("f"), "x"), libc::EROFS);
    assert_errno(fs::remove_file(n.path("f")), libc::EROFS);
    assert_eq!(n.log(), "");
    drop(n);
    assert_eq!(before, [stamps(s.upper.root()), stamps(s.work.root())], "something was written");
    // The other one has not noticed.
    m.file("f", "again");
    assert_eq!(s.upper.read("f"), "again");
}

/// The layers change under it. What it shows of a file is what there was or what there is, nothing
/// in between, and after a moment what there is.
#[test]
fn what_the_other_changes_shows_after_a_while() {
    needs!(mount);
    not_the_kernels!(NO_OPTION);
    let s = Scratch::new();
    below(&s);
    let m = s.mount();
    let (_other, setup) = view(&s);
    let n = setup.mount();
    assert_eq!((n.read("f"), n.mode_of("d/x") & 0o777), ("lower".into(), 0o644));
    m.mode("d/x", 0o600).file("f", "longer than before");
    let is_new = || {
        let (text, mode) = (n.read("f"), n.mode_of("d/x") & 0o777);
        assert!(["lower", "longer than before"].contains(&&*text), "{text}");
        assert!([0o644, 0o600].contains(&mode), "{mode:o}");
        (&*text, mode) == ("longer than before", 0o600)
    };
    assert!(wait_for(SOON, is_new));
    m.file("f", "short").file("d/new", "");
    fs::remove_file(m.path("gone")).unwrap();
    let is_new = || n.read("f") == "short" && n.exists("d/new") && !n.exists("gone");
    assert!(wait_for(SOON, is_new));
    assert_eq!(n.names(""), m.names(""));
    assert_eq!(n.names("d"), m.names("d"));
}

/// Nothing is locked: a mount that comes later has the upper for itself.
#[test]
fn it_is_in_nobodys_way() {
    needs!(mount);
    not_the_kernels!(NO_OPTION);
    let s = Scratch::new();
    below(&s);
    let (_other, setup) = view(&s);
    let n = setup.mount();
    let m = s.setup().option("index=on").mount();
    m.file("f", "changed");
    assert!(!m.log().contains("another mount"), "{}", m.log());
    drop(n);
}

#[test]
fn the_work_directory_may_be_missing() {
    needs!(mount);
    not_the_kernels!(NO_OPTION);
    let s = Scratch::new();
    below(&s);
    s.upper.file("f", "changed").whiteout("gone");
    let none = s.base().path("none");
    for setup in [s.setup().work(&none), s.setup().read_only().upper(s.upper.root())] {
        let m = setup.option("ro").mount();
        assert_eq!(m.read("f"), "changed");
        assert!(!m.exists("gone"));
    }
    assert!(!none.exists() && s.work.names("").is_empty());
}

#[test]
fn on_a_read_only_file_system() {
    needs!(mount, loop_device);
    not_the_kernels!(NO_OPTION);
    let disk = LoopFs::ext4(16);
    let s = Scratch::in_dir(disk.path(), 1);
    below(&s);
    let m = s.mount();
    change(&m);
    let wanted = shown(&m);
    drop(m);
    disk.remount_read_only();
    let at = Scratch::new();
    let m = s.setup().option("ro").mountpoint(at.mnt.root()).mount();
    assert_same_tree(&wanted, &shown(&m), Compare::STRICT);
    drop(m);
    disk.remount_writable();
}

/// What an upper says that it may not be used without is asked all the same. A volatile mount may
/// be looked at while it lives.
#[test]
fn what_the_work_directory_says_counts() {
    needs!(mount);
    not_the_kernels!(NO_OPTION);
    let s = Scratch::new();
    below(&s);
    let m = s.setup().option("volatile").mount();
    m.file("f", "changed");
    let (_other, setup) = view(&s);
    let n = setup.mount();
    assert_eq!(n.read("f"), "changed");
    drop(n);
    drop(m);
    s.work.dir("work/incompat/unknown");
    let refused = setup.attempt();
    assert!(text(&refused.stderr).contains("unknown"), "{}", text(&refused.stderr));
}

/// The layers are open for reading alone, so a flag of the mount makes nothing writable.
#[test]
fn it_cannot_be_made_writable() {
    needs!(mount);
    not_the_kernels!(NO_OPTION);
    let s = Scratch::new();
    below(&s);
    let m = s.setup().option("ro").mount();
    let mut command = std::process::Command::new(s.program());
    let refused = output(command.args(["-o", "remount,rw"]).arg(m.root()));
    let message = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{message}");
    assert!(message.contains("mounted with `ro`"), "{message}");
    // Whoever goes to the kernel directly gets the error of each change.
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_NODEV;
    nix::mount::mount(None::<&str>, m.root(), None::<&str>, flags, None::<&str>).unwrap();
    assert_errno(fs::write(m.path("f"), "x"), libc::EROFS);
    assert_errno(fs::create_dir(m.path("dir")), libc::EROFS);
    assert!(s.upper.names("").is_empty() && s.work.names("").is_empty());
}

/// The kernel's overlayfs refuses it as well, with `ro` too: after a crash of the machine nobody
/// knows what is in the upper. Without the work directory nothing is known of that.
#[test]
fn after_a_volatile_mount_that_was_killed() {
    needs!(mount);
    not_the_kernels!(NO_OPTION);
    let s = Scratch::new();
    below(&s);
    let m = s.setup().option("volatile").background().mount();
    m.file("f", "changed");
    let pid = nix::unistd::Pid::from_raw(m.pid().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert!(wait_for(SOON, || !crate::support::process::is_alive(pid.as_raw())));
    drop(m);
    let (_other, setup) = view(&s);
    let refused = setup.attempt();
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    let work = format!("workdir={}", s.work.root().display());
    for words in [work.as_str(), "did not end in order", "leave workdir out"] {
        assert!(said.contains(words), "no `{words}` in {said}");
    }
    let without = s.setup().read_only().upper(s.upper.root()).option("ro").mount();
    assert_eq!(without.read("f"), "changed");
}
