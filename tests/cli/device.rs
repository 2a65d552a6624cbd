//! Machines without FUSE.

use std::process::Command;

use super::refusal::assert_refusal;
use crate::support::Scratch;
use crate::support::process::output;
use crate::{needs, not_the_kernels};

/// Runs the program in a mount namespace whose /dev holds only what `prepare` makes.
fn in_bare_dev(s: &Scratch, prepare: &str, user: &[&str]) -> std::process::Output {
    let script = format!(
        "set -e; mount -t tmpfs tmpfs /dev; mknod -m 666 /dev/null c 1 3; {prepare}; exec \"$@\""
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, "sh"]).args(user).arg(s.program());
    output(command.arg("-o").arg(s.setup().option_string()).arg(s.mnt.root()))
}

#[test]
fn without_dev_fuse() {
    needs!(mount);
    not_the_kernels!("it needs none");
    let s = Scratch::new();
    let output = in_bare_dev(&s, ":", &[]);
    assert_refusal(&s, &output, 1, &["/dev/fuse"]);
    assert!(s.upper.names("").is_empty());
}

#[test]
fn with_a_dev_fuse_that_may_not_be_used() {
    needs!(mount);
    not_the_kernels!("it needs none");
    let s = Scratch::new();
    for dir in [&s.upper, &s.work, &s.mnt] {
        dir.owner("", 65534, 65534);
    }
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let output = in_bare_dev(&s, "mknod -m 600 /dev/fuse c 10 229", &user);
    assert_refusal(&s, &output, 1, &["/dev/fuse", "ermission"]);
    assert!(s.upper.names("").is_empty());
}
