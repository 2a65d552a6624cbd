//! Each operation is given up before each of its mutating calls. Given up in time, it says EINTR
//! and has changed nothing that anybody sees; too late, it is carried out as if nothing had been.

use std::sync::Arc;

use ovlmerge::error::Errno;
use ovlmerge::sys::commit::{self, Commit};

use crate::cases::{CASES, Case};
use crate::cut::{self, Cut, Ran, Renames};
use crate::dirs::Dirs;
use crate::{Expected, Performed, explain, guarded, remounted, runs_here, tree, undisturbed};

/// Performs the case as a request that is given up before the mutating call `at`; and says whether
/// that was in time.
fn give_up(case: &Case, dirs: &Dirs, at: usize) -> (Ran<Performed>, Arc<Commit>, bool) {
    let commit = Arc::new(Commit::default());
    let (open, act, served) = (dirs.opener(), case.act, Arc::clone(&commit));
    let perform = move || {
        let client = open()?;
        commit::serve(&served);
        let done = act(&client);
        Ok((client, done))
    };
    let mut in_time = false;
    let ran = cut::run_seen(Cut::Never, Renames::All, perform, |call| {
        if call == at {
            in_time = commit.give_up();
        }
    });
    (ran, commit, in_time)
}

fn given_up(case: &Case, expected: &Expected, at: usize, wrong: &mut Vec<String>) -> bool {
    let dirs = Dirs::new(case.prepare);
    let (ran, commit, in_time) = give_up(case, &dirs, at);
    let call = expected.calls.get(at - 1);
    let mut complain = |text: String| {
        wrong.push(format!("{}: given up before call {at} ({call:?}): {text}", case.name));
    };
    let (client, done) = ran.result.unwrap();
    let wanted = if in_time { &expected.old } else { &expected.new };
    let shown = tree(&client);
    if shown != *wanted {
        complain(format!("{done:?}, and in the mount: {}", explain(&shown, expected)));
    }
    let said = done.map_err(|err| err.errno());
    if said != if in_time { Err(Errno::EINTR) } else { Ok(()) } {
        complain(format!("the operation says {said:?}"));
    }
    drop(client);
    assert_eq!(commit.is_given_up(), in_time);
    let now = remounted(&dirs);
    if now != *wanted {
        complain(format!("a remount shows {}", explain(&now, expected)));
    }
    in_time
}

/// Given up before it begins, and then tried again.
fn tried_again(case: &Case, expected: &Expected, wrong: &mut Vec<String>) {
    let dirs = Dirs::new(case.prepare);
    let (open, act) = (dirs.opener(), case.act);
    // The thread serves somebody for the rest of its life.
    let perform = std::thread::spawn(move || {
        let client = open().unwrap();
        let commit = Arc::new(Commit::default());
        commit::serve(&commit);
        assert!(commit.give_up());
        let refused = act(&client).map_err(|err| err.errno());
        commit.begin();
        let done = act(&client);
        (refused, done, tree(&client))
    });
    let (refused, done, shown) = perform.join().unwrap();
    if refused != Err(Errno::EINTR) || done.is_err() || shown != expected.new {
        let shown = explain(&shown, expected);
        wrong.push(format!("{}: {refused:?}, then {done:?} and {shown}", case.name));
    }
}

#[test]
fn what_is_given_up_in_time_never_happens() {
    if !runs_here("what_is_given_up_in_time_never_happens") {
        return;
    }
    let (mut wrong, mut in_time, mut too_late) = (Vec::new(), 0, 0);
    for case in CASES {
        let mut expected = None;
        guarded(case.name, &mut wrong, |wrong| {
            let undisturbed = undisturbed(case, Renames::All);
            tried_again(case, &undisturbed, wrong);
            expected = Some(undisturbed);
        });
        let Some(expected) = expected else { continue };
        for at in 1..=expected.calls.len() {
            let what = format!("{}, given up at call {at}", case.name);
            guarded(&what, &mut wrong, |wrong| match given_up(case, &expected, at, wrong) {
                true => in_time += 1,
                false => too_late += 1,
            });
        }
    }
    println!("{in_time} were given up in time, {too_late} too late");
    assert!(in_time > CASES.len() && too_late > CASES.len(), "{in_time} in time, {too_late} not");
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), in_time + too_late, wrong.join("\n"));
}
