//! The data gate: a SQLite database in WAL mode, mapped and written by several processes, that
//! begins in a lower layer. Peers have lost data here.

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

#[path = "../support/mod.rs"]
mod support;

mod sqlite;
