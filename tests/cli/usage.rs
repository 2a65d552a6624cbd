//! Command lines that make no sense.

use std::process::Command;

use super::refusal::assert_refusal;
use crate::support::process::{output, text};
use crate::support::{Engine, Scratch, binary};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it is no program";

#[track_caller]
fn check(arguments: &[&str], words: &[&str]) {
    let s = Scratch::new();
    let base = s.base().root().display().to_string();
    let arguments: Vec<_> = arguments.iter().map(|text| text.replace('@', &base)).collect();
    let output = output(Command::new(binary()).args(&arguments));
    assert_refusal(&s, &output, 2, words);
    assert!(s.upper.names("").is_empty() && s.work.names("").is_empty());
}

#[test]
fn layers_that_are_missing() {
    not_the_kernels!(NO_PROGRAM);
    check(&["@/mnt"], &["lowerdir"]);
    check(&["-o", "upperdir=@/upper,workdir=@/work", "@/mnt"], &["lowerdir"]);
    check(&["-o", "lowerdir=", "@/mnt"], &["lowerdir"]);
    check(&["-o", "lowerdir", "@/mnt"], &["lowerdir"]);
    check(&["-o", "lowerdir=@/lower0,upperdir=@/upper", "@/mnt"], &["upperdir", "workdir"]);
    check(&["-o", "lowerdir=@/lower0,workdir=@/work", "@/mnt"], &["workdir", "upperdir"]);
    check(&["-o", "lowerdir=@/lower0,upperdir=,workdir=@/work", "@/mnt"], &["upperdir"]);
}

#[test]
fn a_missing_mountpoint() {
    not_the_kernels!(NO_PROGRAM);
    check(&["-o", "lowerdir=@/lower0"], &["mountpoint"]);
    check(&["-o", "lowerdir=@/lower0", ""], &["mountpoint"]);
    check(&["-f", "-o"], &["-o"]);
}

#[test]
fn values_that_are_none() {
    not_the_kernels!(NO_PROGRAM);
    for option in [
        "timeout=soon",
        "timeout=-1",
        "timeout=",
        "dirmeta_delegate=perhaps",
        "xattr=both",
        "volatile=1",
        "fsync=2",
        "max_write=much",
    ] {
        let name = option.split('=').next().unwrap();
        check(&["-o", &format!("lowerdir=@/lower0,{option}"), "@/mnt"], &[name]);
    }
}

#[test]
fn flags_that_do_not_exist() {
    not_the_kernels!(NO_PROGRAM);
    check(&["--no-such-flag", "-o", "lowerdir=@/lower0", "@/mnt"], &["--no-such-flag"]);
    check(&["-Q", "-o", "lowerdir=@/lower0", "@/mnt"], &["-Q"]);
}

/// Callers rely on it: fstab and container runtimes pass words that are not for us.
#[test]
fn an_unknown_option_is_said_but_no_obstacle() {
    needs!(mount);
    if Engine::current() == Engine::Kernel {
        return;
    }
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let output = s.setup().option("lowredir=x,_netdev").attempt();
    let message = text(&output.stderr);
    assert!(output.status.success(), "{message}");
    assert!(message.contains("lowredir") && !message.contains("_netdev"), "{message}");
    let m = s.setup().option("quite_unknown").mount();
    assert_eq!(m.read("f"), "x");
}

#[test]
fn help_and_version_are_no_errors() {
    not_the_kernels!(NO_PROGRAM);
    for (flag, words) in [
        ("--help", ["lowerdir", "upperdir", "MOUNTPOINT"]),
        ("--version", ["ovlmerge", env!("CARGO_PKG_VERSION"), "."]),
    ] {
        let output = output(Command::new(binary()).arg(flag));
        assert_eq!(output.status.code(), Some(0), "{flag}");
        assert!(output.stderr.is_empty(), "{flag}: {}", text(&output.stderr));
        for word in words {
            assert!(text(&output.stdout).contains(word), "{flag} without {word}");
        }
    }
}
