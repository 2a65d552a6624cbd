//! Hard links.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::needs;
use crate::support::{Scratch, assert_errno};

#[test]
fn two_names_for_one_new_file() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).dir("d");
    let mut m = s.mount();
    m.file("a", "1");
    fs::hard_link(m.path("a"), m.path("d/b")).unwrap();
    for _ in 0..2 {
        assert_eq!(m.stat("a").ino(), m.stat("d/b").ino());
        assert_eq!(m.stat("a").nlink(), 2);
        assert_eq!(m.stat("d/b").nlink(), 2);
        m.remount();
    }
    m.file("d/b", "changed");
    assert_eq!(m.read("a"), "changed");
    fs::remove_file(m.path("a")).unwrap();
    assert_eq!(m.stat("d/b").nlink(), 1);
    assert_eq!(m.read("d/b"), "changed");
}

#[test]
fn a_link_to_a_lower_file_shares_with_it() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("a", "lower").owner("a", 3, 4).mode("a", 0o640);
    let mut m = s.mount();
    fs::hard_link(m.path("a"), m.path("b")).unwrap();
    assert_eq!(m.stat("a").nlink(), 2);
    m.file("b", "through b");
    for _ in 0..2 {
        assert_eq!(m.read("a"), "through b");
        assert_eq!(m.stat("a").ino(), m.stat("b").ino());
        assert_eq!((m.mode_of("b"), m.stat("b").uid()), (0o640, 3));
        m.remount();
    }
    assert_eq!(s.lower(0).read("a"), "lower");
}

#[test]
fn removing_one_of_several_lower_names_spares_the_others() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("a", "x").hard_link("b", "a");
    let mut m = s.mount();
    fs::remove_file(m.path("a")).unwrap();
    for _ in 0..2 {
        assert!(!m.exists("a"));
        assert_eq!(m.read("b"), "x");
        m.remount();
    }
}

#[test]
fn links_over_a_whiteout_and_where_something_is() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("a", "x").file("gone", "").dir("dir").symlink("sym", "a");
    let mut m = s.mount();
    fs::remove_file(m.path("gone")).unwrap();
    fs::hard_link(m.path("a"), m.path("gone")).unwrap();
    assert_errno(fs::hard_link(m.path("a"), m.path("dir")), libc::EEXIST);
    assert_errno(fs::hard_link(m.path("a"), m.path("a")), libc::EEXIST);
    assert_errno(fs::hard_link(m.path("dir"), m.path("new")), libc::EPERM);
    assert_errno(fs::hard_link(m.path("none"), m.path("new")), libc::ENOENT);
    // A link to a symbolic link, not to what it leads to.
    fs::hard_link(m.path("sym"), m.path("sym2")).unwrap();
    m.remount();
    assert_eq!(m.read("gone"), "x");
    assert_eq!(fs::read_link(m.path("sym2")).unwrap().to_str(), Some("a"));
}

#[test]
fn special_files_have_links_too() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).node("fifo", nix::sys::stat::SFlag::S_IFIFO, 0, 0);
    let mut m = s.mount();
    fs::hard_link(m.path("fifo"), m.path("other")).unwrap();
    m.remount();
    assert_eq!(m.stat("fifo").ino(), m.stat("other").ino());
}
