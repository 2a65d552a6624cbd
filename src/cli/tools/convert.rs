//! `ovlmerge convert`.

use std::io;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;

use super::{Exit, PATHS, Stop, base, flag, json_arg, print, progress, show_path};
use crate::format::overlay::Namespace;
use crate::tools::convert::{Form, Task, convert};

pub(super) fn command() -> Command {
    base("convert", "Rewrites the markers of a layer in place")
        .override_usage(
            "ovlmerge convert [--to kernel|kernel-user|aufs|fuse-overlayfs] [--seal] DIR",
        )
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The layer; nothing may use it meanwhile"),
        )
        .arg(
            Arg::new("to")
                .long("to")
                .value_name("FORM")
                .value_parser(["kernel", "kernel-user", "aufs", "fuse-overlayfs"])
                .default_value("kernel")
                .help(
                    "Which marks to write. kernel: devices, trusted.overlay.opaque; kernel-user: \
                     devices, user.overlay.opaque; aufs: files .wh.NAME and .wh..wh..opq; \
                     fuse-overlayfs: devices, user.fuseoverlayfs.opaque",
                ),
        )
        .arg(flag("seal", "Also remove what only an upper needs, for a layer that is packed"))
        .arg(json_arg())
}

pub(super) fn run(matches: &ArgMatches) -> Result<Exit, Stop> {
    let to = match matches.get_one::<String>("to").map(String::as_str) {
        Some("kernel-user") => Form::Kernel(Namespace::User),
        Some("aufs") => Form::Aufs,
        Some("fuse-overlayfs") => Form::FuseOverlayfs,
        _ => Form::Kernel(Namespace::Trusted),
    };
    let task = Task { to, seal: matches.get_flag("seal") };
    let empty = PathBuf::new();
    let bar = progress(PATHS);
    let dir = matches.get_one::<PathBuf>("dir").unwrap_or(&empty);
    let counts = convert(dir, task, &mut |path| show_path(&bar, path))?;
    bar.finish_and_clear();
    let text = if matches.get_flag("json") {
        json!({
            "directories": counts.directories,
            "written": counts.written,
            "removed": counts.removed,
        })
        .to_string()
    } else {
        format!("{} markers written, {} removed", counts.written, counts.removed)
    };
    print(&mut io::stdout(), &text)
}
