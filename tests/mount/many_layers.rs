//! Many layers, long options, names that the option syntax has to quote.

use std::fs;

use crate::support::Scratch;
use crate::support::scratch::not_text;
use crate::{needs, not_the_kernels};

#[test]
fn two_hundred_layers() {
    needs!(mount);
    not_the_kernels!("mount(2) takes no more than a page of options");
    let s = Scratch::with_lowers(200);
    for (number, lower) in s.lowers().iter().enumerate() {
        lower.file(format!("d/own{number}"), "").file("d/all", format!("{number}"));
        if number % 2 == 1 {
            lower.whiteout(format!("d/own{}", number + 1));
        }
    }
    let setup = s.setup();
    assert!(setup.option_string().len() > 4096);
    let mut m = setup.mount();
    let own = |m: &crate::support::Mount| m.names("d").len() - 1;
    // Every second one is hidden, but not the topmost.
    assert_eq!(own(&m), 101);
    assert_eq!(m.read("d/all"), "0");
    fs::remove_file(m.path("d/all")).unwrap();
    fs::remove_file(m.path("d/own199")).unwrap();
    m.file("d/own198", "back");
    m.remount();
    assert!(!m.exists("d/all"));
    assert_eq!(m.read("d/own198"), "back");
    assert!(!m.exists("d/own196"));
}

#[test]
fn six_hundred_layers() {
    needs!(mount);
    not_the_kernels!("it ends at 500");
    let s = Scratch::with_lowers(600);
    for (number, lower) in s.lowers().iter().enumerate() {
        lower.file(format!("f{number}"), format!("{number}"));
    }
    let m = s.mount();
    assert_eq!(m.names("").len(), 600);
    assert_eq!(m.read("f599"), "599");
}

#[test]
fn colons_commas_and_backslashes_in_paths() {
    needs!(mount);
    let s = Scratch::new();
    for odd in ["co:lon", "com,ma", "back\\slash", "all:of,th\\em\\:and \\,more", "bl ank", "tr\\"]
    {
        let at = s.base().sub(odd);
        at.file("lower/f", "lower").file("lower2/g", "g").dir("upper").dir("work").dir("mnt");
        let lowers = vec![at.path("lower"), at.path("lower2")];
        let setup = s.setup().lowers(lowers).mountpoint(&at.path("mnt"));
        let mut m = setup.upper(&at.path("upper")).work(&at.path("work")).mount();
        assert_eq!((m.read("f"), m.read("g")), ("lower".into(), "g".into()), "{odd}");
        m.file("f", "changed");
        m.remount();
        assert_eq!(m.read("f"), "changed", "{odd}");
        assert_eq!(at.read("upper/f"), "changed", "{odd}");
    }
}

#[test]
fn layers_whose_paths_are_not_text() {
    needs!(mount);
    not_the_kernels!("nix's mount takes what the program's arguments take, but one is enough");
    let s = Scratch::new();
    let at = s.base().sub(not_text("layers"));
    at.file("lower/f", "x").dir("upper").dir("work");
    let setup = s.setup().lowers(vec![at.path("lower")]);
    let m = setup.upper(&at.path("upper")).work(&at.path("work")).mount();
    m.file("new", "");
    assert_eq!(m.names(""), ["f", "new"]);
}

#[test]
fn options_spread_over_several_arguments() {
    needs!(mount);
    not_the_kernels!("it takes one string");
    let s = Scratch::with_lowers(2);
    s.lower(0).file("a", "");
    s.lower(1).file("b", "");
    let [one, two] = [0, 1].map(|number| s.lower(number).root().display().to_string());
    let mut command = std::process::Command::new(crate::support::binary());
    command.arg(format!("-olowerdir={one}:{two}"));
    command.args(["-o", "noatime,private", "-o"]);
    command.arg(format!("upperdir={}", s.upper.root().display()));
    command.arg("-o").arg(format!("workdir={}", s.work.root().display())).arg(s.mnt.root());
    let output = crate::support::process::output(&mut command);
    assert!(output.status.success(), "{}", crate::support::process::text(&output.stderr));
    let names = s.mnt.names("");
    nix::mount::umount2(s.mnt.root(), nix::mount::MntFlags::empty()).unwrap();
    assert_eq!(names, ["a", "b"]);
}
