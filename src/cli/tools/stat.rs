//! `ovlmerge stat`.

use std::io;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::Value;

use super::ask::{self, Asked};
use super::{Exit, Stop, base, json_arg, print};
use crate::control::Question;

pub(super) fn command() -> Command {
    base("stat", "Tells what a running mount does, has done and holds")
        .override_usage("ovlmerge stat [--json] PATH")
        .arg(
            Arg::new("path")
                .value_name("PATH")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The mountpoint, or anything below it"),
        )
        .arg(json_arg())
}

pub(super) fn run(matches: &ArgMatches) -> Result<Exit, Stop> {
    let empty = PathBuf::new();
    let asked = Asked::at(matches.get_one::<PathBuf>("path").unwrap_or(&empty))?;
    let mut all = asked.ask(&Question::Stat)?;
    let layers = ask::layers(&asked)?;
    if let Some(fields) = all.as_object_mut() {
        fields.insert("layers".to_owned(), layers.into());
    }
    let text = if matches.get_flag("json") { all.to_string() } else { as_text(&all) };
    print(&mut io::stdout(), &text)
}

/// One fact on a line, with headings over facts that belong together.
fn as_text(all: &Value) -> String {
    let mut lines = Vec::new();
    for (name, value) in all.as_object().into_iter().flatten() {
        add(&mut lines, 0, name, value);
    }
    lines.join("\n")
}

fn add(lines: &mut Vec<String>, depth: usize, name: &str, value: &Value) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            lines.push(format!("{indent}{}", plain(name)));
            fields.iter().for_each(|(name, value)| add(lines, depth + 1, name, value));
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            lines.push(format!("{indent}{}", plain(name)));
            lines.extend(list.iter().map(|item| format!("{indent}  {}", row(item))));
        }
        _ => lines.push(format!("{indent}{}: {}", plain(name), word(value))),
    }
}

/// An object on one line.
fn row(value: &Value) -> String {
    let Some(fields) = value.as_object() else { return word(value) };
    // The fields that name the object come first.
    let first = |name: &str| ["layer", "role", "path"].iter().position(|known| *known == name);
    let mut words: Vec<_> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
    words.sort_by_key(|(name, _)| first(name).unwrap_or(usize::MAX));
    words
        .into_iter()
        .map(|(name, value)| format!("{}={}", plain(name), word(value)))
        .collect::<Vec<_>>()
        .join(" ")
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(yes) => (if *yes { "yes" } else { "no" }).to_owned(),
        Value::String(text) => plain(text),
        Value::Array(list) => list.iter().map(word).collect::<Vec<_>>().join(", "),
        Value::Object(_) => row(value),
        Value::Number(number) => number.to_string(),
    }
}

/// Text without control characters, which a terminal may obey: any server may serve the mount.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_that_is_told_is_shown() {
        let all = json!({
            "pid": 7, "none": null, "upper": { "fsyncs": 1, "on": true }, "empty": {},
            "kernel": { "capabilities": ["A", "B\u{1b}[m"] },
            "layers": [{ "layer": 0, "path": "/u", "uuid": null }],
        });
        let text = "empty: \nkernel\n  capabilities: A, B?[m\nlayers\n  layer=0 path=/u\nnone: -\n\
                    pid: 7\nupper\n  fsyncs: 1\n  on: yes";
        assert_eq!(as_text(&all), text);
    }
}
