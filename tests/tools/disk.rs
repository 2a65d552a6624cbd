//! Layers on the disk as lines.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::support::Dir;

/// What is on the disk below a directory, sorted: `d a`, `f a = data`, `l a -> target`, `w a` for a
/// whiteout device, with attributes of overlays as ` {opaque=y}`.
pub fn disk(dir: &Dir) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = vec![dir.root().to_owned()];
    while let Some(path) = open.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let name = path.strip_prefix(dir.root()).unwrap().display().to_string();
        let line = match () {
            () if kind.is_dir() => format!("d {name}"),
            () if kind.is_file() => {
                let data = std::fs::read(&path).unwrap();
                let data = data.escape_ascii();
                if meta.len() == 0 { format!("f {name}") } else { format!("f {name} = {data}") }
            }
            () if kind.is_symlink() => {
                format!("l {name} -> {}", std::fs::read_link(&path).unwrap().display())
            }
            () if kind.is_char_device() && meta.rdev() == 0 => format!("w {name}"),
            () => format!("? {name}"),
        };
        lines.push(line + &marks(&path));
        if kind.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort_by(|one, other| one[2..].cmp(&other[2..]));
    lines
}

fn marks(path: &Path) -> String {
    let mut marks: Vec<_> = xattr::list(path)
        .unwrap()
        .filter_map(|name| {
            let bytes = name.as_bytes();
            let short =
                bytes.strip_prefix(b"trusted.overlay.").or(bytes.strip_prefix(b"user.overlay."));
            let short = short?.escape_ascii().to_string();
            let value = xattr::get(path, &name).unwrap().unwrap();
            Some(format!(" {{{short}={}}}", value.escape_ascii()))
        })
        .collect();
    marks.sort();
    marks.concat()
}
