//! The program `ovlmerge`, a wrapper of the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ovlmerge::cli::run(std::env::args_os())
}
