//! The style of the sources, as far as a program can check it.
//!
//! * [`source`]: finds the files, and tells code from comments, strings and unit tests;
//! * [`checks`]: one function for each rule, each with a test that it would catch a violation;
//! * [`modules`]: which module may use which;
//! * [`circles`]: files of one folder that use one another;
//! * [`named`]: the tests that documents name exist;
//! * [`options`]: every mount option has a test that shows its effect.
//!
//! Sizes have exceptions, named below with their reasons. One that is no longer needed fails, so
//! the lists only get shorter by themselves.
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

mod checks;
mod circles;
mod modules;
mod named;
mod options;
mod source;

use checks::{Exception, Violation};
use circles::Circle;
use source::Source;

/// Files that may be longer than [`checks::FILE_LINES`].
const LONG_FILES: &[Exception] = &[];

/// Functions that may be longer than [`checks::FUNCTION_LINES`].
const LONG_FUNCTIONS: &[Exception] = &[];

/// Circles of imports that there are.
const CIRCLES: &[Circle] = &[
    Circle {
        folder: "src/cli",
        files: &[
            "copying",
            "durability",
            "libfuse",
            "lowers",
            "numbers",
            "options",
            "owners",
            "renames",
            "request",
            "table",
        ],
        reason: "a row of the table of options changes a request, which looks options up there",
    },
    Circle {
        folder: "src/fuse",
        files: &["handler", "held_up", "tell"],
        reason: "what the handler has for hung requests and questions, and its methods about them",
    },
    Circle {
        folder: "src/layer",
        files: &["dir", "grants"],
        reason: "a directory is reached by rights to it, whose note tells the path of a directory",
    },
    Circle {
        folder: "src/layer",
        files: &["link_index", "upper"],
        reason: "the upper has an index, whose entries are objects of the upper",
    },
    Circle {
        folder: "src/merge",
        files: &["trace", "which"],
        reason: "the search for the layers of a path, and the types of its answer",
    },
    Circle {
        folder: "src/vfs/nodes",
        files: &["locks", "node", "place"],
        reason: "a node has names, each of which holds the node of its directory, behind locks",
    },
];

/// Runs a check over the files for which `wanted` holds and fails with all that it found.
fn check(wanted: impl Fn(&Source) -> bool, rule: impl Fn(&Source) -> Vec<Violation>) {
    let sources = source::all();
    let found: Vec<Violation> = sources.iter().filter(|s| wanted(s)).flat_map(rule).collect();
    report(&found);
}

fn report(found: &[Violation]) {
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{} violations:\n{}", lines.len(), lines.join("\n"));
}

fn everything(_: &Source) -> bool {
    true
}

#[test]
fn all_sources_are_seen() {
    let sources = source::all();
    for path in ["src/lib.rs", "src/main.rs", "src/sys/at.rs", "tests/tidy/main.rs"] {
        assert!(sources.iter().any(|s| s.path == path), "{path} was not found");
    }
    assert!(sources.iter().any(|s| s.only_tests), "no file of unit tests was found");
}

#[test]
fn lines_are_short() {
    check(everything, checks::long_lines);
}

#[test]
fn files_are_short() {
    report(&checks::long_files(&source::all(), LONG_FILES));
}

#[test]
fn functions_are_short() {
    report(&checks::long_functions(&source::all(), LONG_FUNCTIONS));
}

#[test]
fn unsafe_is_in_sys_alone() {
    check(Source::is_product, checks::unsafe_outside_sys);
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    check(Source::is_product, checks::unsafe_without_reason);
}

#[test]
fn no_result_is_dropped_without_a_word() {
    check(Source::is_product, checks::dropped_results);
}

#[test]
fn nothing_panics_on_purpose() {
    check(Source::is_product, checks::unwraps);
}

#[test]
fn descriptors_come_through_the_gate() {
    check(Source::is_product, checks::descriptors_past_the_gate);
}

#[test]
fn a_request_that_was_given_up_changes_nothing() {
    check(Source::is_product, checks::changes_past_the_commit);
}

#[test]
fn nothing_but_a_layer_gives_the_right_to_change_it() {
    check(Source::is_product, checks::rights_to_change);
}

#[test]
fn each_doc_comment_can_be_read_alone() {
    check(Source::is_product, checks::docs_that_lean);
}

#[test]
fn modules_use_only_what_is_below_them() {
    check(Source::is_product, modules::upward_uses);
}

#[test]
fn rooms_use_nothing_around_them() {
    check(Source::is_product, modules::uses_around_rooms);
}

#[test]
fn no_circle_of_imports_is_new() {
    report(&circles::unknown(&source::all(), CIRCLES));
}

#[test]
fn no_path_of_some_machine() {
    check(Source::is_product, checks::machine_paths);
}

#[test]
fn every_file_says_what_it_is_for() {
    check(Source::is_product, checks::missing_head);
}

/// The tables of marks, of findings and of programs say of each row which test proves it.
#[test]
fn every_test_that_the_documents_name_exists() {
    for page in ["format", "semantics", "tools", "performance", "manual"] {
        let path = &format!("src/docs/{page}.md");
        let full = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = std::fs::read_to_string(full).unwrap();
        report(&named::missing_tests(path, &text, &source::all()));
    }
}

#[test]
fn every_mount_option_has_a_test_that_shows_its_effect() {
    report(&options::unlisted());
    report(&options::unproved(&source::all()));
}
