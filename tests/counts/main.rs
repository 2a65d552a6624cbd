//! FUSE requests and system calls of the server for one operation: counted, not timed.
//!
//! The table in `src/docs/performance.md` is the limit. What costs more fails; what costs less is
//! printed, so that the table can be lowered to it.
//!
//! * [`scene`]: a client in a user namespace of its own, as rootless containers are;
//! * [`trace`]: strace on the server, and what it saw;
//! * [`table`]: the table, read and written.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unreachable,
    missing_docs
)]

#[path = "../support/mod.rs"]
mod support;

mod scene;
mod table;
mod trace;

use std::fmt::Write;

use scene::Scene;
use support::Scratch;
use table::{Costs, Row, documented};

#[test]
fn nothing_costs_more_than_the_table_says() {
    needs!(root, fuse, userns);
    not_the_kernels!("it has no server");
    for program in ["strace", "python3", "unshare", "tar"] {
        if !support::need::program(test_name!(), program) {
            return;
        }
    }
    let limits = documented();
    let scratch = Scratch::new();
    let mut scene = Scene::build(scratch.base().root());
    let measured: Vec<_> = scene.operations().iter().map(|name| scene.measure(name)).collect();
    let mut worse = String::new();
    for row in &measured {
        match limits.iter().find(|limit| limit.operation == row.operation) {
            Some(limit) => judge(row, limit, &mut worse),
            None => writeln!(worse, "{} is not in the table", row.operation).unwrap(),
        }
    }
    for limit in &limits {
        if !measured.iter().any(|row| row.operation == limit.operation) {
            writeln!(worse, "{} is in the table, but not measured", limit.operation).unwrap();
        }
    }
    println!("{}", table::render(&measured));
    assert!(worse.is_empty(), "{worse}\nmeasured:\n{}", table::render(&measured));
}

fn judge(row: &Row, limit: &Row, worse: &mut String) {
    let pairs = [(&row.requests, &limit.requests), (&row.calls, &limit.calls)];
    for (found, limit) in pairs {
        for (name, count) in found.above(limit) {
            let text = format!("{}: {name} {count:.2}, not {:.2}", row.operation, limit.of(name));
            writeln!(worse, "{text}").unwrap();
        }
        for (name, count) in limit.above(found) {
            println!(
                "can be lowered: {}: {name} {count:.2} to {:.2}",
                row.operation,
                found.of(name)
            );
        }
    }
}

/// Not a measurement: that the comparison would notice.
#[test]
fn what_is_above_a_limit_is_found() {
    let limit = Costs::parse("LOOKUP 1.00, READ 0.50").unwrap();
    let worse = |text: &str| Costs::parse(text).unwrap().above(&limit).len();
    assert_eq!(worse("LOOKUP 1.00, READ 0.50"), 0);
    assert_eq!(worse("none"), 0);
    assert_eq!(worse("LOOKUP 1.10, READ 0.50"), 1);
    assert_eq!(worse("LOOKUP 1.00, READ 0.50, GETATTR 1.00"), 1);
    assert_eq!(worse("GETATTR 0.01"), 0, "the one GETATTR of a root");
}
