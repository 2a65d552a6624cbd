//! The log: where it goes, and how much is logged.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::complain;

/// The variables with the filter of the log, in the syntax of `RUST_LOG`. The first set counts.
const FILTERS: [&str; 2] = ["OVLMERGE_LOG", "RUST_LOG"];

/// The variables with the path of a log file. It gets full detail, unless a filter is set. The
/// second is one of fuse-overlayfs.
const FILES: [&str; 2] = ["OVLMERGE_LOG_FILE", "FUSE_OVERLAYFS_DEBUG_LOG"];

/// Starts logging, to stderr or to a file, whose descriptor is returned. Logs warnings, or
/// everything with `debug` or a file, unless the environment sets a filter.
pub fn start(debug: bool) -> Option<RawFd> {
    let file = file();
    let fd = file.as_ref().map(AsRawFd::as_raw_fd);
    // The statistics that SIGUSR1 asks for are always wanted.
    let default = if debug || file.is_some() { "debug" } else { "warn,statistics=info" };
    let colours = file.is_none() && std::io::stderr().is_terminal();
    let writer = match file {
        Some(file) => BoxMakeWriter::new(Mutex::new(file)),
        None => BoxMakeWriter::new(std::io::stderr),
    };
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter(default))
        .with_writer(writer)
        .with_ansi(colours)
        .try_init();
    if let Err(err) = started {
        complain(format_args!("logging cannot start: {err}"));
    }
    fd
}

fn filter(default: &str) -> EnvFilter {
    let set = FILTERS.iter().find_map(|name| Some((name, std::env::var(name).ok()?)));
    let Some((name, wanted)) = set else {
        return EnvFilter::new(default);
    };
    EnvFilter::try_new(&wanted).unwrap_or_else(|err| {
        complain(format_args!("{name}={wanted} is not a filter: {err}"));
        EnvFilter::new(default)
    })
}

/// The log file, if one is wanted and can be opened.
fn file() -> Option<File> {
    let set = FILES.iter().find_map(|name| Some((name, std::env::var_os(name)?)));
    let (name, path) = set.filter(|(_, path)| !path.is_empty())?;
    match File::options().append(true).create(true).open(&path) {
        Ok(file) => Some(file),
        Err(err) => {
            complain(format_args!("{name}={}: {err}; logging to stderr", path.display()));
            None
        }
    }
}
