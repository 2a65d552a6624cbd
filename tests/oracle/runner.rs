//! Runs one operation with the system call that it stands for, and says what came back.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path as StdPath;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, OFlag};
use nix::sys::stat::{self, Mode as NixMode, SFlag, UtimensatFlags};
use nix::sys::time::TimeSpec;
use nix::unistd::{self, AccessFlags, Gid, LinkatFlags, Uid, UnlinkatFlags, Whence};

use super::op::Op;
use super::tree::{self, Clock};
use super::word::{Kind, Path, Time, escape};

/// What an operation answers: text where the system call gives something back, else nothing.
type Outcome = Result<String, Errno>;

/// In a listing, the type of a name that is not there.
pub const GHOST: &str = "Ghost";

/// The state that operations leave in a process besides the tree.
pub struct Runner {
    clock: Clock,
    /// `trusted.overlay.` or `user.overlay.`.
    prefix: &'static str,
    slots: HashMap<usize, OwnedFd>,
    inodes: Vec<u64>,
}

impl AsRef<StdPath> for Path {
    fn as_ref(&self) -> &StdPath {
        StdPath::new(OsStr::from_bytes(&self.0))
    }
}

fn errno(err: std::io::Error) -> Errno {
    err.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn done<T>(result: Result<T, Errno>) -> Outcome {
    result.map(|_| String::new())
}

/// Opening must never wait for the other end of a FIFO.
fn open(path: &Path, flags: OFlag, mode: u32) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    nix::fcntl::open(path.as_ref(), flags, NixMode::from_bits_truncate(mode))
}

fn open_file(path: &Path, flags: OFlag) -> Result<File, Errno> {
    open(path, flags, 0).map(File::from)
}

fn mode(bits: u32) -> NixMode {
    NixMode::from_bits_truncate(bits)
}

/// -1 leaves an id as it is, as in chown(2).
fn id<T>(raw: i64, make: impl Fn(u32) -> T) -> Option<T> {
    u32::try_from(raw).ok().map(make)
}

fn mknod(path: &Path, kind: Kind, bits: u32) -> Result<(), Errno> {
    let (format, device) = match kind {
        Kind::Regular => (SFlag::S_IFREG, 0),
        Kind::Fifo => (SFlag::S_IFIFO, 0),
        Kind::Socket => (SFlag::S_IFSOCK, 0),
        Kind::Char(major, minor) => (SFlag::S_IFCHR, stat::makedev(major, minor)),
        Kind::Block(major, minor) => (SFlag::S_IFBLK, stat::makedev(major, minor)),
    };
    stat::mknod(path.as_ref(), format, mode(bits), device)
}

fn timespec(time: Time) -> TimeSpec {
    match time {
        Time::Now => TimeSpec::UTIME_NOW,
        Time::Omit => TimeSpec::UTIME_OMIT,
        Time::At(seconds, nanos) => TimeSpec::new(seconds, nanos),
    }
}

fn setxattr(path: &Path, name: &Path, value: &[u8], flags: i32) -> Result<(), Errno> {
    let path = CString::new(path.0.clone()).map_err(|_| Errno::EINVAL)?;
    let name = CString::new(name.0.clone()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: both strings end in NUL, and the value is as long as we say.
    let result = unsafe {
        libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags)
    };
    Errno::result(result).map(drop)
}

fn read_all(path: &Path) -> Outcome {
    let mut content = Vec::new();
    open_file(path, OFlag::O_RDONLY)?.read_to_end(&mut content).map_err(errno)?;
    Ok(tree::show_content(&content))
}

fn list_xattrs(path: &Path) -> Outcome {
    let names = xattr::list(path).map_err(errno)?;
    let mut names: Vec<String> = names.map(|name| escape(name.as_bytes())).collect();
    names.sort();
    Ok(names.join(" "))
}

/// Names and types, sorted: the order of a directory is nobody's promise. `Ghost` is what looks
/// like a whiteout and cannot be found.
fn names(dir: &mut nix::dir::Dir) -> Outcome {
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let kind = entry.file_type().map_or_else(|| "?".into(), |kind| format!("{kind:?}"));
        names.push((entry.file_name().to_owned(), kind));
    }
    let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
    let mut shown = Vec::new();
    for (name, mut kind) in names {
        let found =
            kind != "CharacterDevice" || stat::fstatat(&*dir, name.as_c_str(), flags).is_ok();
        if !found {
            kind = GHOST.into();
        }
        shown.push(format!("{}:{kind}", escape(name.to_bytes())));
    }
    shown.sort();
    Ok(shown.join(" "))
}

fn mmap_write(file: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
    // Beyond the end of the file there is only SIGBUS.
    let size = usize::try_from(stat::fstat(file)?.st_size).unwrap_or(0);
    let len = bytes.len().min(size);
    if len == 0 {
        return Err(Errno::ENODATA);
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the kernel chooses the address; the result is checked before it is used.
    let map = unsafe {
        libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    if map == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    // SAFETY: the mapping is writable and `len` bytes long, and goes away only here.
    let synced = unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), map.cast(), len);
        let synced = libc::msync(map, len, libc::MS_SYNC);
        libc::munmap(map, len);
        synced
    };
    Errno::result(synced).map(drop)
}

/// From the start of one file to the start of the other.
fn copy_range(from: &OwnedFd, to: &OwnedFd, len: usize) -> Result<isize, Errno> {
    let (mut source, mut target) = (0, 0);
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: both offsets outlive the call.
    let copied = unsafe { libc::copy_file_range(from, &mut source, to, &mut target, len, 0) };
    Errno::result(copied)
}

impl Runner {
    pub fn new(prefix: &'static str) -> Self {
        Self { clock: Clock::start(), prefix, slots: HashMap::new(), inodes: Vec::new() }
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Back to root with a plain umask and nothing open.
    pub fn reset(&mut self) -> Result<(), Errno> {
        self.slots.clear();
        self.inodes.clear();
        stat::umask(mode(0o022));
        self.become_user(0, 0)
    }

    pub fn become_user(&self, uid: u32, gid: u32) -> Result<(), Errno> {
        unistd::seteuid(Uid::from_raw(0))?;
        // In a user namespace that maps one id there are no groups to drop, nor others to be.
        if uid != 0 {
            unistd::setgroups(&[])?;
        }
        unistd::setegid(Gid::from_raw(gid))?;
        unistd::seteuid(Uid::from_raw(uid))
    }

    fn slot(&self, slot: usize) -> Result<&OwnedFd, Errno> {
        self.slots.get(&slot).ok_or(Errno::EBADF)
    }

    fn file(&self, slot: usize) -> Result<File, Errno> {
        self.slot(slot)?.try_clone().map(File::from).map_err(errno)
    }

    fn describe(&self, meta: std::io::Result<std::fs::Metadata>) -> Outcome {
        let meta = meta.map_err(errno)?;
        Ok(tree::describe(&meta, &self.clock).iter().map(|(k, v)| format!("{k}={v} ")).collect())
    }

    pub fn run(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Open(..) | Op::Close(_) | Op::Umask(_) | Op::As(..) | Op::Ino(_) => {
                self.run_on_process(op)
            }
            Op::Pread(..) | Op::Pwrite(..) | Op::Fstat(_) | Op::Ftruncate(..) | Op::Fchmod(..) => {
                self.run_on_slot(op)
            }
            Op::Fchown(..) | Op::Fsetxattr(..) | Op::Fsync(_) | Op::Fallocate(..) => {
                self.run_on_slot(op)
            }
            Op::SeekData(..) | Op::SeekHole(..) | Op::MmapWrite(..) | Op::CopyRange(..) => {
                self.run_on_slot(op)
            }
            Op::FdReaddir(_) => self.run_on_slot(op),
            _ => self.run_on_path(op),
        }
    }

    fn run_on_process(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Open(slot, path, flags) => {
                let file = open(path, flags.0, 0o644)?;
                self.slots.insert(*slot, file);
            }
            Op::Close(slot) => drop(self.slots.remove(slot).ok_or(Errno::EBADF)?),
            Op::Umask(bits) => drop(stat::umask(mode(bits.0))),
            Op::As(uid, gid) => {
                let uid = u32::try_from(*uid).map_err(|_| Errno::EINVAL)?;
                let gid = u32::try_from(*gid).map_err(|_| Errno::EINVAL)?;
                self.become_user(uid, gid)?;
            }
            Op::Ino(path) => {
                let ino = stat::lstat(path.as_ref())?.st_ino;
                let known = self.inodes.iter().position(|seen| *seen == ino);
                let nth = known.unwrap_or_else(|| {
                    self.inodes.push(ino);
                    self.inodes.len() - 1
                });
                return Ok(format!("inode#{nth}"));
            }
            _ => unreachable!("{op} does not touch the process"),
        }
        Ok(String::new())
    }

    fn run_on_slot(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Pread(slot, offset, len) => {
                let mut content = vec![0; *len];
                let file = self.file(*slot)?;
                let read = file.read_at(&mut content, offset.unsigned_abs()).map_err(errno)?;
                content.truncate(read);
                Ok(tree::show_content(&content))
            }
            Op::Pwrite(slot, offset, data) => {
                let file = self.file(*slot)?;
                done(file.write_all_at(&data.bytes(), offset.unsigned_abs()).map_err(errno))
            }
            Op::Fstat(slot) => self.describe(self.file(*slot)?.metadata()),
            Op::Ftruncate(slot, len) => done(unistd::ftruncate(self.slot(*slot)?, *len)),
            Op::Fchmod(slot, bits) => done(stat::fchmod(self.slot(*slot)?, mode(bits.0))),
            Op::Fchown(slot, uid, gid) => {
                let (uid, gid) = (id(*uid, Uid::from_raw), id(*gid, Gid::from_raw));
                done(unistd::fchown(self.slot(*slot)?, uid, gid))
            }
            Op::Fsetxattr(slot, name, value) => {
                use xattr::FileExt;
                let name = OsStr::from_bytes(&name.0);
                done(self.file(*slot)?.set_xattr(name, &value.bytes()).map_err(errno))
            }
            Op::Fsync(slot) => done(unistd::fsync(self.slot(*slot)?)),
            Op::Fallocate(slot, flags, offset, len) => {
                let flags = i32::try_from(*flags).map_err(|_| Errno::EINVAL)?;
                let flags = FallocateFlags::from_bits_retain(flags);
                done(nix::fcntl::fallocate(self.slot(*slot)?, flags, *offset, *len))
            }
            Op::SeekData(slot, offset) => self.seek(*slot, *offset, Whence::SeekData),
            Op::SeekHole(slot, offset) => self.seek(*slot, *offset, Whence::SeekHole),
            Op::MmapWrite(slot, data) => done(mmap_write(self.slot(*slot)?, &data.bytes())),
            Op::CopyRange(from, to, len) => {
                let copied = copy_range(self.slot(*from)?, self.slot(*to)?, *len)?;
                Ok(format!("copied={copied}"))
            }
            Op::FdReaddir(slot) => {
                let mut file = self.file(*slot)?;
                // Fails on what is open with O_PATH.
                file.seek(SeekFrom::Start(0)).map_err(errno)?;
                // Asked first, as a failing fdopendir(3) would lose the descriptor.
                if !file.metadata().map_err(errno)?.is_dir() {
                    return Err(Errno::ENOTDIR);
                }
                names(&mut nix::dir::Dir::from_fd(file.into())?)
            }
            _ => unreachable!("{op} has no slot"),
        }
    }

    fn seek(&self, slot: usize, offset: i64, whence: Whence) -> Outcome {
        let at = unistd::lseek(self.slot(slot)?, offset, whence)?;
        Ok(format!("at={at}"))
    }

    fn run_on_path(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Stat(path) => self.describe(std::fs::symlink_metadata(path)),
            Op::Getxattr(path, name) => {
                let value = xattr::get(path, OsStr::from_bytes(&name.0)).map_err(errno)?;
                value.map(|value| escape(&value)).ok_or(Errno::ENODATA)
            }
            Op::Listxattr(path) => list_xattrs(path),
            Op::Read(path) => read_all(path),
            Op::Readlink(path) => {
                Ok(escape(nix::fcntl::readlink(path.as_ref())?.as_os_str().as_bytes()))
            }
            Op::Readdir(path) => {
                let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                names(&mut nix::dir::Dir::open(path.as_ref(), flags, mode(0))?)
            }
            _ => done(self.change(op)),
        }
    }

    fn change(&mut self, op: &Op) -> Result<(), Errno> {
        let cwd = AT_FDCWD;
        match op {
            Op::Mkdir(path, bits) => unistd::mkdir(path.as_ref(), mode(bits.0)),
            Op::Create(path, bits, flags) => {
                open(path, OFlag::O_WRONLY | OFlag::O_CREAT | flags.0, bits.0).map(drop)
            }
            Op::Mknod(path, kind, bits) => mknod(path, *kind, bits.0),
            Op::Symlink(target, path) => unistd::symlinkat(target.as_ref(), cwd, path.as_ref()),
            Op::Link(from, to) => {
                unistd::linkat(cwd, from.as_ref(), cwd, to.as_ref(), LinkatFlags::empty())
            }
            Op::Unlink(path) => unistd::unlink(path.as_ref()),
            Op::Rmdir(path) => unistd::unlinkat(cwd, path.as_ref(), UnlinkatFlags::RemoveDir),
            Op::Rename(from, to, flags) => {
                nix::fcntl::renameat2(cwd, from.as_ref(), cwd, to.as_ref(), flags.0)
            }
            Op::Write(path, offset, data) => {
                let file = open_file(path, OFlag::O_WRONLY)?;
                file.write_all_at(&data.bytes(), offset.unsigned_abs()).map_err(errno)
            }
            Op::Append(path, data) => {
                let file = open_file(path, OFlag::O_WRONLY | OFlag::O_APPEND)?;
                file.write_all_at(&data.bytes(), 0).map_err(errno)
            }
            Op::Truncate(path, len) => unistd::truncate(path.as_ref(), *len),
            Op::Chmod(path, bits) => {
                stat::fchmodat(cwd, path.as_ref(), mode(bits.0), stat::FchmodatFlags::FollowSymlink)
            }
            Op::Chown(path, uid, gid) => {
                let (uid, gid) = (id(*uid, Uid::from_raw), id(*gid, Gid::from_raw));
                unistd::fchownat(cwd, path.as_ref(), uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
            }
            Op::Utimens(path, atime, mtime) => stat::utimensat(
                cwd,
                path.as_ref(),
                &timespec(*atime),
                &timespec(*mtime),
                UtimensatFlags::NoFollowSymlink,
            ),
            Op::Setxattr(path, name, value, flags) => setxattr(path, name, &value.bytes(), flags.0),
            Op::Removexattr(path, name) => {
                xattr::remove(path, OsStr::from_bytes(&name.0)).map_err(errno)
            }
            Op::Access(path, bits) => {
                let wanted = AccessFlags::from_bits_truncate(bits.0.cast_signed());
                unistd::faccessat(cwd, path.as_ref(), wanted, AtFlags::AT_EACCESS)
            }
            Op::Whiteout(path) => mknod(path, Kind::Char(0, 0), 0),
            Op::Mark(path, name, value) => {
                let name = [self.prefix.as_bytes(), &name.0].concat();
                setxattr(path, &Path(name), &value.bytes(), 0)
            }
            Op::Opaque(path) => {
                let name = Path(format!("{}opaque", self.prefix).into_bytes());
                setxattr(path, &name, b"y", 0)
            }
            _ => unreachable!("{op} changes no name"),
        }
    }
}
