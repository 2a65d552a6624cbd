//! Runs the table of [`scenarios`] on the kernel and on ovlmerge.

use super::case::{Case, Scenario};
use super::pair::{Difference, Pair, can_run};
use super::scenarios;
use super::session::{Engine, Place};

/// All scenarios that make sense in this place, or those named in the environment.
pub fn selected(place: Place) -> impl Iterator<Item = &'static Scenario> {
    let only = std::env::var("OVLMERGE_ORACLE_ONLY").unwrap_or_default();
    // In a user namespace the kernel may not decode file handles, so it has no index and forgets
    // where a link came from; other users do not exist.
    let for_root = |name: &str| ["links ", "root: "].iter().any(|start| name.starts_with(start));
    let possible = move |name: &str| place == Place::Root || !for_root(name);
    scenarios::all()
        .filter(move |scenario| scenario.name.contains(&only) && possible(scenario.name))
}

/// The scenarios on which the two engines part, and where.
pub fn differing(place: Place, engines: [Engine; 2]) -> Vec<(&'static str, Difference)> {
    let mut pair = Pair::new(place, engines);
    let check = |scenario: &'static Scenario| {
        pair.check(&Case::from(scenario)).err().map(|difference| (scenario.name, difference))
    };
    selected(place).filter_map(check).collect()
}

fn kernel_and_ovlmerge(test: &str, place: Place) {
    if !can_run(test, place, &[Engine::Kernel]) {
        return;
    }
    let differing = differing(place, [Engine::Kernel, Engine::Ovlmerge]);
    let report: Vec<String> =
        differing.iter().map(|(name, difference)| format!("{name}: {difference}")).collect();
    let total = selected(place).count();
    assert!(report.is_empty(), "{} of {total} differ\n{}", report.len(), report.join("\n"));
}

#[test]
fn as_root() {
    kernel_and_ovlmerge("scripted::as_root", Place::Root);
}

#[test]
fn in_a_user_namespace() {
    kernel_and_ovlmerge("scripted::in_a_user_namespace", Place::Userns);
}

#[test]
fn names_are_unique_and_scripts_parse() {
    let mut seen = std::collections::HashSet::new();
    for scenario in scenarios::all() {
        assert!(seen.insert(scenario.name), "two scenarios are called {}", scenario.name);
        let case = Case::from(scenario);
        for op in case.lowers.iter().flatten().chain(&case.ops) {
            assert_eq!(op.to_string().parse(), Ok(op.clone()));
        }
    }
}
