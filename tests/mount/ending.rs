//! Changes that are followed by the end of the mount at once: all are there afterwards.
//!
//! Which requests come between a change and the end is a matter of the kernel's release and of
//! what the server has told it not to ask for (OPEN, CREATE, FLUSH, OPENDIR, FSYNC), so every
//! change is made in each of [`MODES`].

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::write::pattern;
use crate::support::process::wait_for;
use crate::support::raw::Mapping;
use crate::support::{Engine, Mount, Scratch, Setup, passthrough_everywhere};
use crate::{needs, not_the_kernels};

/// What the server does not want to be asked for, and how it is started for that.
type Mode = (&'static str, fn(Setup) -> Setup);

const MODES: &[Mode] = &[
    ("OPEN, CREATE, FLUSH, OPENDIR", |setup| setup),
    ("FSYNC too", |setup| setup.option("volatile")),
    (GATHERED, |setup| setup.option("writeback=1")),
    ("FLUSH, OPENDIR", |setup| setup.without_capability(CAP_DAC_OVERRIDE)),
    ("FLUSH", |setup| setup.without_capability(CAP_DAC_OVERRIDE).option("timeout=0")),
];

/// The mode that excludes `io=passthrough`.
const GATHERED: &str = "the same, and writes are gathered";

/// linux/capability.h
const CAP_DAC_OVERRIDE: u8 = 1;

/// What every file of the lower has before.
const BEFORE: usize = 8192;

/// One change of the file `f` of the lower, or of names beside it.
struct Change {
    what: &'static str,
    make: fn(&Path),
    /// How many writes the server gets, if the last is of a mapping that nothing waits for before
    /// Linux 6.16.
    left_behind: Option<u64>,
    /// Names and contents afterwards; all others are gone.
    after: fn() -> Vec<(&'static str, Vec<u8>)>,
}

fn only_f(content: Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
    vec![("f", content)]
}

/// What was there before, with `bytes` at `offset`.
fn changed(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut content = pattern(BEFORE, 1);
    content.resize(content.len().max(offset + bytes.len()), 0);
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
    content
}

fn open(path: PathBuf) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn append(path: PathBuf) -> File {
    OpenOptions::new().append(true).open(path).unwrap()
}

const MAPPED: &[Change] = &[
    Change {
        what: "a store through a mapping whose descriptor is closed before",
        make: |dir| {
            let file = open(dir.join("f"));
            let map = Mapping::new(file.as_fd(), BEFORE, true).unwrap();
            drop(file);
            map.write(5000, b"stored");
        },
        left_behind: Some(1),
        after: || only_f(changed(5000, b"stored")),
    },
    Change {
        what: "a store through a mapping whose descriptor is closed afterwards",
        make: |dir| {
            let file = open(dir.join("f"));
            let map = Mapping::new(file.as_fd(), BEFORE, true).unwrap();
            map.write(0, b"stored");
            drop(map);
            drop(file);
        },
        left_behind: None,
        after: || only_f(changed(0, b"stored")),
    },
    Change {
        what: "a store through a mapping that is closed after its descriptor",
        make: |dir| {
            let file = open(dir.join("f"));
            let map = Mapping::new(file.as_fd(), BEFORE, true).unwrap();
            map.write(4096, b"stored");
            drop(file);
            drop(map);
        },
        left_behind: None,
        after: || only_f(changed(4096, b"stored")),
    },
    Change {
        what: "four megabytes stored in a new file",
        make: |dir| {
            let new = dir.join("new");
            let file = File::options().read(true).write(true).create_new(true).open(new).unwrap();
            file.set_len(4 << 20).unwrap();
            let map = Mapping::new(file.as_fd(), 4 << 20, true).unwrap();
            map.write(0, &pattern(4 << 20, 2));
            drop(map);
            drop(file);
        },
        left_behind: None,
        after: || vec![("f", pattern(BEFORE, 1)), ("new", pattern(4 << 20, 2))],
    },
    Change {
        what: "twenty megabytes stored, and the descriptor closed afterwards",
        make: |dir| {
            let new = dir.join("new");
            let file = File::options().read(true).write(true).create_new(true).open(new).unwrap();
            file.set_len(20 << 20).unwrap();
            let map = Mapping::new(file.as_fd(), 20 << 20, true).unwrap();
            map.write(0, &pattern(20 << 20, 6));
            drop(map);
            drop(file);
        },
        left_behind: None,
        after: || vec![("f", pattern(BEFORE, 1)), ("new", pattern(20 << 20, 6))],
    },
    Change {
        what: "a store, then a truncation",
        make: |dir| {
            let file = open(dir.join("f"));
            let map = Mapping::new(file.as_fd(), BEFORE, true).unwrap();
            map.write(0, b"stored");
            file.set_len(100).unwrap();
        },
        left_behind: None,
        after: || only_f(changed(0, b"stored")[..100].to_vec()),
    },
    Change {
        what: "a store, then the name goes to another file",
        make: |dir| {
            let file = open(dir.join("f"));
            let map = Mapping::new(file.as_fd(), BEFORE, true).unwrap();
            fs::rename(dir.join("f"), dir.join("moved")).unwrap();
            fs::write(dir.join("f"), "another").unwrap();
            drop(file);
            map.write(7, b"stored");
        },
        left_behind: Some(2),
        after: || vec![("f", b"another".into()), ("moved", changed(7, b"stored"))],
    },
];

const WRITTEN: &[Change] = &[
    Change {
        what: "an append in three parts",
        make: |dir| {
            let mut file = append(dir.join("f"));
            for part in ["one", "two", "three"] {
                file.write_all(part.as_bytes()).unwrap();
            }
        },
        left_behind: None,
        after: || only_f(changed(BEFORE, b"onetwothree")),
    },
    Change {
        what: "a truncation and an append",
        make: |dir| {
            open(dir.join("f")).set_len(10).unwrap();
            append(dir.join("f")).write_all(b"end").unwrap();
        },
        left_behind: None,
        after: || only_f([&pattern(BEFORE, 1)[..10], b"end"].concat()),
    },
    Change {
        what: "a file that is emptied and written anew",
        make: |dir| fs::write(dir.join("f"), pattern(100_000, 3)).unwrap(),
        left_behind: None,
        after: || only_f(pattern(100_000, 3)),
    },
    Change {
        what: "a new file in small parts",
        make: |dir| {
            let mut file = File::create(dir.join("new")).unwrap();
            for part in pattern(300_000, 4).chunks(999) {
                file.write_all(part).unwrap();
            }
        },
        left_behind: None,
        after: || vec![("f", pattern(BEFORE, 1)), ("new", pattern(300_000, 4))],
    },
    Change {
        what: "more than the kernel asks us to write at a time",
        make: |dir| fs::write(dir.join("f"), pattern(20 << 20, 7)).unwrap(),
        left_behind: None,
        after: || only_f(pattern(20 << 20, 7)),
    },
    Change {
        what: "a write that asks for the disk, and fsync",
        make: |dir| {
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(libc::O_DSYNC);
            options.open(dir.join("f")).unwrap().write_all_at(b"first", 0).unwrap();
            let file = open(dir.join("f"));
            file.write_all_at(b"synced", 100).unwrap();
            file.sync_all().unwrap();
            file.write_all_at(b"last", 200).unwrap();
            File::open(dir).unwrap().sync_all().unwrap();
        },
        left_behind: None,
        after: || {
            let mut content = changed(0, b"first");
            content[100..106].copy_from_slice(b"synced");
            content[200..204].copy_from_slice(b"last");
            only_f(content)
        },
    },
    Change {
        what: "a file that loses its name while it is written",
        make: |dir| {
            let file = open(dir.join("f"));
            file.write_all_at(b"before", 0).unwrap();
            fs::remove_file(dir.join("f")).unwrap();
            file.write_all_at(&pattern(100_000, 5), 0).unwrap();
            let map = Mapping::new(file.as_fd(), BEFORE, true).unwrap();
            drop(file);
            map.write(0, b"after");
        },
        left_behind: None,
        after: Vec::new,
    },
    Change {
        what: "a file that is written below another name, over one that is open",
        make: |dir| {
            let old = open(dir.join("f"));
            fs::write(dir.join("tmp"), "new").unwrap();
            let new = append(dir.join("tmp"));
            fs::rename(dir.join("tmp"), dir.join("f")).unwrap();
            old.write_all_at(b"to the old one", 0).unwrap();
            (&new).write_all(b" and more").unwrap();
        },
        left_behind: None,
        after: || only_f(b"new and more".into()),
    },
    Change {
        what: "names made and removed while the directory is listed",
        make: |dir| {
            let mut listing = fs::read_dir(dir).unwrap();
            for number in 0..20 {
                fs::write(dir.join(format!("{number}")), "x").unwrap();
                listing.next();
            }
            fs::remove_file(dir.join("f")).unwrap();
            for number in 0..20 {
                fs::remove_file(dir.join(format!("{number}"))).unwrap();
            }
            fs::write(dir.join("last"), "x").unwrap();
        },
        left_behind: None,
        after: || vec![("last", b"x".into())],
    },
];

/// How a mount ends.
type Ending = fn(&mut Mount);

fn unmounted(mount: &mut Mount) {
    mount.unmount();
}

fn detached(mount: &mut Mount) {
    umount2(mount.root(), MntFlags::MNT_DETACH).unwrap();
    assert!(mount.server_leaves(Duration::from_secs(60)), "the server stays\n{}", mount.log());
    mount.unmount();
}

fn terminated(mount: &mut Mount) {
    kill(Pid::from_raw(mount.pid().unwrap()), Signal::SIGTERM).unwrap();
    assert!(mount.server_leaves(Duration::from_secs(60)), "the server stays\n{}", mount.log());
    mount.unmount();
}

/// Makes the change in a mount of its own, ends that, and looks at what a new one shows.
fn check(change: &Change, mode: fn(Setup) -> Setup, end: Ending) -> Result<(), String> {
    let s = Scratch::new();
    s.lower(0).file("f", pattern(BEFORE, 1));
    let mut m = mode(s.setup()).mount();
    let before = m.writes_taken();
    (change.make)(m.root());
    if let Some(writes) = change.left_behind {
        m.wait_for_writes_of_mapping(before + writes);
    }
    end(&mut m);
    let m = s.mount();
    let after = (change.after)();
    let names: Vec<_> = after.iter().map(|(name, _)| (*name).to_owned()).collect();
    if m.names("") != names {
        return Err(format!("{:?} instead of {names:?}", m.names("")));
    }
    for (name, content) in after {
        let found = fs::read(m.path(name)).unwrap();
        if found != content {
            let at = found.iter().zip(&content).position(|(found, wanted)| found != wanted);
            let (is, wanted) = (found.len(), content.len());
            return Err(format!("{name}: {is} of {wanted} bytes, the first wrong one at {at:?}"));
        }
    }
    Ok(())
}

/// Makes all changes in all modes before it says which were lost.
#[track_caller]
fn nothing_is_lost(changes: &[Change], modes: &[Mode], end: Ending) {
    let mut lost = Vec::new();
    let modes = if Engine::current() == Engine::Kernel { &modes[..1] } else { modes };
    for (never_asked, mode) in modes {
        if *never_asked == GATHERED && passthrough_everywhere() {
            continue;
        }
        for change in changes {
            if let Err(why) = check(change, *mode, end) {
                lost.push(format!("{} (never asked for: {never_asked}): {why}", change.what));
            }
        }
    }
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}

const WHY: &str = "about what a server is asked for";

/// A store through a mapping was lost on Debian 11, 12 and 13 when the mount ended at once: the
/// server was still copying the file up for the write, and left without finishing it.
#[test]
fn what_was_stored_through_a_mapping_outlives_the_mount() {
    needs!(mount);
    nothing_is_lost(MAPPED, MODES, unmounted);
}

#[test]
fn what_was_written_outlives_the_mount() {
    needs!(mount);
    nothing_is_lost(WRITTEN, MODES, unmounted);
}

#[test]
fn however_the_mount_ends() {
    needs!(mount);
    not_the_kernels!(WHY);
    for end in [detached, terminated] {
        nothing_is_lost(MAPPED, &MODES[..1], end);
        nothing_is_lost(WRITTEN, &MODES[..1], end);
    }
}

#[test]
fn with_files_that_the_kernel_writes_itself() {
    needs!(mount, passthrough);
    not_the_kernels!(WHY);
    let modes: &[Mode] = &[("FLUSH, OPENDIR", |setup| setup.option("io=passthrough"))];
    nothing_is_lost(MAPPED, modes, unmounted);
    nothing_is_lost(WRITTEN, modes, unmounted);
}

/// How long a server is kept from taking requests: long enough for a close and an unmount.
const STOPPED: Duration = Duration::from_millis(500);

/// A file that was written and closed was lost on Linux 5.10 if the server was too busy to take the
/// writes before the mount ended: there the kernel waits for them only if it may ask for FLUSH.
#[test]
fn closing_a_file_waits_for_a_busy_server() {
    needs!(mount);
    not_the_kernels!(WHY);
    for (mapped, option) in [(true, "writeback=0"), (false, "writeback=1")] {
        if !mapped && passthrough_everywhere() {
            continue;
        }
        let s = Scratch::new();
        s.lower(0).file("f", pattern(BEFORE, 1));
        let mut m = s.setup().option(option).mount();
        let file = open(m.path("f"));
        // Copied up, in the cache of the kernel, and nothing else has to be asked for.
        file.write_all_at(b"first", 0).unwrap();
        let map = Mapping::new(file.as_fd(), BEFORE, true).unwrap();
        assert!(map.read() == changed(0, b"first"));
        file.metadata().unwrap();
        let server = Pid::from_raw(m.pid().unwrap());
        kill(server, Signal::SIGSTOP).unwrap();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let goes_on = std::thread::spawn(move || {
            // From here on it needs no memory: unmapping holds the lock of ours while it waits.
            ready.send(()).unwrap();
            std::thread::sleep(STOPPED);
            kill(server, Signal::SIGCONT).unwrap();
        });
        is_ready.recv().unwrap();
        match mapped {
            true => map.write(0, b"stored"),
            false => file.write_all_at(b"stored", 0).unwrap(),
        }
        drop(map);
        drop(file);
        // A process that another test is just starting has for a moment what this one has open.
        let unmounted =
            wait_for(Duration::from_secs(20), || umount2(m.root(), MntFlags::empty()).is_ok());
        goes_on.join().unwrap();
        assert!(unmounted, "{option}: it stays mounted");
        m.unmount();
        let m = s.mount();
        assert!(fs::read(m.path("f")).unwrap() == changed(0, b"stored"), "{option}");
    }
}
