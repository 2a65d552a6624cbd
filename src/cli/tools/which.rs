//! `ovlmerge which`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Map, Value};

use super::ask::{self, Asked};
use super::stat::plain;
use super::{Exit, Stop, base, complain, json_arg, print};
use crate::control::Question;
use crate::error::{Errno, Error, Result};
use crate::format::text::printable;

pub(super) fn command() -> Command {
    base("which", "Tells which layers a path of a running mount comes from, and what hides what")
        .override_usage("ovlmerge which [--json] PATH...")
        .arg(
            Arg::new("paths")
                .value_name("PATH")
                .required(true)
                .action(ArgAction::Append)
                .num_args(1..)
                .value_parser(value_parser!(PathBuf))
                .help("Something in the mount, or something that is not there any more"),
        )
        .arg(json_arg())
        .after_help(
            "Exit status: 0 all paths are there, 1 one could not be asked about, 2 the command \
             line makes no sense, 3 one is not there.",
        )
}

pub(super) fn run(matches: &ArgMatches) -> std::result::Result<Exit, Stop> {
    let mut layers = Layers::default();
    let mut answers = Vec::new();
    let mut failed = false;
    for path in matches.get_many::<PathBuf>("paths").unwrap_or_default() {
        match layers.which(path) {
            Ok(answer) => answers.push(answer),
            Err(err) => {
                failed = true;
                complain(format_args!("which: {err}"));
            }
        }
    }
    let all_there = answers.iter().all(|answer| answer.get("type").is_some_and(Value::is_string));
    if matches.get_flag("json") {
        print(&mut io::stdout(), &Value::from(answers).to_string())?;
    } else if !answers.is_empty() {
        let texts: Vec<_> = answers.iter().map(as_text).collect();
        print(&mut io::stdout(), &texts.join("\n"))?;
    }
    Ok(match (failed, all_there) {
        (true, _) => Exit::Failed,
        (false, true) => Exit::Done,
        (false, false) => Exit::Findings,
    })
}

/// The layers of the mounts that were asked, by device number.
#[derive(Debug, Default)]
struct Layers(HashMap<u64, Vec<Value>>);

impl Layers {
    /// The answer about a path, with the files of the layers by their full paths.
    fn which(&mut self, path: &Path) -> Result<Value> {
        let (asked, answer) = ask_about(path)?;
        let Value::Object(mut answer) = answer else {
            return Err(Error::new(Errno::EPROTO, path.display()));
        };
        let dev = asked.stat()?.dev;
        let layers = match self.0.entry(dev) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => free.insert(ask::layers(&asked)?),
        };
        for level in answer.get_mut("levels").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(level) = level.as_object_mut() {
                add_file(level, layers);
            }
        }
        answer.insert("asked".to_owned(), printable(path.as_os_str().as_bytes()).into());
        Ok(Value::Object(answer))
    }
}

/// Adds the role of the layer, and the full path of the file.
fn add_file(level: &mut Map<String, Value>, layers: &[Value]) {
    let number = level.get("layer").cloned().unwrap_or_default();
    let Some(layer) = layers.iter().find(|layer| layer.get("layer") == Some(&number)) else {
        return;
    };
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let (root, path) = (text(layer.get("path")), text(level.get("path")));
    let file = format!("{}{path}", root.trim_end_matches('/'));
    level.insert("file".to_owned(), file.into());
    level.insert("role".to_owned(), layer.get("role").cloned().unwrap_or_default());
}

/// Asks about an object. If a name is not there, the directory above it is asked, or one further
/// up.
fn ask_about(path: &Path) -> Result<(Asked, Value)> {
    let first = match Asked::at(path) {
        Ok(asked) => return ask_object(asked, path),
        Err(err) => err,
    };
    let mut missing = Vec::new();
    let (mut here, mut last) = (path, first.errno());
    // A broken object cannot be opened either.
    while matches!(last, Errno::ENOENT | Errno::EINVAL | Errno::EPERM | Errno::EIO) {
        let Some((above, name)) = split(here) else { break };
        missing.insert(0, Box::from(name.as_bytes()));
        match Asked::in_dir(above) {
            Ok(asked) => {
                let answer = asked.ask(&Question::Which(missing))?;
                return Ok((asked, answer));
            }
            Err(err) => last = err.errno(),
        }
        here = above;
    }
    Err(first)
}

/// Asks about an open object. A file with several names is asked about by the given name, if that
/// works, because each name may be hidden by something else.
fn ask_object(asked: Asked, path: &Path) -> Result<(Asked, Value)> {
    let stat = asked.stat()?;
    if stat.nlink > 1
        && !stat.kind().is_dir()
        && let Some((above, name)) = split(path)
        && let Ok(above) = Asked::in_dir(above)
        && let Ok(answer) = above.ask(&Question::Which(vec![name.as_bytes().into()]))
        && answer.get("ino").and_then(Value::as_u64) == Some(stat.ino)
    {
        return Ok((above, answer));
    }
    let answer = asked.ask(&Question::Which(Vec::new()))?;
    Ok((asked, answer))
}

/// The directory above, and the name in it.
fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    let above = path.parent()?;
    let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
    Some((above, path.file_name()?))
}

/// One line for the path, and one for each object of a layer.
fn as_text(answer: &Value) -> String {
    let text = |value: &Value, name: &str| {
        plain(value.get(name).and_then(Value::as_str).unwrap_or_default())
    };
    let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64);
    let mut lines = vec![format!("{}: {}", text(answer, "asked"), summary(answer))];
    for level in answer.get("levels").and_then(Value::as_array).into_iter().flatten() {
        let mut words = format!(
            "  {} {:5} {:8} {}",
            number(level, "layer").unwrap_or_default(),
            text(level, "role"),
            text(level, "part"),
            text(level, "file"),
        );
        let marks = marks(level);
        if !marks.is_empty() {
            words = format!("{words} ({})", marks.join(", "));
        }
        lines.push(words);
    }
    match number(answer, "left_out") {
        None | Some(0) => {}
        Some(more) => lines.push(format!("  and {more} more")),
    }
    lines.join("\n")
}

fn summary(answer: &Value) -> String {
    let number = |name: &str| answer.get(name).and_then(Value::as_u64);
    let Some(kind) = answer.get("type").and_then(Value::as_str) else {
        return match answer.get("error").and_then(Value::as_str) {
            Some(errno) => format!("broken ({})", plain(errno)),
            None if answer.get("levels").and_then(Value::as_array).is_some_and(Vec::is_empty) => {
                "no layer has it".to_owned()
            }
            None => "not there".to_owned(),
        };
    };
    let layer = number("layer");
    let mut words = vec![match layer {
        Some(0) => format!("{} of the upper", plain(kind)),
        Some(layer) => format!("{} of layer {layer}", plain(kind)),
        None => plain(kind),
    }];
    match answer.get("copied_up") {
        Some(Value::Bool(true)) => words.push("copied up".to_owned()),
        Some(Value::Null) => words.push("perhaps copied up".to_owned()),
        _ => {}
    }
    let levels = answer.get("levels").and_then(Value::as_array);
    let is_there = |level: &Value| level.get("layer").and_then(Value::as_u64) == layer;
    if !levels.is_some_and(|levels| levels.iter().any(is_there)) {
        words.push("under another name".to_owned());
    }
    let other = |name: &str| number(name).filter(|_| number(name) != layer);
    words.extend(other("metadata_layer").map(|layer| format!("metadata of layer {layer}")));
    words.extend(other("data_layer").map(|layer| format!("data of layer {layer}")));
    if answer.get("data_layer").is_some_and(Value::is_null) {
        words.push("its data is missing".to_owned());
    }
    if answer.get("indexed") == Some(&Value::Bool(true)) {
        words.push("in the index of hard links".to_owned());
    }
    words.join(", ")
}

/// The marks of one object of a layer, in words.
fn marks(level: &Value) -> Vec<String> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(plain);
    let mut marks = Vec::new();
    if let Some(by) = level.get("by") {
        let layer = by.get("layer").and_then(Value::as_u64).unwrap_or_default();
        let (what, path) = (text(by, "what"), text(by, "path"));
        let (what, path) = (what.unwrap_or_default(), path.unwrap_or_default());
        marks.push(match what.as_str() {
            "whiteout" => format!("by the whiteout of {path} in layer {layer}"),
            "opaque" => format!("as {path} is opaque in layer {layer}"),
            "redirect" => format!("as {path} of layer {layer} goes on elsewhere"),
            _ => format!("by {path} of layer {layer}"),
        });
    }
    marks.extend(text(level, "whiteout").map(|form| format!("form {form}")));
    marks.extend(text(level, "opaque").map(|_| "opaque".to_owned()));
    marks.extend(text(level, "redirect").map(|to| format!("goes on at {to}")));
    for name in ["metacopy", "dirmeta_delegate"] {
        marks.extend(level.get(name).map(|_| name.to_owned()));
    }
    marks.extend(text(level, "error").map(|errno| format!("its marks make no sense: {errno}")));
    marks
}
