//! The attributes of lsattr(1) and chattr(1).

use std::fs::{self, File};

use crate::needs;
use crate::support::raw::{get_flags, ioctl, set_flags};
use crate::support::{Scratch, assert_errno};

/// As in linux/fs.h.
const IMMUTABLE: i32 = 0x10;
const APPEND: i32 = 0x20;
const NODUMP: i32 = 0x40;
const NOATIME: i32 = 0x80;

/// The attributes would keep the directory from being removed, and the test from ending cleanly.
struct Cleared<'a>(&'a std::path::Path);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        if let Ok(file) = File::open(self.0)
            && let Ok(flags) = get_flags(&file)
            && let Err(err) = set_flags(&file, flags & !(IMMUTABLE | APPEND))
        {
            eprintln!("{}: {err}", self.0.display());
        }
    }
}

/// fuse-overlayfs issue 330: EIO.
#[test]
fn attributes_of_files_and_directories_are_read() {
    needs!(mount, file_flags);
    let s = Scratch::new();
    s.lower(0).file("lower", "").dir("dir");
    set_flags(&File::open(s.lower(0).path("lower")).unwrap(), NODUMP).unwrap();
    let m = s.mount();
    m.file("upper", "");
    let flags = |name: &str| get_flags(&File::open(m.path(name)).unwrap()).unwrap();
    assert_eq!(flags("lower") & NODUMP, NODUMP);
    assert_eq!(flags("upper") & NODUMP, 0);
    assert_eq!(flags("dir") & NODUMP, 0);
    let file = File::open(m.path("upper")).unwrap();
    set_flags(&file, get_flags(&file).unwrap() | NODUMP).unwrap();
    assert_eq!(flags("upper") & NODUMP, NODUMP);
    let upper = File::open(s.upper.path("upper")).unwrap();
    assert_eq!(get_flags(&upper).unwrap() & NODUMP, NODUMP);
}

#[test]
fn setting_attributes_of_a_lower_file_copies_it_up() {
    needs!(mount, file_flags);
    let s = Scratch::new();
    s.lower(0).file("f", "content");
    let mut m = s.mount();
    let file = File::open(m.path("f")).unwrap();
    let before = get_flags(&file).unwrap();
    set_flags(&file, before | NOATIME).unwrap();
    drop(file);
    m.remount();
    let file = File::open(m.path("f")).unwrap();
    assert_eq!(get_flags(&file).unwrap() & NOATIME, NOATIME);
    assert_eq!(m.read("f"), "content");
    let lower = File::open(s.lower(0).path("f")).unwrap();
    assert_eq!(get_flags(&lower).unwrap() & NOATIME, 0);
}

#[test]
fn an_immutable_file_is_immutable() {
    needs!(mount, file_flags);
    let s = Scratch::new();
    let m = s.mount();
    m.file("f", "content");
    let upper = s.upper.path("f");
    let _cleared = Cleared(&upper);
    let file = File::open(m.path("f")).unwrap();
    set_flags(&file, get_flags(&file).unwrap() | IMMUTABLE).unwrap();
    assert!(fs::write(m.path("f"), "x").is_err());
    assert_errno(fs::remove_file(m.path("f")), libc::EPERM);
    assert_errno(fs::rename(m.path("f"), m.path("g")), libc::EPERM);
    set_flags(&file, get_flags(&file).unwrap() & !IMMUTABLE).unwrap();
    fs::remove_file(m.path("f")).unwrap();
}

#[test]
fn an_unknown_request_is_enotty() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "");
    let m = s.mount();
    for name in ["f", ""] {
        let file = File::open(m.path(name)).unwrap();
        // No file system has this one.
        assert_errno(ioctl(&file, 0x5a5a), libc::ENOTTY);
    }
}
