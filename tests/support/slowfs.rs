//! A file system that shows a directory, and is as slow as a test wants it: each request waits for
//! a time, waits until the file system is thawed, or fails.
//!
//! The crate `fuser` serves it, on threads of the test. So no thread of the test may enter it while
//! it is frozen: a program that is started can be killed, a thread cannot.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData,
    ReplyDirectory, ReplyEntry, ReplyOpen, Request, SessionACL,
};
use parking_lot::{Condvar, Mutex};

use super::scratch::Dir;

/// How it behaves now.
#[derive(Debug, Default)]
struct Behaviour {
    delay: Duration,
    is_frozen: bool,
    errno: Option<i32>,
    /// Requests that wait for the thaw.
    waiting: usize,
}

#[derive(Debug, Default)]
struct Gate {
    behaviour: Mutex<Behaviour>,
    thawed: Condvar,
}

impl Gate {
    /// Waits as long as a request has to, and says how it fails, if it has to.
    fn pass(&self) -> Result<(), Errno> {
        let delay = self.behaviour.lock().delay;
        std::thread::sleep(delay);
        let mut behaviour = self.behaviour.lock();
        behaviour.waiting += 1;
        self.thawed.wait_while(&mut behaviour, |behaviour| behaviour.is_frozen);
        behaviour.waiting -= 1;
        behaviour.errno.map_or(Ok(()), |errno| Err(Errno::from_i32(errno)))
    }
}

/// The mounted file system. It goes when this goes, thawed.
#[derive(Debug)]
pub struct SlowFs {
    gate: Arc<Gate>,
    session: Option<BackgroundSession>,
}

impl SlowFs {
    /// Shows `source` at `at`, to every user, without any delay at first.
    pub fn mount(source: &Path, at: &Dir) -> Self {
        let gate = Arc::new(Gate::default());
        let paths = HashMap::from([(INodeNo::ROOT.0, source.to_owned())]);
        let shown = Shown { gate: Arc::clone(&gate), paths: Arc::new(Mutex::new(paths)) };
        let mut config = fuser::Config::default();
        config.acl = SessionACL::All;
        config.mount_options.extend([MountOption::RO, MountOption::FSName("slow".into())]);
        let session = fuser::spawn_mount(shown, at.root(), &config).unwrap();
        Self { gate, session: Some(session) }
    }

    /// Each request takes so long from now on.
    pub fn delay(&self, delay: Duration) {
        self.gate.behaviour.lock().delay = delay;
    }

    /// No request is answered until what is returned goes. It has to go before the mount that waits
    /// for it, which could not end else.
    pub fn freeze(&self) -> Frozen {
        self.gate.behaviour.lock().is_frozen = true;
        Frozen(Arc::clone(&self.gate))
    }

    /// Each request fails from now on, or none.
    pub fn fail(&self, errno: Option<i32>) {
        self.gate.behaviour.lock().errno = errno;
    }

    /// How many requests wait for the thaw.
    pub fn waiting(&self) -> usize {
        self.gate.behaviour.lock().waiting
    }
}

/// A file system that answers nothing.
#[must_use]
#[derive(Debug)]
pub struct Frozen(Arc<Gate>);

impl Frozen {
    /// All requests are answered.
    pub fn thaw(self) {}
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.behaviour.lock().is_frozen = false;
        self.0.thawed.notify_all();
    }
}

impl Drop for SlowFs {
    fn drop(&mut self) {
        self.delay(Duration::ZERO);
        if let Some(Err(err)) = self.session.take().map(BackgroundSession::umount_and_join) {
            eprintln!("a slow file system stays: {err}");
        }
    }
}

/// Objects by the numbers that they have on their own file system, but for the root.
#[derive(Clone)]
struct Shown {
    gate: Arc<Gate>,
    paths: Arc<Mutex<HashMap<u64, PathBuf>>>,
}

impl Shown {
    fn path(&self, number: INodeNo) -> Result<PathBuf, Errno> {
        self.paths.lock().get(&number.0).cloned().ok_or(Errno::ENOENT)
    }

    /// Answers on a thread of its own, so that no request waits for another.
    fn later(&self, answer: impl FnOnce(&Self, Result<(), Errno>) + Send + 'static) {
        let this = self.clone();
        std::thread::spawn(move || answer(&this, this.gate.pass()));
    }

    fn look_up(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let path = self.path(parent)?.join(name);
        let attributes = attributes(&fs::symlink_metadata(&path)?);
        self.paths.lock().insert(attributes.ino.0, path);
        Ok(attributes)
    }

    fn get_attributes(&self, number: INodeNo) -> Result<FileAttr, Errno> {
        let found = attributes(&fs::symlink_metadata(self.path(number)?)?);
        Ok(FileAttr { ino: number, ..found })
    }

    fn list(&self, number: INodeNo, from: u64, reply: &mut ReplyDirectory) -> Result<(), Errno> {
        let mut entries = fs::read_dir(self.path(number)?)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for (at, entry) in (0u64..).zip(entries).skip(usize::try_from(from).unwrap()) {
            let found = attributes(&entry.metadata()?);
            if reply.add(found.ino, at + 1, found.kind, entry.file_name()) {
                break;
            }
        }
        Ok(())
    }
}

fn attributes(found: &Metadata) -> FileAttr {
    let kind = found.file_type();
    let kind = match () {
        () if kind.is_dir() => FileType::Directory,
        () if kind.is_symlink() => FileType::Symlink,
        () if kind.is_char_device() => FileType::CharDevice,
        () => FileType::RegularFile,
    };
    let modified = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    FileAttr {
        ino: INodeNo(found.ino()),
        size: found.size(),
        blocks: found.blocks(),
        atime: modified,
        mtime: modified,
        ctime: modified,
        crtime: modified,
        kind,
        perm: u16::try_from(found.mode() & 0o7777).unwrap(),
        nlink: u32::try_from(found.nlink()).unwrap(),
        uid: found.uid(),
        gid: found.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// The kernel remembers nothing, so that each operation is a request.
const NEVER: Duration = Duration::ZERO;

impl Filesystem for Shown {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Lookups in one directory side by side.
        config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS).ok();
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        self.later(move |this, passed| match passed.and_then(|()| this.look_up(parent, &name)) {
            Ok(found) => reply.entry(&NEVER, &found, Generation(0)),
            Err(errno) => reply.error(errno),
        });
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.later(move |this, passed| match passed.and_then(|()| this.get_attributes(ino)) {
            Ok(found) => reply.attr(&NEVER, &found),
            Err(errno) => reply.error(errno),
        });
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        self.later(move |this, passed| {
            let target = || -> Result<PathBuf, Errno> { Ok(fs::read_link(this.path(ino)?)?) };
            match passed.and_then(|()| target()) {
                Ok(target) => reply.data(target.as_os_str().as_encoded_bytes()),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.later(move |_, passed| match passed {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        });
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.later(move |this, passed| {
            let mut bytes = vec![0; size as usize];
            let mut read = || -> Result<usize, Errno> {
                Ok(File::open(this.path(ino)?)?.read_at(&mut bytes, offset)?)
            };
            match passed.and_then(|()| read()) {
                Ok(len) => reply.data(&bytes[..len]),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.later(move |this, passed| {
            match passed.and_then(|()| this.list(ino, offset, &mut reply)) {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            }
        });
    }
}
