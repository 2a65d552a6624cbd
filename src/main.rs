//! The program `ovlmerge`. All that it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ovlmerge::cli::run(std::env::args_os())
}
