//! Directories that another mount is using.

use super::refusal::assert_refusal;
use crate::support::Scratch;
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it only warns, unless it has an index";

#[test]
fn an_upper_in_use_is_refused() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let mut m = s.mount();
    let other = Scratch::new();
    let second = other.setup().upper(s.upper.root());
    let upper = s.upper.root().to_str().unwrap();
    assert_refusal(&other, &second.attempt(), 1, &["upperdir", upper, "unmount"]);
    // The first one goes on.
    m.file("f", "changed").file("new", "");
    assert_eq!(m.read("f"), "changed");
    m.unmount();
    drop(second.mount());
}

#[test]
fn a_work_directory_in_use_is_refused_and_not_swept() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let m = s.mount();
    s.work.file("work/under-way", "");
    let other = Scratch::new();
    let second = other.setup().work(s.work.root());
    let work = s.work.root().to_str().unwrap();
    assert_refusal(&other, &second.attempt(), 1, &["workdir", work, "unmount"]);
    assert!(s.work.exists("work/under-way"));
    m.file("f", "changed");
    assert_eq!(m.read("f"), "changed");
}

/// Images share their layers: lowers are for as many mounts as there are.
#[test]
fn lowers_are_shared() {
    needs!(mount);
    let one = Scratch::new();
    one.lower(0).file("f", "x");
    let other = Scratch::new();
    let (m, mut n) =
        (one.mount(), other.setup().lowers(vec![one.lower(0).root().to_owned()]).mount());
    m.file("f", "changed");
    assert_eq!((m.read("f"), n.read("f")), ("changed".into(), "x".into()));
    n.unmount();
}

#[test]
fn a_mount_over_a_mount_leaves_both_whole() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("below", "");
    let other = Scratch::new();
    other.lower(0).file("above", "");
    let m = s.mount();
    let mut n = other.setup().mountpoint(s.mnt.root()).mount();
    assert_eq!(s.mnt.names(""), ["above"]);
    n.unmount();
    assert_eq!(m.names(""), ["below"]);
}
