//! The upper as it lies on the disk: canonical markers, and none that is not needed.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::spec::{Dir, Item, NAMES};

/// Audits an upper that was empty when it was first mounted.
pub fn upper(root: &Path, lowers: &[Dir], renamed_dir: bool) -> Result<(), String> {
    dir(root, &cut(lowers.iter().collect()), renamed_dir)
}

/// The work directory holds nothing but the whiteout that others are links of.
pub fn work(workdir: &Path) -> Result<(), String> {
    let mut whiteouts = 0;
    for entry in fs::read_dir(workdir.join("work")).unwrap() {
        let path = entry.unwrap().path();
        if !is_whiteout(&path) {
            return Err(format!("{} is left", path.display()));
        }
        whiteouts += 1;
    }
    if whiteouts > 1 { Err(format!("{whiteouts} whiteouts are left in work")) } else { Ok(()) }
}

fn is_whiteout(path: &Path) -> bool {
    let meta = fs::symlink_metadata(path).unwrap();
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn cut(stack: Vec<&Dir>) -> Vec<&Dir> {
    let opaque = stack.iter().position(|dir| dir.opaque.is_some());
    let count = opaque.map_or(stack.len(), |position| position + 1);
    stack.into_iter().take(count).collect()
}

/// What the lowers show under a name.
enum Below<'a> {
    Nothing,
    Other,
    Dirs(Vec<&'a Dir>),
}

fn below<'a>(stack: &[&'a Dir], name: &[u8]) -> Below<'a> {
    let Some(name) = NAMES.iter().position(|known| *known == name) else { return Below::Nothing };
    let name = u8::try_from(name).unwrap();
    let mut dirs = Vec::new();
    for layer in stack {
        match layer.get(name) {
            Some(Item::Dir(inner)) => dirs.push(inner),
            Some(Item::Whiteout) => break,
            Some(_) if dirs.is_empty() => return Below::Other,
            Some(_) => break,
            None => {}
        }
        if layer.hidden.contains(&name) {
            break;
        }
    }
    if dirs.is_empty() { Below::Nothing } else { Below::Dirs(cut(dirs)) }
}

fn dir(path: &Path, lowers: &[&Dir], renamed_dir: bool) -> Result<(), String> {
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let inner = entry.path();
        let wrong = |what: &str| Err(format!("upper: {}: {what}", inner.display()));
        if entry.file_name().as_bytes().starts_with(b".wh.") {
            return wrong("a whiteout by name");
        }
        let below = below(lowers, entry.file_name().as_bytes());
        if is_whiteout(&inner) {
            match below {
                Below::Nothing => return wrong("a whiteout for what no lower has"),
                _ => continue,
            }
        }
        let opaque = marks(&inner)?;
        if !fs::symlink_metadata(&inner).unwrap().is_dir() {
            if opaque {
                return wrong("an opaque mark on what is not a directory");
            }
            continue;
        }
        let through = match below {
            Below::Nothing if opaque && !renamed_dir => return wrong("opaque over nothing"),
            Below::Dirs(dirs) if !opaque => dirs,
            _ => Vec::new(),
        };
        dir(&inner, &through, renamed_dir)?;
    }
    Ok(())
}

/// Whether the object has an opaque mark; any other mark of an overlay is an error.
fn marks(path: &Path) -> Result<bool, String> {
    let mut opaque = false;
    for name in xattr::list(path).unwrap() {
        let bytes = name.as_bytes();
        let escaped = bytes.starts_with(b"trusted.overlay.overlay.")
            || bytes.starts_with(b"user.overlay.overlay.");
        if bytes == b"trusted.overlay.opaque" {
            opaque = xattr::get(path, &name).unwrap().as_deref() == Some(b"y");
            if !opaque {
                return Err(format!("upper: {}: an opaque mark without y", path.display()));
            }
        } else if bytes == b"trusted.overlay.impure" {
            let set = xattr::get(path, &name).unwrap().as_deref() == Some(b"y");
            if !set || !fs::symlink_metadata(path).unwrap().is_dir() {
                return Err(format!("upper: {}: an impure mark of its own kind", path.display()));
            }
        } else if bytes == b"trusted.overlay.nlink" {
            if fs::symlink_metadata(path).unwrap().nlink() < 2 {
                return Err(format!("upper: {}: counted, but not in the index", path.display()));
            }
        } else if bytes == b"trusted.overlay.origin" {
            // Where it was copied up from: the object's number comes from there.
        } else if !escaped
            && [&b"trusted.overlay."[..], b"user.overlay.", b"user.fuseoverlayfs."]
                .iter()
                .any(|prefix| bytes.starts_with(prefix))
        {
            return Err(format!("upper: {}: {}", path.display(), name.display()));
        }
    }
    Ok(opaque)
}
