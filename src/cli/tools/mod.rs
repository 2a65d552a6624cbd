//! The subcommands for layers and for running mounts, and the code that they share.

mod apply;
pub(super) mod ask;
mod check;
mod convert;
mod diff;
mod stat;
mod umount;
mod which;

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use indicatif::{ProgressBar, ProgressStyle};

use super::args::options_arg;
use super::request::{Request, UsageError};
use super::{Exit, complain, log, owners, show};
use crate::config::Config;
use crate::error::{Context, Error};
use crate::tools::oci::printable;

/// A subcommand for layers or for a running mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `ovlmerge diff`.
    Diff,
    /// `ovlmerge apply`.
    Apply,
    /// `ovlmerge check`.
    Check,
    /// `ovlmerge convert`.
    Convert,
    /// `ovlmerge stat`.
    Stat,
    /// `ovlmerge which`.
    Which,
    /// `ovlmerge umount`.
    Umount,
}

impl Tool {
    /// All tools, in the order of the manual.
    pub const ALL: [Self; 7] = [
        Self::Diff,
        Self::Apply,
        Self::Check,
        Self::Convert,
        Self::Stat,
        Self::Which,
        Self::Umount,
    ];

    /// The tool of this name.
    #[must_use]
    pub fn named(word: &OsStr) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| word == tool.name())
    }

    /// The word that calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Diff => "diff",
            Self::Apply => "apply",
            Self::Check => "check",
            Self::Convert => "convert",
            Self::Stat => "stat",
            Self::Which => "which",
            Self::Umount => "umount",
        }
    }

    /// The grammar of the tool.
    #[must_use]
    pub fn command(self) -> Command {
        match self {
            Self::Diff => diff::command(),
            Self::Apply => apply::command(),
            Self::Check => check::command(),
            Self::Convert => convert::command(),
            Self::Stat => stat::command(),
            Self::Which => which::command(),
            Self::Umount => umount::command(),
        }
    }
}

/// Why a tool stopped.
#[derive(Debug)]
enum Stop {
    /// The command line makes no sense.
    Usage(UsageError),
    /// The work failed.
    Failed(Error),
}

impl From<UsageError> for Stop {
    fn from(err: UsageError) -> Self {
        Self::Usage(err)
    }
}

impl From<Error> for Stop {
    fn from(err: Error) -> Self {
        Self::Failed(err)
    }
}

fn usage(text: impl Into<String>) -> Stop {
    UsageError::new(text).into()
}

/// Runs a tool. `args` are the arguments after its name.
pub(super) fn run(tool: Tool, args: Vec<OsString>) -> Exit {
    let name = tool.name();
    let words = [OsString::from(name)].into_iter().chain(args);
    let matches = match tool.command().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(answer) => return show(&answer),
    };
    log::start(false);
    let result = match tool {
        Tool::Diff => diff::run(&matches),
        Tool::Apply => apply::run(&matches),
        Tool::Check => check::run(&matches),
        Tool::Convert => convert::run(&matches),
        Tool::Stat => stat::run(&matches),
        Tool::Which => which::run(&matches),
        Tool::Umount => umount::run(&matches),
    };
    match result {
        Ok(exit) => exit,
        Err(Stop::Usage(err)) => {
            complain(format_args!("{name}: {err}"));
            complain(format_args!("see `ovlmerge {name} --help`"));
            Exit::Usage
        }
        Err(Stop::Failed(err)) => {
            complain(format_args!("{name}: {err}"));
            Exit::Failed
        }
    }
}

/// The grammar that all tools share.
fn base(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .bin_name(format!("ovlmerge {name}"))
        .about(about)
        .after_help("Exit status: 0 done, 1 it did not work, 2 the command line makes no sense.")
}

fn json_arg() -> Arg {
    flag("json", "Print the result as JSON")
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// Reads the mount options of `-o`.
fn request(matches: &ArgMatches) -> Result<Request, UsageError> {
    let mut request = Request::default();
    for options in matches.get_many::<OsString>("options").unwrap_or_default() {
        request.add(options.as_bytes())?;
    }
    request.check_contradictions()?;
    std::mem::take(&mut request.warnings).into_iter().for_each(complain);
    Ok(request)
}

/// The layers of `-o`: the upper, and the configuration of a mount of the lowers alone.
fn layers(request: Request) -> Result<(PathBuf, Config), UsageError> {
    let Some(upper) = request.upper else {
        return Err(UsageError::new(
            "option `upperdir` is missing: name the layer whose changes are wanted, \
             as in -o lowerdir=/path/below,upperdir=/path/to/layer",
        ));
    };
    if request.lowers.merged.is_empty() {
        return Err(UsageError::new(
            "option `lowerdir` is missing: name the layers below, the topmost first; \
             an empty directory stands for none",
        ));
    }
    let owners = owners::verified(request.uids, request.gids, request.squash_to_root)?;
    let config = Config {
        lowers: request.lowers.merged,
        data_only: request.lowers.data_only,
        upper: None,
        owners,
        ..request.config
    };
    Ok((upper, config))
}

/// A path from the command line, or `None` for `-`.
fn path_or_dash<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a Path> {
    let path = matches.get_one::<OsString>(name)?;
    (path != "-").then(|| Path::new(path))
}

/// Prints a result.
fn print(to: &mut dyn Write, text: &str) -> Result<Exit, Stop> {
    writeln!(to, "{text}").map_err(Error::from).context(|| "printing the result")?;
    Ok(Exit::Done)
}

/// Template of a progress line with the number of bytes and the present path.
const BYTES: &str = "{spinner} {bytes} {wide_msg}";

/// Template of a progress line with the present path.
const PATHS: &str = "{spinner} {wide_msg}";

/// A progress line, which is shown if standard error is a terminal.
fn progress(template: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    if io::stderr().is_terminal() {
        /// Ten times a second: more than an eye follows.
        const REDRAW: Duration = Duration::from_millis(100);
        bar.enable_steady_tick(REDRAW);
    } else {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    bar
}

/// Shows the present path. The end of a long path says more than its beginning.
fn show_path(bar: &ProgressBar, path: &[u8]) {
    /// Longest path that is shown, in bytes: more than a line of a terminal has.
    const SHOWN: usize = 512;
    if !bar.is_hidden() {
        let from = path.len().saturating_sub(SHOWN);
        bar.set_message(printable(path.get(from..).unwrap_or_default()));
    }
}
