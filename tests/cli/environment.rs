//! What a caller leaves to its children, and what it says through the environment.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::Duration;

use crate::support::process::{output, pids_with_argument, text, wait_for};
use crate::support::{Scratch, raw};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it is no program";

fn status(pid: i32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
}

fn holds(set: u64, signal: i32) -> bool {
    set >> (signal - 1) & 1 == 1
}

/// Podman 4.3 was seen to start its mount program so: signals ignored and blocked, a pipe as
/// descriptor 3, a working directory in its store.
#[test]
fn nothing_of_what_podman_leaves_behind_stays() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = s.setup().background().command();
    command.current_dir(s.base().root()).stdin(Stdio::null());
    raw::inherit_from_podman(&mut command);
    raw::pass_descriptor(&mut command, writer.as_fd(), 203);
    let output = output(&mut command);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let _mounted = crate::support::mount::Detached::on(s.mnt.root());
    drop(writer);
    let mut rest = Vec::new();
    // At its end only if the server has let go of the pipe.
    reader.read_to_end(&mut rest).unwrap();

    let pid = pids_with_argument(s.mnt.root())[0];
    assert!(!fs::exists(format!("/proc/{pid}/fd/203")).unwrap());
    let ignored = status(pid, "SigIgn:");
    assert!(!holds(ignored, libc::SIGQUIT), "{ignored:x}");
    // A thread that starts another blocks all signals for a moment.
    let none_is_blocked = || {
        let signals = [libc::SIGCHLD, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
        !signals.iter().any(|signal| holds(status(pid, "SigBlk:"), *signal))
    };
    let none = wait_for(Duration::from_secs(10), none_is_blocked);
    assert!(none, "{:x}", status(pid, "SigBlk:"));
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let columns: Vec<_> = files.split_whitespace().collect();
    assert_eq!(columns[3], columns[4], "{files}");
    // Blocked in the caller, and all the same what ends the server.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    assert!(wait_for(Duration::from_secs(10), || pids_with_argument(s.mnt.root()).is_empty()));
}

#[test]
fn a_log_file_of_fuse_overlayfs_is_written_from_the_background() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    for (variable, filter, expected) in [
        ("FUSE_OVERLAYFS_DEBUG_LOG", None, true),
        ("OVLMERGE_LOG_FILE", Some("debug"), true),
        ("FUSE_OVERLAYFS_DEBUG_LOG", Some("off"), false),
    ] {
        let s = Scratch::new();
        let log = s.base().path("log");
        let mut command = s.setup().background().command();
        command.env(variable, &log).env_remove("OVLMERGE_LOG").env_remove("RUST_LOG");
        command.envs(filter.map(|filter| ("RUST_LOG", filter)));
        let output = output(command.stdin(Stdio::null()));
        assert!(output.status.success(), "{}", text(&output.stderr));
        let _mounted = crate::support::mount::Detached::on(s.mnt.root());
        let before = fs::metadata(&log).unwrap().len();
        assert!(File::open(s.mnt.path("absent")).is_err());
        let grows = || fs::metadata(&log).unwrap().len() > before;
        // A request is logged before it is answered.
        assert_eq!(grows(), expected, "{variable} {filter:?}: {}", s.base().read("log"));
    }
}

/// The layers of a deep image, and a command line that is as long as one can be.
#[test]
fn as_many_layers_as_a_command_line_holds() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::with_lowers(600);
    for (number, lower) in s.lowers().iter().enumerate() {
        lower.file(format!("f{number}"), "x");
    }
    let setup = s.setup();
    assert!(setup.option_string().len() > 4 * 4096);
    // No single argument may be longer than 128 KiB (MAX_ARG_STRLEN), but there may be many.
    let mut command = setup.background().command();
    for _ in 0..12 {
        command.arg("-o").arg(format!("x-comment={}", "y".repeat(100_000)));
    }
    let output = output(&mut command);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let _mounted = crate::support::mount::Detached::on(s.mnt.root());
    assert_eq!(s.mnt.names("").len(), 600);
}

#[test]
fn whiteouts_as_a_variable_of_fuse_overlayfs_wants_them() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    for (options, is_file) in [("rw", true), ("whiteout=char", false)] {
        let s = Scratch::new();
        s.lower(0).file("f", "x");
        let setup = s.setup().option(options);
        let mut command = setup.background().command();
        command.env("FUSE_OVERLAYFS_DISABLE_OVL_WHITEOUT", "");
        let output = output(command.stdin(Stdio::null()));
        assert!(output.status.success(), "{}", text(&output.stderr));
        let _mounted = crate::support::mount::Detached::on(s.mnt.root());
        fs::remove_file(s.mnt.path("f")).unwrap();
        assert_eq!(s.upper.exists(".wh.f"), is_file, "{options}");
        assert_eq!(s.upper.is_whiteout("f"), !is_file, "{options}");
    }
}
