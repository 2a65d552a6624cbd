//! The tools for layers, as a user calls them.

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

mod apply;
mod apply_limits;
mod archive;
mod call;
mod changes;
mod check;
mod check_links;
mod content;
mod convert;
mod deep;
mod diff;
mod disk;
mod hostile;
mod layer;
mod no_alarm;
mod progress;
mod readme;
mod reproducible;
mod round_trip;
mod stat;
mod umoci;
mod which;
mod work;
