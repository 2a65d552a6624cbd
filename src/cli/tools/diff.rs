//! `ovlmerge diff`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;

use super::{
    BYTES, Exit, Stop, base, complain, flag, json_arg, layers, options_arg, path_or_dash, print,
    progress, request, show_path, usage,
};
use crate::error::{Context, Errno, Error};
use crate::layer::work::why_not_to_read;
use crate::sys::at;
use crate::tools::diff::changes::{Changes, Kind};
use crate::tools::diff::layer::{Counts, LayerWriter};
use crate::tools::diff::{OpaqueAs, Parents, Rules, walk};
use crate::tools::oci::blob::{BlobWriter, Compression, Summary};
use crate::tools::oci::printable;
use crate::tools::views::Layers;

/// The variable of reproducible builds (reproducible-builds.org), in seconds since 1970.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

pub(super) fn command() -> Command {
    let choice = |name: &'static str, words: [&'static str; 2], help: &'static str| {
        Arg::new(name).long(name).value_parser(words).default_value(words[0]).help(help)
    };
    base("diff", "Makes an OCI layer of what an upper changes; reads only")
        .override_usage(
            "ovlmerge diff -o lowerdir=DIR[:DIR...],upperdir=DIR[,OPTION...] [-f FILE] [OPTIONS]",
        )
        .arg(options_arg(
            "The layers, with the options of a mount; workdir is not needed, and tells of a crash",
        ))
        .arg(
            Arg::new("file")
                .short('f')
                .long("file")
                .value_name("FILE")
                .value_parser(value_parser!(OsString))
                .help("Where the layer goes; - is standard output, and the default"),
        )
        .arg(
            Arg::new("compress")
                .long("compress")
                .value_parser(["none", "gzip", "zstd"])
                .default_value("none")
                .help("How the layer is compressed"),
        )
        .arg(choice(
            "opaque",
            ["explicit", "marker"],
            "Say what a directory hides by a whiteout for each name, or by one .wh..wh..opq",
        ))
        .arg(choice(
            "parents",
            ["all", "changed"],
            "Also write the unchanged directories above a change, with their metadata, or do not",
        ))
        .arg(
            Arg::new("source-date-epoch")
                .long("source-date-epoch")
                .value_name("SECONDS")
                .value_parser(value_parser!(i64))
                .help("Write no time later than this. Default: SOURCE_DATE_EPOCH, if it is set"),
        )
        .arg(flag("changes", "Print what was added (A), changed (C) and deleted (D) instead"))
        .arg(json_arg())
}

pub(super) fn run(matches: &ArgMatches) -> Result<Exit, Stop> {
    let mut request = request(matches)?;
    let work = request.work.take();
    let (upper, config) = layers(request)?;
    let layers = Layers { upper, config };
    work.iter().try_for_each(|work| warn_of(work))?;
    let word = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let rules = Rules {
        opaque: match word("opaque") {
            Some("marker") => OpaqueAs::Marker,
            _ => OpaqueAs::Whiteouts,
        },
        parents: match word("parents") {
            Some("changed") => Parents::Changed,
            _ => Parents::All,
        },
    };
    if matches.get_flag("changes") {
        if matches.contains_id("file") {
            return Err(usage("--changes makes no layer: leave -f out"));
        }
        let rules = Rules { opaque: OpaqueAs::Whiteouts, ..rules };
        return list(&layers, rules, matches.get_flag("json"));
    }
    let output = Output {
        compression: match word("compress") {
            Some("gzip") => Compression::Gzip,
            Some("zstd") => Compression::Zstd,
            _ => Compression::None,
        },
        latest: latest(matches)?,
        json: matches.get_flag("json"),
    };
    match path_or_dash(matches, "file") {
        Some(path) => to_file(path, &layers, rules, &output),
        None if io::stdout().is_terminal() => {
            Err(usage("a layer is nothing for a terminal: add -f FILE, or --changes for a list"))
        }
        None => {
            let summary = pack(io::stdout().lock(), &layers, rules, &output)?.1;
            print(&mut io::stderr(), &summary)
        }
    }
}

/// Warns if the work directory says that the upper is not to be read. It is packed all the same,
/// because the user may want what a crash has left.
fn warn_of(work: &Path) -> Result<(), Stop> {
    let named = || format!("workdir={}", work.display());
    // The work directory may be missing, as for a mount that only reads.
    let Ok(dir) = at::open_root(work) else { return Ok(()) };
    for reason in why_not_to_read(dir.as_fd()).context(named)? {
        complain(format_args!("diff: {}: {reason}", named()));
    }
    Ok(())
}

struct Output {
    compression: Compression,
    latest: Option<i64>,
    json: bool,
}

fn latest(matches: &ArgMatches) -> Result<Option<i64>, Stop> {
    if let Some(seconds) = matches.get_one::<i64>("source-date-epoch") {
        return Ok(Some(*seconds));
    }
    match std::env::var(EPOCH) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => match text.parse() {
            Ok(seconds) => Ok(Some(seconds)),
            Err(_) => Err(usage(format!("{EPOCH}={text} is no number of seconds since 1970"))),
        },
        Err(_) => Ok(None),
    }
}

fn told(output: &Output, summary: &Summary, counts: Counts) -> String {
    let Summary { digest, diff_id, size, .. } = summary;
    if output.json {
        json!({
            "digest": digest,
            "diff_id": diff_id,
            "size": size,
            "media_type": output.compression.media_type(),
            "entries": counts.entries,
            "whiteouts": counts.whiteouts,
            "skipped": counts.skipped,
        })
        .to_string()
    } else {
        format!("digest {digest}\ndiff-id {diff_id}\nsize {size}")
    }
}

/// Writes the layer to `to`.
fn pack<W: Write>(
    to: W,
    layers: &Layers,
    rules: Rules,
    output: &Output,
) -> Result<(BufWriter<W>, String), Stop> {
    let begin = |err: io::Error| Error::from(err).context("compressing the layer");
    let mut blob = BlobWriter::new(BufWriter::new(to), output.compression).map_err(begin)?;
    let bar = progress(BYTES);
    let mut progress = |path: &[u8], bytes: u64| {
        bar.inc(bytes);
        show_path(&bar, path);
    };
    let counts = {
        let mut writer = LayerWriter::new(&mut blob, output.latest, &mut progress);
        walk(layers, rules, &mut writer)?;
        writer.finish()?
    };
    bar.finish_and_clear();
    let (summary, to) =
        blob.finish().map_err(|err| Error::from(err).context("writing the layer"))?;
    Ok((to, told(output, &summary, counts)))
}

/// Writes the layer. A file appears when it is complete; a device or a pipe is written directly.
fn to_file(path: &Path, layers: &Layers, rules: Rules, output: &Output) -> Result<Exit, Stop> {
    let what = || path.display().to_string();
    let failed = |err: io::Error| Error::from(err).context(what());
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        let file = File::options().write(true).open(path).map_err(failed)?;
        let told = pack(file, layers, rules, output)?.1;
        return print(&mut io::stdout(), &told);
    }
    let beside = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    // The umask applies, as for any new file.
    let mode = std::fs::Permissions::from_mode(0o666);
    let file = tempfile::Builder::new().permissions(mode).tempfile_in(beside);
    let file = file.map_err(|err| no_file_in(beside, &err).context(what()))?;
    let (file, told) = pack(file, layers, rules, output)?;
    let file = file.into_inner().map_err(|err| failed(err.into_error()))?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|err| failed(err.error))?;
    print(&mut io::stdout(), &told)
}

/// The error if no file can be made in a directory. The library's own has the name of a temporary
/// file, and no errno.
fn no_file_in(dir: &Path, err: &io::Error) -> Error {
    let dir = dir.display();
    match err.kind() {
        io::ErrorKind::NotFound => Error::new(
            Errno::ENOENT,
            format!("the directory {dir} does not exist; create it or correct the path"),
        ),
        io::ErrorKind::NotADirectory => {
            Error::new(Errno::ENOTDIR, format!("{dir} is not a directory; correct the path"))
        }
        io::ErrorKind::PermissionDenied => Error::new(
            Errno::EACCES,
            format!("no file can be made in the directory {dir}; check its owner and mode"),
        ),
        _ => Error::new(Errno::EIO, format!("no file can be made in the directory {dir}: {err}")),
    }
}

fn list(layers: &Layers, rules: Rules, as_json: bool) -> Result<Exit, Stop> {
    let failed = |err: io::Error| Error::from(err).context("printing the changes");
    let mut out = BufWriter::new(io::stdout().lock());
    if !as_json {
        let mut changes = Changes::new(|kind: Kind, path: &[u8]| {
            writeln!(out, "{} {}", kind.letter(), printable(path)).map_err(failed)
        });
        walk(layers, rules, &mut changes)?;
        out.flush().map_err(failed)?;
        return Ok(Exit::Done);
    }
    let (mut added, mut changed, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
    let mut changes = Changes::new(|kind: Kind, path: &[u8]| {
        let list = match kind {
            Kind::Added => &mut added,
            Kind::Changed => &mut changed,
            Kind::Deleted => &mut deleted,
        };
        list.push(printable(path));
        Ok(())
    });
    walk(layers, rules, &mut changes)?;
    let whole = json!({ "added": added, "changed": changed, "deleted": deleted });
    writeln!(out, "{whole}").and_then(|()| out.flush()).map_err(failed)?;
    Ok(Exit::Done)
}
