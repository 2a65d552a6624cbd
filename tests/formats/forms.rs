//! The options `xattr=` and `whiteout=`: the form that is written, and what is refused.

use std::fs;

use crate::layers::{Kernel, show};
use crate::support::tree::{Compare, Tree, assert_same_tree};
use crate::support::{Mount, Scratch, Setup, process};
use crate::{needs, not_the_kernels};

const OPAQUE: &str = "trusted.overlay.opaque";
const OPTIONS: &str = "redirect_dir=off,metacopy=off,index=off";

fn below(s: &Scratch) {
    for path in ["f", "d/a", "d/b", "again/old", "kept"] {
        s.lower(0).file(path, path);
    }
}

/// Removes names and a directory, and makes that directory anew; what is shown then.
fn changed(setup: &Setup) -> Tree {
    let mut m = setup.mount();
    fs::remove_file(m.path("f")).unwrap();
    fs::remove_file(m.path("d/a")).unwrap();
    fs::remove_dir_all(m.path("again")).unwrap();
    m.file("again/new", "new").mode("kept", 0o600);
    let left = show(&m);
    assert_eq!(m.names(""), ["again", "d", "kept"]);
    assert_eq!(m.names("again"), ["new"]);
    let number = std::os::unix::fs::MetadataExt::ino(&m.stat("kept"));
    m.remount();
    assert_same_tree(&left, &show(&m), Compare::STRICT);
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&m.stat("kept")), number);
    left
}

#[test]
fn whiteout_char_is_the_kernels_form() {
    needs_both!();
    let s = Scratch::new();
    below(&s);
    let left = changed(&s.setup().option("whiteout=char"));
    assert!(s.upper.is_whiteout("f") && s.upper.is_whiteout("d/a"));
    assert_eq!(s.upper.get_xattr("again", OPAQUE).as_deref(), Some(&b"y"[..]));
    let kernel = Kernel::overlay(s.lowers(), Some((&s.upper, &s.work)), &s.mnt, OPTIONS);
    assert_same_tree(&left, &show(&kernel), Compare::STRICT);
}

/// Also where devices can be made; the kernel reads the upper as a lower.
#[test]
fn whiteout_xattr_is_written_where_it_is_asked_for() {
    needs_both!();
    needs!(overlay_xattr_whiteouts);
    let s = Scratch::new();
    below(&s);
    let left = changed(&s.setup().option("whiteout=xattr"));
    for path in ["f", "d/a"] {
        assert!(s.upper.get_xattr(path, "trusted.overlay.whiteout").is_some(), "{path}");
    }
    assert_eq!(s.upper.get_xattr("", OPAQUE).as_deref(), Some(&b"x"[..]));
    assert_eq!(s.upper.get_xattr("again", OPAQUE).as_deref(), Some(&b"y"[..]));
    let layers = [s.upper.clone(), s.lower(0).clone()];
    let kernel = Kernel::overlay(&layers, None, &s.mnt, OPTIONS);
    assert_same_tree(&left, &show(&kernel), Compare::STRICT);
}

/// As tar(1) could pack it into an OCI layer. Numbers of files are kept in attributes all the same.
#[test]
fn whiteout_aufs_is_the_form_of_images() {
    needs!(mount);
    not_the_kernels!("it has no such option");
    let s = Scratch::new();
    below(&s);
    changed(&s.setup().option("whiteout=aufs"));
    assert_eq!(s.upper.names(""), [".wh.f", "again", "d", "kept"]);
    assert_eq!(s.upper.names("d"), [".wh.a"]);
    assert_eq!(s.upper.names("again"), [".wh..wh..opq", "new"]);
    assert_eq!(s.upper.get_xattr("again", OPAQUE), None);
    // The same upper with the form that is the default: one mark for what changes from now on.
    let m = s.mount();
    m.file("f", "back");
    fs::remove_file(m.path("f")).unwrap();
    m.file("again/more", "");
    assert_eq!(s.upper.names(""), ["again", "d", "f", "kept"]);
    assert!(s.upper.is_whiteout("f"));
}

fn names_of_aufs(s: &Scratch) {
    s.lower(1).file("x", "below").file("d/y", "below");
    s.lower(0).file(".wh.x", "a file").file("d/.wh..wh..opq", "another").file(".wh..wh.plnk", "");
}

/// With a form given that is not AUFS', such names are names, as they are for the kernel.
#[test]
fn names_of_aufs_are_ordinary_where_the_option_says_so() {
    needs_both!();
    for option in ["whiteout=char", "whiteout=xattr"] {
        let s = Scratch::with_lowers(2);
        names_of_aufs(&s);
        let oracle = show(&Kernel::overlay(s.lowers(), None, &s.mnt, OPTIONS));
        let m = s.setup().read_only().option(option).mount();
        assert_same_tree(&oracle, &show(&m), Compare::STRICT);
        drop(m);
        let mut m = s.setup().option(option).mount();
        m.file(".wh.f", "made").dir("d/.wh.dir").file("new/.wh..wh..opq", "");
        fs::rename(m.path(".wh.f"), m.path("d/.wh.y")).unwrap();
        fs::remove_file(m.path(".wh.x")).unwrap();
        fs::hard_link(m.path("d/.wh.y"), m.path("new/.wh.z")).unwrap();
        fs::remove_dir(m.path("d/.wh.dir")).unwrap();
        for _ in 0..2 {
            assert_eq!(m.names(""), [".wh..wh.plnk", "d", "new", "x"], "{option}");
            assert_eq!(m.names("d"), [".wh..wh..opq", ".wh.y", "y"]);
            assert_eq!(m.names("new"), [".wh..wh..opq", ".wh.z"]);
            assert_eq!(m.read("d/.wh.y"), "made");
            m.remount();
        }
    }
}

/// Otherwise they are marks, and nobody can make one.
#[test]
fn names_of_aufs_are_marks_otherwise() {
    needs!(mount);
    not_the_kernels!("it knows no such marks");
    for option in ["whiteout=auto", "whiteout=aufs"] {
        let s = Scratch::with_lowers(2);
        names_of_aufs(&s);
        let m = s.setup().option(option).mount();
        assert_eq!(m.names(""), ["d"]);
        assert!(m.names("d").is_empty());
        crate::support::assert_errno(fs::write(m.path(".wh.new"), ""), libc::EINVAL);
        crate::support::assert_errno(fs::create_dir(m.path("d/.wh.new")), libc::EINVAL);
    }
}

fn refusal(setup: &Setup) -> String {
    let output = setup.attempt();
    assert!(!output.status.success());
    process::text(&output.stderr)
}

/// On another overlay no device 0:0 can be made.
#[test]
fn what_the_upper_cannot_do_is_refused() {
    needs_both!();
    let s = Scratch::new();
    let dir = |name: &str| s.base().sub(name).dir("").clone();
    let outer_dirs = (&dir("outer-upper"), &dir("outer-work"));
    let outer = Kernel::overlay(&[dir("empty")], Some(outer_dirs), &dir("outer"), OPTIONS);
    outer.dir("upper").dir("work");
    let setup = s.setup().upper(&outer.path("upper")).work(&outer.path("work"));
    let text = refusal(&setup.clone().option("whiteout=char"));
    for word in ["upperdir", "whiteout=char", "device 0:0", "whiteout=xattr"] {
        assert!(text.contains(word), "{text}");
    }
    drop(setup.option("whiteout=xattr").mount());
}

/// A file system without attributes: ramfs.
#[test]
fn an_upper_without_attributes() {
    needs!(mount);
    not_the_kernels!("it refuses such an upper");
    let s = Scratch::new();
    let place = Kernel::new("ramfs", s.base().sub("ramfs").dir(""), "mode=755");
    place.dir("upper").dir("work");
    let setup = s.setup().upper(&place.path("upper")).work(&place.path("work"));
    for (option, words) in [
        ("xattr=trusted", ["upperdir", "xattr=trusted", "leave xattr= out"]),
        ("xattr=user", ["upperdir", "xattr=user", "leave xattr= out"]),
        ("whiteout=xattr", ["upperdir", "whiteout=xattr", "whiteout=char"]),
    ] {
        let text = refusal(&setup.clone().option(option));
        assert!(words.iter().all(|word| text.contains(word)), "{option}: {text}");
    }
}

/// What stargz-snapshotter and buildkit leave: the same mark in both namespaces.
#[test]
fn both_namespaces_on_one_directory() {
    needs!(mount);
    not_the_kernels!("it knows one namespace");
    for (option, own, other) in [
        ("xattr=trusted", "trusted.overlay.opaque", "user.overlay.opaque"),
        ("xattr=user", "user.overlay.opaque", "trusted.overlay.opaque"),
        ("userxattr", "user.overlay.opaque", "trusted.overlay.opaque"),
    ] {
        let s = Scratch::with_lowers(2);
        s.lower(1).file("d/below", "").file("one/below", "").file("again/below", "");
        s.lower(0).file("d/own", "").file("one/own", "").xattr("one", other, "y");
        s.lower(0).xattr("d", own, "y").xattr("d", other, "y");
        let m = s.setup().option(option).mount();
        assert_eq!([m.names("d"), m.names("one")], [["own"], ["own"]], "{option}");
        m.mode("d", 0o700).mode("one", 0o700).file("d/new", "");
        fs::remove_dir_all(m.path("again")).unwrap();
        m.dir("again");
        for path in ["d", "one"] {
            assert!(m.xattr_names(path).is_empty());
            for name in [own, other] {
                assert_eq!(s.upper.get_xattr(path, name), None, "{option}: {path} {name}");
            }
        }
        assert_eq!(s.upper.get_xattr("again", own).as_deref(), Some(&b"y"[..]), "{option}");
        assert_eq!(s.upper.get_xattr("again", other), None, "{option}");
    }
}

#[test]
fn the_chosen_form_is_logged() {
    needs!(mount);
    not_the_kernels!("it logs nothing of the kind");
    let s = Scratch::new();
    let log = |m: &Mount| m.log();
    let m = s.setup().env("OVLMERGE_LOG", "ovlmerge=info").mount();
    let text = log(&m);
    for word in ["character devices 0:0", "trusted.overlay.*"] {
        assert!(text.contains(word), "{text}");
    }
}
