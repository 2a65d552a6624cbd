//! Requests to operations, results to replies.
//!
//! A request whose operation may copy a file or wait for the disk is answered from the pool; all
//! others on the thread that read it. A panic in an operation is EIO for that request and a line in
//! the log; the mount lives on.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno as Raw, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::answer::{Answer, absent, guarded, reply_bytes, reply_empty, reply_written};
use super::pool::Pool;
use super::{convert, inode_flags};
use crate::config::Config;
use crate::error::Result;
use crate::format::overlay::ACL_ACCESS;
use crate::sys::creds;
use crate::sys::ioctl;
use crate::sys::xattr::SetMode;
use crate::vfs::{
    Body, Change, Entry, NodeId, Plus, Privilege, RenameMode, Request as Wanted, Vfs, Write,
};

/// How the kernel tells of files being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Not at all: OPEN is answered ENOSYS once. For a server that can open any file at any time.
    NotAsked,
    /// Each time: the descriptor stays open as long as the file is.
    Pinned,
}

/// The filesystem as fuser calls it.
pub struct Adapter {
    vfs: Arc<Vfs>,
    pool: Pool,
    timeout: Duration,
    open_mode: OpenMode,
    /// The kernel takes ENOSYS for OPENDIR (Linux 5.1).
    no_opendir: bool,
    writeback: bool,
    max_write: u32,
    /// We, and with us the mount, live in the initial user namespace.
    initial_namespace: bool,
}

/// Nodes are never reused for another object while the kernel knows them.
const GENERATION: Generation = Generation(0);

impl Adapter {
    /// A filesystem over `vfs`.
    pub fn new(vfs: Arc<Vfs>, config: &Config, open_mode: OpenMode) -> Self {
        Self {
            vfs,
            pool: Pool::default(),
            timeout: config.timeout,
            open_mode,
            no_opendir: false,
            writeback: config.writeback,
            max_write: config.max_write,
            initial_namespace: creds::in_initial_user_namespace(),
        }
    }

    /// Runs one operation on this thread.
    fn run<T>(&self, name: &'static str, act: impl FnOnce(&Vfs) -> Result<T>) -> Answer<T> {
        guarded(name, || act(&self.vfs))
    }

    /// Runs one operation, and `reply` with what it gave; elsewhere if `slow`.
    fn run_slow<T>(
        &self,
        name: &'static str,
        slow: bool,
        act: impl FnOnce(&Vfs) -> Result<T> + Send + 'static,
        reply: impl FnOnce(Answer<T>) + Send + 'static,
    ) {
        if slow {
            let vfs = Arc::clone(&self.vfs);
            self.pool.run(move || reply(guarded(name, || act(&vfs))));
        } else {
            reply(guarded(name, || act(&self.vfs)));
        }
    }

    /// Whether a caller keeps set-id bits: the kernel asks for CAP_FSETID in the initial user
    /// namespace (`setattr_should_drop_suidgid`, fs/attr.c), and a request tells nothing but the
    /// user.
    fn privilege(&self, req: &Request) -> Privilege {
        if req.uid() == 0 && self.initial_namespace {
            Privilege::KeepsSetId
        } else {
            Privilege::LosesSetId
        }
    }

    fn reply_entry(&self, answer: Answer<Entry>, reply: ReplyEntry) {
        match answer {
            Ok(entry) => reply.entry(&self.timeout, &convert::attr(&entry.stat), GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    fn create_entry(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        (mode, umask): (u32, u32),
        body: Body<'_>,
    ) -> Answer<Entry> {
        let wanted = Wanted { uid: req.uid(), gid: req.gid(), mode, umask };
        self.run("create", |vfs| vfs.create(node(parent), name.as_bytes(), body, &wanted))
    }
}

fn node(ino: INodeNo) -> NodeId {
    NodeId(ino.0)
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let mut wanted = InitFlags::FUSE_DONT_MASK
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_POSIX_ACL
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP;
        if self.writeback {
            wanted |= InitFlags::FUSE_WRITEBACK_CACHE;
        }
        self.no_opendir = config.capabilities().contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        // What an older kernel does not know is done without.
        let there = wanted & config.capabilities();
        if config.add_capabilities(there).is_err() {
            tracing::debug!("kernel refuses capabilities");
        }
        if let Err(nearest) = config.set_max_write(self.max_write) {
            config.set_max_write(nearest).map_err(|_| std::io::ErrorKind::InvalidInput)?;
        }
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.run("lookup", |vfs| vfs.lookup(node(parent), name.as_bytes())) {
            // An absent name is remembered too: an entry without a node.
            Err(errno) if i32::from(errno) == libc::ENOENT && !self.timeout.is_zero() => {
                reply.entry(&self.timeout, &absent(), GENERATION);
            }
            answer => self.reply_entry(answer, reply),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.vfs.forget(node(ino), nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.run("getattr", |vfs| vfs.getattr(node(ino))) {
            Ok(stat) => reply.attr(&self.timeout, &convert::attr(&stat)),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = Change {
            mode,
            uid,
            gid,
            size,
            atime: convert::set_time(atime),
            mtime: convert::set_time(mtime),
        };
        let (who, timeout) = (self.privilege(req), self.timeout);
        let slow = self.vfs.needs_copy_up(node(ino));
        self.run_slow(
            "setattr",
            slow,
            move |vfs| vfs.setattr(node(ino), &change, who),
            move |answer| match answer {
                Ok(stat) => reply.attr(&timeout, &convert::attr(&stat)),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.run("readlink", |vfs| vfs.readlink(node(ino))) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let body = match mode & libc::S_IFMT {
            libc::S_IFREG | 0 => Body::File,
            kind => Body::Node { kind, rdev: rdev.into() },
        };
        let answer = self.create_entry(req, parent, name, (mode, umask), body);
        self.reply_entry(answer, reply);
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let answer = self.create_entry(req, parent, name, (mode, umask), Body::Dir);
        self.reply_entry(answer, reply);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(self.run("unlink", |vfs| vfs.unlink(node(parent), name.as_bytes())), reply);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(self.run("rmdir", |vfs| vfs.rmdir(node(parent), name.as_bytes())), reply);
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let body = Body::Symlink { target: target.as_os_str().as_bytes() };
        let answer = self.create_entry(req, parent, name, (0o777, 0), body);
        self.reply_entry(answer, reply);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = match flags {
            f if f.is_empty() => RenameMode::Replace,
            RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
            RenameFlags::RENAME_EXCHANGE => RenameMode::Exchange,
            // Whiteouts are made by us alone, as in the kernel's overlayfs.
            _ => return reply.error(Raw::EINVAL),
        };
        let (name, newname) = (name.as_bytes().to_vec(), newname.as_bytes().to_vec());
        let slow = self.vfs.rename_copies(node(parent), &name);
        self.run_slow(
            "rename",
            slow,
            move |vfs| vfs.rename(node(parent), &name, node(newparent), &newname, mode),
            move |answer| reply_empty(answer, reply),
        );
    }

    fn link(
        &self,
        _req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let newname = newname.as_bytes().to_vec();
        let timeout = self.timeout;
        self.run_slow(
            "link",
            self.vfs.needs_copy_up(node(ino)),
            move |vfs| vfs.link(node(ino), node(newparent), &newname),
            move |answer| match answer {
                Ok(entry) => reply.entry(&timeout, &convert::attr(&entry.stat), GENERATION),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if self.open_mode == OpenMode::NotAsked {
            return reply.error(Raw::ENOSYS);
        }
        let to_write = flags.0 & libc::O_ACCMODE != libc::O_RDONLY;
        match self.run("open", |vfs| vfs.pin(node(ino), to_write)) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(errno) => reply.error(errno),
        }
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        if self.open_mode == OpenMode::Pinned {
            self.vfs.unpin(node(ino));
        }
        reply.ok();
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.create_entry(req, parent, name, (mode, umask), Body::File) {
            Ok(entry) => {
                if self.open_mode == OpenMode::Pinned {
                    self.vfs.pin_created(entry.node);
                }
                let (attr, flags) = (convert::attr(&entry.stat), FopenFlags::FOPEN_KEEP_CACHE);
                reply.created(&self.timeout, &attr, GENERATION, FileHandle(0), flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let answer = self.run("read", |vfs| {
            READ_BUFFER.with_borrow_mut(|buf| {
                buf.resize(size as usize, 0);
                let len = vfs.read(node(ino), offset, buf)?;
                buf.truncate(len);
                Ok(std::mem::take(buf))
            })
        });
        match answer {
            Ok(buf) => {
                reply.data(&buf);
                READ_BUFFER.set(buf);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // The kernel says so where it knows; a delayed write is nobody's.
        let kill = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let privilege = if kill { Privilege::LosesSetId } else { Privilege::KeepsSetId };
        let whole = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        if self.vfs.needs_copy_up(node(ino)) {
            let data = data.to_vec();
            self.run_slow(
                "write",
                true,
                move |vfs| vfs.write(node(ino), &Write { offset, data: &data, privilege, whole }),
                move |answer| reply_written(answer, reply),
            );
        } else {
            let write = Write { offset, data, privilege, whole };
            reply_written(self.run("write", |vfs| vfs.write(node(ino), &write)), reply);
        }
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // Writes have reached the layer when they are answered; the kernel need not ask again.
        reply.error(Raw::ENOSYS);
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.run_slow(
            "fsync",
            true,
            move |vfs| vfs.fsync(node(ino), datasync),
            move |answer| reply_empty(answer, reply),
        );
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.run_slow(
            "fsyncdir",
            true,
            move |vfs| vfs.fsync(node(ino), datasync),
            move |answer| reply_empty(answer, reply),
        );
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.timeout.is_zero() {
            return reply.opened(FileHandle(0), FopenFlags::empty());
        }
        if self.no_opendir {
            // Listings are kept by the kernel, and readers are known by their position: there is
            // nothing to open or to close, and the kernel need not ask again.
            return reply.error(Raw::ENOSYS);
        }
        let keep = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
        reply.opened(FileHandle(0), keep);
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let answer = self.run("readdir", |vfs| {
            vfs.readdir(node(ino), offset, |entry| {
                let name = OsStr::from_bytes(entry.name);
                !reply.add(INodeNo(entry.number), entry.next, convert::kind(entry.kind), name)
            })
        });
        match answer {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let answer = self.run("readdirplus", |vfs| {
            vfs.readdir_plus(node(ino), offset, |entry, given| {
                // `.` and `..` carry no lookup: the kernel takes nothing but their number and type.
                // What is broken is looked up anew when it is used, and fails then.
                let nobody = |number| fuser::FileAttr {
                    ino: INodeNo(number),
                    kind: convert::kind(entry.kind),
                    ..absent()
                };
                let (attr, ttl) = match given {
                    Plus::Known(given) => (convert::attr(&given.stat), self.timeout),
                    Plus::Dot => (nobody(entry.number), self.timeout),
                    Plus::Broken(node) => (nobody(node.0), Duration::ZERO),
                };
                let name = OsStr::from_bytes(entry.name);
                !reply.add(attr.ino, entry.next, name, &ttl, &attr, GENERATION)
            })
        });
        match answer {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match self.run("statfs", Vfs::statfs) {
            Ok(s) => reply
                .statfs(s.blocks, s.bfree, s.bavail, s.files, s.ffree, s.bsize, NAME_LEN, s.frsize),
            Err(errno) => reply.error(errno),
        }
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let mode = match flags {
            0 => SetMode::Any,
            libc::XATTR_CREATE => SetMode::Create,
            libc::XATTR_REPLACE => SetMode::Replace,
            _ => return reply.error(Raw::EINVAL),
        };
        let is_acl = name.as_bytes() == ACL_ACCESS.to_bytes();
        let groups = (is_acl && req.uid() != 0).then(|| creds::groups_of(req.pid(), req.gid()));
        let (name, value) = (name.as_bytes().to_vec(), value.to_vec());
        self.run_slow(
            "setxattr",
            self.vfs.needs_copy_up(node(ino)),
            move |vfs| {
                vfs.setxattr(node(ino), &name, &value, mode)?;
                match groups {
                    Some(groups) => vfs.drop_foreign_setgid(node(ino), &groups),
                    None => Ok(()),
                }
            },
            move |answer| reply_empty(answer, reply),
        );
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let answer = self.run("getxattr", |vfs| vfs.getxattr(node(ino), name.as_bytes()));
        reply_bytes(answer, size, reply);
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        reply_bytes(self.run("listxattr", |vfs| vfs.listxattr(node(ino))), size, reply);
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.as_bytes().to_vec();
        self.run_slow(
            "removexattr",
            self.vfs.needs_copy_up(node(ino)),
            move |vfs| vfs.removexattr(node(ino), &name),
            move |answer| reply_empty(answer, reply),
        );
    }

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: fuser::AccessFlags, reply: ReplyEmpty) {
        // default_permissions: the kernel decides by itself, and asks only once.
        reply.error(Raw::ENOSYS);
    }

    fn ioctl(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        let sets = matches!(cmd, ioctl::SETFLAGS | ioctl::FSSETXATTR);
        let input = in_data.to_vec();
        self.run_slow(
            "ioctl",
            sets && self.vfs.needs_copy_up(node(ino)),
            move |vfs| inode_flags::run(vfs, node(ino), cmd, &input),
            move |answer| match answer {
                Ok(out) => reply.ioctl(0, out.get(..out_size as usize).unwrap_or(&out)),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let who = self.privilege(req);
        self.run_slow(
            "fallocate",
            true,
            move |vfs| vfs.fallocate(node(ino), mode, offset, length, who),
            move |answer| reply_empty(answer, reply),
        );
    }

    fn lseek(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        match self.run("lseek", |vfs| vfs.seek(node(ino), offset, whence)) {
            Ok(at) => reply.offset(i64::try_from(at).unwrap_or(i64::MAX)),
            Err(errno) => reply.error(errno),
        }
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // What one answer can count (a 32-bit number, in whole pages).
        let len = len.min(1 << 30);
        let (from, to) = ((node(ino_in), offset_in), (node(ino_out), offset_out));
        let who = self.privilege(req);
        self.run_slow(
            "copy_file_range",
            true,
            move |vfs| vfs.copy_range(from, to, len, who),
            move |answer| reply_written(answer, reply),
        );
    }
}

/// The longest name, in bytes (`NAME_MAX`).
const NAME_LEN: u32 = 255;

thread_local! {
    /// Reads go through one buffer for each thread.
    static READ_BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
}
