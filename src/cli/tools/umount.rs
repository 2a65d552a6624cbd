//! `ovlmerge umount`.
//!
//! umount(8) returns before the server is gone, while data of the mount may be on its way to the
//! disk. FUSE has no request to wait for that.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::Value;

use super::ask::{self, Asked};
use super::stat::plain;
use super::{Exit, Stop, base, complain};
use crate::control::Question;
use crate::error::{Context, Errno, Error, Result};
use crate::sys::process::{Process, describe};
use crate::sys::server::end_copy;
use crate::sys::{mount, mountinfo};

/// Interval at which to check whether the server is gone.
const LOOK: Duration = Duration::from_millis(10);

/// How long to wait before saying what is waited for.
const SILENT: Duration = Duration::from_secs(5);

pub(super) fn command() -> Command {
    base("umount", "Unmounts, and waits until all that was written is on the disk")
        .override_usage("ovlmerge umount MOUNTPOINT")
        .arg(
            Arg::new("mountpoint")
                .value_name("MOUNTPOINT")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The directory that it is mounted on"),
        )
}

pub(super) fn run(matches: &ArgMatches) -> std::result::Result<Exit, Stop> {
    let empty = PathBuf::new();
    let place = matches.get_one::<PathBuf>("mountpoint").unwrap_or(&empty);
    let server = match Server::of(place) {
        Err(err) if err.errno() == Errno::ENOTCONN => {
            mount::unmount_unused(&below_its_parent(place)?)?;
            return Ok(Exit::Done);
        }
        other => other?,
    };
    let mountpoint = fs::canonicalize(place).map_err(Error::from);
    mount::unmount_unused(&mountpoint.context(|| place.display())?)?;
    server.see_off()?;
    Ok(Exit::Done)
}

/// The path of a mountpoint without links above it. It is not looked at, as its server is dead.
fn below_its_parent(place: &Path) -> Result<PathBuf> {
    match (place.parent(), place.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            let parent = fs::canonicalize(parent).map_err(Error::from);
            Ok(parent.context(|| place.display())?.join(name))
        }
        _ => Ok(place.to_owned()),
    }
}

/// The process that serves a mount, and what to sync after its end.
struct Server {
    process: Process,
    /// Device number of the mount, in the form of [`mountinfo::Mount::device`].
    device: String,
    /// The upper, unless the mount is volatile. It is opened before the server ends, so that
    /// syncfs(2) reports each error that comes until then.
    upper: Option<File>,
}

impl Server {
    fn of(place: &Path) -> Result<Self> {
        // The object is closed on return, as it would keep the mount busy.
        let asked = Asked::in_dir(place)?;
        let answer = asked.ask(&Question::Stat)?;
        let number = |name: &str| answer.get(name).and_then(Value::as_u64);
        let pid = number("pid").and_then(|pid| u32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| Error::new(Errno::EPROTO, "the mount names no process"))?;
        let process = Process::open(pid);
        let process = process.context(|| format!("the server of {}, {pid}", place.display()))?;
        let dev = asked.stat()?.dev;
        let device = format!("{}:{}", libc::major(dev), libc::minor(dev));
        Ok(Self { process, device, upper: upper(&asked, &answer)? })
    }

    /// Waits until the process is gone, then syncs the upper.
    fn see_off(self) -> Result<()> {
        let begun = Instant::now();
        let mut told = false;
        while self.process.is_alive()? {
            if !told && begun.elapsed() > SILENT {
                told = true;
                complain(format_args!("umount: {}", self.why_it_stays()));
            }
            std::thread::sleep(LOOK);
        }
        match self.upper {
            Some(upper) => nix::unistd::syncfs(upper)
                .map_err(Error::from)
                .context(|| "unmounted, but not all of the upper could be written to the disk"),
            None => Ok(()),
        }
    }

    /// A text that says why the server is still there.
    fn why_it_stays(&self) -> String {
        let server = self.process.pid();
        let copies = mountinfo::seen_elsewhere(self.device.as_bytes());
        match copies.first() {
            None => format!(
                "unmounted; waiting for the server, process {server}, which writes what it has"
            ),
            Some(pid) => format!(
                "unmounted here; waiting for the server, process {server}, as {} has a copy of the \
                 mount: {}",
                describe(*pid),
                end_copy(*pid)
            ),
        }
    }
}

/// Opens the upper, unless the mount is volatile.
fn upper(asked: &Asked, answer: &Value) -> Result<Option<File>> {
    let layers = ask::layers(asked)?;
    let upper = layers.iter().find(|layer| layer.get("role").is_some_and(|role| role == "upper"));
    let volatile = answer.pointer("/features/volatile").is_some_and(|volatile| volatile == true);
    let Some(upper) = upper.filter(|_| !volatile) else { return Ok(None) };
    let told = |name: &str| upper.get(name).and_then(Value::as_str).unwrap_or_default();
    let (path, device) = (told("path"), told("device"));
    let found = File::open(path).and_then(|file| Ok((file.metadata()?.dev(), file)));
    match found {
        Ok((dev, file)) if format!("{}:{}", libc::major(dev), libc::minor(dev)) == device => {
            Ok(Some(file))
        }
        // The mount itself may lie over it.
        _ => {
            complain(format_args!(
                "umount: {} cannot be opened: whether it can be written to the disk stands in the \
                 log of the server alone",
                plain(path)
            ));
            Ok(None)
        }
    }
}
