//! What mount options change, where no other test shows it.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::mount::{is_mountpoint, mount_line};
use crate::support::process::wait_for;
use crate::support::{Scratch, assert_errno};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it is no program";
const ACL: &str = "system.posix_acl_access";

/// Whether the options that /proc/mounts shows have a word.
fn shows(options: &str, word: &str) -> bool {
    let s = Scratch::new();
    let m = s.setup().option(options).mount();
    let line = mount_line(m.root()).unwrap();
    line.split([' ', ',']).any(|shown| shown == word)
}

#[test]
fn words_of_the_mount() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    for (options, word, there) in [
        ("dev", "nodev", false),
        ("nodev", "nodev", true),
        ("suid", "nosuid", false),
        ("nosuid", "nosuid", true),
        ("noexec", "noexec", true),
        ("noexec,exec", "noexec", false),
        ("ro", "ro", true),
        ("ro,rw", "ro", false),
        ("atime", "noatime", false),
        ("noatime", "noatime", true),
        ("relatime", "noatime", false),
        ("relatime", "relatime", true),
        ("strictatime", "noatime", false),
        ("nodiratime,atime", "nodiratime", true),
        ("nodiratime,atime,diratime", "nodiratime", false),
        ("sync", "sync", true),
        ("sync,async", "sync", false),
        ("dirsync", "dirsync", true),
        ("rw", "dirsync", false),
        ("fsname=a", "a", true),
        ("subtype=b", "fuse.b", true),
        ("max_read=8192", "max_read=8192", true),
        ("rw", "max_read=8192", false),
    ] {
        assert_eq!(shows(options, word), there, "{options}: {word}");
    }
}

/// A caller that always passes a label gets its mount, also where there is no SELinux.
#[test]
fn a_label_is_no_obstacle() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let label = "context=\"system_u:object_r:container_file_t:s0:c1,c2\"";
    let m = s.setup().option(label).mount();
    assert_eq!(m.read("f"), "x");
}

#[test]
fn attributes_can_be_left_out() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    for (option, has_user, has_acl) in
        [("rw", true, true), ("noacl", true, false), ("noxattrs=1", false, false)]
    {
        let s = Scratch::new();
        s.lower(0).file("f", "x").xattr("f", "user.a", "b");
        let m = s.setup().option(option).mount();
        let user = xattr::get(m.path("f"), "user.a");
        // Version 2, then owner, group and others with no ids.
        let mut acl = vec![2, 0, 0, 0];
        for (tag, mode) in [(1_u8, 6_u8), (4, 4), (0x20, 4)] {
            acl.extend([tag, 0, mode, 0, 255, 255, 255, 255]);
        }
        let set = xattr::set(m.path("f"), ACL, &acl);
        if has_user {
            assert_eq!(user.unwrap().as_deref(), Some(b"b".as_slice()), "{option}");
        } else {
            assert_errno(user, libc::EOPNOTSUPP);
        }
        if has_acl {
            set.unwrap();
        } else {
            assert_errno(set, libc::EOPNOTSUPP);
        }
        // A copy keeps what the layer has, shown or not.
        m.mode("f", 0o600);
        assert_eq!(s.upper.get_xattr("f", "user.a").unwrap(), b"b", "{option}");
    }
}

/// While a client is busy the server does not sleep between its requests, unless it is told to.
#[test]
fn a_server_can_be_kept_from_spinning() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let sleeps = |option: &str| {
        let s = Scratch::new();
        let m = s.setup().option(option).mount();
        let tasks = format!("/proc/{}/task", m.pid().unwrap());
        let count = || -> u64 {
            let read = |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).unwrap();
            fs::read_dir(&tasks).unwrap().map(|task| voluntary_switches(&read(task.unwrap()))).sum()
        };
        let before = count();
        for absent in 0..2000 {
            assert!(!m.path(format!("absent-{absent}")).exists());
        }
        count() - before
    };
    let without = sleeps("spin=0");
    // On a crowded machine it gives way to others: then once more.
    assert!((0..20).any(|_| sleeps("spin=1000") < without / 2), "{without} without");
}

fn voluntary_switches(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn threads_can_be_one() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let readers = |option: &str| {
        let s = Scratch::new();
        let m = s.setup().option(option).mount();
        // More may come on a busy machine.
        m.statistics()["threads"]["readers"].as_u64().unwrap()
    };
    let one = readers("threaded=0");
    assert_eq!(one, 1);
    assert_eq!(one, readers("threads=1"));
    assert_eq!(one, readers("max_threads=1"));
    assert_eq!(readers("max_threads=1000"), readers("rw"));
    assert_eq!(readers("threads=5"), one + 4);
    assert!(readers("threaded=1") > one);
}

#[test]
fn a_killed_server_is_unmounted_where_that_is_asked_for() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let mut m = s.setup().option("auto_unmount").mount();
    assert_eq!(m.read("f"), "x");
    kill(Pid::from_raw(m.pid().unwrap()), Signal::SIGKILL).unwrap();
    assert!(m.server_leaves(Duration::from_secs(10)));
    assert!(wait_for(Duration::from_secs(10), || !is_mountpoint(m.root())));
}
