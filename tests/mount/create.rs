//! open(2) with O_CREAT, O_EXCL, O_TRUNC and their company.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use crate::needs;
use crate::support::{Scratch, assert_errno};

#[test]
fn a_new_file_is_there_at_once_and_after_a_remount() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).dir("lower/dir");
    let mut m = s.mount();
    let mut file = File::create(m.path("lower/dir/new")).unwrap();
    assert_eq!(m.names("lower/dir"), ["new"]);
    assert_eq!(file.metadata().unwrap().nlink(), 1);
    file.write_all(b"content").unwrap();
    drop(file);
    m.remount();
    assert_eq!(m.read("lower/dir/new"), "content");
    assert_eq!(s.upper.read("lower/dir/new"), "content");
    assert!(!s.lower(0).exists("lower/dir/new"));
}

#[test]
fn exclusive_creation_sees_every_layer() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("lower", "").file("gone", "");
    s.upper.file("upper", "").whiteout("gone");
    let m = s.mount();
    for (name, there) in [("lower", true), ("upper", true), ("gone", false), ("new", false)] {
        let result = File::create_new(m.path(name));
        if there {
            assert_errno(result, libc::EEXIST);
        } else {
            assert!(result.is_ok(), "{name}");
        }
        assert_errno(File::create_new(m.path(name)), libc::EEXIST);
    }
}

#[test]
fn a_file_can_be_made_over_a_whiteout() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "old and long").mode("f", 0o600);
    let mut m = s.mount();
    fs::remove_file(m.path("f")).unwrap();
    m.file("f", "new");
    assert_eq!(m.read("f"), "new");
    m.remount();
    assert_eq!(m.read("f"), "new");
    assert_eq!(s.lower(0).read("f"), "old and long");
}

#[test]
fn opening_a_lower_file_with_truncation_empties_it() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "old").mode("f", 0o640).xattr("f", "user.a", "b");
    let mut m = s.mount();
    let file = OpenOptions::new().write(true).truncate(true).open(m.path("f")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 0);
    assert_eq!(m.stat("f").len(), 0);
    drop(file);
    m.remount();
    assert_eq!(m.read("f"), "");
    assert_eq!(m.mode_of("f"), 0o640);
    assert_eq!(m.get_xattr("f", "user.a").unwrap(), b"b");
    assert_eq!(s.lower(0).read("f"), "old");
}

#[test]
fn what_cannot_be_opened_says_why() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("file", "").dir("dir").symlink("link", "file").symlink("loop", "loop");
    let m = s.mount();
    let open = |name: &str, flags: i32| {
        OpenOptions::new().read(true).custom_flags(flags).open(m.path(name))
    };
    assert_errno(open("link", libc::O_NOFOLLOW), libc::ELOOP);
    assert_errno(open("loop", 0), libc::ELOOP);
    assert_errno(open("file", libc::O_DIRECTORY), libc::ENOTDIR);
    assert_errno(open("file/x", 0), libc::ENOTDIR);
    assert_errno(open("none", 0), libc::ENOENT);
    assert_errno(File::create(m.path("dir")), libc::EISDIR);
    assert_errno(File::create(m.path("none/x")), libc::ENOENT);
    assert_errno(OpenOptions::new().write(true).open(m.path("dir")), libc::EISDIR);
}

#[test]
fn creating_through_a_dangling_link_makes_its_target() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).symlink("link", "target");
    let m = s.mount();
    m.file("link", "content");
    assert_eq!(m.read("target"), "content");
    assert_errno(File::create_new(m.path("link")), libc::EEXIST);
}

/// A file opened for writing with a mode that forbids it stays writable through that descriptor.
#[test]
fn a_new_file_may_be_unwritable_for_all_but_its_maker() {
    needs!(mount);
    let s = Scratch::new();
    let mut m = s.mount();
    let path = m.path("f");
    let made = crate::support::user::as_user(0, 0, || {
        OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path)
    });
    made.unwrap().write_all(b"x").unwrap();
    m.remount();
    assert_eq!(m.mode_of("f"), 0o400);
    assert_eq!(m.read("f"), "x");
}
