//! ovlmerge with lower, upper and work inside a mount of ovlmerge. A device 0:0 is a whiteout to
//! the outer one, so the inner one marks by attributes, which the outer one escapes.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::scene::{PROGRAM, Scene};
use crate::support::process::{output, text};
use crate::support::{Mount, Scratch, Setup, binary};

/// An overlay with all its directories in `outside`.
fn inner(outside: &Path, at: &Path) -> Setup {
    Setup::new(vec![outside.join("lower")], at)
        .upper(&outside.join("upper"))
        .work(&outside.join("work"))
}

fn remount_both(outer: &mut Mount, inner: &mut Mount) {
    inner.unmount();
    outer.remount();
    inner.remount();
}

#[test]
fn survives_remounts_of_both() {
    needs_programs!();
    let outer = Scratch::new();
    outer.lower(0).dir("lower").dir("upper").dir("work");
    Scene::Xattr.fill(&outer.lower(0).sub("lower"));
    let s = Scratch::with_lowers(0);
    let mut outside = outer.mount();
    let mut m = inner(outside.root(), s.mnt.root()).mount();
    let before = Scene::Xattr.list(&m);
    assert_eq!(before, Scene::Xattr.list(&outside.sub("lower")));
    Scene::Xattr.change(&m);
    for _ in 0..3 {
        Scene::Xattr.assert_changed(&m);
        assert_eq!(Scene::Xattr.list(&outside.sub("lower")), before);
        m.file("gone", "again").dir("d/sub").file("again/o", "");
        remount_both(&mut outside, &mut m);
        assert_eq!((m.read("gone").as_str(), m.names("d/sub").len()), ("again", 0));
        fs::remove_file(m.path("gone")).unwrap();
        fs::remove_file(m.path("again/o")).unwrap();
        fs::remove_dir(m.path("d/sub")).unwrap();
        remount_both(&mut outside, &mut m);
    }
    // The marks of the inner one stand one level deeper, and hide nothing of the outer one.
    let (upper, inside) = (outer.upper.sub("upper"), outside.sub("upper"));
    assert_eq!(inside.get_xattr("again", "trusted.overlay.opaque").unwrap(), b"y");
    assert_eq!(upper.get_xattr("again", "trusted.overlay.overlay.opaque").unwrap(), b"y");
    assert_eq!(upper.get_xattr("again", "trusted.overlay.opaque"), None);
    assert!(upper.get_xattr("gone", "trusted.overlay.overlay.whiteout").is_some());
    assert!(inside.names("").contains(&"gone".to_owned()));
    drop(m);
}

/// Four mounts, each with its layers in the one before.
#[test]
fn four_levels() {
    needs_programs!();
    let outermost = Scratch::new();
    let mut mounts = vec![outermost.mount()];
    let homes: Vec<_> = (0..3).map(|_| Scratch::with_lowers(0)).collect();
    for home in &homes {
        let outside = mounts.last().unwrap();
        outside.dir("upper").dir("work").dir("lower");
        // What the next one gets, so that each has lowers, uppers and marks on all levels.
        outside.file("lower/lower/f", "deepest").file("lower/lower/d/g", "").file("lower/x", "");
        let m = inner(outside.root(), home.mnt.root()).mount();
        fs::remove_file(m.path("x")).unwrap();
        m.file("lower/d/h", "");
        mounts.push(m);
    }
    for _ in 0..2 {
        for m in mounts[1..].iter().rev() {
            assert!(!m.exists("x"));
            assert_eq!(m.names("lower/d"), ["g", "h"]);
            assert_eq!(m.read("lower/f"), "deepest");
        }
        for m in mounts.iter_mut().rev() {
            m.unmount();
        }
        for m in &mut mounts {
            m.remount();
        }
    }
    while let Some(m) = mounts.pop() {
        drop(m);
    }
}

/// As an ordinary user, with both in one user namespace, marks are those of `user.overlay.`.
#[test]
fn in_a_user_namespace() {
    needs_programs!();
    if !crate::support::need::userns(crate::test_name!()) {
        return;
    }
    let s = Scratch::new();
    let script = r#"
        patiently() { # a server that leaves has its layers for a moment longer
            for turn in $(seq 100); do "$@" 2>log && return; sleep 0.1; done
            cat log >&2; false
        }
        overlay() { patiently "$BIN" -o "$1" "$2"; }
        outer() { overlay lowerdir=lower0,upperdir=upper,workdir=work mnt; }
        inner() { overlay lowerdir=mnt/l,upperdir=mnt/u,workdir=mnt/w inner; }
        mkdir inner
        outer
        mkdir mnt/l mnt/u mnt/w
        python3 "$TREE" fill xattr mnt/l
        inner
        python3 "$TREE" change xattr inner
        for turn in 1 2; do
            python3 "$TREE" list xattr inner >listing$turn
            umount inner; patiently umount mnt
            outer; inner
        done
        getfattr -n user.overlay.opaque --only-values mnt/u/again >opaque
        getfattr -n user.overlay.overlay.opaque --only-values upper/u/again >escaped
        umount inner; patiently umount mnt
    "#;
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-euc", script]).current_dir(s.base().root());
    let done = output(command.env("BIN", binary()).env("TREE", PROGRAM).env("LC_ALL", "C"));
    assert!(done.status.success(), "{}", text(&done.stderr));
    for turn in ["listing1", "listing2"] {
        assert_eq!(s.base().read(turn), Scene::Xattr.changed(), "{turn}");
    }
    assert_eq!((s.base().read("opaque"), s.base().read("escaped")), ("y".into(), "y".into()));
}
