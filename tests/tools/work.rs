//! What a diff costs: it grows with the change, and not with what the change is made to.

use std::collections::BTreeMap;
use std::process::Command;

use crate::call::layers;
use crate::needs;
use crate::support::process::{output, text};
use crate::support::{Scratch, binary};

/// Memory is taken as it suits the allocator.
const IGNORED: [&str; 6] = ["brk", "madvise", "mmap", "mprotect", "mremap", "munmap"];

/// In a line of strace -y, a descriptor of what changes with the mounts and locks of other tests.
const OF_OTHERS: &str = "</proc/";

/// A lower of so many directories with so many files, and always the same change.
fn scene(directories: usize, files: usize) -> Scratch {
    let s = Scratch::new();
    for dir in 0..directories {
        for file in 0..files {
            s.lower(0).file(format!("d/{dir}/{file}"), "content");
        }
    }
    s.upper.file("d/1/1", "changed").file("d/1/new", "new").whiteout("d/2/2").dir("d/3");
    s.upper.opaque_dir("d/new").file("d/new/a", "").mode("d/3", 0o700);
    s
}

/// How often each call is made.
fn calls(s: &Scratch, more: &[&str]) -> BTreeMap<String, usize> {
    let trace = s.base().path("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-qq", "-o"]).arg(&trace).arg(binary());
    command.args(["diff", "-o"]).arg(layers(s)).args(more).env_remove("SOURCE_DATE_EPOCH");
    let done = output(&mut command);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let mut calls = BTreeMap::new();
    for line in std::fs::read_to_string(trace).unwrap().lines() {
        // `PID NAME(...) = RESULT`; signals and ends of threads have other forms.
        let name = line.split_once(' ').and_then(|(_, rest)| rest.trim().split_once('('));
        if let Some((name, _)) = name
            && !IGNORED.contains(&name)
            && !line.contains(OF_OTHERS)
        {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    calls
}

/// Commits of podman and buildkit walk both trees: a changed line in a large image takes as long as
/// the image is large.
#[test]
fn a_diff_costs_the_same_over_lowers_that_are_a_hundred_times_as_large() {
    needs!(root, strace);
    let (small, large) = (scene(4, 5), scene(40, 50));
    for more in [&[][..], &["--parents=changed"], &["--changes"]] {
        let (few, many) = (calls(&small, more), calls(&large, more));
        assert!(few.contains_key("getdents64"), "are the calls still seen? {few:?}");
        assert_eq!(few, many, "{more:?}");
    }
}
