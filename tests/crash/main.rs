//! Old or new: every operation is cut off before each of its mutating system calls, and the tree
//! has to be the one before it or the one after it. So too where a call finds the disk full.
//!
//! Three things may lie between. A directory's modification time: a copy-up puts it back by a call
//! of its own, as the kernel's does. A link count: the names of a hard link come up one by one, so
//! that a killed server can leave a file and an equal copy of it. And the modification time of a
//! file that gets its data from below in place, as in the kernel, for a write that follows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unreachable,
    missing_docs,
    unsafe_code
)]

#[path = "../tools/archive.rs"]
#[allow(dead_code)] // the other test that has it uses more of it
mod archive;
mod cases;
#[path = "../engine/client.rs"]
#[allow(dead_code)]
mod client;
mod cut;
mod dirs;
mod errors;
mod given_up;
mod tools;

use ovlmerge::error::{Errno, Error};

use cases::{AHEAD, CASES, Case};
use client::{Client, Seen, Tree};
use cut::{Cut, Ran, Renames};
use dirs::Dirs;

fn runs_here(test: &str) -> bool {
    let reason = if nix::unistd::geteuid().is_root() {
        match cut::works() {
            Ok(()) => return true,
            Err(why) => format!("needs seccomp notifications: {why}"),
        }
    } else {
        "needs root".into()
    };
    let strict = std::env::var_os("OVLMERGE_NO_SKIP").is_some_and(|value| value == "1");
    assert!(!strict, "{test} cannot run here: {reason}");
    println!("SKIPPED {test}: {reason}");
    false
}

/// A file that gets its data by the write that follows.
const STUB: &[u8] = b"/stub";

/// A tree without what may differ between two runs, or within one operation.
fn comparable(tree: Tree) -> Tree {
    let long_ago = |seen: &Seen| seen.mtime.0 < 1_000_000;
    tree.into_iter()
        .map(|(path, seen)| {
            let mtime = match &seen {
                _ if seen.kind.is_dir() || path.ends_with(STUB) => (0, 0),
                seen if long_ago(seen) => seen.mtime,
                _ => (i64::MAX, 0),
            };
            let size = if seen.kind.is_dir() { 0 } else { seen.size };
            (path, Seen { ino: 0, size, nlink: 0, mtime, ..seen })
        })
        .collect()
}

fn tree(client: &Client) -> Tree {
    comparable(client.tree().unwrap())
}

/// Mounts again, and sees that nothing of the last mount is left over.
fn remounted(dirs: &Dirs) -> Tree {
    let client = dirs.opener()().unwrap();
    assert_eq!(dirs.leftovers(), Vec::<String>::new(), "left in work");
    tree(&client)
}

struct Expected {
    renames: Renames,
    old: Tree,
    new: Tree,
    calls: Vec<i64>,
}

/// What a case does when nothing comes between.
fn undisturbed(case: &Case, renames: Renames) -> Expected {
    let dirs = Dirs::new(case.prepare);
    let old = remounted(&dirs);
    let Ran { result, calls } = perform(case, &dirs, Cut::Never, renames);
    let (client, done) = result.unwrap();
    done.unwrap_or_else(|err| panic!("{}: {err}", case.name));
    let new = tree(&client);
    drop(client);
    assert_eq!(remounted(&dirs), new, "{}: a remount shows something else", case.name);
    assert_ne!(old, new, "{}: nothing was changed", case.name);
    Expected { renames, old, new, calls }
}

type Performed = Result<(Client, Result<(), Error>), Error>;

fn perform(case: &Case, dirs: &Dirs, cut: Cut, renames: Renames) -> Ran<Performed> {
    let (open, act) = (dirs.opener(), case.act);
    cut::run(cut, renames, move || {
        let client = open()?;
        let done = act(&client);
        Ok((client, done))
    })
}

fn crash(case: &Case, expected: &Expected, at: usize, wrong: &mut Vec<String>) {
    let dirs = Dirs::new(case.prepare);
    let call = expected.calls[at - 1];
    let Ran { result, .. } = perform(case, &dirs, Cut::From(at), expected.renames);
    let done = result.map(|(client, done)| {
        drop(client);
        done
    });
    let now = remounted(&dirs);
    let finished = matches!(done, Ok(Ok(())));
    if now != expected.new && (finished || now != expected.old) {
        wrong.push(format!(
            "{}: killed before call {at} ({call}): {}",
            case.name,
            explain(&now, expected)
        ));
    }
}

fn full_disk(case: &Case, expected: &Expected, at: usize, wrong: &mut Vec<String>) {
    let dirs = Dirs::new(case.prepare);
    let call = expected.calls[at - 1];
    let mut complain = |text: String| {
        wrong.push(format!("{}: ENOSPC from call {at} ({call}): {text}", case.name));
    };
    let Ran { result, .. } = perform(case, &dirs, Cut::NoSpaceAt(at), expected.renames);
    let (client, done) = match result {
        Ok(opened) => opened,
        Err(err) => {
            if err.errno() != Errno::ENOSPC {
                complain(format!("opening the layers says {err:?}"));
            }
            (dirs.opener()().unwrap(), Err(err))
        }
    };
    let wanted = if done.is_ok() { &expected.new } else { &expected.old };
    if let Err(err) = &done
        && err.errno() != Errno::ENOSPC
    {
        complain(format!("the operation says {err:?}"));
    }
    let now = tree(&client);
    if now != *wanted {
        complain(format!("{done:?}, and in the mount: {}", explain(&now, expected)));
    }
    if done.is_err() {
        // The disk has room again.
        match (case.act)(&client) {
            Ok(()) if tree(&client) == expected.new => {}
            Ok(()) => complain(format!("tried again: {}", explain(&tree(&client), expected))),
            Err(err) => complain(format!("tried again: {err:?}")),
        }
    }
    drop(client);
    let now = remounted(&dirs);
    if now != expected.new {
        complain(format!("after trying again and a remount: {}", explain(&now, expected)));
    }
}

fn explain(now: &Tree, expected: &Expected) -> String {
    if *now == expected.old {
        return "the old tree".into();
    }
    if *now == expected.new {
        return "the new tree".into();
    }
    let mut lines = vec!["neither tree".to_owned()];
    for path in now.keys().chain(expected.old.keys()).chain(expected.new.keys()) {
        let (is, old, new) = (now.get(path), expected.old.get(path), expected.new.get(path));
        let line = format!("    /{}: {is:?}; old {old:?}; new {new:?}", path.escape_ascii());
        if (is != old || is != new) && !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// An operation that panics or hangs is a finding of its own.
fn guarded(what: &str, wrong: &mut Vec<String>, run: impl FnOnce(&mut Vec<String>)) {
    let mut found = Vec::new();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut found)));
    wrong.append(&mut found);
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        wrong.push(format!("{what}: {text}"));
    }
}

type Examine = fn(&Case, &Expected, usize, &mut Vec<String>);

fn every_cut(test: &str, renames: Renames, run: Examine) {
    if !runs_here(test) {
        return;
    }
    let mut wrong = Vec::new();
    let mut cuts = 0;
    // Nothing can stand for an exchange that users ask for.
    let possible = |case: &&Case| renames == Renames::All || !case.name.starts_with("exchange");
    for case in CASES.iter().filter(possible) {
        let mut expected = None;
        guarded(case.name, &mut wrong, |_| expected = Some(undisturbed(case, renames)));
        let Some(expected) = expected else { continue };
        for at in 1..=expected.calls.len() {
            let what = format!("{}, cut at call {at} ({})", case.name, expected.calls[at - 1]);
            guarded(&what, &mut wrong, |wrong| run(case, &expected, at, wrong));
            cuts += 1;
        }
    }
    assert!(cuts > 10 * CASES.len(), "only {cuts} cuts: are the calls still seen?");
    assert!(wrong.is_empty(), "{} of {cuts}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_killed_server_leaves_the_old_tree_or_the_new_one() {
    every_cut("a_killed_server_leaves_the_old_tree_or_the_new_one", Renames::All, crash);
}

#[test]
fn a_full_disk_leaves_the_old_tree_and_a_usable_mount() {
    every_cut("a_full_disk_leaves_the_old_tree_and_a_usable_mount", Renames::All, full_disk);
}

/// On NFS, 9p and some FUSE servers, what one rename does elsewhere takes several steps.
#[test]
fn killed_where_renames_know_no_flags() {
    every_cut("killed_where_renames_know_no_flags", Renames::WithoutFlags, crash);
}

/// Between the last change of a file's data and the rename that shows the copy the data is forced
/// to the disk, whether the file is copied alone or with others.
#[test]
fn what_is_published_is_on_the_disk() {
    if !runs_here("what_is_published_is_on_the_disk") {
        return;
    }
    let mut copies = 0;
    for case in [AHEAD, alone()] {
        let mut written = false;
        for call in undisturbed(&case, Renames::All).calls {
            match call {
                libc::SYS_copy_file_range | libc::SYS_ftruncate => written = true,
                libc::SYS_fsync | libc::SYS_syncfs => written = false,
                libc::SYS_renameat2 => {
                    assert!(!written, "{}: published before it was forced out", case.name);
                    copies += 1;
                }
                _ => {}
            }
        }
    }
    assert!(copies >= 5, "only {copies} renames: are the calls still seen?");
}

/// The first change of a file.
fn alone() -> Case {
    *CASES.iter().find(|case| case.name == "chmod of a lower file").unwrap()
}
