//! An upper written by one engine, mounted by the other: the same tree, in both directions.

use super::case::{Case, Links};
use super::pair::{Difference, can_run};
use super::random;
use super::scripted::selected;
use super::session::{Engine, Place, Session};
use super::tree::Tree;

fn same(what: &str, before: &Tree, after: &Tree) -> Result<(), Difference> {
    let differences = before.differences(after);
    if differences.is_empty() {
        return Ok(());
    }
    Err(format!("{what}:\n    {}", differences.join("\n    ")))
}

/// The first half of the operations on one engine, the second half on the other, and each looks at
/// what its predecessor left.
fn hand_over(session: &mut Session, case: &Case, engines: [Engine; 2]) -> Result<(), Difference> {
    session.build(&case.layers())?;
    let (first, second) = case.ops.split_at(case.ops.len() / 2);
    session.mount(engines[0])?;
    for (ops, next) in [(first, engines[1]), (second, engines[0])] {
        for op in ops {
            session.send(&op.to_string())?;
            session.receive()?;
        }
        let left = session.merged()?;
        session.unmount()?;
        session.mount(next)?;
        same(&format!("what {next:?} sees of its predecessor's"), &left, &session.merged()?)?;
    }
    session.unmount()
}

/// Hands the case over, in a session that is replaced after a difference.
fn check(
    session: &mut Option<Session>,
    place: Place,
    case: &Case,
    engines: [Engine; 2],
) -> Result<(), Difference> {
    let mut current = match session.take() {
        Some(session) => session,
        None => Session::start(place)?,
    };
    hand_over(&mut current, case, engines)?;
    *session = Some(current);
    Ok(())
}

const DIRECTIONS: [[Engine; 2]; 2] =
    [[Engine::Kernel, Engine::Ovlmerge], [Engine::Ovlmerge, Engine::Kernel]];

fn both_directions(test: &str, place: Place) {
    hand_over_all(test, place, &DIRECTIONS);
}

/// Runs everything in each of these orders.
pub fn hand_over_all(test: &str, place: Place, directions: &[[Engine; 2]]) {
    if !can_run(test, place, &[Engine::Kernel]) {
        return;
    }
    let mut session = None;
    let mut report = Vec::new();
    for scenario in selected(place) {
        let case = Case::from(scenario);
        // Without an index on both sides names of one file are counted differently.
        let with_links = |pair: &[Engine; 2]| pair.map(|engine| engine.with_links(case.links));
        let changes = |engine: &Engine| engine.with_links(case.links) != *engine;
        let fit = |pair: &&[Engine; 2]| case.links != Links::InLower || pair.iter().all(changes);
        for engines in directions.iter().filter(fit).map(with_links) {
            if let Err(difference) = check(&mut session, place, &case, engines) {
                report.push(format!("{}: {engines:?}: {difference}", scenario.name));
            }
        }
    }
    assert!(report.is_empty(), "{} differ\n{}", report.len(), report.join("\n"));
    for engines in directions.iter().copied() {
        random::search(test, place, Links::None, 20, |case| {
            check(&mut session, place, case, engines)
        });
    }
}

#[test]
fn as_root() {
    both_directions("takeover::as_root", Place::Root);
}

#[test]
fn in_a_user_namespace() {
    both_directions("takeover::in_a_user_namespace", Place::Userns);
}

/// Hard links of lowers without an index.
#[test]
fn of_names_apart() {
    for place in [Place::Root, Place::Userns] {
        let test = "takeover::of_names_apart";
        if !can_run(test, place, &[Engine::Kernel]) {
            return;
        }
        let mut session = None;
        for engines in DIRECTIONS {
            random::search(test, place, Links::Apart, 20, |case| {
                check(&mut session, place, case, engines)
            });
        }
    }
}

/// Hard links of lowers, kept together by an index that both go on with.
#[test]
fn of_the_index() {
    let test = "takeover::of_the_index";
    if !can_run(test, Place::Root, &[Engine::Kernel]) {
        return;
    }
    let mut session = None;
    for engines in DIRECTIONS.map(|pair| pair.map(|engine| engine.with_links(Links::InLower))) {
        random::search(test, Place::Root, Links::InLower, 20, |case| {
            check(&mut session, Place::Root, case, engines)
        });
    }
}
