//! Symbolic links.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::needs;
use crate::support::user::with_umask;
use crate::support::{Scratch, assert_errno};

#[test]
fn targets_are_kept_byte_for_byte() {
    needs!(mount);
    let s = Scratch::new();
    let longest = "t/".repeat(2047);
    let odd = crate::support::scratch::not_text("../odd ");
    for (name, target) in [("long", Path::new(&longest)), ("odd", &odd)] {
        s.lower(0).symlink(format!("lower_{name}"), target);
    }
    let mut m = s.mount();
    for (name, target) in [("long", Path::new(&longest)), ("odd", &odd)] {
        symlink(target, m.path(format!("upper_{name}"))).unwrap();
    }
    for _ in 0..2 {
        for layer in ["lower", "upper"] {
            let read = |name: &str| fs::read_link(m.path(format!("{layer}_{name}"))).unwrap();
            assert_eq!(read("long"), Path::new(&longest));
            assert_eq!(read("odd"), odd);
            let meta = m.stat(format!("{layer}_long"));
            assert_eq!(meta.len(), 4094);
            assert_eq!(meta.mode() & 0o7777, 0o777);
        }
        m.remount();
    }
}

#[test]
fn following_goes_through_the_merged_tree() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    s.lower(1).symlink("link", "dir/file").file("dir/file", "below");
    s.lower(0).file("dir/file", "above");
    let m = s.mount();
    assert_eq!(m.read("link"), "above");
    m.file("link", "written");
    assert_eq!(m.read("dir/file"), "written");
    assert!(m.stat("link").is_symlink());
    assert!(!s.upper.exists("link"));
}

/// fuse-overlayfs in C loses owner, times and attributes of a symbolic link at copy-up.
#[test]
fn copy_up_keeps_owner_and_times() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0)
        .symlink("a", "target")
        .owner("a", 11, 22)
        .xattr("a", "trusted.note", "kept")
        .times("a", 1_234, 567);
    let mut m = s.mount();
    fs::hard_link(m.path("a"), m.path("b")).unwrap();
    for _ in 0..2 {
        for name in ["a", "b"] {
            let meta = m.stat(name);
            assert_eq!((meta.uid(), meta.gid()), (11, 22), "{name}");
            assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_234, 567), "{name}");
            assert_eq!(m.get_xattr(name, "trusted.note").unwrap(), b"kept", "{name}");
        }
        m.remount();
    }
}

#[test]
fn a_link_can_be_owned_but_not_chmodded() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).symlink("l", "none");
    let mut m = s.mount();
    m.owner("l", 7, 8);
    let flags = nix::sys::stat::FchmodatFlags::NoFollowSymlink;
    let mode = nix::sys::stat::Mode::S_IRUSR;
    let changed = nix::sys::stat::fchmodat(nix::fcntl::AT_FDCWD, &m.path("l"), mode, flags);
    assert_errno(changed, libc::EOPNOTSUPP);
    m.remount();
    assert_eq!((m.stat("l").uid(), m.stat("l").gid()), (7, 8));
}

#[test]
fn errors() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "");
    let m = s.mount();
    assert_errno(symlink("x", m.path("f")), libc::EEXIST);
    assert_errno(fs::read_link(m.path("f")), libc::EINVAL);
    assert_errno(symlink("", m.path("empty")), libc::ENOENT);
    assert_errno(symlink("x".repeat(4096), m.path("long")), libc::ENAMETOOLONG);
}

#[test]
fn the_umask_does_not_touch_links() {
    needs!(mount);
    let s = Scratch::new();
    let m = s.mount();
    let path = m.path("l");
    with_umask(0o077, || symlink("x", &path)).unwrap();
    assert_eq!(m.mode_of("l"), 0o777);
}
