//! The engine as a kernel would use it: lookups that are counted, whole trees taken down.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Once;

use ovlmerge::config::{Config, UpperDirs};
use ovlmerge::error::{Errno, Error, Result};
use ovlmerge::sys::{FileType, Stat};
use ovlmerge::vfs::{Entry, NodeId, Vfs};

/// What a daemon does for itself: modes come from requests, not from the umask of the process.
pub fn clear_umask() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    });
}

/// A mount without a mount.
#[derive(Debug)]
pub struct Client {
    pub vfs: Vfs,
    /// Nodes that were given out and not taken back, in that order.
    given: RefCell<Vec<NodeId>>,
    turn: Cell<u32>,
}

/// One object as a user sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen {
    pub kind: FileType,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    pub nlink: u32,
    pub ino: u64,
    /// Seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Of a file its bytes, of a symbolic link its target.
    pub content: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mode, uid, gid, rdev, size, nlink, mtime, .. } = self;
        write!(f, "{kind:?} {mode:o} {uid}:{gid} rdev={rdev:x} size={size} nlink={nlink}")?;
        write!(f, " mtime={}.{:09}", mtime.0, mtime.1)?;
        write!(f, " \"{}\"", self.content.escape_ascii())?;
        for (name, value) in &self.xattrs {
            write!(f, " {}={}", name.escape_ascii(), value.escape_ascii())?;
        }
        Ok(())
    }
}

/// A whole tree by path; the root is the empty one.
pub type Tree = BTreeMap<Vec<u8>, Seen>;

impl Client {
    pub fn open(lowers: &[PathBuf], upper: Option<(&Path, &Path)>) -> Result<Self> {
        let upper = upper.map(|(upper, work)| UpperDirs { upper: upper.into(), work: work.into() });
        Self::with(&Config::new(lowers.to_vec(), upper, "/nowhere".into()))
    }

    pub fn with(config: &Config) -> Result<Self> {
        clear_umask();
        let vfs = Vfs::open(config)?;
        Ok(Self { vfs, given: RefCell::default(), turn: Cell::new(0) })
    }

    /// Notes that an operation gave a node out.
    pub fn note(&self, entry: Entry) -> Entry {
        self.given.borrow_mut().push(entry.node);
        entry
    }

    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Entry> {
        Ok(self.note(self.vfs.lookup(parent, name)?))
    }

    /// Looks up every component.
    pub fn walk(&self, path: &[u8]) -> Result<NodeId> {
        let mut here = NodeId::ROOT;
        for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            here = self.lookup(here, name)?.node;
        }
        Ok(here)
    }

    /// Takes all lookups back, what was found last first.
    pub fn forget_all(&self) {
        for node in self.given.borrow_mut().drain(..).rev() {
            self.vfs.forget(node, 1);
        }
    }

    /// Names, types and numbers in a directory, read in several pieces; `.` and `..` left out.
    pub fn list(&self, dir: NodeId) -> Result<Vec<(Vec<u8>, FileType, u64)>> {
        const PIECE: usize = 3;
        let (mut all, mut from, mut dots) = (Vec::new(), 0, 0);
        loop {
            let mut taken = 0;
            self.vfs.readdir(dir, from, |entry| {
                if taken == PIECE {
                    return false;
                }
                taken += 1;
                from = entry.next;
                if matches!(entry.name, b"." | b"..") {
                    dots += 1;
                } else {
                    all.push((entry.name.to_vec(), entry.kind, entry.number));
                }
                true
            })?;
            if taken == 0 {
                break;
            }
        }
        assert_eq!(dots, 2, "`.` and `..`");
        Ok(all)
    }

    /// The same names by readdirplus, with what it gives out.
    pub fn list_plus(&self, dir: NodeId) -> Result<Vec<(Vec<u8>, Entry)>> {
        let mut all = Vec::new();
        self.vfs.readdir_plus(dir, 0, ovlmerge::vfs::Attributes::All, |name, entry| {
            if let ovlmerge::vfs::Plus::Known(entry) = entry {
                all.push((name.name.to_vec(), self.note(entry)));
            }
            true
        })?;
        Ok(all)
    }

    /// One object, whole.
    pub fn see(&self, node: NodeId) -> Result<Seen> {
        let stat = self.vfs.getattr(node)?;
        let content = match stat.kind() {
            FileType::Regular => self.content(node)?,
            FileType::Symlink => self.vfs.readlink(node)?,
            _ => Vec::new(),
        };
        let mut xattrs = BTreeMap::new();
        let names = self.vfs.listxattr(node)?;
        for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
            xattrs.insert(name.to_vec(), self.vfs.getxattr(node, name)?);
        }
        Ok(Seen {
            kind: stat.kind(),
            mode: stat.permissions(),
            uid: stat.uid,
            gid: stat.gid,
            rdev: stat.rdev,
            size: stat.size,
            nlink: stat.nlink,
            ino: stat.ino,
            mtime: (stat.mtime.sec, stat.mtime.nsec),
            content,
            xattrs,
        })
    }

    /// All bytes of a file.
    pub fn content(&self, node: NodeId) -> Result<Vec<u8>> {
        let mut buf = [0; 512];
        let mut content = Vec::new();
        loop {
            let read = self.vfs.read(node, content.len() as u64, &mut buf)?;
            content.extend_from_slice(&buf[..read]);
            if read < buf.len() {
                return Ok(content);
            }
        }
    }

    /// The whole tree. Everything that can be asked in two ways is, and has to agree.
    pub fn tree(&self) -> Result<Tree> {
        let mut tree = Tree::new();
        let mut todo = vec![(Vec::new(), NodeId::ROOT)];
        while let Some((path, node)) = todo.pop() {
            let seen = self.see(node).map_err(at(&path))?;
            if seen.kind.is_dir() {
                self.descend(&path, node, &mut todo).map_err(at(&path))?;
            }
            tree.insert(path, seen);
        }
        Ok(tree)
    }

    fn descend(&self, path: &[u8], dir: NodeId, todo: &mut Vec<(Vec<u8>, NodeId)>) -> Result<()> {
        let shown = |name: &[u8]| name.escape_ascii().to_string();
        self.turn.set(self.turn.get() + 1);
        let plus = self.turn.get().is_multiple_of(2).then(|| self.list_plus(dir)).transpose()?;
        let list = self.list(dir)?;
        for (name, kind, number) in &list {
            let entry = self.lookup(dir, name).map_err(|err| err.context(shown(name)))?;
            // A name that is a file of its own, as without an index, has a node of its own and the
            // number of its object.
            if entry.stat.kind().is_dir() {
                assert_eq!(entry.stat.ino, entry.node.0, "{}", shown(name));
            }
            assert_eq!(*kind, entry.stat.kind(), "{}: type in the listing", shown(name));
            // One that gets a number only when it is looked up.
            if *number != u64::MAX {
                assert_eq!(*number, entry.stat.ino, "{}: number in the listing", shown(name));
            }
            let again = self.vfs.getattr(entry.node).map_err(|err| err.context(shown(name)))?;
            assert_eq!(timeless(entry.stat), timeless(again), "{}: getattr", shown(name));
            let below = [path, if path.is_empty() { b"" } else { b"/" }, name].concat();
            assert!(!todo.iter().any(|(known, _)| *known == below), "{} twice", shown(name));
            todo.push((below, entry.node));
        }
        if let Some(plus) = plus {
            let mut names: Vec<_> =
                plus.into_iter().map(|(name, entry)| (name, entry.node.0)).collect();
            let mut others = Vec::new();
            for (name, _, _) in list {
                let number = self.lookup(dir, &name)?.node.0;
                others.push((name, number));
            }
            names.sort();
            others.sort();
            assert_eq!(names, others, "readdirplus and readdir");
        }
        Ok(())
    }
}

/// Reading sets access times where the file system keeps them, and a directory that lends its
/// metadata to another has a change time of its own.
fn timeless(stat: Stat) -> Stat {
    Stat { atime: Default::default(), ctime: Default::default(), ..stat }
}

fn at(path: &[u8]) -> impl Fn(Error) -> Error + '_ {
    move |err| err.context(format!("/{}", path.escape_ascii()))
}

/// Fails unless `result` is this error.
#[track_caller]
pub fn assert_errno<T: fmt::Debug>(result: Result<T>, errno: Errno) {
    match result {
        Ok(value) => panic!("{value:?} instead of {errno:?}"),
        Err(err) => assert_eq!(err.errno(), errno, "{err}"),
    }
}
