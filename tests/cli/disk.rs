//! Full disks, and disks that turn read-only.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use crate::needs;
use crate::support::process::{text, wait_for};
use crate::support::tree::{Compare, assert_same_tree, dump};
use crate::support::{Engine, LoopFs, Mount, Scratch, Setup, assert_errno};

const MEBIBYTE: usize = 1 << 20;

/// Lowers with plenty of room, an upper with very little.
fn small_upper(mebibytes: u64) -> (LoopFs, Scratch, Setup) {
    let disk = LoopFs::ext4(mebibytes);
    disk.dir().dir("upper").dir("work");
    let s = Scratch::new();
    let setup = s.setup().upper(&disk.dir().path("upper")).work(&disk.dir().path("work"));
    (disk, s, setup)
}

fn content() -> Vec<u8> {
    (0..16 * MEBIBYTE).map(|at| (at / 4096 + at) as u8).collect()
}

#[track_caller]
fn assert_no_leftovers(disk: &LoopFs) {
    let work = disk.dir().sub("work/work");
    let names: Vec<_> = work.names("").into_iter().filter(|name| !work.is_whiteout(name)).collect();
    assert!(names.is_empty(), "{names:?}");
}

/// Whatever wants a copy-up when there is no room for it.
fn attempts(m: &Mount, name: &str) -> Vec<(&'static str, std::io::Result<()>)> {
    let path = m.path(name);
    let write = |append: bool| {
        let mut file = OpenOptions::new().write(!append).append(append).open(&path)?;
        file.write_all(b"new")?;
        file.sync_all()
    };
    vec![
        ("write", write(false)),
        ("append", write(true)),
        ("chmod", fs::set_permissions(&path, fs::Permissions::from_mode(0o600))),
        ("truncate", nix::unistd::truncate(&path, 16_000_000).map_err(Into::into)),
        ("setxattr", xattr::set(&path, "user.a", b"1")),
        ("link", fs::hard_link(&path, m.path("link"))),
        ("rename", fs::rename(&path, m.path("renamed"))),
    ]
}

#[test]
fn a_copy_up_without_room_is_enospc_and_changes_nothing() {
    needs!(mount, loop_device);
    let (disk, s, setup) = small_upper(24);
    s.lower(0).file("big", content()).file("d/big", content()).file("small", "small");
    let mut m = setup.mount();
    disk.fill("filler", 5 << 20);
    let free = disk.free_bytes();
    let before = dump(&disk.dir().path("upper"));
    for _ in 0..3 {
        for (what, result) in attempts(&m, "big") {
            println!("{what}: {result:?}");
            assert_errno(result, libc::ENOSPC);
        }
    }
    // Nothing is lost by trying, so what fits still fits.
    assert!(disk.free_bytes() + (1 << 20) > free, "{} of {free}", disk.free_bytes());
    assert!(fs::read(m.path("big")).unwrap() == content());
    assert!(!m.exists("link") && !m.exists("renamed"));
    assert_no_leftovers(&disk);
    // The kernel may have prepared the directory above by a mark.
    let compare = Compare { xattrs: Engine::current() == Engine::Program, ..Compare::STRICT };
    assert_same_tree(&before, &dump(&disk.dir().path("upper")), compare);
    m.file("small", "changed").file("new", "new");
    m.remount();
    assert_eq!(m.names(""), ["big", "d", "new", "small"]);
    assert!(fs::read(m.path("big")).unwrap() == content());
    assert_no_leftovers(&disk);
    // With room it works.
    fs::remove_file(disk.dir().path("filler")).unwrap();
    OpenOptions::new().write(true).open(m.path("big")).unwrap().write_all_at(b"!", 7).unwrap();
    let mut expected = content();
    expected[7] = b'!';
    assert!(fs::read(m.path("big")).unwrap() == expected);
    assert!(fs::read(s.lower(0).path("big")).unwrap() == content());
}

#[test]
fn a_new_file_that_does_not_fit_is_enospc_to_its_writer() {
    needs!(mount, loop_device);
    let (disk, s, setup) = small_upper(24);
    s.lower(0).file("f", "lower");
    let mut m = setup.mount();
    m.file("there", "kept").file("f", "changed");
    disk.fill("filler", 3 << 20);
    let mut file = File::create(m.path("new")).unwrap();
    let written = (|| {
        file.write_all(&content())?;
        file.sync_all()
    })();
    assert_errno(written, libc::ENOSPC);
    drop(file);
    let length = usize::try_from(m.stat("new").len()).unwrap();
    assert!(fs::read(m.path("new")).unwrap() == content()[..length]);
    fs::remove_file(m.path("new")).unwrap();
    // The last close of a file reaches a server in user space a moment after close(2).
    assert!(wait_for(Duration::from_secs(5), || disk.free_bytes() > 1 << 20));
    m.file("again", "fits");
    m.remount();
    assert_eq!((m.read("there"), m.read("f"), m.read("again")), three("kept", "changed", "fits"));
    assert_eq!(m.names(""), ["again", "f", "there"]);
}

fn three(one: &str, two: &str, three: &str) -> (String, String, String) {
    (one.into(), two.into(), three.into())
}

/// Even a removal needs something new: a whiteout.
#[test]
fn without_free_inodes_names_stay_as_they_are() {
    needs!(mount, loop_device);
    let (disk, s, setup) = small_upper(8);
    s.lower(0).file("f", "x").file("d/g", "").file("dir/h", "");
    let mut m = setup.mount();
    disk.dir().dir("many");
    let mut count = 0;
    while File::create(disk.dir().path(format!("many/{count}"))).is_ok() {
        count += 1;
    }
    assert_errno(fs::remove_file(m.path("d/g")), libc::ENOSPC);
    assert_errno(fs::create_dir(m.path("new")), libc::ENOSPC);
    assert_errno(File::create(m.path("new")), libc::ENOSPC);
    assert_errno(std::os::unix::fs::symlink("x", m.path("new")), libc::ENOSPC);
    assert_errno(fs::write(m.path("f"), "changed"), libc::ENOSPC);
    assert_no_leftovers(&disk);
    m.unmount();
    refuse_or_mount(&setup, &disk);
    for number in 0..50 {
        fs::remove_file(disk.dir().path(format!("many/{number}"))).unwrap();
    }
    m.remount();
    assert_eq!(m.names(""), ["d", "dir", "f"]);
    assert_eq!((m.read("f").as_str(), m.names("d")), ("x", vec!["g".to_owned()]));
    fs::remove_file(m.path("d/g")).unwrap();
    m.file("f", "changed");
    m.remount();
    assert_eq!((m.read("f").as_str(), m.names("d").len()), ("changed", 0));
}

#[test]
fn a_removed_file_gives_its_room_back() {
    needs!(mount, loop_device);
    let (disk, s, setup) = small_upper(24);
    s.lower(0).file("big", content());
    let m = setup.mount();
    for round in 0..5 {
        m.file("new", &content()[..12 * MEBIBYTE]);
        assert!(disk.free_bytes() < 10 << 20, "round {round}");
        fs::remove_file(m.path("new")).unwrap();
        let free = wait_for(Duration::from_secs(5), || disk.free_bytes() > 12 << 20);
        assert!(free, "round {round}: {} bytes free", disk.free_bytes());
    }
    // What is copied up takes room too.
    m.mode("big", 0o600);
    fs::remove_file(m.path("big")).unwrap();
    assert!(wait_for(Duration::from_secs(5), || disk.free_bytes() > 12 << 20));
}

/// A mount may need a little room itself, and then has to say where it is missing.
fn refuse_or_mount(setup: &Setup, disk: &LoopFs) {
    if Engine::current() == Engine::Kernel {
        return;
    }
    let output = setup.attempt();
    if !output.status.success() {
        let message = text(&output.stderr);
        assert!(message.contains(disk.path().to_str().unwrap()), "where? {message}");
        assert!(message.contains("No space left"), "why? {message}");
    }
}

/// What a failing disk does to a file system: it turns read-only under the mount.
#[test]
fn an_upper_that_turns_read_only_is_erofs_until_it_turns_back() {
    needs!(mount, loop_device);
    let (disk, s, setup) = small_upper(16);
    s.lower(0).file("lower", "x").file("gone", "");
    let mut m = setup.mount();
    m.file("upper", "y");
    // Descriptors that the server keeps for later would hold up what comes.
    m.remount();
    disk.remount_read_only();
    assert_errno(fs::write(m.path("lower"), "z"), libc::EROFS);
    assert_errno(fs::write(m.path("upper"), "z"), libc::EROFS);
    assert_errno(fs::remove_file(m.path("gone")), libc::EROFS);
    assert_errno(fs::create_dir(m.path("new")), libc::EROFS);
    assert_errno(fs::rename(m.path("upper"), m.path("renamed")), libc::EROFS);
    assert_eq!(m.names(""), ["gone", "lower", "upper"]);
    assert_eq!((m.read("lower"), m.read("upper")), ("x".into(), "y".into()));
    disk.remount_writable();
    m.file("lower", "z");
    assert_eq!(m.read("lower"), "z");
    assert!(Path::new(&disk.dir().path("upper/lower")).exists());
}
