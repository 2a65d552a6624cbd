//! What every refusal has in common.

use std::process::Output;

use nix::mount::{MntFlags, umount2};

use crate::support::mount::is_mountpoint;
use crate::support::process::{pids_with_argument, text};
use crate::support::{Scratch, Setup};

/// Fails unless the program ended with `code`, said all of `words`, and left neither a mount nor a
/// process.
#[track_caller]
pub fn assert_refusal(s: &Scratch, output: &Output, code: i32, words: &[&str]) {
    let message = text(&output.stderr);
    let mounted = is_mountpoint(s.mnt.root());
    if mounted {
        umount2(s.mnt.root(), MntFlags::MNT_DETACH).unwrap();
    }
    assert!(!mounted, "it is mounted all the same: {message}");
    assert_eq!(output.status.code(), Some(code), "{message}");
    for word in words {
        assert!(message.contains(word), "no `{word}` in: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
    assert!(
        message.starts_with("ovlmerge: ") || code == 2,
        "it does not say who speaks: {message}"
    );
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    assert!(pids_with_argument(s.mnt.root()).is_empty(), "a process stays");
}

/// The same for a mount that cannot be made, of which the upper must know nothing.
#[track_caller]
pub fn assert_refused(s: &Scratch, setup: &Setup, words: &[&str]) {
    assert_refusal(s, &setup.attempt(), 1, words);
}
