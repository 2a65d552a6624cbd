//! Trees that are deeper than any path is long: what is in memory must not grow with the square of
//! their depth.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Command;

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::linkat;

use crate::call::{findings, layers};
use crate::needs;
use crate::support::process::{output, run, text};
use crate::support::{Dir, Scratch, binary};

const LEVELS: usize = 1_200;
/// As long as a name may be (`NAME_MAX`).
const LONG: usize = 255;

/// What the program may take for itself, in bytes. The paths of all directories of such a tree are
/// twice as much.
const MEMORY: &str = "--data=92000000";

/// Makes a tree with a long name at every level, and beside it a directory and, in an upper, a file
/// with two names.
fn fill(root: &Dir, is_upper: bool) {
    let name = "d".repeat(LONG);
    let mode = Mode::S_IRWXU;
    let mut here: OwnedFd = File::open(root.root()).unwrap().into();
    for _ in 0..LEVELS {
        mkdirat(&here, &*name, mode).unwrap();
        mkdirat(&here, "a", mode).unwrap();
        if is_upper {
            openat(&here, "f", OFlag::O_CREAT | OFlag::O_WRONLY, mode).unwrap();
            linkat(&here, "f", &here, "g", AtFlags::empty()).unwrap();
        }
        here = openat(&here, &*name, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    }
}

/// Called with little memory, and it has to succeed.
#[track_caller]
fn with_little_memory(args: &[&str]) -> String {
    let mut command = Command::new("prlimit");
    let done = output(command.arg(MEMORY).arg(binary()).args(args));
    assert!(done.status.success(), "{args:?}: {}{}", done.status, text(&done.stderr));
    text(&done.stdout)
}

/// At 10,000 levels it took 12 GB.
#[test]
fn memory_does_not_grow_with_the_square_of_the_depth() {
    needs!(root);
    let s = Scratch::new();
    fill(s.lower(0), false);
    fill(&s.upper, true);
    let options = layers(&s).into_string().unwrap();
    let said = with_little_memory(&["diff", "-o", &options, "-f", "/dev/null", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(told["entries"], 4 * LEVELS + 1);
    let work = format!("{options},workdir={}", s.work.root().display());
    assert_eq!(with_little_memory(&["check", "-o", &work]), "nothing is wrong\n");
    let layer = s.upper.root().to_str().unwrap();
    for form in ["aufs", "kernel"] {
        let said = with_little_memory(&["convert", "--to", form, layer]);
        assert_eq!(said, "0 markers written, 0 removed\n");
    }
    // Something at the far end is found, and mended.
    let mut here: OwnedFd = File::open(s.upper.root()).unwrap().into();
    for _ in 0..LEVELS {
        here = openat(&here, &*"d".repeat(LONG), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    }
    openat(&here, ".wh.nothing", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRWXU).unwrap();
    let check = |flags: &[&str]| {
        let words = ["check", "-o", &work]
            .into_iter()
            .chain(flags.iter().copied())
            .map(std::ffi::OsString::from);
        findings(words.collect())
    };
    assert_eq!(check(&[]).len(), 1);
    assert!(check(&["--repair"]).is_empty());
    // What removes a temporary directory is recursive itself.
    for dir in [&s.upper, s.lower(0)] {
        run("rm", &["-rf", &format!("{}/{}", dir.root().display(), "d".repeat(LONG))]);
    }
}

/// The path of each directory of an archive was kept: a megabyte of zstd took gigabytes.
#[test]
fn memory_for_directories_of_long_paths() {
    needs!(root);
    let s = Scratch::new();
    let way = vec!["d".repeat(LONG); 15].join("/");
    let mut layer = Vec::new();
    for number in 0..30_000 {
        layer.extend(crate::hostile::with_record("path", &format!("{way}/{number}"), &["d x"]));
    }
    layer.resize(layer.len() + 1024, 0);
    s.base().file("layer.tar", layer);
    let [layer, out] = ["layer.tar", "out"].map(|name| s.base().path(name));
    with_little_memory(&["apply", layer.to_str().unwrap(), out.to_str().unwrap()]);
}
