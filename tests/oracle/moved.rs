//! Directories of lowers that move, beside the kernel's `redirect_dir=on`: by redirects, where the
//! uppers have to be the same too, and by copying, where the merged trees have to be.

use super::case::Links;
use super::pair::can_run;
use super::random;
use super::scripted::differing;
use super::session::{Engine, Place};
use super::takeover::hand_over_all;

fn beside_the_kernel(test: &str, ours: Engine) {
    if !can_run(test, Place::Root, &[Engine::KernelRedirect]) {
        return;
    }
    let engines = [Engine::KernelRedirect, ours];
    let report: Vec<String> = differing(Place::Root, engines)
        .iter()
        .filter(|(name, _)| !name.starts_with("links "))
        .map(|(name, difference)| format!("{name}: {difference}"))
        .collect();
    assert!(report.is_empty(), "{} differ\n{}", report.len(), report.join("\n"));
    random::compare(test, Place::Root, engines, Links::None, 60);
    random::compare_moves(test, engines, 150);
}

#[test]
fn by_redirects() {
    beside_the_kernel("moved::by_redirects", Engine::OvlmergeRedirect);
}

#[test]
fn by_copying() {
    beside_the_kernel("moved::by_copying", Engine::OvlmergeCopy);
}

#[test]
fn uppers_with_redirects_are_taken_over() {
    let (kernel, ours) = (Engine::KernelRedirect, Engine::OvlmergeRedirect);
    let test = "moved::uppers_with_redirects_are_taken_over";
    hand_over_all(test, Place::Root, &[[kernel, ours], [ours, kernel]]);
    // What redirects have moved is moved once more, by copying.
    hand_over_all(test, Place::Root, &[[kernel, Engine::OvlmergeCopy]]);
}

#[test]
fn uppers_of_copies_are_taken_over() {
    let test = "moved::uppers_of_copies_are_taken_over";
    for place in [Place::Root, Place::Userns] {
        hand_over_all(test, place, &[[Engine::OvlmergeCopy, Engine::Kernel]]);
    }
}
