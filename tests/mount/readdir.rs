//! Listings: every name once, whatever goes on meanwhile.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::{Whence, lseek};

use crate::needs;
use crate::support::raw::{DirEntry, getdents, list_dir};
use crate::support::scratch::Dir;
use crate::support::{LoopFs, Mount, Scratch, assert_errno};

fn make_files(dir: &Dir, prefix: &str, range: std::ops::Range<usize>) {
    for number in range {
        let path = dir.path(format!("{prefix}{number:06}"));
        mknod(&path, SFlag::S_IFREG, Mode::S_IRUSR, 0).unwrap();
    }
}

fn visible(entries: &[DirEntry]) -> Vec<String> {
    entries
        .iter()
        .map(|entry| String::from_utf8(entry.name.clone()).unwrap())
        .filter(|name| name != "." && name != "..")
        .collect()
}

/// On btrfs a descriptor shows what its directory had when it was opened, or rewound. A directory
/// that was opened before it got names, and first listed after, looked empty.
#[test]
fn names_that_came_after_the_directory_was_opened() {
    needs!(mount, loop_device);
    let disk = LoopFs::btrfs(110);
    let s = Scratch::in_dir(disk.path(), 1);
    s.lower(0).file("again/old", "");
    let m = s.mount();
    fs::remove_dir_all(m.path("again")).unwrap();
    fs::create_dir(m.path("again")).unwrap();
    fs::create_dir(m.path("made")).unwrap();
    fs::rename(m.path("made"), m.path("renamed")).unwrap();
    for dir in ["again", "renamed"] {
        m.file(format!("{dir}/new"), "");
        assert_eq!(visible(&list_dir(&m.path(dir))), ["new"], "{dir}");
    }
}

#[track_caller]
fn assert_each_once(names: &[String], expected: usize) {
    let different: HashSet<_> = names.iter().collect();
    assert_eq!(different.len(), names.len(), "a name came twice");
    assert_eq!(names.len(), expected);
}

#[test]
fn a_hundred_thousand_names_of_three_layers() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    for dir in s.lowers().iter().chain([&s.upper]) {
        dir.dir("d");
    }
    make_files(&s.lower(1).sub("d"), "n", 0..60_000);
    make_files(&s.lower(0).sub("d"), "n", 50_000..90_000);
    make_files(&s.upper.sub("d"), "n", 80_000..100_000);
    let m = s.mount();
    let names = visible(&list_dir(&m.path("d")));
    assert_each_once(&names, 100_000);
    let again = visible(&list_dir(&m.path("d")));
    assert_each_once(&again, 100_000);
    assert_eq!(m.names("d").len(), 100_000);
}

/// Reads a directory in small pieces, and does something to each piece before the next is read.
fn read_in_pieces(m: &Mount, path: &str, mut each: impl FnMut(&[String])) -> Vec<String> {
    let dir = File::open(m.path(path)).unwrap();
    let mut all = Vec::new();
    loop {
        let entries = getdents(&dir, 2048).unwrap();
        if entries.is_empty() {
            return all;
        }
        let names = visible(&entries);
        each(&names);
        all.extend(names);
    }
}

/// What `rm -r` does.
#[test]
fn deleting_while_reading_loses_no_name() {
    needs!(mount);
    let s = Scratch::new();
    make_files(&s.lower(0).dir("d").sub("d"), "lower", 0..3_000);
    make_files(&s.upper.dir("d").sub("d"), "upper", 0..3_000);
    let m = s.mount();
    let names = read_in_pieces(&m, "d", |piece| {
        for name in piece {
            fs::remove_file(m.path("d").join(name)).unwrap();
        }
    });
    assert_each_once(&names, 6_000);
    assert!(m.names("d").is_empty());
    fs::remove_dir(m.path("d")).unwrap();
}

#[test]
fn creating_while_reading_repeats_no_name() {
    needs!(mount);
    let s = Scratch::new();
    make_files(&s.lower(0).dir("d").sub("d"), "lower", 0..2_000);
    let m = s.mount();
    let mut made = 0;
    let names = read_in_pieces(&m, "d", |piece| {
        for name in piece.iter().take(10) {
            if name.starts_with("lower") {
                made += 1;
                m.file(format!("d/made{made}"), "");
            }
        }
    });
    let old: Vec<_> = names.into_iter().filter(|name| name.starts_with("lower")).collect();
    assert_each_once(&old, 2_000);
    assert_eq!(m.names("d").len(), 2_000 + made);
}

#[test]
fn a_place_in_a_listing_can_be_returned_to() {
    needs!(mount);
    let s = Scratch::new();
    make_files(&s.lower(0).dir("d").sub("d"), "n", 0..500);
    let m = s.mount();
    let dir = File::open(m.path("d")).unwrap();
    let mut all = Vec::new();
    loop {
        let some = getdents(&dir, 1024).unwrap();
        if some.is_empty() {
            break;
        }
        all.extend(some);
    }
    for place in [0, 1, 2, 77, 250, 400] {
        lseek(&dir, all[place].offset, Whence::SeekSet).unwrap();
        let next = getdents(&dir, 1024).unwrap();
        assert_eq!(next[0].name, all[place + 1].name, "after entry {place}");
    }
}

#[test]
fn rewinding_shows_what_is_new() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("d/lower", "").file("d/gone", "");
    let m = s.mount();
    let dir = File::open(m.path("d")).unwrap();
    assert_eq!(visible(&getdents(&dir, 4096).unwrap()).len(), 2);
    m.file("d/new", "");
    fs::remove_file(m.path("d/gone")).unwrap();
    lseek(&dir, 0, Whence::SeekSet).unwrap();
    let mut names = visible(&getdents(&dir, 4096).unwrap());
    names.sort();
    assert_eq!(names, ["lower", "new"]);
}

/// Programs such as find, tar and systemd take the two for one number, and an entry with number 0
/// for none.
#[test]
fn numbers_and_types_in_listings_are_those_of_stat() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    s.lower(1)
        .file("d/file1", "")
        .file("d/both", "")
        .dir("d/merged")
        .symlink("d/link", "x")
        .node("d/fifo", SFlag::S_IFIFO, 0, 0)
        .node("d/null", SFlag::S_IFCHR, 1, 3)
        .file("d/sub/deep", "");
    s.lower(0).file("d/file0", "").file("d/both", "").dir("d/merged");
    let mut m = s.mount();
    m.file("d/new", "");
    m.dir("d/newdir").mode("d/file1", 0o600).mode("d/sub", 0o711);
    for path in ["", "d", "d/merged", "d/sub", "d/newdir"] {
        check_listing(&m, path);
    }
    m.remount();
    for path in ["d/sub", "d", ""] {
        check_listing(&m, path);
    }
}

fn check_listing(m: &Mount, path: &str) {
    let entries = list_dir(&m.path(path));
    assert!(entries.iter().any(|entry| entry.name == b"."));
    assert!(entries.iter().any(|entry| entry.name == b".."));
    for entry in entries {
        let name = String::from_utf8(entry.name).unwrap();
        if name == ".." && path.is_empty() {
            continue; // outside the mount
        }
        let meta = m.stat(std::path::Path::new(path).join(&name));
        assert_ne!(entry.ino, 0, "{path}/{name}");
        assert_eq!(entry.ino, meta.ino(), "{path}/{name}");
        assert_eq!(u32::from(entry.kind), meta.mode() >> 12, "{path}/{name}");
    }
}

#[test]
fn an_open_directory_outlives_its_removal() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).dir("lower");
    let m = s.mount();
    m.dir("upper");
    for name in ["lower", "upper"] {
        let dir = File::open(m.path(name)).unwrap();
        fs::remove_dir(m.path(name)).unwrap();
        assert_errno(getdents(&dir, 4096), libc::ENOENT);
        assert!(dir.metadata().unwrap().is_dir());
    }
}
