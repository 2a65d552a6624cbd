//! A whole tree as text, one line an object: what two trees are compared by.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::word::escape;

/// The attributes of one object, by name.
pub type Attrs = BTreeMap<String, String>;

/// Tells the times that operations set as a side effect from those that somebody chose.
pub struct Clock(i64);

fn seconds_since_1970() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs().cast_signed()
}

impl Clock {
    pub fn start() -> Self {
        Self(seconds_since_1970())
    }

    /// `now` for a time since the start: two runs side by side cannot agree on more.
    fn show(&self, seconds: i64, nanos: i64) -> String {
        let recent = self.0 - 2..=seconds_since_1970() + 2;
        if recent.contains(&seconds) { "now".into() } else { format!("{seconds}.{nanos:09}") }
    }
}

/// Short content in full, longer content by length and hash.
pub fn show_content(content: &[u8]) -> String {
    if content.len() <= 64 {
        return format!("[{}]", escape(content));
    }
    // FNV-1a, 64 bits.
    let hash = content.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("[len:{},hash:{hash:016x}]", content.len())
}

fn kind(meta: &Metadata) -> &'static str {
    let kind = meta.file_type();
    match () {
        () if kind.is_dir() => "dir",
        () if kind.is_symlink() => "symlink",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () if kind.is_char_device() && meta.rdev() == 0 => "whiteout",
        () if kind.is_char_device() => "char",
        () if kind.is_block_device() => "block",
        () => "file",
    }
}

/// What stat(2) tells, as far as two file systems can agree on it.
pub fn describe(meta: &Metadata, clock: &Clock) -> Attrs {
    let mut attrs = Attrs::from([
        ("kind".into(), kind(meta).into()),
        ("mode".into(), format!("{:o}", meta.mode() & 0o7777)),
        ("owner".into(), format!("{}:{}", meta.uid(), meta.gid())),
        ("mtime".into(), clock.show(meta.mtime(), meta.mtime_nsec())),
    ]);
    if !meta.is_dir() {
        // The size of a directory and the count of its links are each file system's own affair.
        attrs.insert("size".into(), meta.size().to_string());
        attrs.insert("nlink".into(), meta.nlink().to_string());
    }
    if meta.file_type().is_char_device() || meta.file_type().is_block_device() {
        attrs.insert("rdev".into(), format!("{:x}", meta.rdev()));
    }
    attrs
}

fn examine(path: &Path, meta: &Metadata, clock: &Clock) -> io::Result<Attrs> {
    let mut attrs = describe(meta, clock);
    if meta.is_file() {
        attrs.insert("content".into(), show_content(&fs::read(path)?));
    }
    if meta.is_symlink() {
        let target = fs::read_link(path)?;
        attrs.insert("target".into(), escape(target.as_os_str().as_bytes()));
    }
    for name in xattr::list(path)? {
        let value = xattr::get(path, &name)?.unwrap_or_default();
        attrs.insert(format!("xattr:{}", escape(name.as_bytes())), escape(&value));
    }
    Ok(attrs)
}

/// A tree: path relative to its root (the root is `.`), and what stands there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<String, Attrs>);

impl Tree {
    /// Walks the tree below `root`. What cannot be examined says so in its place.
    pub fn walk(root: &Path, clock: &Clock) -> Self {
        let mut tree = Self::default();
        let mut inodes = BTreeMap::new();
        tree.add(root, ".", clock, &mut inodes);
        // Of what is said to be one file each name tells the first.
        for names in inodes.into_values().filter(|names: &Vec<String>| names.len() > 1) {
            let first = names.iter().min().cloned().unwrap_or_default();
            for name in names {
                tree.0.entry(name).or_default().insert("same".into(), first.clone());
            }
        }
        tree
    }

    fn add(
        &mut self,
        path: &Path,
        name: &str,
        clock: &Clock,
        inodes: &mut BTreeMap<u64, Vec<String>>,
    ) {
        let failed = |what: &str, err: io::Error| {
            let errno =
                err.raw_os_error().map_or(nix::errno::Errno::EIO, nix::errno::Errno::from_raw);
            Attrs::from([(what.to_owned(), format!("{errno:?}"))])
        };
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(err) => {
                self.0.insert(name.into(), failed("lstat", err));
                return;
            }
        };
        let attrs = examine(path, &meta, clock).unwrap_or_else(|err| failed("examine", err));
        let attrs = self.0.entry(name.into()).or_insert(attrs);
        if !meta.is_dir() {
            inodes.entry(meta.ino()).or_default().push(name.into());
            return;
        }
        let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = match entries {
            Ok(entries) => entries,
            Err(err) => {
                attrs.extend(failed("readdir", err));
                return;
            }
        };
        for entry in entries {
            let base = escape(entry.file_name().as_bytes());
            let name = if name == "." { base } else { format!("{name}/{base}") };
            if self.0.contains_key(&name) {
                self.0.entry(name).or_default().insert("listed".into(), "twice".into());
                continue;
            }
            self.add(&entry.path(), &name, clock, inodes);
            let told = entry.file_type().ok();
            let found = fs::symlink_metadata(entry.path()).map(|meta| meta.file_type()).ok();
            if found.is_some() && told != found {
                let attrs = self.0.entry(name).or_default();
                attrs.insert("d_type".into(), escape(format!("{told:?}").as_bytes()));
            }
        }
    }

    /// Leaves out which names are of one file.
    pub fn drop_numbers(&mut self) {
        for attrs in self.0.values_mut() {
            attrs.remove("same");
        }
    }

    pub fn parse(lines: &[String]) -> Self {
        let entries = lines.iter().map(|line| {
            let mut words = line.split(' ');
            let path = words.next().unwrap_or_default().to_owned();
            let attrs = words.filter_map(|word| word.split_once('='));
            (path, attrs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
        });
        Self(entries.collect())
    }

    /// One line for everything that differs; empty if the trees are equal.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (path, attrs) in &self.0 {
            let Some(others) = other.0.get(path) else {
                found.push(format!("{path}: only in the first ({attrs:?})"));
                continue;
            };
            let keys = attrs.keys().chain(others.keys().filter(|key| !attrs.contains_key(*key)));
            for key in keys.filter(|key| attrs.get(*key) != others.get(*key)) {
                let (one, two) = (attrs.get(key), others.get(key));
                found.push(format!("{path}: {key} is {one:?} in the first, {two:?} in the second"));
            }
        }
        let added = other.0.iter().filter(|(path, _)| !self.0.contains_key(*path));
        found.extend(added.map(|(path, attrs)| format!("{path}: only in the second ({attrs:?})")));
        found
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, attrs) in &self.0 {
            f.write_str(path)?;
            for (key, value) in attrs {
                write!(f, " {key}={value}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
