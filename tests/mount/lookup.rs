//! Which layer answers for a name.

use std::fs;
use std::path::Path;

use crate::needs;
use crate::support::tree::{Compare, assert_same_tree, dump};
use crate::support::{Scratch, assert_errno};

#[test]
fn the_topmost_layer_wins() {
    needs!(mount);
    let s = Scratch::with_lowers(3);
    for number in 0..3 {
        s.lower(number)
            .file("all", format!("lower{number}"))
            .file(format!("only{number}"), "x")
            .file("dir/all", format!("lower{number}"))
            .file(format!("dir/only{number}"), "x");
    }
    s.upper.file("dir/upper", "x");
    let m = s.mount();
    assert_eq!(m.read("all"), "lower0");
    assert_eq!(m.read("dir/all"), "lower0");
    assert_eq!(m.names(""), ["all", "dir", "only0", "only1", "only2"]);
    assert_eq!(m.names("dir"), ["all", "only0", "only1", "only2", "upper"]);
}

/// A directory below a file is no part of the directory above that file.
#[test]
fn a_file_ends_the_merging_below_it() {
    needs!(mount);
    let s = Scratch::with_lowers(3);
    s.lower(0).file("x/top", "");
    s.lower(1).file("x", "a file in between");
    s.lower(2).file("x/bottom", "");
    let m = s.mount();
    assert_eq!(m.names("x"), ["top"]);
    assert!(!m.exists("x/bottom"));
}

#[test]
fn a_file_above_a_directory_hides_it() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    s.lower(0).file("x", "file");
    s.lower(1).file("x/below", "");
    let m = s.mount();
    assert_eq!(m.read("x"), "file");
    assert_errno(fs::metadata(m.path("x/below")), libc::ENOTDIR);
}

#[test]
fn a_single_lower_is_shown_as_it_is() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0)
        .file("etc/passwd", "root")
        .mode("etc/passwd", 0o640)
        .owner("etc/passwd", 3, 4)
        .times("etc/passwd", 1_000_000_000, 123_456_789)
        .xattr("etc/passwd", "user.note", "hello")
        .symlink("etc/link", "passwd")
        .dir("empty")
        .mode("empty", 0o1777)
        .node("fifo", nix::sys::stat::SFlag::S_IFIFO, 0, 0)
        .node("null", nix::sys::stat::SFlag::S_IFCHR, 1, 3)
        .owner("empty", 7, 8);
    let m = s.mount();
    let (mut lower, mut merged) = (dump(s.lower(0).root()), dump(m.root()));
    // The root is the upper's.
    lower.remove(Path::new(""));
    merged.remove(Path::new(""));
    assert_same_tree(&lower, &merged, Compare::STRICT);
}

#[test]
fn a_missing_name_stays_missing_until_it_is_made() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).dir("d");
    let m = s.mount();
    for _ in 0..3 {
        assert!(!m.exists("new"));
        assert!(!m.exists("d/new"));
    }
    m.file("new", "1").file("d/new", "2");
    assert_eq!(m.read("new"), "1");
    assert_eq!(m.read("d/new"), "2");
}

#[test]
fn names_are_bytes() {
    needs!(mount);
    let s = Scratch::new();
    let odd = crate::support::scratch::not_text("lower");
    let made = crate::support::scratch::not_text("made");
    s.lower(0).file(&odd, "lower").file("new\nline", "line");
    let mut m = s.mount();
    m.file(&made, "made");
    m.file(&odd, "changed");
    m.remount();
    assert_eq!(m.read(&made), "made");
    assert_eq!(m.read(&odd), "changed");
    assert_eq!(m.read("new\nline"), "line");
    assert_eq!(fs::read_dir(m.root()).unwrap().count(), 3);
}

#[test]
fn a_name_may_have_255_bytes_and_no_more() {
    needs!(mount);
    let s = Scratch::new();
    let longest = "n".repeat(255);
    s.lower(0).file(format!("d/{longest}"), "lower");
    let m = s.mount();
    m.file(&longest, "x");
    assert_eq!(m.read(&longest), "x");
    assert_eq!(m.read(format!("d/{longest}")), "lower");
    fs::remove_file(m.path(format!("d/{longest}"))).unwrap();
    assert!(!m.exists(format!("d/{longest}")));
    let longer = m.path("n".repeat(256));
    assert_errno(fs::metadata(&longer), libc::ENAMETOOLONG);
    assert_errno(fs::write(&longer, ""), libc::ENAMETOOLONG);
}

#[test]
fn a_deep_tree_is_reached_and_copied_up() {
    needs!(mount);
    let s = Scratch::new();
    let deep = "d/".repeat(300) + "file";
    s.lower(0).file(&deep, "deep");
    let mut m = s.mount();
    assert_eq!(m.read(&deep), "deep");
    m.file(&deep, "changed");
    m.remount();
    assert_eq!(m.read(&deep), "changed");
    assert_eq!(s.lower(0).read(&deep), "deep");
}
