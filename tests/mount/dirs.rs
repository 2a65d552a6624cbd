//! mkdir and rmdir.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::needs;
use crate::support::{Scratch, assert_errno};

#[test]
fn a_new_directory_in_a_lower_one() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("a/b/f", "");
    let mut m = s.mount();
    fs::create_dir(m.path("a/b/new")).unwrap();
    m.file("a/b/new/x", "1");
    for _ in 0..2 {
        assert_eq!(m.names("a/b"), ["f", "new"]);
        assert_eq!(m.names("a/b/new"), ["x"]);
        m.remount();
    }
    assert!(!s.lower(0).exists("a/b/new"));
}

#[test]
fn mkdir_over_what_exists() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("file", "").dir("dir").symlink("link", "x");
    let m = s.mount();
    for name in ["file", "dir", "link", "."] {
        assert_errno(fs::create_dir(m.path(name)), libc::EEXIST);
    }
    assert_errno(fs::create_dir(m.path("none/x")), libc::ENOENT);
    assert_errno(fs::create_dir(m.path("file/x")), libc::ENOTDIR);
}

#[test]
fn a_recreated_directory_is_empty_for_good() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    s.lower(1).file("top/x", "").file("a/deep/x", "").file("a/deep/sub/y", "");
    s.lower(0).file("a/deep/z", "").mode("a/deep", 0o700);
    let mut m = s.mount();
    for path in ["top", "a/deep"] {
        fs::remove_dir_all(m.path(path)).unwrap();
        assert!(!m.exists(path));
        fs::create_dir(m.path(path)).unwrap();
    }
    for _ in 0..2 {
        assert!(m.names("top").is_empty());
        assert!(m.names("a/deep").is_empty());
        assert!(!m.exists("a/deep/sub"));
        assert_eq!(m.mode_of("a/deep"), 0o755);
        m.remount();
    }
    m.file("a/deep/sub/new", "");
    m.remount();
    assert_eq!(m.names("a/deep/sub"), ["new"]);
}

#[test]
fn a_directory_can_take_the_place_of_a_file_and_the_reverse() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("was_file", "").file("was_dir/x", "");
    let mut m = s.mount();
    fs::remove_file(m.path("was_file")).unwrap();
    fs::create_dir(m.path("was_file")).unwrap();
    fs::remove_dir_all(m.path("was_dir")).unwrap();
    m.file("was_dir", "now a file").file("was_file/y", "");
    for _ in 0..2 {
        assert_eq!(m.names("was_file"), ["y"]);
        assert_eq!(m.read("was_dir"), "now a file");
        m.remount();
    }
}

#[test]
fn only_an_empty_directory_goes() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    s.lower(1).file("d/below", "").dir("empty").file("hidden/f", "").file("f", "");
    s.lower(0).dir("d").whiteout("hidden/f");
    let mut m = s.mount();
    assert_errno(fs::remove_dir(m.path("d")), libc::ENOTEMPTY);
    assert_errno(fs::remove_dir(m.path("f")), libc::ENOTDIR);
    assert_errno(fs::remove_dir(m.path("none")), libc::ENOENT);
    assert_errno(fs::remove_file(m.path("d")), libc::EISDIR);
    // Nothing but whiteouts is in there.
    fs::remove_dir(m.path("hidden")).unwrap();
    fs::remove_dir(m.path("empty")).unwrap();
    fs::remove_file(m.path("d/below")).unwrap();
    fs::remove_dir(m.path("d")).unwrap();
    m.remount();
    assert_eq!(m.names(""), ["f"]);
}

#[test]
fn an_upper_directory_full_of_whiteouts_goes() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("d/a", "").file("d/b/c", "");
    let mut m = s.mount();
    fs::remove_file(m.path("d/a")).unwrap();
    fs::remove_dir_all(m.path("d/b")).unwrap();
    assert!(s.upper.is_whiteout("d/a") && s.upper.is_whiteout("d/b"));
    fs::remove_dir(m.path("d")).unwrap();
    assert!(s.upper.is_whiteout("d"));
    m.remount();
    assert!(!m.exists("d"));
}

/// As in the kernel: counting subdirectories would mean listing every directory that is looked at.
#[test]
fn a_merged_directory_has_one_link() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    s.lower(0).dir("d/x");
    s.lower(1).dir("d/y");
    let m = s.mount();
    assert_eq!(m.stat("d").nlink(), 1);
}

#[test]
fn dot_and_dotdot_lead_where_they_should() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("a/b/f", "x").file("g", "y");
    let m = s.mount();
    assert_eq!(m.read("a/b/../../g"), "y");
    assert_eq!(m.read("a/./b/./f"), "x");
    assert_eq!(m.stat("a/b/..").ino(), m.stat("a").ino());
}
