//! Bad input: what is wrong must be named, with the way out, and nothing may be half made.

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

mod access;
mod busy;
mod device;
mod disk;
mod effects;
mod environment;
mod generate;
mod labels;
mod layers;
mod mount8;
mod names;
mod overlap;
mod passed;
mod privilege;
mod refusal;
mod traffic;
mod umount;
mod usage;
mod vanishing;
