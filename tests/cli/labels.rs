//! Security labels: `context=` and its like reach mount(2), whatever the kernel makes of them.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::support::Scratch;
use crate::support::mount::{Detached, is_mountpoint};
use crate::support::process::wait_for;
use crate::{needs, not_the_kernels, test_name};

const NO_PROGRAM: &str = "it is no program";

/// As container runtimes write it: two categories, and so a comma.
const LABEL: &str = r#""system_u:object_r:container_file_t:s0:c1,c2""#;

/// The calls of mount(2) that a mount takes, in their order.
fn calls_of_mount(option: &str) -> Vec<String> {
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let trace = s.base().path("trace");
    let setup = s.setup().option(option).command();
    let mut command = Command::new("strace");
    command.args(["-f", "-s", "4096", "-e", "trace=mount", "-o"]).arg(&trace);
    command.arg(setup.get_program()).args(setup.get_args());
    let mut traced = command.spawn().unwrap();
    let mounted = Detached::on(s.mnt.root());
    let up = wait_for(Duration::from_secs(20), || is_mountpoint(s.mnt.root()));
    let read = fs::read_to_string(s.mnt.path("f"));
    drop(mounted);
    traced.wait().unwrap();
    assert!(up && read.is_ok_and(|content| content == "x"), "{option}");
    let lines = fs::read_to_string(trace).unwrap().replace(r#"\""#, "\"");
    lines.lines().filter(|line| line.contains("mount(")).map(str::to_owned).collect()
}

/// A kernel without SELinux says EINVAL, and the mount is made without: callers pass one always.
#[test]
fn each_label_is_passed_to_mount() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    if !crate::support::need::program(test_name!(), "strace") {
        return;
    }
    for name in ["context", "fscontext", "defcontext", "rootcontext"] {
        let calls = calls_of_mount(&format!("{name}={LABEL}"));
        let wanted = format!(",{name}={LABEL}");
        assert!(calls[0].contains(&wanted), "{wanted} in {calls:?}");
        let last = calls.last().unwrap();
        assert!(last.ends_with(" = 0"), "{calls:?}");
        assert!(calls.len() == 1 || !last.contains("context"), "{calls:?}");
    }
    let calls = calls_of_mount("rw");
    assert!(calls.len() == 1 && !calls[0].contains("context"), "{calls:?}");
}
