//! Where the log goes and how much of it there is.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::complain;

/// The variable that sets what is logged, in the syntax of `RUST_LOG`.
const VARIABLE: &str = "OVLMERGE_LOG";

/// Starts logging to stderr: warnings, everything with `debug`, or what the environment says.
pub fn start(debug: bool) {
    let default = if debug { "debug" } else { "warn" };
    let filter = match std::env::var(VARIABLE) {
        Ok(wanted) => EnvFilter::try_new(&wanted).unwrap_or_else(|err| {
            complain(format_args!("{VARIABLE}={wanted} is not a filter: {err}"));
            EnvFilter::new(default)
        }),
        Err(_) => EnvFilter::new(default),
    };
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    if let Err(err) = started {
        complain(format_args!("logging cannot start: {err}"));
    }
}
