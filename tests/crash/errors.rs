//! Each call of an operation fails once, those that only look included, as they do without memory,
//! without descriptors, or on a bad disk. What the mount shows afterwards is what the layers hold,
//! and what failed works when it is tried again: an error is no fact that anybody may remember.

use ovlmerge::error::Errno;

use crate::cases::{CASES, Case, LOOKS};
use crate::client::Client;
use crate::cut::{self, Cut, Renames};
use crate::dirs::Dirs;
use crate::{Expected, explain, guarded, perform, remounted, runs_here, tree, undisturbed};

/// How many calls opening the layers takes, and how many with the operation.
fn calls(case: &Case) -> (usize, usize) {
    let dirs = Dirs::new(case.prepare);
    let open = dirs.opener();
    let opening =
        cut::run(Cut::ErrorAt(usize::MAX, 0), Renames::All, move || drop(open().unwrap()));
    let dirs = Dirs::new(case.prepare);
    let all = perform(case, &dirs, Cut::ErrorAt(usize::MAX, 0), Renames::All);
    (opening.calls.len(), all.calls.len())
}

/// A bad disk, no memory, no room for a descriptor.
const ERRORS: [i32; 3] = [libc::EIO, libc::ENOMEM, libc::EMFILE];

/// One of them for each call, another one for the same call of another case.
fn error_of(case: &Case, at: usize) -> i32 {
    ERRORS[(at + case.name.len()) % ERRORS.len()]
}

/// Performs the case, in which one call fails; the call, and what the operation said.
fn failing(case: &Case, dirs: &Dirs, at: usize) -> Option<(i64, Client, Result<(), Errno>)> {
    let ran = perform(case, dirs, Cut::ErrorAt(at, error_of(case, at)), Renames::All);
    let call = ran.calls.get(at - 1).copied()?;
    let (client, done) = ran.result.ok()?;
    Some((call, client, done.map_err(|err| err.errno())))
}

fn one_error(case: &Case, expected: &Expected, at: usize, wrong: &mut Vec<String>) {
    let dirs = Dirs::new(case.prepare);
    let Some((call, client, done)) = failing(case, &dirs, at) else { return };
    let mut complain = |text: String| {
        let error = error_of(case, at);
        wrong.push(format!("{}: {error} from call {at} ({call}), {done:?}: {text}", case.name));
    };
    let mut shown = tree(&client);
    if done.is_ok() && shown != expected.new {
        complain(format!("in the mount: {}", explain(&shown, expected)));
    }
    if done.is_err() && shown != expected.new {
        if shown != expected.old {
            complain(format!("in the mount: {}", explain(&shown, expected)));
        }
        match (case.act)(&client) {
            Ok(()) => {}
            Err(err) => complain(format!("tried again: {err:?}")),
        }
        shown = tree(&client);
        if shown != expected.new {
            complain(format!("after trying again: {}", explain(&shown, expected)));
        }
    }
    drop(client);
    let now = remounted(&dirs);
    if now != shown {
        complain(format!("a remount shows {}", explain(&now, expected)));
    }
}

#[test]
fn an_error_in_a_change_leaves_no_lie_behind() {
    if !runs_here("an_error_in_a_change_leaves_no_lie_behind") {
        return;
    }
    let mut wrong = Vec::new();
    let mut errors = 0;
    for case in CASES {
        let mut prepared = None;
        guarded(case.name, &mut wrong, |_| {
            prepared = Some((undisturbed(case, Renames::All), calls(case)));
        });
        let Some((expected, (opening, all))) = prepared else { continue };
        for at in opening + 1..=all {
            let what = format!("{}, {} from call {at}", case.name, error_of(case, at));
            guarded(&what, &mut wrong, |wrong| one_error(case, &expected, at, wrong));
            errors += 1;
        }
    }
    assert!(errors > 15 * CASES.len(), "only {errors} errors: are the calls still seen?");
    assert!(wrong.is_empty(), "{} of {errors}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn an_error_in_a_look_is_not_remembered() {
    if !runs_here("an_error_in_a_look_is_not_remembered") {
        return;
    }
    let mut wrong = Vec::new();
    let mut errors = 0;
    for case in LOOKS {
        let dirs = Dirs::new(case.prepare);
        let there = remounted(&dirs);
        let (opening, all) = calls(case);
        for at in opening + 1..=all {
            let dirs = Dirs::new(case.prepare);
            let Some((call, client, done)) = failing(case, &dirs, at) else { continue };
            errors += 1;
            let shown = tree(&client);
            if shown != there {
                let differs = |path: &&Vec<u8>| shown.get(*path) != there.get(*path);
                let path = there.keys().find(differs);
                wrong.push(format!(
                    "{}: {} from call {at} ({call}), {done:?}; afterwards {path:?} is {:?}",
                    case.name,
                    error_of(case, at),
                    path.and_then(|path| shown.get(path))
                ));
            }
        }
    }
    assert!(errors > 20, "only {errors} errors: are the calls still seen?");
    assert!(wrong.is_empty(), "{} of {errors}:\n{}", wrong.len(), wrong.join("\n"));
}
