//! Extended attributes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use libc::{XATTR_CREATE, XATTR_REPLACE};

use crate::support::raw::set_xattr;
use crate::support::{LoopFs, Scratch, assert_errno};
use crate::{needs, not_the_kernels};

#[test]
fn set_get_list_remove_on_every_origin() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("lower", "").dir("dir").xattr("lower", "user.old", "lower's");
    let mut m = s.mount();
    m.file("upper", "");
    for name in ["lower", "dir", "upper"] {
        m.xattr(name, "user.a", "1").xattr(name, "trusted.b", "").xattr(name, "user.a", "2");
        xattr::remove(m.path(name), "trusted.b").unwrap();
        m.xattr(name, "trusted.c", "\0binary\0");
    }
    for _ in 0..2 {
        for name in ["lower", "dir", "upper"] {
            assert_eq!(m.get_xattr(name, "user.a").unwrap(), b"2", "{name}");
            assert_eq!(m.get_xattr(name, "trusted.c").unwrap(), b"\0binary\0", "{name}");
            assert_eq!(m.get_xattr(name, "trusted.b"), None, "{name}");
        }
        assert_eq!(m.xattr_names("lower"), ["trusted.c", "user.a", "user.old"]);
        assert_eq!(m.xattr_names("upper"), ["trusted.c", "user.a"]);
        m.remount();
    }
    xattr::remove(m.path("lower"), "user.old").unwrap();
    m.remount();
    assert_eq!(m.get_xattr("lower", "user.old"), None);
    assert_eq!(s.lower(0).xattr_names("lower"), ["user.old"]);
}

#[test]
fn create_and_replace_flags() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "").xattr("f", "user.there", "old");
    let m = s.mount();
    let set = |name: &str, flags| set_xattr(&m.path("f"), name.as_ref(), b"new", flags);
    assert_errno(set("user.there", XATTR_CREATE), libc::EEXIST);
    assert_errno(set("user.none", XATTR_REPLACE), libc::ENODATA);
    assert_eq!(m.get_xattr("f", "user.there").unwrap(), b"old");
    set("user.there", XATTR_REPLACE).unwrap();
    set("user.none", XATTR_CREATE).unwrap();
    assert_eq!(m.get_xattr("f", "user.there").unwrap(), b"new");
    assert_errno(xattr::remove(m.path("f"), "user.never"), libc::ENODATA);
}

/// A refused change is no reason to copy up.
#[test]
fn what_is_refused_copies_nothing_up() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "");
    let m = s.mount();
    assert_errno(xattr::remove(m.path("f"), "user.never"), libc::ENODATA);
    assert!(m.get_xattr("f", "user.x").is_none());
    assert!(m.xattr_names("f").is_empty());
    assert!(s.upper.names("").is_empty());
    assert_errno(set_xattr(&m.path("f"), "bogus.x".as_ref(), b"", 0), libc::EOPNOTSUPP);
}

/// Which names an overlay uses inside is its own affair.
#[test]
fn markers_are_not_shown() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    s.lower(1).file("d/f", "");
    s.lower(0).opaque_dir("d").xattr("d", "trusted.overlay.opaque", "y").xattr("d", "user.a", "");
    let m = s.mount();
    m.mode("d", 0o700).dir("e");
    for name in ["d", "e"] {
        for marker in ["opaque", "origin", "impure", "whiteout"] {
            let marker = format!("trusted.overlay.{marker}");
            assert_eq!(m.get_xattr(name, &marker), None, "{name} {marker}");
        }
    }
    assert_eq!(m.xattr_names("d"), ["user.a"]);
    assert!(m.xattr_names("e").is_empty());
}

/// Markers of the other namespace and of fuse-overlayfs, copied up as plain data, would turn into
/// wrong markers (stargz-snapshotter issue 681).
#[test]
fn foreign_markers_are_neither_shown_nor_copied_up() {
    needs!(mount);
    not_the_kernels!("it knows one namespace at a time");
    let s = Scratch::new();
    let names = [
        "user.overlay.opaque",
        "trusted.overlay.opaque",
        "user.fuseoverlayfs.opaque",
        "user.fuseoverlayfs.origin",
        "user.overlay.origin",
    ];
    s.lower(0).dir("d").xattr("d", "user.real", "1");
    for name in names {
        s.lower(0).xattr("d", name, "y");
    }
    let m = s.mount();
    for _ in 0..2 {
        assert_eq!(m.xattr_names("d"), ["user.real"]);
        for name in names {
            assert_eq!(m.get_xattr("d", name), None, "{name}");
        }
        m.mode("d", 0o711);
    }
    for name in names.iter().filter(|name| !name.starts_with("trusted")) {
        assert_eq!(s.upper.get_xattr("d", name), None, "{name}");
    }
}

/// A user in the mount cannot forge a marker; what the mount shows of the attempt is consistent.
#[test]
fn markers_cannot_be_forged() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("d/f", "");
    let mut m = s.mount();
    let names = ["trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque"];
    for name in names {
        let set = set_xattr(&m.path("d"), name.as_ref(), b"y", 0);
        let shown = m.get_xattr("d", name);
        assert_eq!(shown.is_some(), set.is_ok(), "{name}: {set:?}");
    }
    m.remount();
    assert_eq!(m.names("d"), ["f"]);
}

#[test]
fn names_are_bytes() {
    needs!(mount);
    let s = Scratch::new();
    let lower = OsString::from_vec(b"user.lower\xff\xfe".to_vec());
    let made = OsString::from_vec(b"user.made\x80".to_vec());
    s.lower(0).file("f", "").xattr("f", &lower, "1");
    let mut m = s.mount();
    m.xattr("f", &made, "2");
    for _ in 0..2 {
        assert_eq!(m.get_xattr("f", &lower).unwrap(), b"1");
        assert_eq!(m.get_xattr("f", &made).unwrap(), b"2");
        let mut names: Vec<_> = xattr::list(m.path("f")).unwrap().collect();
        names.retain(|name| name != "security.selinux");
        names.sort();
        assert_eq!(names, [lower.clone(), made.clone()]);
        m.remount();
    }
}

#[test]
fn a_large_value_and_many_names() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "").xattr("f", "user.big", vec![b'x'; 3_000]);
    let mut m = s.mount();
    m.file("many", "");
    for number in 0..40 {
        m.xattr("many", format!("user.name{number:03}"), format!("{number}"));
    }
    m.mode("f", 0o600);
    m.remount();
    assert_eq!(m.get_xattr("f", "user.big").unwrap(), vec![b'x'; 3_000]);
    assert_eq!(m.xattr_names("many").len(), 40);
    assert_eq!(m.get_xattr("many", "user.name039").unwrap(), b"39");
    assert_errno(set_xattr(&m.path("f"), "user.huge".as_ref(), &vec![0; 65_537], 0), libc::E2BIG);
    assert_errno(
        set_xattr(&m.path("f"), format!("user.{}", "n".repeat(251)).as_ref(), b"", 0),
        libc::ERANGE,
    );
}

/// XFS holds values of 64 KiB, which is as large as they come.
#[test]
fn the_largest_value_there_is() {
    needs!(mount, loop_device);
    if !crate::support::need::program(crate::test_name!(), "mkfs.xfs") {
        return;
    }
    let xfs = LoopFs::xfs(320);
    let s = Scratch::in_dir(xfs.path(), 1);
    let value = super::write::pattern(65_536, 17);
    s.lower(0).file("f", "").xattr("f", "user.lower", &value[..65_000]);
    let mut m = s.mount();
    m.file("g", "").xattr("g", "user.made", &value).mode("f", 0o600);
    m.remount();
    assert!(m.get_xattr("f", "user.lower").unwrap() == value[..65_000]);
    assert!(m.get_xattr("g", "user.made").unwrap() == value);
}

#[test]
fn too_small_a_buffer_is_erange() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "").xattr("f", "user.a", "0123456789");
    let m = s.mount();
    for path in [s.lower(0).path("f"), m.path("f")] {
        assert_errno(crate::support::raw::get_xattr(&path, "user.a", 5), libc::ERANGE);
        assert_eq!(crate::support::raw::get_xattr(&path, "user.a", 0).unwrap(), 10);
        assert_eq!(crate::support::raw::get_xattr(&path, "user.a", 100).unwrap(), 10);
    }
}

#[test]
fn symbolic_links_and_fifos_take_no_user_attributes() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).symlink("l", "x").node("p", nix::sys::stat::SFlag::S_IFIFO, 0, 0);
    let mut m = s.mount();
    for name in ["l", "p"] {
        assert_errno(set_xattr(&m.path(name), "user.a".as_ref(), b"", 0), libc::EPERM);
        m.xattr(name, "trusted.a", "1");
    }
    m.remount();
    for name in ["l", "p"] {
        assert_eq!(m.get_xattr(name, "trusted.a").unwrap(), b"1");
    }
}

/// `ls -l` asks for the label of each file until it hears that there are none.
#[test]
fn a_missing_label_is_said_to_be_unsupported() {
    needs!(mount);
    not_the_kernels!("it says ENODATA");
    if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        // The kernel answers by itself then.
        return;
    }
    let s = Scratch::new();
    s.lower(0).file("f", "").file("labelled", "").xattr("labelled", "security.selinux", "a:b:c:s0");
    let m = s.mount();
    assert_errno(xattr::get(m.path("f"), "security.selinux"), libc::EOPNOTSUPP);
    assert_eq!(m.get_xattr("labelled", "security.selinux").unwrap(), b"a:b:c:s0");
    assert_eq!(m.get_xattr("f", "security.other"), None);
}
