//! The command line: reads it, goes to the background, and says what went wrong.
//!
//! Reading path: [`args`] cuts the command line, [`request`] collects the mount options that
//! [`table`] lists, [`daemon`] serves the mount that they describe.

pub mod args;
pub mod called;
mod contradictions;
mod copying;
mod daemon;
mod demo;
mod durability;
pub mod escape;
mod generate;
pub mod help;
pub mod helper;
mod libfuse;
mod log;
mod lowers;
pub mod numbers;
mod options;
pub mod owners;
pub mod remount;
mod renames;
pub mod request;
mod suggest;
pub mod table;
#[cfg(test)]
mod tests;
pub mod tools;

use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use args::{Call, Subcommand};
use called::Called;

/// The outcome of the program, which is its exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All was done.
    Done,
    /// Something failed.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// `ovlmerge check` found a fault, or `ovlmerge which` got a path that shows nothing.
    Findings,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::Usage => Self::from(2),
            Exit::Findings => Self::from(3),
        }
    }
}

/// Runs a command line, which begins with the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let called = Called::by(args.first().map(OsString::as_os_str));
    let own = args.get(1..).unwrap_or_default();
    if called.is_helper {
        return help_mount(called, own).into();
    }
    let exit = match args::subcommand(own) {
        Some((Subcommand::Demo, rest)) => demo::run(rest),
        Some((Subcommand::Generate, rest)) => generate::run(rest),
        Some((Subcommand::Tool(tool), rest)) => tools::run(tool, rest),
        None => mount(&called, args, false),
    };
    exit.into()
}

/// Runs as a helper of mount(8).
fn help_mount(mut called: Called, args: &[OsString]) -> Exit {
    let call = match helper::read(args) {
        Ok(call) => call,
        Err(err) => {
            complain(err);
            return Exit::Usage;
        }
    };
    if let Some(file_system) = call.file_system {
        called.file_system = file_system;
    }
    let mut words = vec![OsString::from("ovlmerge")];
    words.extend(call.args);
    mount(&called, words, call.fake)
}

/// Mounts. With `fake` it only reports errors in the command line.
fn mount(called: &Called, args: Vec<OsString>, fake: bool) -> Exit {
    if args.len() < 2 {
        complain("nothing to do: try `ovlmerge demo`, or `ovlmerge --help`");
        return Exit::Usage;
    }
    let meant = args::nearly_a_subcommand(args.get(1..).unwrap_or_default());
    let matches = match called.name(args::command()).try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(answer) => return show(&answer),
    };
    let call = match args::read(&matches, &called.file_system, complain) {
        Ok(call) => call,
        Err(err) => {
            complain(err);
            match meant {
                Some(word) => complain(format!("did you mean `ovlmerge {word}`?")),
                None => complain("see `ovlmerge --help` for all options"),
            }
            return Exit::Usage;
        }
    };
    if fake {
        return Exit::Done;
    }
    let mount = match call {
        Call::Mount(mount) => mount,
        Call::Remount(remount) => return remount.run(),
    };
    let log = log::start(mount.debug);
    if mount.foreground {
        daemon::serve_in_foreground(&mount.config)
    } else {
        daemon::serve_in_background(&mount.config, log)
    }
}

/// Prints help, the version, or an error that clap found.
fn show(answer: &clap::Error) -> Exit {
    let printed = answer.print();
    match (answer.use_stderr(), printed) {
        (true, _) => Exit::Usage,
        (false, Ok(())) => Exit::Done,
        (false, Err(_)) => Exit::Failed,
    }
}

/// Writes a line to stderr.
pub(crate) fn complain(text: impl fmt::Display) {
    // With stderr closed there is nobody left to tell.
    writeln!(std::io::stderr(), "ovlmerge: {text}").ok();
}
