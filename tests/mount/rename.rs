//! rename(2) and its flags.

use std::fs;
use std::os::unix::fs::MetadataExt;

use libc::{RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT};

use crate::needs;
use crate::support::raw::rename;
use crate::support::{Mount, Scratch, assert_errno};

fn move_flags(m: &Mount, from: &str, to: &str, flags: u32) -> std::io::Result<()> {
    rename(&m.path(from), &m.path(to), flags)
}

#[test]
fn files_of_every_origin_move() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("lower", "lower").owner("lower", 5, 6).dir("d").file("copied", "");
    let mut m = s.mount();
    m.file("upper", "upper").file("copied", "copied");
    for name in ["lower", "upper", "copied"] {
        fs::rename(m.path(name), m.path(format!("d/{name}2"))).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(m.names(""), ["d"]);
        for name in ["lower", "upper", "copied"] {
            assert_eq!(m.read(format!("d/{name}2")), name);
        }
        assert_eq!((m.stat("d/lower2").uid(), m.stat("d/lower2").gid()), (5, 6));
        m.remount();
    }
    assert!(s.upper.is_whiteout("lower"));
    assert!(!s.upper.exists("upper"));
}

#[test]
fn a_file_replaces_a_file_of_every_origin() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("over_lower", "old").file("from_lower", "2");
    let mut m = s.mount();
    m.file("from_upper", "1").file("over_upper", "old").file("over_none", "");
    fs::rename(m.path("from_upper"), m.path("over_lower")).unwrap();
    fs::rename(m.path("from_lower"), m.path("over_upper")).unwrap();
    for _ in 0..2 {
        assert_eq!(m.names(""), ["over_lower", "over_none", "over_upper"]);
        assert_eq!(m.read("over_lower"), "1");
        assert_eq!(m.read("over_upper"), "2");
        m.remount();
    }
}

#[test]
fn a_name_moved_over_a_whiteout_and_back() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let mut m = s.mount();
    fs::rename(m.path("f"), m.path("g")).unwrap();
    fs::rename(m.path("g"), m.path("f")).unwrap();
    for _ in 0..2 {
        assert_eq!(m.names(""), ["f"]);
        assert_eq!(m.read("f"), "x");
        m.remount();
    }
    assert_eq!(s.upper.names(""), ["f"]);
}

#[test]
fn the_wrong_types_do_not_replace_each_other() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("file", "").dir("dir").file("full/x", "");
    let m = s.mount();
    m.dir("updir");
    assert_errno(fs::rename(m.path("file"), m.path("dir")), libc::EISDIR);
    assert_errno(fs::rename(m.path("updir"), m.path("file")), libc::ENOTDIR);
    assert_errno(fs::rename(m.path("updir"), m.path("full")), libc::ENOTEMPTY);
    assert_errno(fs::rename(m.path("none"), m.path("file")), libc::ENOENT);
    assert_errno(fs::rename(m.path("updir"), m.path("updir/in")), libc::EINVAL);
    assert_eq!(m.names(""), ["dir", "file", "full", "updir"]);
}

#[test]
fn a_new_directory_moves_with_its_content() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("place/x", "").file("gone/x", "");
    let mut m = s.mount();
    m.file("d/sub/f", "1");
    fs::rename(m.path("d"), m.path("place/d")).unwrap();
    m.file("place/d/sub/g", "2");
    // To a name that a lower directory had: nothing of that may shine through.
    fs::remove_dir_all(m.path("gone")).unwrap();
    fs::rename(m.path("place/d"), m.path("gone")).unwrap();
    for _ in 0..2 {
        assert_eq!(m.names("gone"), ["sub"]);
        assert_eq!(m.names("gone/sub"), ["f", "g"]);
        assert_eq!(m.names("place"), ["x"]);
        m.remount();
    }
}

#[test]
fn a_new_directory_replaces_an_emptied_lower_one() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("old/x", "").file("old/y/z", "");
    let mut m = s.mount();
    m.file("new/own", "");
    fs::remove_file(m.path("old/x")).unwrap();
    fs::remove_dir_all(m.path("old/y")).unwrap();
    fs::rename(m.path("new"), m.path("old")).unwrap();
    for _ in 0..2 {
        assert_eq!(m.names(""), ["old"]);
        assert_eq!(m.names("old"), ["own"]);
        m.remount();
    }
}

#[test]
fn noreplace_sees_every_layer() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("lower", "kept").file("gone", "");
    let mut m = s.mount();
    m.file("upper", "kept").file("f", "moved");
    fs::remove_file(m.path("gone")).unwrap();
    for name in ["lower", "upper"] {
        assert_errno(move_flags(&m, "f", name, RENAME_NOREPLACE), libc::EEXIST);
        assert_eq!(m.read(name), "kept");
    }
    move_flags(&m, "f", "gone", RENAME_NOREPLACE).unwrap();
    move_flags(&m, "gone", "new", RENAME_NOREPLACE).unwrap();
    m.remount();
    assert_eq!(m.names(""), ["lower", "new", "upper"]);
}

#[test]
fn exchange_between_every_two_origins() {
    needs!(mount);
    let s = Scratch::new();
    for pair in ["ll", "lu", "ul", "uu"] {
        for (side, origin) in ["a", "b"].iter().zip(pair.chars()) {
            if origin == 'l' {
                s.lower(0).file(format!("{pair}{side}"), side);
            }
        }
    }
    let mut m = s.mount();
    m.file("uua", "a").file("uub", "b").file("lub", "b").file("ula", "a");
    for pair in ["ll", "lu", "ul", "uu"] {
        move_flags(&m, &format!("{pair}a"), &format!("{pair}b"), RENAME_EXCHANGE).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(m.names("").len(), 8);
        for pair in ["ll", "lu", "ul", "uu"] {
            assert_eq!(m.read(format!("{pair}a")), "b", "{pair}");
            assert_eq!(m.read(format!("{pair}b")), "a", "{pair}");
        }
        m.remount();
    }
}

#[test]
fn exchange_of_a_file_and_a_new_directory() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("file", "f").file("lowdir/x", "");
    let mut m = s.setup().option("rename_lower=off").mount();
    m.file("dir/in", "");
    move_flags(&m, "file", "dir", RENAME_EXCHANGE).unwrap();
    assert_errno(move_flags(&m, "file", "lowdir", RENAME_EXCHANGE), libc::EXDEV);
    assert_errno(move_flags(&m, "file", "none", RENAME_EXCHANGE), libc::ENOENT);
    for _ in 0..2 {
        assert_eq!(m.read("dir"), "f");
        assert_eq!(m.names("file"), ["in"]);
        assert_eq!(m.names("lowdir"), ["x"]);
        m.remount();
    }
}

#[test]
fn whiteouts_are_not_for_users() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let m = s.mount();
    m.file("u", "x");
    for name in ["f", "u"] {
        assert_errno(move_flags(&m, name, "g", RENAME_WHITEOUT), libc::EINVAL);
    }
    let both = RENAME_NOREPLACE | RENAME_EXCHANGE;
    assert_errno(move_flags(&m, "f", "g", both), libc::EINVAL);
    assert_errno(move_flags(&m, "f", "g", 1 << 20), libc::EINVAL);
    assert_eq!(m.names(""), ["f", "u"]);
}

#[test]
fn a_rename_between_two_names_of_one_file_does_nothing() {
    needs!(mount);
    let s = Scratch::new();
    let mut m = s.mount();
    m.file("a", "x");
    fs::hard_link(m.path("a"), m.path("b")).unwrap();
    fs::rename(m.path("a"), m.path("b")).unwrap();
    fs::rename(m.path("a"), m.path("a")).unwrap();
    m.remount();
    assert_eq!(m.names(""), ["a", "b"]);
}

#[test]
fn links_and_special_files_move() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0)
        .symlink("link", "target")
        .node("fifo", nix::sys::stat::SFlag::S_IFIFO, 0, 0)
        .node("null", nix::sys::stat::SFlag::S_IFCHR, 1, 3)
        .dir("d");
    let mut m = s.mount();
    for name in ["link", "fifo", "null"] {
        fs::rename(m.path(name), m.path("d").join(name)).unwrap();
    }
    m.remount();
    assert_eq!(m.names(""), ["d"]);
    assert_eq!(fs::read_link(m.path("d/link")).unwrap().to_str(), Some("target"));
    assert_eq!(m.stat("d/null").rdev(), nix::sys::stat::makedev(1, 3));
}
