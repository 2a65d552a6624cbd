//! Directories that lend their names but not their metadata (`dirmeta_delegate`).

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::process::shell;
use crate::support::raw::list_dir;
use crate::support::scratch::Dir;
use crate::support::{Mount, Scratch};
use crate::{needs, not_the_kernels};

const UNKNOWN: &str = "the mark is not known to it yet";
const TRUSTED: &str = "trusted.overlay.dirmeta_delegate";
const USER: &str = "user.overlay.dirmeta_delegate";

fn real(dir: &Dir, path: &str, mode: u32, owner: u32, seconds: i64) {
    dir.dir(path).owner(path, owner, owner).mode(path, mode).times(path, seconds, 5);
}

fn marked(dir: &Dir, path: &str, namespace: &str) {
    dir.dir(path).xattr(path, namespace, "y").mode(path, 0o755).times(path, 99, 9);
}

#[track_caller]
fn assert_metadata(m: &Mount, path: &str, mode: u32, owner: u32, seconds: i64) {
    let meta = m.stat(path);
    assert_eq!(meta.mode() & 0o7777, mode, "{path}: mode {:o}", meta.mode());
    assert_eq!((meta.uid(), meta.gid()), (owner, owner), "{path}");
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (seconds, 5), "{path}");
}

/// Image builders make the parents of what they copy, with modes nobody asked for (buildah issue
/// 6503: /tmp turns from 1777 to 755).
#[test]
fn metadata_comes_from_the_first_unmarked_layer() {
    needs!(mount);
    not_the_kernels!(UNKNOWN);
    for namespace in [TRUSTED, USER] {
        let s = Scratch::with_lowers(4);
        real(s.lower(3), "tmp", 0o700, 30, 3_000);
        real(s.lower(2), "tmp", 0o1777, 20, 2_000);
        s.lower(2).xattr("tmp", "user.note", "from 2").file("tmp/two", "").times("tmp", 2_000, 5);
        marked(s.lower(1), "tmp", namespace);
        marked(s.lower(0), "tmp", namespace);
        s.lower(0).xattr("tmp", "user.note", "from 0").file("tmp/zero", "");
        let m = s.mount();
        assert_metadata(&m, "tmp", 0o1777, 20, 2_000);
        assert_eq!(m.get_xattr("tmp", "user.note").unwrap(), b"from 2");
        assert_eq!(m.xattr_names("tmp"), ["user.note"]);
        assert_eq!(m.names("tmp"), ["two", "zero"]);
        assert_eq!(m.get_xattr("tmp", namespace), None);
    }
}

#[test]
fn both_namespaces_mix() {
    needs!(mount);
    not_the_kernels!(UNKNOWN);
    let s = Scratch::with_lowers(3);
    real(s.lower(2), "d", 0o2750, 7, 700);
    marked(s.lower(1), "d", USER);
    marked(s.lower(0), "d", TRUSTED);
    let m = s.mount();
    assert_metadata(&m, "d", 0o2750, 7, 700);
}

#[test]
fn an_opaque_directory_ends_the_walk() {
    needs!(mount);
    not_the_kernels!(UNKNOWN);
    let s = Scratch::with_lowers(3);
    real(s.lower(2), "d", 0o700, 30, 3_000);
    s.lower(1).opaque_dir("d");
    marked(s.lower(1), "d", TRUSTED);
    s.lower(1).mode("d", 0o711).owner("d", 11, 11).times("d", 1_100, 5);
    marked(s.lower(0), "d", TRUSTED);
    s.lower(0).mode("d", 0o722).owner("d", 12, 12).times("d", 1_200, 5);
    let m = s.mount();
    // Both are marked and nothing else is left: the topmost.
    assert_metadata(&m, "d", 0o722, 12, 1_200);
}

#[test]
fn where_all_are_marked_the_topmost_counts() {
    needs!(mount);
    not_the_kernels!(UNKNOWN);
    let s = Scratch::with_lowers(2);
    for number in 0..2 {
        let owner = 40 + u32::try_from(number).unwrap();
        marked(s.lower(number), "d", TRUSTED);
        s.lower(number).owner("d", owner, owner).mode("d", 0o750).times("d", 4_000, 5);
    }
    let m = s.mount();
    assert_metadata(&m, "d", 0o750, 40, 4_000);
    assert!(m.xattr_names("d").is_empty());
}

#[test]
fn other_values_are_no_mark() {
    needs!(mount);
    not_the_kernels!(UNKNOWN);
    for value in ["", "n", "yes", "y\0"] {
        let s = Scratch::with_lowers(2);
        real(s.lower(1), "d", 0o700, 1, 1_000);
        real(s.lower(0), "d", 0o755, 2, 2_000);
        s.lower(0).xattr("d", TRUSTED, value);
        let m = s.mount();
        assert_metadata(&m, "d", 0o755, 2, 2_000);
        assert_eq!(m.get_xattr("d", TRUSTED), None);
    }
}

/// A listing with attributes is another way to the same numbers.
#[test]
fn listings_carry_the_effective_metadata() {
    needs!(mount);
    not_the_kernels!(UNKNOWN);
    let s = Scratch::with_lowers(2);
    for number in 0..20 {
        real(s.lower(1), &format!("d/sub{number}"), 0o1770, 6, 600);
        marked(s.lower(0), &format!("d/sub{number}"), TRUSTED);
    }
    let m = s.mount();
    let entries = list_dir(&m.path("d"));
    let listing = shell(m.root(), "ls -ln d | tail -n +2");
    assert_eq!(listing.lines().count(), 20);
    for line in listing.lines() {
        assert!(line.starts_with("drwxrwx--T"), "{line}");
        assert_eq!(line.split_whitespace().nth(2), Some("6"), "{line}");
    }
    for entry in entries.iter().filter(|entry| entry.name.starts_with(b"sub")) {
        let name = String::from_utf8(entry.name.clone()).unwrap();
        assert_metadata(&m, &format!("d/{name}"), 0o1770, 6, 600);
        assert_eq!(m.stat(format!("d/{name}")).ino(), entry.ino);
    }
}

#[test]
fn copy_up_takes_the_effective_metadata_and_no_mark() {
    needs!(mount);
    not_the_kernels!(UNKNOWN);
    let s = Scratch::with_lowers(2);
    real(s.lower(1), "a", 0o1777, 20, 2_000);
    real(s.lower(1), "a/b", 0o2750, 21, 2_100);
    s.lower(1).xattr("a/b", "user.note", "kept").times("a", 2_000, 5);
    marked(s.lower(0), "a", TRUSTED);
    marked(s.lower(0), "a/b", USER);
    s.lower(0).file("a/b/f", "x");
    let mut m = s.mount();
    m.mode("a/b/f", 0o600);
    for _ in 0..2 {
        assert_metadata(&m, "a", 0o1777, 20, 2_000);
        assert_metadata(&m, "a/b", 0o2750, 21, 2_100);
        assert_eq!(m.get_xattr("a/b", "user.note").unwrap(), b"kept");
        m.remount();
    }
    for path in ["a", "a/b"] {
        assert_eq!(s.upper.get_xattr(path, TRUSTED), None, "{path}");
        assert_eq!(s.upper.get_xattr(path, USER), None, "{path}");
    }
    assert_eq!(s.upper.mode_of("a"), 0o1777);
    assert_eq!(s.upper.stat("a/b").uid(), 21);
}

/// An upper can hold marks too, made when it was the upper of a build.
#[test]
fn a_change_of_a_marked_upper_directory_first_takes_over() {
    needs!(mount);
    not_the_kernels!(UNKNOWN);
    for namespace in [TRUSTED, USER] {
        let s = Scratch::new();
        real(s.lower(0), "d", 0o1770, 20, 2_000);
        s.lower(0).xattr("d", "user.note", "kept");
        marked(&s.upper, "d", namespace);
        s.upper.file("d/own", "").times("d", 99, 9);
        let mut m = s.mount();
        assert_metadata(&m, "d", 0o1770, 20, 2_000);
        m.mode("d", 0o750);
        for _ in 0..2 {
            assert_metadata(&m, "d", 0o750, 20, 2_000);
            assert_eq!(m.get_xattr("d", "user.note").unwrap(), b"kept");
            assert_eq!(m.names("d"), ["own"]);
            m.remount();
        }
        assert_eq!(s.upper.get_xattr("d", namespace), None);
    }
}

#[test]
fn names_can_change_in_a_marked_upper_directory() {
    needs!(mount);
    not_the_kernels!(UNKNOWN);
    let s = Scratch::new();
    real(s.lower(0), "d", 0o1770, 20, 2_000);
    s.lower(0).file("d/lower", "");
    marked(&s.upper, "d", TRUSTED);
    let mut m = s.mount();
    m.file("d/new", "");
    fs::remove_file(m.path("d/lower")).unwrap();
    for _ in 0..2 {
        assert_eq!(m.names("d"), ["new"]);
        assert_eq!(m.mode_of("d"), 0o1770);
        assert_eq!(m.stat("d").uid(), 20);
        m.remount();
    }
}

#[test]
fn the_option_switches_it_off() {
    needs!(mount);
    not_the_kernels!(UNKNOWN);
    let s = Scratch::with_lowers(2);
    real(s.lower(1), "d", 0o1777, 20, 2_000);
    marked(s.lower(0), "d", TRUSTED);
    s.lower(0).times("d", 99, 5);
    let m = s.setup().option("dirmeta_delegate=off").mount();
    assert_metadata(&m, "d", 0o755, 0, 99);
}

/// The mark is about directories; on a file it is nothing.
#[test]
fn a_mark_on_a_file_is_nothing() {
    needs!(mount);
    not_the_kernels!(UNKNOWN);
    let s = Scratch::with_lowers(2);
    s.lower(1).file("f", "below").mode("f", 0o600);
    s.lower(0).file("f", "above").mode("f", 0o644).xattr("f", TRUSTED, "y");
    let m = s.mount();
    assert_eq!((m.mode_of("f"), m.read("f").as_str()), (0o644, "above"));
}
