//! `ovlmerge apply`.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;

use super::{
    BYTES, Exit, Stop, base, json_arg, options_arg, path_or_dash, print, progress, request,
    show_path,
};
use crate::cli::owners;
use crate::config::Config;
use crate::error::Error;
use crate::tools::apply::{Limits, Options, Unpacked, apply};

pub(super) fn command() -> Command {
    let limit = |name: &'static str, value: &'static str, most: Option<u64>, help: &str| {
        let help = format!("Refuse {help}; 0 is no limit. Default: {}", most.unwrap_or_default());
        Arg::new(name).long(name).value_name(value).value_parser(value_parser!(u64)).help(help)
    };
    let most = Limits::DEFAULT;
    base("apply", "Unpacks an OCI layer into a directory that is a layer for an overlay")
        .override_usage("ovlmerge apply [OPTIONS] LAYER DIR")
        .arg(
            Arg::new("layer")
                .value_name("LAYER")
                .required(true)
                .value_parser(value_parser!(OsString))
                .help("The archive: plain, gzip or zstd; - is standard input"),
        )
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("A new directory, or an empty one"),
        )
        .arg(options_arg(
            "uidmapping, gidmapping, squash_to_* and xattr_permissions of the mount that is to be",
        ))
        .arg(
            Arg::new("whiteout")
                .long("whiteout")
                .value_parser(["auto", "char", "xattr", "aufs"])
                .help("How removed names are marked, as the mount option whiteout="),
        )
        .arg(
            Arg::new("xattr")
                .long("xattr")
                .value_parser(["auto", "trusted", "user"])
                .help("Where markers are kept, as the mount option xattr="),
        )
        .arg(
            Arg::new("dirmeta-delegate")
                .long("dirmeta-delegate")
                .value_parser(["on", "off"])
                .default_value("on")
                .help(
                    "Mark directories that the archive only implies, so that their metadata is \
                       that of the layers below",
                ),
        )
        .arg(limit(
            "max-entries",
            "N",
            most.entries,
            "a layer with more entries and implied directories",
        ))
        .arg(limit("max-size", "BYTES", most.bytes, "a layer with more data"))
        .arg(limit(
            "max-ratio",
            "N",
            most.ratio,
            "a layer above 1 GiB of whose bytes each was more than N before compression",
        ))
        .arg(json_arg())
}

pub(super) fn run(matches: &ArgMatches) -> Result<Exit, Stop> {
    let mut request = request(matches)?;
    for name in ["whiteout", "xattr"] {
        if let Some(value) = matches.get_one::<String>(name) {
            request.add(format!("{name}={value}").as_bytes())?;
        }
    }
    let owners = owners::verified(request.uids, request.gids, request.squash_to_root)?;
    let word = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let config = Config {
        dirmeta_delegate: word("dirmeta-delegate") != Some("off")
            && request.config.dirmeta_delegate,
        owners,
        ..request.config
    };
    let most = |name: &str, default: Option<u64>| match matches.get_one::<u64>(name) {
        Some(0) => None,
        Some(most) => Some(*most),
        None => default,
    };
    let limits = Limits {
        entries: most("max-entries", Limits::DEFAULT.entries),
        bytes: most("max-size", Limits::DEFAULT.bytes),
        ratio: most("max-ratio", Limits::DEFAULT.ratio),
    };
    let options = Options { config, limits };
    let empty = PathBuf::new();
    let dir = matches.get_one::<PathBuf>("dir").unwrap_or(&empty);
    let bar = progress(BYTES);
    let mut advance = |path: &[u8], bytes: u64| {
        bar.inc(bytes);
        show_path(&bar, path);
    };
    let unpacked = match path_or_dash(matches, "layer") {
        None => apply(io::stdin().lock(), dir, &options, &mut advance)?,
        Some(path) => apply(open(path)?, dir, &options, &mut advance)?,
    };
    bar.finish_and_clear();
    print(&mut io::stdout(), &told(&unpacked, matches.get_flag("json")))
}

fn open(path: &Path) -> Result<File, Stop> {
    let opened = File::open(path);
    opened.map_err(|err| Error::from(err).context(path.display()).into())
}

fn told(unpacked: &Unpacked, as_json: bool) -> String {
    let Unpacked { summary, compression, counts } = unpacked;
    if !as_json {
        return format!(
            "digest {}\ndiff-id {}\nentries {}",
            summary.digest, summary.diff_id, counts.entries
        );
    }
    json!({
        "digest": summary.digest,
        "diff_id": summary.diff_id,
        "size": summary.size,
        "media_type": compression.media_type(),
        "entries": counts.entries,
        "markers": counts.markers,
        "bytes": counts.bytes,
        "implied_directories": counts.implied,
        "attributes_left_out": counts.attributes_left_out,
    })
    .to_string()
}
