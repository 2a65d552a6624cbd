//! The calls that take a directory and one name below it.
//!
//! Every function here works on `(directory descriptor, one name)` and never follows a symbolic
//! link in that name. Errors are those of the man page of the call, unchanged.
//!
//! # References
//! openat(2), mkdirat(2), mknodat(2), symlinkat(2), linkat(2), unlinkat(2), renameat2(2),
//! readlinkat(2), fchmodat2(2), fchownat(2), utimensat(2).

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;
use rustix::buffer::spare_capacity;
use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Gid, Uid};

use super::commit::before_change;
use super::descriptors::{opened, with_room};
use super::name::{Name, Target, proc_path};
use super::result::check_sys;
use super::stat::{self, Time};
use super::writable::{OwnedWritable, Writable, WritableFd};
use crate::error::{Errno, Result};
use crate::id::Id;

/// The length of the longest target of a symbolic link, with its terminator (`PATH_MAX`, limits.h),
/// in bytes.
pub const PATH_MAX: usize = 4096;

/// The flags that open a file to change its data, or that make a file.
const TO_WRITE: OFlag =
    OFlag::O_WRONLY.union(OFlag::O_RDWR).union(OFlag::O_CREAT).union(OFlag::O_TRUNC);

/// Opens `name` in `dir` to read it, or to act on it (`O_PATH`). `O_NOFOLLOW` and `O_CLOEXEC` are
/// always added. So is `O_NOATIME`, which keeps the access time of the object, unless `flags` has
/// `O_PATH` or we may not use it.
///
/// # Errors
/// Those of openat(2). EINVAL for flags that allow a change: [`create`] and [`open_to_write`] are
/// for that.
pub fn open(dir: BorrowedFd<'_>, name: Name<'_>, flags: OFlag) -> Result<OwnedFd> {
    if flags.intersects(TO_WRITE) {
        return Err(Errno::EINVAL.into());
    }
    if flags.contains(OFlag::O_PATH) {
        return open_as_asked(dir, name, flags, 0);
    }
    quietly(flags, |flags| open_as_asked(dir, name, flags, 0))
}

/// Makes the regular file `name` in `dir`, open to read and to write. `O_NOATIME` in `flags` is
/// never left out: see [`owns_what_it_makes`].
///
/// # Errors
/// EEXIST if anything has the name; those of openat(2).
pub fn create(
    dir: WritableFd<'_>,
    name: Name<'_>,
    flags: OFlag,
    mode: u32,
) -> Result<OwnedWritable> {
    before_change()?;
    let flags = flags | OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
    open_as_asked(dir.borrowed(), name, flags, mode).map(OwnedWritable::new)
}

/// Opens a regular file to read and to write it.
///
/// # Errors
/// Those of openat(2).
pub fn open_to_write(object: Writable<'_>) -> Result<OwnedWritable> {
    // A FIFO may have taken the place of the file: a write to it would wait for a reader.
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK;
    let opened = match object.target() {
        Target::At(dir, name) => quietly(flags, |flags| open_as_asked(dir, name, flags, 0)),
        Target::Fd(fd) => open_descriptor(fd, flags),
    };
    opened.map(OwnedWritable::new)
}

/// Opens something with `O_NOATIME`, so that its access time stays as it is. Where that is not
/// allowed, as it wants the owner or CAP_FOWNER (open(2)), opens it without the flag.
fn quietly(flags: OFlag, open: impl Fn(OFlag) -> Result<OwnedFd>) -> Result<OwnedFd> {
    match open(flags | OFlag::O_NOATIME) {
        Err(err) if err.errno() == Errno::EPERM => open(flags),
        other => other,
    }
}

/// Whether the file `name`, which we have just made, counts as ours. On some file systems it does
/// not (vfat with `uid=`, NFS that squashes owners), and a file that is made with `O_NOATIME` there
/// is made and yet gives EPERM (`may_open`, fs/namei.c).
#[must_use]
pub fn owns_what_it_makes(dir: BorrowedFd<'_>, name: Name<'_>) -> bool {
    open_as_asked(dir, name, OFlag::O_RDONLY | OFlag::O_NOATIME, 0).is_ok()
}

fn open_as_asked(dir: BorrowedFd<'_>, name: Name<'_>, flags: OFlag, mode: u32) -> Result<OwnedFd> {
    let flags = to_open(flags | OFlag::O_NOFOLLOW);
    opened(|| fs::openat(dir, name.bytes(), flags, Mode::from_raw_mode(mode)))
}

/// The flags as `rustix` has them, with `O_CLOEXEC`.
fn to_open(flags: OFlag) -> OFlags {
    OFlags::from_bits_retain(flags.bits().cast_unsigned()) | OFlags::CLOEXEC
}

/// Opens an object to read it.
///
/// # Errors
/// As [`open`].
pub fn open_target(target: Target<'_>, flags: OFlag) -> Result<OwnedFd> {
    match target {
        Target::At(dir, name) => open(dir, name, flags),
        Target::Fd(_) if flags.intersects(TO_WRITE) => Err(Errno::EINVAL.into()),
        Target::Fd(fd) => open_descriptor(fd, flags),
    }
}

/// Opens the object that an `O_PATH` descriptor refers to, through procfs.
fn open_descriptor(fd: BorrowedFd<'_>, flags: OFlag) -> Result<OwnedFd> {
    let path = proc_path(fd);
    quietly(flags, |flags| opened(|| fs::openat(CWD, &path, to_open(flags), Mode::empty())))
}

/// Opens a directory in which something is to be changed.
///
/// # Errors
/// Those of openat(2).
pub fn open_writable_dir(dir: Writable<'_>) -> Result<OwnedWritable> {
    open_target(dir.target(), OFlag::O_RDONLY | OFlag::O_DIRECTORY).map(OwnedWritable::new)
}

/// Makes a file without a name in `dir` (`O_TMPFILE`). It lives as long as its descriptor, and with
/// `O_EXCL` in `flags` it can never get a name.
///
/// # Errors
/// EOPNOTSUPP, EISDIR or ENOENT where the file system has no such files (open(2)).
pub fn tmpfile(dir: WritableFd<'_>, flags: OFlag, mode: u32) -> Result<OwnedWritable> {
    before_change()?;
    let flags = to_open(OFlag::O_TMPFILE | OFlag::O_RDWR | flags);
    let mode = Mode::from_raw_mode(mode);
    opened(|| fs::openat(dir, c".", flags, mode)).map(OwnedWritable::new)
}

/// Opens the directory `dir` once more, with an offset of its own.
pub fn reopen_dir(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    quietly(OFlag::O_RDONLY | OFlag::O_DIRECTORY, |flags| {
        opened(|| fs::openat(dir, c".", to_open(flags), Mode::empty()))
    })
}

/// Opens the directory above `dir`, which for a root is the root itself.
pub fn open_parent(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = to_open(OFlag::O_PATH | OFlag::O_DIRECTORY);
    opened(|| fs::openat(dir, c"..", flags, Mode::empty()))
}

/// mkdirat(2). The mode is reduced by the umask of the process, which the daemon sets to 0.
pub fn mkdir(dir: WritableFd<'_>, name: Name<'_>, mode: u32) -> Result<()> {
    before_change()?;
    Ok(fs::mkdirat(dir, name.bytes(), Mode::from_raw_mode(mode))?)
}

/// mknodat(2); `mode` carries the type.
pub fn mknod(dir: WritableFd<'_>, name: Name<'_>, mode: u32, rdev: u64) -> Result<()> {
    before_change()?;
    let (kind, mode) = (fs::FileType::from_raw_mode(mode), Mode::from_raw_mode(mode));
    Ok(fs::mknodat(dir, name.bytes(), kind, mode, rdev)?)
}

/// symlinkat(2). The target is any bytes without NUL.
pub fn symlink(target: &[u8], dir: WritableFd<'_>, name: Name<'_>) -> Result<()> {
    before_change()?;
    Ok(fs::symlinkat(target, dir, name.bytes())?)
}

/// readlinkat(2): the target of the link, as bytes.
pub fn readlink(target: Target<'_>) -> Result<Vec<u8>> {
    let mut buf = Vec::with_capacity(PATH_MAX);
    target.with_at(|dir, path, _| fs::readlinkat_raw(dir, path, spare_capacity(&mut buf)))?;
    Ok(buf)
}

/// linkat(2). A symbolic link is not followed: it gets the new name itself.
pub fn link(from: WritableFd<'_>, name: Name<'_>, to: WritableFd<'_>, new: Name<'_>) -> Result<()> {
    before_change()?;
    Ok(fs::linkat(from, name.bytes(), to, new.bytes(), AtFlags::empty())?)
}

/// Gives a file that was made without a name (`O_TMPFILE`) its first one.
///
/// # Errors
/// ENOENT for a file that has lost its names (linkat(2)).
pub fn link_unnamed(file: WritableFd<'_>, to: WritableFd<'_>, new: Name<'_>) -> Result<()> {
    before_change()?;
    // `AT_EMPTY_PATH` wants CAP_DAC_READ_SEARCH; this way does not (open(2), O_TMPFILE).
    let path = proc_path(file.borrowed());
    Ok(fs::linkat(CWD, path, to, new.bytes(), AtFlags::SYMLINK_FOLLOW)?)
}

/// unlinkat(2) of anything but a directory.
pub fn unlink(dir: WritableFd<'_>, name: Name<'_>) -> Result<()> {
    before_change()?;
    Ok(fs::unlinkat(dir, name.bytes(), AtFlags::empty())?)
}

/// unlinkat(2) with `AT_REMOVEDIR`.
pub fn rmdir(dir: WritableFd<'_>, name: Name<'_>) -> Result<()> {
    before_change()?;
    Ok(fs::unlinkat(dir, name.bytes(), AtFlags::REMOVEDIR)?)
}

/// What a rename does with an object that already has the new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// It is removed, in the same step.
    Yes,
    /// The rename fails with EEXIST.
    No,
    /// The two change places.
    Exchange,
    /// It is removed, and the old name gets a whiteout device, in the same step.
    LeaveWhiteout,
}

/// renameat2(2). Where the file system takes no flags (EINVAL on NFS and some FUSE servers),
/// [`Replace::No`] is done by a link and an unlink. Where no link can be made, as of a directory,
/// it is done by statx(2) and a rename, which replaces what somebody makes between the two.
pub fn rename(
    from: WritableFd<'_>,
    name: Name<'_>,
    to: WritableFd<'_>,
    new: Name<'_>,
    replace: Replace,
) -> Result<()> {
    before_change()?;
    let flags = match replace {
        Replace::Yes => return Ok(fs::renameat(from, name.bytes(), to, new.bytes())?),
        Replace::No => RenameFlags::NOREPLACE,
        Replace::Exchange => RenameFlags::EXCHANGE,
        Replace::LeaveWhiteout => RenameFlags::WHITEOUT,
    };
    match fs::renameat_with(from, name.bytes(), to, new.bytes(), flags) {
        Err(err @ rustix::io::Errno::INVAL) if replace == Replace::No => {
            match link(from, name, to, new) {
                Ok(()) => return unlink(from, name),
                // The answer for a directory, and where there are no hard links (link(2)).
                Err(link) if link.errno() == Errno::EPERM => {}
                Err(link)
                    if matches!(link.errno(), Errno::EEXIST | Errno::ENOSPC | Errno::EDQUOT) =>
                {
                    return Err(link);
                }
                Err(_) => return Err(err.into()),
            }
            match stat::stat_if_exists(to.entry(new).target())? {
                Some(_) => Err(Errno::EEXIST.into()),
                None => rename(from, name, to, new, Replace::Yes),
            }
        }
        other => Ok(other?),
    }
}

/// Changes the permission bits (07777) of anything but a symbolic link.
pub fn chmod(object: Writable<'_>, mode: u32) -> Result<()> {
    before_change()?;
    let target = object.target();
    let mode = mode & 0o7777;
    let result = target.with_at(|dir, path, flags| {
        let (dir, path, flags) = (dir.as_raw_fd(), path.as_ptr(), flags.bits());
        // SAFETY: the path is a NUL-terminated string that outlives the call.
        check_sys(unsafe { libc::syscall(libc::SYS_fchmodat2, dir, path, mode, flags) })
    });
    match result {
        Err(err) if err.errno() == Errno::ENOSYS => chmod_before_6_6(target, mode),
        other => other,
    }
}

/// `fchmodat2` came with Linux 6.6. Before, an object that has a name is opened first, as the name
/// may become that of a symbolic link.
fn chmod_before_6_6(target: Target<'_>, mode: u32) -> Result<()> {
    let pinned;
    let fd = match target {
        Target::Fd(fd) => fd,
        Target::At(dir, name) => {
            pinned = open(dir, name, OFlag::O_PATH)?;
            pinned.as_fd()
        }
    };
    Ok(fs::chmod(proc_path(fd), Mode::from_raw_mode(mode))?)
}

/// fchownat(2); `None` leaves an id as it is. A file loses its set-id bits and its capabilities
/// (chown(2)).
pub fn chown(object: Writable<'_>, uid: Option<Id>, gid: Option<Id>) -> Result<()> {
    before_change()?;
    let uid = uid.map(|id| Uid::from_raw(id.number()));
    let gid = gid.map(|id| Gid::from_raw(id.number()));
    Ok(object.target().with_at(|dir, path, flags| fs::chownat(dir, path, uid, gid, flags))?)
}

/// A time to set, in one of the three ways of utimensat(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The time stays as it is (`UTIME_OMIT`).
    Omit,
    /// The time of the clock of the file system (`UTIME_NOW`).
    Now,
    /// This time. Before 1970 the seconds are negative and the nanoseconds positive.
    At(Time),
}

impl SetTime {
    /// This time, or `time` in place of [`Self::Omit`].
    #[must_use]
    pub fn or(self, time: Time) -> Self {
        if self == Self::Omit { Self::At(time) } else { self }
    }

    fn timespec(self) -> Timespec {
        let (tv_sec, tv_nsec) = match self {
            Self::Omit => (0, fs::UTIME_OMIT),
            Self::Now => (0, fs::UTIME_NOW),
            Self::At(time) => (time.sec, time.nsec.into()),
        };
        Timespec { tv_sec, tv_nsec }
    }
}

/// utimensat(2): access time, then modification time.
pub fn set_times(object: Writable<'_>, atime: SetTime, mtime: SetTime) -> Result<()> {
    before_change()?;
    let target = object.target();
    let times = Timestamps { last_access: atime.timespec(), last_modification: mtime.timespec() };
    if let Target::Fd(fd) = target {
        // futimens refuses O_PATH descriptors with EBADF; AT_EMPTY_PATH takes them.
        match fs::futimens(fd, &times) {
            Err(rustix::io::Errno::BADF) => {}
            other => return Ok(other?),
        }
    }
    Ok(target.with_at(|dir, path, flags| fs::utimensat(dir, path, &times, flags))?)
}

/// A private view of an open directory, which does not show what is mounted below it, now or later
/// (open_tree(2)). It wants CAP_SYS_ADMIN in the user namespace of the mount.
///
/// # Errors
/// EPERM without privilege, EINVAL where mounts below must not be uncovered, ENOSYS before Linux
/// 5.2.
pub fn private_view(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = opened(|| open_tree(dir, c"", flags))?;
    // Where this fails, `O_NOATIME` still keeps most access times.
    keep_access_times(tree.as_fd()).ok();
    reopen_dir(tree.as_fd())
}

/// Makes a private view keep all access times, also those that no flag of open(2) keeps
/// (readlink(2), objects of other owners). It must be called before the descriptor of open_tree(2)
/// is closed.
///
/// # Errors
/// EPERM in a user namespace that got the mount from outside, ENOSYS before Linux 5.12
/// (mount_setattr(2)).
fn keep_access_times(view: BorrowedFd<'_>) -> Result<()> {
    // `struct mount_attr` (linux/mount.h): what to set, what to clear, propagation, user namespace.
    let change: [u64; 4] = [libc::MOUNT_ATTR_NOATIME, libc::MOUNT_ATTR__ATIME, 0, 0];
    // SAFETY: the path is a NUL-terminated literal; the array outlives the call and has the size
    // that is given.
    check_sys(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            view.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const change,
            size_of_val(&change),
        )
    })
}

/// Opens the root of a layer by the path that the user gave.
pub fn open_root(path: &std::path::Path) -> Result<OwnedFd> {
    let open = |flags: OFlag| {
        let flags = to_open(flags | OFlag::O_DIRECTORY);
        with_room(|| Ok(fs::openat(CWD, path, flags, Mode::empty())?))
    };
    match quietly(OFlag::O_RDONLY, open) {
        Err(err) if err.errno() == Errno::EACCES => open(OFlag::O_PATH),
        other => other,
    }
}
