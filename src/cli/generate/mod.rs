//! `ovlmerge generate`: man pages and shell completions, for packages.
//!
//! Both come from the grammar of the command line and the table of mount options, so a new option
//! or tool is in both.

mod completions;
mod man;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, Command, value_parser};

use super::tools::Tool;
use super::{Exit, args, complain, show};
use crate::error::{Context, Error};

/// The name of the subcommand.
pub const NAME: &str = "generate";

/// A file to be written: its name and its contents.
type Page = (String, Vec<u8>);

fn command() -> Command {
    Command::new(NAME)
        .bin_name("ovlmerge generate")
        .about("Writes man pages, and completions for bash, zsh and fish")
        .override_usage("ovlmerge generate DIR")
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Where the files go; made if it is missing"),
        )
        .after_help(
            "To mount on a directory called generate, write ovlmerge -o lowerdir=... generate",
        )
}

/// All subcommands in one grammar, from which the files are made. It does not parse: that begins in
/// [`args::subcommand`], as a mountpoint may have the name of a subcommand.
fn tree() -> Command {
    let demo = Command::new("demo")
        .bin_name("ovlmerge demo")
        .about("Shows merging, copy-up, whiteouts and opaque directories on a few small layers")
        .override_usage("ovlmerge demo");
    args::grammar()
        .subcommand(demo)
        .subcommands(Tool::ALL.map(Tool::command))
        .subcommand(command())
        .disable_help_subcommand(true)
}

/// Writes the files. `args` are the arguments after the name.
pub(super) fn run(args: Vec<OsString>) -> Exit {
    let words = [OsString::from(NAME)].into_iter().chain(args);
    let matches = match command().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(answer) => return show(&answer),
    };
    let dir = matches.get_one::<PathBuf>("dir").cloned().unwrap_or_default();
    match write_all(&dir) {
        Ok(()) => Exit::Done,
        Err(err) => {
            complain(format_args!("generate: {err}"));
            Exit::Failed
        }
    }
}

fn write_all(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir)
        .map_err(Error::from)
        .context(|| format!("making the directory {}", dir.display()))?;
    let pages = man::pages(tree()).map_err(Error::from).context(|| "making the man pages")?;
    for (name, text) in pages.into_iter().chain(completions::scripts(tree())) {
        let path = dir.join(name);
        fs::write(&path, text)
            .map_err(Error::from)
            .context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
