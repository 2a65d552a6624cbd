//! The name that the program is called by, and what callers learn by it.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use crate::support::mount::mount_line;
use crate::support::process::{output, text};
use crate::support::{Scratch, binary};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it is no program";

/// A link of that name to the program.
fn called(s: &Scratch, name: &str) -> PathBuf {
    let link = s.base().path(name);
    symlink(std::fs::canonicalize(binary()).unwrap(), &link).unwrap();
    link
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// benchexec compares the first line, podman info shows all of it.
#[test]
fn the_version_that_callers_of_fuse_overlayfs_read() {
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let shown = succeeds(Command::new(called(&s, "fuse-overlayfs")).arg("--version"));
    let mut lines = shown.lines();
    let version = lines.next().unwrap().strip_prefix("fuse-overlayfs: version ").unwrap();
    let numbers: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
    assert!(numbers >= vec![1, 14] && numbers < vec![2], "{version}");
    assert_eq!(lines.next(), Some(concat!("ovlmerge ", env!("CARGO_PKG_VERSION"))));
    let shown = succeeds(Command::new(binary()).arg("--version"));
    assert_eq!(shown, concat!("ovlmerge ", env!("CARGO_PKG_VERSION"), "\n"));
}

/// What is mounted on the test's mountpoint: source and type.
#[track_caller]
fn source_and_type(s: &Scratch, command: &mut Command) -> (String, String) {
    succeeds(command);
    let line = mount_line(s.mnt.root()).unwrap();
    crate::support::mount::detach(s.mnt.root());
    let mut columns = line.split(' ').map(str::to_owned);
    (columns.next().unwrap(), columns.nth(1).unwrap())
}

#[test]
fn the_type_is_the_name_that_was_called() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    for (name, source, expected) in [
        ("fuse-overlayfs", None, ("fuse-overlayfs", "fuse.fuse-overlayfs")),
        ("fuse-overlayfs", Some("overlay"), ("overlay", "fuse.fuse-overlayfs")),
        ("another", None, ("ovlmerge", "fuse.ovlmerge")),
        ("another", Some("overlay"), ("overlay", "fuse.ovlmerge")),
    ] {
        let s = Scratch::new();
        let mut command = Command::new(called(&s, name));
        command.args(source).arg(s.mnt.root()).arg("-o").arg(s.setup().option_string());
        let found = source_and_type(&s, &mut command);
        assert_eq!((found.0.as_str(), found.1.as_str()), expected, "{command:?}");
    }
}

/// As mount(8) calls `/sbin/mount.TYPE`.
#[test]
fn as_a_mount_helper() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    for (name, kind, expected) in [
        ("mount.fuse.ovlmerge", None, "fuse.ovlmerge"),
        ("mount.ovlmerge", None, "fuse.ovlmerge"),
        ("mount.fuse.fuse-overlayfs", None, "fuse.fuse-overlayfs"),
        ("mount.ovlmerge", Some("fuse.fuse-overlayfs"), "fuse.fuse-overlayfs"),
    ] {
        let s = Scratch::new();
        let mut command = Command::new(called(&s, name));
        command.arg("layers").arg(s.mnt.root()).arg("-sno").arg(s.setup().option_string());
        command.args(kind.map(|kind| format!("-t{kind}")));
        let found = source_and_type(&s, &mut command);
        assert_eq!(found, ("layers".to_owned(), expected.to_owned()), "{command:?}");
    }
}

/// mount --fake: everything but the mount.
#[test]
fn a_helper_can_be_asked_to_do_nothing() {
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let helper = called(&s, "mount.fuse.ovlmerge");
    let mut command = Command::new(&helper);
    command.arg("-f").arg("x").arg(s.mnt.root()).arg("-o").arg(s.setup().option_string());
    succeeds(&mut command);
    assert_eq!(mount_line(s.mnt.root()), None);
    let mut command = Command::new(&helper);
    let output = output(command.args(["-f", "x"]).arg(s.mnt.root()).args(["-o", "timeout=soon"]));
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}

/// Unknown options are for others, unless `--strict` says that there are no others.
#[test]
fn strict_refuses_what_is_not_known() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let setup = s.setup().option("voltile");
    let mut command = setup.background().command();
    command.arg("--strict");
    let output = output(&mut command);
    super::refusal::assert_refusal(&s, &output, 2, &["voltile", "did you mean `volatile`?"]);
    let output = s.setup().option("voltile").attempt();
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("did you mean `volatile`?"), "{}", text(&output.stderr));
}
