//! The POSIX suites of others, on the mount: pjdfstest for what each system call must do, fsx for
//! the data of a file under a long random sequence of operations.

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

mod fsx;
mod kernel;
mod pjdfstest;
mod report;
mod tool;
