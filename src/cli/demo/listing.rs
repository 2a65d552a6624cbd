//! Directories as lines of text.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::{Doing, Stop};

/// The names in a directory, in order.
pub fn names(dir: &Path) -> Result<Vec<String>, Stop> {
    let entries = fs::read_dir(dir).doing(format_args!("cannot list {}", dir.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.doing(format_args!("cannot list {}", dir.display()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The files below a directory on one line.
pub fn tree(dir: &Path) -> Result<String, Stop> {
    let mut files = Vec::new();
    walk(dir, dir, &mut |name, _, metadata| {
        if !metadata.is_dir() {
            files.push(name.to_owned());
        }
        Ok(())
    })?;
    Ok(files.join("  "))
}

/// Everything below a directory of a layer, with types, modes and extended attributes.
pub fn raw(dir: &Path) -> Result<String, Stop> {
    let mut lines = String::new();
    walk(dir, dir, &mut |name, path, metadata| {
        let attributes = attributes(path)?.join(" ");
        let mode = metadata.mode() & 0o7777;
        let kind = kind(metadata);
        let line = format!("  {kind:<9}{mode:04o}  {name:<16}{attributes}");
        lines.push_str(line.trim_end());
        lines.push('\n');
        Ok(())
    })?;
    Ok(lines)
}

type Visit<'a> = &'a mut dyn FnMut(&str, &Path, &Metadata) -> Result<(), Stop>;

fn walk(root: &Path, dir: &Path, visit: Visit<'_>) -> Result<(), Stop> {
    for name in names(dir)? {
        let path = dir.join(name);
        let metadata = fs::symlink_metadata(&path);
        let metadata = metadata.doing(format_args!("cannot stat {}", path.display()))?;
        let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        visit(&shown, &path, &metadata)?;
        if metadata.is_dir() {
            walk(root, &path, visit)?;
        }
    }
    Ok(())
}

fn kind(metadata: &Metadata) -> String {
    let kind = metadata.file_type();
    if kind.is_char_device() {
        let device = metadata.rdev();
        return format!("c {}:{}", libc::major(device), libc::minor(device));
    }
    let word = if kind.is_dir() {
        "dir"
    } else if kind.is_file() {
        "file"
    } else {
        "other"
    };
    word.into()
}

/// The extended attributes of a file that concern an overlay, as `name=value`.
fn attributes(path: &Path) -> Result<Vec<String>, Stop> {
    let listed = xattr::list(path);
    let listed = listed.doing(format_args!("cannot list attributes of {}", path.display()))?;
    let mut shown = Vec::new();
    for name in listed {
        let name = name.to_string_lossy().into_owned();
        if !name.contains(".overlay.") {
            continue;
        }
        let value = attribute(path, &name)?.unwrap_or_default();
        let text = if value.iter().all(u8::is_ascii_graphic) {
            String::from_utf8_lossy(&value).into_owned()
        } else {
            format!("({} bytes)", value.len())
        };
        shown.push(format!("{name}={text}"));
    }
    shown.sort();
    Ok(shown)
}

/// The value of an extended attribute, if the file has it.
pub fn attribute(path: &Path, name: &str) -> Result<Option<Vec<u8>>, Stop> {
    xattr::get(path, name).doing(format_args!("cannot read {name} of {}", path.display()))
}
