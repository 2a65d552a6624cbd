//! What the upper and the work directory hold afterwards: one form for each fact, and no rest.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use crate::support::tree::{Compare, assert_same_tree, dump};
use crate::support::{Engine, Mount, Scratch};
use crate::{needs, not_the_kernels};

/// Fails if the upper holds anything that the kernel's overlayfs would not have written.
#[track_caller]
fn assert_canonical(s: &Scratch) {
    for (path, entry) in dump(s.upper.root()) {
        let name = path.file_name().unwrap_or_default();
        let shown = path.display();
        assert!(!name.as_bytes().starts_with(b".wh."), "{shown}");
        if s.upper.is_whiteout(&path) {
            let wanted = s.lowers().iter().any(|lower| {
                fs::symlink_metadata(lower.path(&path)).is_ok() && !lower.is_whiteout(&path)
            });
            assert!(wanted, "{shown} hides nothing");
            let parent = path.parent().unwrap();
            assert_ne!(opaque(s, parent).as_deref(), Some(b"y".as_slice()), "{shown}");
        }
        for (name, value) in &entry.xattrs {
            let name = name.to_str().unwrap();
            if name.starts_with("user.overlay.") || name.starts_with("user.fuseoverlayfs.") {
                panic!("{shown} carries {name}");
            }
            match name.strip_prefix("trusted.overlay.") {
                None | Some("origin" | "impure" | "uuid") => {}
                Some("opaque") => assert_eq!((entry.kind, value.as_slice()), ('d', &b"y"[..])),
                Some(other) => panic!("{shown} carries {other}"),
            }
        }
    }
}

fn opaque(s: &Scratch, path: &std::path::Path) -> Option<Vec<u8>> {
    s.upper.get_xattr(path, "trusted.overlay.opaque")
}

#[test]
fn a_whiteout_stands_only_where_it_hides_something() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    s.lower(1).file("hidden", "").file("d/f", "").file("seen", "");
    s.lower(0).whiteout("hidden");
    let m = s.mount();
    m.file("new", "").file("hidden", "").file("d/new", "").file("updir/f", "").dir("updir/sub");
    for name in ["new", "hidden", "d/new", "updir/f", "d/f", "seen"] {
        fs::remove_file(m.path(name)).unwrap();
    }
    fs::remove_dir(m.path("updir/sub")).unwrap();
    assert_eq!(s.upper.names(""), ["d", "seen", "updir"]);
    assert!(s.upper.is_whiteout("d/f") && s.upper.is_whiteout("seen"));
    assert!(s.upper.names("updir").is_empty());
    assert_canonical(&s);
}

#[test]
fn a_recreated_directory_is_opaque_and_holds_no_whiteout() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("d/a", "").file("d/b", "").file("e/sub/x", "");
    let m = s.mount();
    for path in ["d", "e/sub"] {
        fs::remove_dir_all(m.path(path)).unwrap();
        fs::create_dir(m.path(path)).unwrap();
    }
    m.file("d/a", "new");
    fs::remove_file(m.path("d/a")).unwrap();
    assert!(s.upper.names("d").is_empty());
    for path in ["d", "e/sub"] {
        assert_eq!(s.upper.get_xattr(path, "trusted.overlay.opaque").unwrap(), b"y", "{path}");
    }
    assert_eq!(s.upper.get_xattr("e", "trusted.overlay.opaque"), None);
    assert_canonical(&s);
}

/// The kernel marks every new directory in a merged one, to save itself lookups. It is harmless,
/// but makes layers of builds differ for nothing.
#[test]
fn a_directory_that_hides_nothing_is_not_opaque() {
    needs!(mount);
    not_the_kernels!("it marks them all the same");
    let s = Scratch::new();
    s.lower(0).file("d/f", "");
    let m = s.mount();
    m.dir("new").dir("d/new").dir("new/sub");
    for path in ["new", "d/new", "new/sub", "d"] {
        assert_eq!(s.upper.get_xattr(path, "trusted.overlay.opaque"), None, "{path}");
    }
}

#[test]
fn a_copied_up_directory_stays_merged() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("a/b/c/f", "").xattr("a/b", "user.note", "1").file("a/other", "");
    let m = s.mount();
    m.file("a/b/c/new", "");
    for path in ["a", "a/b", "a/b/c"] {
        assert_eq!(s.upper.get_xattr(path, "trusted.overlay.opaque"), None, "{path}");
    }
    assert_eq!(s.upper.names("a"), ["b"]);
    assert_eq!(s.upper.names("a/b/c"), ["new"]);
    assert_eq!(s.upper.get_xattr("a/b", "user.note").unwrap(), b"1");
    assert_canonical(&s);
}

fn a_bit_of_everything(m: &Mount) {
    m.file("etc/passwd", "changed").mode("etc/hosts", 0o600).dir("new/deep").file("new/f", "");
    fs::remove_file(m.path("etc/group")).unwrap();
    fs::rename(m.path("usr/bin/a"), m.path("usr/bin/a2")).unwrap();
    fs::remove_dir_all(m.path("usr/lib")).unwrap();
    m.file("usr/lib/again", "");
    fs::hard_link(m.path("usr/bin/b"), m.path("new/b")).unwrap();
    m.symlink("new/l", "x").owner("etc", 3, 4).xattr("usr", "user.a", "1");
    fs::rename(m.path("new"), m.path("var")).unwrap();
    fs::remove_file(m.path("var/f")).unwrap();
    let exchange = libc::RENAME_EXCHANGE;
    crate::support::raw::rename(&m.path("etc/passwd"), &m.path("usr/bin/b"), exchange).unwrap();
    fs::remove_dir_all(m.path("opt")).unwrap();
}

#[test]
fn a_bit_of_everything_leaves_only_canonical_marks() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    for path in ["etc/passwd", "etc/group", "usr/bin/a", "usr/lib/old", "opt/x/y"] {
        s.lower(1).file(path, path);
    }
    for path in ["etc/hosts", "usr/bin/b", "usr/lib/newer", "opt/z"] {
        s.lower(0).file(path, path);
    }
    let lowers = [0, 1].map(|number| dump(s.lower(number).root()));
    let mut m = s.mount();
    a_bit_of_everything(&m);
    let before = dump(m.root());
    m.remount();
    assert_same_tree(&before, &dump(m.root()), Compare::STRICT);
    assert_canonical(&s);
    assert!(s.leftovers().is_empty(), "{:?}", s.leftovers());
    for (number, tree) in lowers.iter().enumerate() {
        assert_same_tree(tree, &dump(s.lower(number).root()), Compare::STRICT);
    }
}

/// What a crash left behind belongs to no tree, whoever left it.
#[test]
fn the_work_directory_is_swept_at_mount() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    drop(s.mount());
    for number in 0..40 {
        s.work.file(format!("work/#{number:x}"), "left over, and longer than what comes");
        s.work.file(format!("work/{number}"), "left over");
    }
    s.work.file("work/dir/f", "").mode("work/dir", 0).whiteout("work/w");
    if Engine::current() == Engine::Program {
        // The kernel goes no deeper than what it makes itself.
        s.work.file("work/a/b/c/d/e", "").mode("work/a/b/c", 0);
    }
    s.work.symlink("work/link", "/etc").opaque_dir("work/opaque");
    let mut m = s.mount();
    assert!(s.leftovers().is_empty(), "{:?}", s.leftovers());
    m.mode("f", 0o600).dir("d");
    m.remount();
    assert_eq!(m.read("f"), "x");
    assert!(s.leftovers().is_empty(), "{:?}", s.leftovers());
}

#[test]
fn nothing_is_left_after_errors() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "").file("d/x", "").symlink("l", "x");
    let m = s.mount();
    for _ in 0..20 {
        assert!(fs::create_dir(m.path("f")).is_err());
        assert!(fs::File::create_new(m.path("f")).is_err());
        assert!(fs::rename(m.path("f"), m.path("d")).is_err());
        assert!(fs::hard_link(m.path("f"), m.path("d")).is_err());
        assert!(fs::remove_dir(m.path("d")).is_err());
        assert!(std::os::unix::fs::symlink("x", m.path("f")).is_err());
    }
    assert!(s.leftovers().is_empty(), "{:?}", s.leftovers());
    assert_canonical(&s);
}

/// The upper's root is the mount's root, and nothing of the mount's making may change what it
/// shows.
#[test]
fn the_root_is_that_of_the_upper() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).mode("", 0o711).owner("", 1, 1).file("f", "");
    s.upper.mode("", 0o1777).owner("", 2, 3).times("", 1_000, 1).xattr("", "user.a", "1");
    let mut m = s.mount();
    let meta = m.stat("");
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o1777, 2, 3));
    assert_eq!(meta.mtime(), 1_000);
    assert_eq!(m.xattr_names(""), ["user.a"]);
    m.mode("", 0o750).owner("", 4, 5);
    m.remount();
    let meta = m.stat("");
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o750, 4, 5));
}
