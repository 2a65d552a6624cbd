//! Answers to [`Question::Which`](super::Question::Which): what each layer has at a path.

use serde_json::{Map, Value, json};

use super::LONGEST;
use crate::error::Result;
use crate::format::text::printable;
use crate::merge::signs::{Opaque, Signs};
use crate::merge::which::{Cause, Level, Part, Shown, Which, Whiteout, Why};
use crate::sys::FileType;
use crate::vfs::{NodeId, Vfs};

/// Answers for a node, or for a path below it.
///
/// # Errors
/// Those of [`Vfs::which`].
pub fn answer(vfs: &Vfs, node: NodeId, below: &[Box<[u8]>]) -> Result<Value> {
    let below: Vec<&[u8]> = below.iter().map(|name| &**name).collect();
    let (which, number) = vfs.which(node, &below)?;
    let mut fields = Map::new();
    fields.insert("path".to_owned(), printable(&which.path).into());
    match which.shown() {
        Ok(Some(shown)) => put_shown(&mut fields, &shown, number),
        Ok(None) => drop(fields.insert("type".to_owned(), Value::Null)),
        Err(err) => {
            fields.insert("type".to_owned(), Value::Null);
            fields.insert("error".to_owned(), err.errno().to_string().into());
        }
    }
    put_levels(&mut fields, &which);
    Ok(Value::Object(fields))
}

fn put_shown(fields: &mut Map<String, Value>, shown: &Shown, number: Option<u64>) {
    let Shown { kind, layer, copied_up, metadata, data, origin, links, indexed } = *shown;
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("type", type_of(kind).into());
    put("layer", layer.into());
    put("upper", (layer == 0).into());
    put("copied_up", copied_up.into());
    put("metadata_layer", metadata.into());
    if kind.is_file() {
        put("data_layer", data.into());
    }
    put("ino", number.into());
    let device = format!("{}:{}", libc::major(origin.dev), libc::minor(origin.dev));
    put("number_of", json!({ "device": device, "inode": origin.ino }));
    if !kind.is_dir() {
        put("links", links.into());
        put("indexed", indexed.into());
    }
}

/// Adds what the layers have, as many levels as fit into the answer.
fn put_levels(fields: &mut Map<String, Value>, which: &Which) {
    /// Room for the names of the two added fields, and for a number; in bytes.
    const FIELDS: usize = 64;
    let rest: usize = fields.values().map(|value| value.to_string().len() + FIELDS).sum();
    let mut room = LONGEST.saturating_sub(rest + FIELDS);
    let mut levels = Vec::new();
    for level in &which.levels {
        let level = of_level(level);
        let size = level.to_string().len() + ",".len();
        let Some(left) = room.checked_sub(size) else { break };
        room = left;
        levels.push(level);
    }
    fields.insert("left_out".to_owned(), (which.levels.len() - levels.len()).into());
    fields.insert("levels".to_owned(), levels.into());
}

fn of_level(level: &Level) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("layer", level.layer.into());
    put("path", printable(&level.path).into());
    put("type", level.kind.map(type_of).into());
    let part = match &level.part {
        Part::Shown => "shown",
        Part::Merged => "merged",
        Part::Data => "data",
        Part::Whiteout(_) => "whiteout",
        Part::Hidden(_) => "hidden",
    };
    put("part", part.into());
    match &level.part {
        Part::Whiteout(form) => put("whiteout", form_of(*form).into()),
        Part::Hidden(cause) => put("by", of_cause(cause)),
        Part::Shown | Part::Merged | Part::Data => {}
    }
    let Signs { opaque, delegates, redirect, metacopy, origin, error } = &level.signs;
    if let Some(opaque) = opaque {
        let form = match opaque {
            Opaque::Xattr => "xattr",
            Opaque::File => "aufs",
        };
        put("opaque", form.into());
    }
    for (name, set) in [("dirmeta_delegate", delegates), ("metacopy", metacopy), ("origin", origin)]
    {
        if *set {
            put(name, true.into());
        }
    }
    if let Some(redirect) = redirect {
        put("redirect", printable(&redirect.value()).into());
    }
    if let Some(error) = error {
        put("error", error.errno().to_string().into());
    }
    Value::Object(fields)
}

fn of_cause(cause: &Cause) -> Value {
    let why = match cause.why {
        Why::Whiteout(_) => "whiteout",
        Why::Opaque => "opaque",
        Why::Object => "object",
        Why::Redirect => "redirect",
    };
    json!({ "layer": cause.layer, "path": printable(&cause.path), "what": why })
}

fn form_of(whiteout: Whiteout) -> &'static str {
    match whiteout {
        Whiteout::Device => "char",
        Whiteout::Xattr => "xattr",
        Whiteout::File => "aufs",
    }
}

fn type_of(kind: FileType) -> &'static str {
    match kind {
        FileType::Regular => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::CharDevice => "char",
        FileType::BlockDevice => "block",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
    }
}
