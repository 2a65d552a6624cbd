//! ovlmerge beside the kernel's overlayfs, which is the oracle: the same operations on identical
//! layers must give the same results, the same merged tree and the same upper.
//!
//! * [`scripted`]: a table of scenarios, each a few lines of text ([`op`]);
//! * [`random`]: sequences from proptest; one that fails is shrunk and printed as a scenario;
//! * [`takeover`]: an upper written by one engine and mounted by the other;
//! * [`calibration`]: the kernel beside itself (no differences) and beside a program with known
//!   defects (differences), so that the oracle itself is known to see.
//!
//! [`documented`] lists what may differ, and why. Everything runs twice, as root and as root of a
//! user namespace with `userxattr`, in processes of their own ([`executor`]).
//!
//! Environment: `OVLMERGE_ORACLE_CASES` (random sequences a test), `OVLMERGE_ORACLE_SEED` (repeats
//! a run), `OVLMERGE_ORACLE_ONLY` (part of a scenario's name), `OVLMERGE_NO_SKIP` (a machine that
//! cannot run a test fails it).
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

mod calibration;
mod case;
mod crafted;
mod documented;
mod executor;
mod moved;
mod op;
mod pair;
mod random;
#[path = "../support/release.rs"]
#[allow(dead_code)] // other targets use more of it
mod release;
mod runner;
mod scenarios;
mod scripted;
mod session;
mod takeover;
mod tree;
mod word;
