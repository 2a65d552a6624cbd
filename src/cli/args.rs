//! The command line as a whole: flags, positionals, and which of them make a subcommand.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::remount::Remount;
use super::request::{Request, UsageError};
use super::suggest::nearest;
use super::tools::Tool;
use super::{generate, help};
use crate::config::{Config, WhiteoutChoice};

/// A subcommand, which is named by the first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subcommand {
    /// `ovlmerge demo`.
    Demo,
    /// `ovlmerge generate`.
    Generate,
    /// `ovlmerge diff` and the other tools.
    Tool(Tool),
}

const DEMO: &str = "demo";

impl Subcommand {
    fn named(word: &OsStr) -> Option<Self> {
        match word.to_str()? {
            DEMO => Some(Self::Demo),
            generate::NAME => Some(Self::Generate),
            _ => None,
        }
    }
}

/// Finds the subcommand in `args` (without the program's name), and its arguments.
///
/// A tool takes mount options itself, so its name has to be the very first word. To mount on a
/// directory of that name, write `./diff`, or the options first. Any other subcommand is named by
/// the first positional, if there is no `-o`. With `-o` the command line is a mount, whose
/// mountpoint may have the name of a subcommand.
#[must_use]
pub fn subcommand(args: &[OsString]) -> Option<(Subcommand, Vec<OsString>)> {
    if let Some((first, rest)) = args.split_first()
        && let Some(tool) = Tool::named(first)
    {
        return Some((Subcommand::Tool(tool), rest.to_vec()));
    }
    if args.iter().any(|arg| is_mount_option(arg)) {
        return None;
    }
    let first = args.iter().position(|arg| !arg.as_bytes().starts_with(b"-"))?;
    let chosen = Subcommand::named(args.get(first)?)?;
    let mut rest = args.to_vec();
    rest.remove(first);
    Some((chosen, rest))
}

/// The name of the subcommand that a command line without `-o` may mean, if its first word is
/// nearly one and names nothing that is there.
#[must_use]
pub fn nearly_a_subcommand(args: &[OsString]) -> Option<&'static str> {
    let word = args.first()?;
    // To mount is not nearly to unmount.
    let is_other = word == "mount" || Path::new(word).exists();
    if is_other || args.iter().any(|arg| is_mount_option(arg)) {
        return None;
    }
    let tools = Tool::ALL.into_iter().map(Tool::name);
    nearest(word.to_str()?, tools.chain([DEMO, generate::NAME]))
}

/// Whether an argument is `-o`, `-oOPTIONS`, or a cluster such as `-fo`.
fn is_mount_option(arg: &OsStr) -> bool {
    let bytes = arg.as_bytes();
    bytes.starts_with(b"-") && !bytes.starts_with(b"--") && bytes.contains(&b'o')
}

/// A mount that was asked for.
#[derive(Debug)]
pub struct MountArgs {
    /// The verified options.
    pub config: Config,
    /// Stay in the foreground.
    pub foreground: bool,
    /// Log every request.
    pub debug: bool,
}

/// A variable of fuse-overlayfs that, with any value, stands for `whiteout=aufs`.
const AUFS_WHITEOUTS: &str = "FUSE_OVERLAYFS_DISABLE_OVL_WHITEOUT";

/// The request of a command line without a subcommand.
#[derive(Debug)]
pub enum Call {
    /// A mount.
    Mount(Box<MountArgs>),
    /// Other flags for an existing mount.
    Remount(Remount),
}

/// `--strict`, which has no short name.
fn strict() -> Arg {
    Arg::new("strict")
        .long("strict")
        .action(ArgAction::SetTrue)
        .help("Refuse options that are not known, and uppers in use, instead of a warning")
}

/// The grammar of a mount, with all mount options in its help.
#[must_use]
pub fn command() -> Command {
    grammar().after_help(format!(
        "`ovlmerge demo` shows merging, copy-up, whiteouts and opaque directories in a \
         temporary folder.\n`ovlmerge diff` makes an OCI layer of an upper, `apply` unpacks one, \
         `check` looks for faults,\n`convert` rewrites markers; `stat` and `which` ask a running mount about itself and \
         about paths.\nEach has a --help. `ovlmerge generate DIR` writes man pages and completions.\n\
         Unmount with `ovlmerge umount MOUNTPOINT`, which waits until all is on the disk; or with umount(8),\n\
         or `fusermount3 -u` as an ordinary user, which do not wait.\n\nMount options:\n{}",
        help::terminal()
    ))
}

/// The flags and positionals of a mount.
#[must_use]
pub fn grammar() -> Command {
    let flag = |name: &'static str, short: char, text: &'static str| {
        Arg::new(name).short(short).long(name).action(ArgAction::SetTrue).help(text)
    };
    Command::new("ovlmerge")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Merges directories into one file system, the topmost writable (overlay, in user space)")
        .override_usage(
            "ovlmerge [-f] [-d] -o lowerdir=DIR[:DIR...][,upperdir=DIR,workdir=DIR][,OPTION...] \
             [SOURCE] MOUNTPOINT\n       ovlmerge demo\n       ovlmerge diff|apply|check|convert|stat|which|umount ...",
        )
        .arg(flag("foreground", 'f', "Stay in the foreground, and log to stderr"))
        .arg(flag("debug", 'd', "Log every request to stderr; implies -f"))
        .arg(
            Arg::new("single")
                .short('s')
                .action(ArgAction::SetTrue)
                .help("One thread serves all requests, as with threads=1"),
        )
        .arg(strict())
        .arg(
            options_arg("Mount options, see below; may be given more than once"),
        )
        .arg(
            Arg::new("paths")
                .value_name("MOUNTPOINT")
                .value_parser(value_parser!(OsString))
                .action(ArgAction::Append)
                .num_args(0..)
                .help("The directory to mount on; a SOURCE in front of it is shown in /proc/mounts"),
        )
}

/// Reads a command line. `file_system` is the type that /proc/mounts shows by default. `warn` gets
/// a warning for each option without an effect.
///
/// # Errors
/// If options or paths are missing or wrong.
pub fn read(
    matches: &ArgMatches,
    file_system: &str,
    mut warn: impl FnMut(String),
) -> Result<Call, UsageError> {
    let paths: Vec<_> = matches.get_many::<OsString>("paths").unwrap_or_default().collect();
    let mut request = Request { strict: matches.get_flag("strict"), ..Request::default() };
    if std::env::var_os(AUFS_WHITEOUTS).is_some() {
        request.config.whiteout = WhiteoutChoice::Aufs;
    }
    file_system.clone_into(&mut request.config.mount.subtype);
    // With the source that fstab has, mount(8) sees that the line is mounted already.
    request.config.mount.fsname = match paths.as_slice() {
        [source, _] if !source.is_empty() => source.to_string_lossy().into_owned(),
        _ => file_system.to_owned(),
    };
    if matches.get_flag("single") {
        request.config.threads = Some(1);
    }
    let options: Vec<_> = matches.get_many::<OsString>("options").unwrap_or_default().collect();
    for options in &options {
        request.add(options.as_bytes())?;
    }
    // A remount changes flags alone, but is given all options that the mount has.
    let together = match request.remount {
        true => Ok(()),
        false => request.check_together(paths.len() > 1),
    };
    std::mem::take(&mut request.warnings).into_iter().for_each(&mut warn);
    together?;
    let mountpoint = mountpoint(&paths)?;
    if request.remount {
        return Ok(Call::Remount(Remount::new(mountpoint, &options)));
    }
    let debug = request.debug || matches.get_flag("debug");
    Ok(Call::Mount(Box::new(MountArgs {
        config: request.finish(mountpoint)?,
        foreground: debug || matches.get_flag("foreground"),
        debug,
    })))
}

/// The mountpoint, which is the last of the paths.
fn mountpoint<'a>(paths: &'a [&OsString]) -> Result<&'a Path, UsageError> {
    match paths {
        [mountpoint] | [_, mountpoint] => Ok(Path::new(mountpoint)),
        [] => Err(UsageError::new(
            "the mountpoint is missing: name the directory to mount on as the last argument",
        )),
        [.., surplus, _] => Err(UsageError::new(format!(
            "too many arguments, {} among them: give at most a source and a mountpoint, \
             and put quotes around options with spaces",
            surplus.display()
        ))),
    }
}

/// `-o`, with the options of a mount.
pub fn options_arg(help: &'static str) -> Arg {
    Arg::new("options")
        .short('o')
        .value_name("OPTION[,OPTION...]")
        .value_parser(value_parser!(OsString))
        .action(ArgAction::Append)
        .allow_hyphen_values(true)
        .help(help)
}
