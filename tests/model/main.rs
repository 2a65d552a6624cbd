//! Random layers and random operations on the engine and on a reference of overlay semantics, with
//! a full comparison after each operation and after a remount. No FUSE, no mount.
//!
//! `OVLMERGE_MODEL_CASES` says how many cases each test runs, `OVLMERGE_MODEL_SEED` (a number)
//! which. One that fails is shrunk and printed; it belongs into [`regression`].
//!
//! Hard links of a layer: names that were looked up before a copy-up stay one file, also after a
//! remount; of others the remount shows the old contents. So these cases forget nothing
//! ([`run::Memory::Everything`]), and those that forget have no hard links in their layers.
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

mod audit;
#[path = "../engine/client.rs"]
#[allow(dead_code)]
mod client;
mod disk;
mod op;
mod regression;
mod run;
mod snapshot;
mod spec;
mod tree;
mod which;

use proptest::collection::vec;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use ovlmerge::config::Permissions;

use crate::run::{Memory, Renames};

/// Owners, devices and trusted attributes take root.
pub fn runs_here(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    let strict = std::env::var_os("OVLMERGE_NO_SKIP").is_some_and(|value| value == "1");
    assert!(!strict, "{test} needs root");
    println!("SKIPPED {test}: needs root");
    false
}

fn random(test: &str, memory: Memory, renames: Renames) {
    random_kept(test, memory, renames, Permissions::Inode);
}

fn random_kept(test: &str, memory: Memory, renames: Renames, kept: Permissions) {
    if !runs_here(test) {
        return;
    }
    let cases = std::env::var("OVLMERGE_MODEL_CASES").ok();
    let cases = cases.map_or(5000, |cases| cases.parse().unwrap());
    // The same cases each run, so that a change is judged by what it changes.
    let seed = std::env::var("OVLMERGE_MODEL_SEED").map_or(1, |seed| seed.parse().unwrap());
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let strategy = (spec::layers(true), vec(op::op(), 0..13));
    let result = TestRunner::new(config).run(&strategy, |(layers, ops)| {
        run::run_kept(&layers, &ops, memory, renames, kept).map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, (layers, ops))) => panic!("{why}\n{layers:?}\n{ops:?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

#[test]
fn random_operations_on_nodes_that_stay_known() {
    let test = "random_operations_on_nodes_that_stay_known";
    random(test, Memory::Everything, Renames::Copy);
}

#[test]
fn random_operations_on_nodes_that_are_forgotten() {
    let test = "random_operations_on_nodes_that_are_forgotten";
    random(test, Memory::Nothing, Renames::Copy);
}

#[test]
fn random_operations_with_owners_in_attributes() {
    let test = "random_operations_with_owners_in_attributes";
    random_kept(test, Memory::Everything, Renames::Copy, Permissions::UserXattr);
}

#[test]
fn random_operations_with_redirects() {
    random("random_operations_with_redirects", Memory::Everything, Renames::Redirect);
}

#[test]
fn random_operations_with_redirects_on_nodes_that_are_forgotten() {
    let test = "random_operations_with_redirects_on_nodes_that_are_forgotten";
    random(test, Memory::Nothing, Renames::Redirect);
}

#[test]
fn random_operations_without_renames_of_lower_directories() {
    let test = "random_operations_without_renames_of_lower_directories";
    random(test, Memory::Everything, Renames::Off);
}
