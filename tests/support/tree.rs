//! Whole trees, taken down and compared.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What stands at one path.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: char,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Of files and symbolic links; what it is for directories is the file system's own affair.
    pub size: u64,
    pub rdev: u64,
    pub nlink: u64,
    pub mtime: (i64, i64),
    pub target: Option<PathBuf>,
    pub content: Option<u64>,
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
}

/// Everything under a directory, itself included as the empty path.
pub type Tree = BTreeMap<PathBuf, Entry>;

/// What [`differences`] looks at besides type, mode, owner, size, device, target and content.
#[derive(Clone, Copy, Debug)]
pub struct Compare {
    pub mtime: bool,
    /// Of what is not a directory.
    pub nlink: bool,
    pub xattrs: bool,
}

impl Compare {
    /// All but link counts.
    pub const STRICT: Self = Self { mtime: true, nlink: false, xattrs: true };
    /// Neither times nor link counts.
    pub const TIMELESS: Self = Self { mtime: false, nlink: false, xattrs: true };
}

/// Takes down all that is under `root`. Fails the test on the first error.
pub fn dump(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let full = root.join(&path);
        let entry = Entry::read(&full).unwrap_or_else(|err| panic!("{}: {err}", full.display()));
        if entry.kind == 'd' {
            let names = fs::read_dir(&full);
            for name in names.unwrap_or_else(|err| panic!("{}: {err}", full.display())) {
                todo.push(path.join(name.unwrap().file_name()));
            }
        }
        let twice = tree.insert(path, entry);
        assert!(twice.is_none(), "{} is listed twice", full.display());
    }
    tree
}

impl Entry {
    fn read(path: &Path) -> std::io::Result<Self> {
        let meta = fs::symlink_metadata(path)?;
        let kind = kind(&meta);
        let mut xattrs = BTreeMap::new();
        for name in xattr::list(path)? {
            // Where it goes between the two calls, it was not there.
            if let Some(value) = xattr::get(path, &name)?
                && name != "security.selinux"
            {
                xattrs.insert(name, value);
            }
        }
        Ok(Self {
            kind,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            size: if kind == 'd' { 0 } else { meta.size() },
            rdev: if matches!(kind, 'c' | 'b') { meta.rdev() } else { 0 },
            nlink: meta.nlink(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            target: (kind == 'l').then(|| fs::read_link(path)).transpose()?,
            content: (kind == 'f').then(|| hash(path)).transpose()?,
            xattrs,
        })
    }

    fn lines(&self, compare: Compare) -> Vec<String> {
        let mut lines = vec![format!(
            "{}{:04o} {}:{} size={} rdev={:x}",
            self.kind, self.mode, self.uid, self.gid, self.size, self.rdev
        )];
        if let Some(target) = &self.target {
            lines.push(format!("-> {}", target.display()));
        }
        if let Some(content) = self.content {
            lines.push(format!("content#{content:016x}"));
        }
        if compare.mtime {
            lines.push(format!("mtime={}.{:09}", self.mtime.0, self.mtime.1));
        }
        if compare.nlink && self.kind != 'd' {
            lines.push(format!("nlink={}", self.nlink));
        }
        if compare.xattrs {
            for (name, value) in &self.xattrs {
                lines.push(format!("{}={}", name.display(), value.escape_ascii()));
            }
        }
        lines
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = Compare { nlink: true, ..Compare::STRICT };
        f.write_str(&self.lines(all).join(" "))
    }
}

fn kind(meta: &fs::Metadata) -> char {
    let kind = meta.file_type();
    match () {
        () if kind.is_dir() => 'd',
        () if kind.is_symlink() => 'l',
        () if kind.is_fifo() => 'p',
        () if kind.is_socket() => 's',
        () if kind.is_char_device() => 'c',
        () if kind.is_block_device() => 'b',
        () => 'f',
    }
}

fn hash(path: &Path) -> std::io::Result<u64> {
    let mut file = fs::File::open(path)?;
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        let mut filled = 0;
        // Chunks of one size, or the hash would depend on how reads are cut.
        while filled < buffer.len() {
            match file.read(&mut buffer[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        if filled == 0 {
            return Ok(hasher.finish());
        }
        buffer[..filled].hash(&mut hasher);
    }
}

/// What differs, one line a fact; empty if nothing does.
pub fn differences(left: &Tree, right: &Tree, compare: Compare) -> Vec<String> {
    let mut found = Vec::new();
    let mut paths: Vec<_> = left.keys().chain(right.keys()).collect();
    paths.sort();
    paths.dedup();
    for path in paths {
        let name = path.display();
        match (left.get(path), right.get(path)) {
            (Some(entry), None) => found.push(format!("only left: {name}: {entry:?}")),
            (None, Some(entry)) => found.push(format!("only right: {name}: {entry:?}")),
            (Some(one), Some(other)) => {
                let (one, other) = (one.lines(compare), other.lines(compare));
                let left_has = one.iter().filter(|line| !other.contains(line));
                found.extend(left_has.map(|line| format!("left: {name}: {line}")));
                let right_has = other.iter().filter(|line| !one.contains(line));
                found.extend(right_has.map(|line| format!("right: {name}: {line}")));
            }
            (None, None) => {}
        }
    }
    found
}

/// Fails, and says where, if the two trees differ.
#[track_caller]
pub fn assert_same_tree(left: &Tree, right: &Tree, compare: Compare) {
    let found = differences(left, right, compare);
    assert!(
        found.is_empty(),
        "the trees differ:\n{}",
        found.iter().take(40).cloned().collect::<Vec<_>>().join("\n")
    );
}
