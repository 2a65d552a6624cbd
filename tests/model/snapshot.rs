//! A directory tree as it lies on the disk, to see that nothing has changed it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub type Snapshot = BTreeMap<PathBuf, String>;

pub fn take(root: &Path) -> Snapshot {
    let mut all = Snapshot::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut text = format!(
            "{:o} {}:{} ino={} nlink={} rdev={} size={} mtime={}.{} ctime={}.{}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.ino(),
            meta.nlink(),
            meta.rdev(),
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        );
        for name in xattr::list(&path).unwrap() {
            write!(text, " {}={:?}", name.display(), xattr::get(&path, &name).unwrap()).unwrap();
        }
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if meta.is_file() {
            write!(text, " {:?}", fs::read(&path).unwrap()).unwrap();
        } else if meta.is_symlink() {
            write!(text, " -> {}", fs::read_link(&path).unwrap().display()).unwrap();
        }
        all.insert(path, text);
    }
    all
}

pub fn expect_same(before: &Snapshot, root: &Path) -> Result<(), String> {
    let after = take(root);
    let changed =
        before.keys().chain(after.keys()).find(|path| before.get(*path) != after.get(*path));
    match changed {
        None => Ok(()),
        Some(path) => Err(format!(
            "a lower was changed: {}: {:?} before, {:?} after",
            path.display(),
            before.get(path),
            after.get(path)
        )),
    }
}
