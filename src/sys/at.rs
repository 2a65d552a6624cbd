//! The calls that take a directory and one name below it.
//!
//! Every function here works on `(directory descriptor, one name)` and never follows a symbolic
//! link in that name. Errors are those of the man page of the call, unchanged.
//!
//! # References
//! openat(2), mkdirat(2), mknodat(2), symlinkat(2), linkat(2), unlinkat(2), renameat2(2),
//! readlinkat(2), fchmodat2(2), fchownat(2), utimensat(2).

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::Mode;

use super::commit::before_change;
use super::descriptors::{opened, with_room};
use super::name::{Name, Target, proc_path};
use super::result::{check, check_len, check_sys};
use super::stat::{self, Time};
use super::writable::{OwnedWritable, Writable, WritableFd};
use crate::error::{Errno, Error, Result};
use crate::id::Id;

/// The longest target of a symbolic link with a terminator (`PATH_MAX`, limits.h), in bytes.
pub const PATH_MAX: usize = 4096;

fn raw(fd: WritableFd<'_>) -> RawFd {
    fd.borrowed().as_raw_fd()
}

/// The flags that open a file to change its data, or make one.
const TO_WRITE: OFlag =
    OFlag::O_WRONLY.union(OFlag::O_RDWR).union(OFlag::O_CREAT).union(OFlag::O_TRUNC);

/// Opens `name` in `dir` to read it, or to act on it (`O_PATH`). `O_NOFOLLOW` and `O_CLOEXEC` are
/// always added. What is there keeps its access time where we may see to that.
///
/// # Errors
/// Those of openat(2). EINVAL for flags that would let anything be changed: [`create`] and
/// [`open_to_write`] do that.
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
/// taken as it is: see [`owns_what_it_makes`].
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
    // A FIFO that took the place of the file would wait for somebody to read it.
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK;
    let opened = match object.target() {
        Target::At(dir, name) => quietly(flags, |flags| open_as_asked(dir, name, flags, 0)),
        Target::Fd(fd) => open_descriptor(fd, flags),
    };
    opened.map(OwnedWritable::new)
}

/// Runs an open that leaves no access time behind, or one that does where we may not have that
/// (`O_NOATIME` wants the owner or CAP_FOWNER, open(2)).
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
    let (dir, flags) = (dir.as_raw_fd(), (flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits());
    // SAFETY: the name is a NUL-terminated string that outlives the call.
    opened(|| name.with_c(|name| unsafe { libc::openat(dir, name, flags, mode) }))
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

/// Opens what an `O_PATH` descriptor refers to, through procfs.
fn open_descriptor(fd: BorrowedFd<'_>, flags: OFlag) -> Result<OwnedFd> {
    quietly(flags | OFlag::O_CLOEXEC, |flags| {
        let path = proc_path(fd);
        // SAFETY: the path ends with the NUL that `proc_path` puts there.
        opened(|| unsafe { libc::open(path.as_ptr().cast(), flags.bits()) })
    })
}

/// Opens a directory in which something is to be changed.
///
/// # Errors
/// Those of openat(2).
pub fn open_writable_dir(dir: Writable<'_>) -> Result<OwnedWritable> {
    open_target(dir.target(), OFlag::O_RDONLY | OFlag::O_DIRECTORY).map(OwnedWritable::new)
}

/// An unnamed file in `dir` (`O_TMPFILE`), which lives as long as its descriptor; with `O_EXCL` in
/// `flags` it never gets a name.
///
/// # Errors
/// EOPNOTSUPP, EISDIR or ENOENT where the file system has no such thing (open(2)).
pub fn tmpfile(dir: WritableFd<'_>, flags: OFlag, mode: u32) -> Result<OwnedWritable> {
    before_change()?;
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC | flags;
    // SAFETY: the path is a NUL-terminated literal.
    let make = || unsafe { libc::openat(raw(dir), c".".as_ptr(), flags.bits(), mode) };
    opened(make).map(OwnedWritable::new)
}

/// Opens the directory `dir` once more, with an offset of its own.
pub fn reopen_dir(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    quietly(flags, |flags| {
        // SAFETY: the path is a NUL-terminated literal.
        opened(|| unsafe { libc::openat(dir.as_raw_fd(), c".".as_ptr(), flags.bits()) })
    })
}

/// The directory above `dir`; that of a root is itself.
pub fn open_parent(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the path is a NUL-terminated literal.
    opened(|| unsafe { libc::openat(dir.as_raw_fd(), c"..".as_ptr(), flags) })
}

/// mkdirat(2). The mode is reduced by the umask of the process, which the daemon sets to 0.
pub fn mkdir(dir: WritableFd<'_>, name: Name<'_>, mode: u32) -> Result<()> {
    before_change()?;
    // SAFETY: the name is a NUL-terminated string that outlives the call.
    name.with_c(|c| check(unsafe { libc::mkdirat(raw(dir), c, mode) }))?;
    Ok(())
}

/// mknodat(2); `mode` carries the type.
pub fn mknod(dir: WritableFd<'_>, name: Name<'_>, mode: u32, rdev: u64) -> Result<()> {
    before_change()?;
    // SAFETY: the name is a NUL-terminated string that outlives the call.
    name.with_c(|c| check(unsafe { libc::mknodat(raw(dir), c, mode, rdev) }))?;
    Ok(())
}

/// symlinkat(2). The target is any bytes without NUL.
pub fn symlink(target: &[u8], dir: WritableFd<'_>, name: Name<'_>) -> Result<()> {
    before_change()?;
    Ok(nix::unistd::symlinkat(target, dir, name.bytes())?)
}

/// readlinkat(2): what the link says, as bytes.
pub fn readlink(target: Target<'_>) -> Result<Vec<u8>> {
    let mut buf = vec![0u8; PATH_MAX];
    let len = target.with_at(|dir, path, _| {
        // SAFETY: the buffer is as long as we say; the path is NUL-terminated.
        check_len(unsafe { libc::readlinkat(dir, path, buf.as_mut_ptr().cast(), buf.len()) })
    })?;
    buf.truncate(len);
    Ok(buf)
}

/// linkat(2) without following.
pub fn link(from: WritableFd<'_>, name: Name<'_>, to: WritableFd<'_>, new: Name<'_>) -> Result<()> {
    before_change()?;
    Ok(nix::unistd::linkat(from, name.bytes(), to, new.bytes(), AtFlags::empty())?)
}

/// Gives a file that was made without a name (`O_TMPFILE`) its first one.
///
/// # Errors
/// ENOENT for a file that has lost its names (linkat(2)).
pub fn link_unnamed(file: WritableFd<'_>, to: WritableFd<'_>, new: Name<'_>) -> Result<()> {
    before_change()?;
    // `AT_EMPTY_PATH` wants CAP_DAC_READ_SEARCH; this way does not (open(2), O_TMPFILE).
    let path = format!("/proc/self/fd/{}", raw(file));
    let flags = AtFlags::AT_SYMLINK_FOLLOW;
    Ok(nix::unistd::linkat(nix::fcntl::AT_FDCWD, path.as_str(), to, new.bytes(), flags)?)
}

/// unlinkat(2) of what is not a directory.
pub fn unlink(dir: WritableFd<'_>, name: Name<'_>) -> Result<()> {
    before_change()?;
    // SAFETY: the name is a NUL-terminated string that outlives the call.
    name.with_c(|c| check(unsafe { libc::unlinkat(raw(dir), c, 0) }))?;
    Ok(())
}

/// unlinkat(2) with `AT_REMOVEDIR`.
pub fn rmdir(dir: WritableFd<'_>, name: Name<'_>) -> Result<()> {
    before_change()?;
    // SAFETY: the name is a NUL-terminated string that outlives the call.
    name.with_c(|c| check(unsafe { libc::unlinkat(raw(dir), c, libc::AT_REMOVEDIR) }))?;
    Ok(())
}

/// What a rename does with an object that already has the new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// It goes, in the same step.
    Yes,
    /// The rename fails with EEXIST.
    No,
    /// The two change places.
    Exchange,
    /// It goes, and a whiteout device stays at the old name, in the same step.
    LeaveWhiteout,
}

/// renameat2(2). Where the file system knows no flags (EINVAL on NFS and some FUSE servers),
/// [`Replace::No`] is made of a link and an unlink. Where no link can be made, as of directories,
/// it is a look and a rename, which would replace what somebody else makes between the two.
pub fn rename(
    from: WritableFd<'_>,
    name: Name<'_>,
    to: WritableFd<'_>,
    new: Name<'_>,
    replace: Replace,
) -> Result<()> {
    before_change()?;
    let flags = match replace {
        Replace::Yes => 0,
        Replace::No => libc::RENAME_NOREPLACE,
        Replace::Exchange => libc::RENAME_EXCHANGE,
        Replace::LeaveWhiteout => libc::RENAME_WHITEOUT,
    };
    let result = name.with_c(|old| {
        new.with_c(|new| {
            // SAFETY: both names are NUL-terminated strings that outlive the call.
            check(unsafe { libc::renameat2(raw(from), old, raw(to), new, flags) })
        })
    });
    match result {
        Ok(_) => Ok(()),
        Err(err) if replace == Replace::No && err.errno() == Errno::EINVAL => {
            match link(from, name, to, new) {
                Ok(()) => return unlink(from, name),
                // For directories, and where there are no hard links (link(2)).
                Err(link) if link.errno() == Errno::EPERM => {}
                Err(link)
                    if matches!(link.errno(), Errno::EEXIST | Errno::ENOSPC | Errno::EDQUOT) =>
                {
                    return Err(link);
                }
                Err(_) => return Err(err),
            }
            match stat::stat_if_exists(to.entry(new).target())? {
                Some(_) => Err(Errno::EEXIST.into()),
                None => rename(from, name, to, new, Replace::Yes),
            }
        }
        Err(err) => Err(err),
    }
}

/// Changes the permission bits (07777) of anything but a symbolic link.
pub fn chmod(object: Writable<'_>, mode: u32) -> Result<()> {
    before_change()?;
    let target = object.target();
    let mode = mode & 0o7777;
    let result = target.with_at(|dir, path, flags| {
        // SAFETY: the path is a NUL-terminated string that outlives the call.
        check_sys(unsafe { libc::syscall(libc::SYS_fchmodat2, dir, path, mode, flags) })
    });
    match result {
        Err(err) if err.errno() == Errno::ENOSYS => chmod_before_6_6(target, mode),
        other => other,
    }
}

/// `fchmodat2` came with Linux 6.6; before, an object that may be a link is pinned first.
fn chmod_before_6_6(target: Target<'_>, mode: u32) -> Result<()> {
    let pinned;
    let fd = match target {
        Target::Fd(fd) => fd,
        Target::At(dir, name) => {
            pinned = open(dir, name, OFlag::O_PATH)?;
            std::os::fd::AsFd::as_fd(&pinned)
        }
    };
    let path = proc_path(fd);
    // SAFETY: the path ends with the NUL that `proc_path` puts there.
    check(unsafe { libc::chmod(path.as_ptr().cast(), mode) })?;
    Ok(())
}

/// fchownat(2); `None` leaves an id as it is. Set-id bits and file capabilities of a file go, as
/// chown(2) says.
pub fn chown(object: Writable<'_>, uid: Option<Id>, gid: Option<Id>) -> Result<()> {
    before_change()?;
    let (uid, gid) = (Id::or_none(uid), Id::or_none(gid));
    object.target().with_at(|dir, path, flags| {
        // SAFETY: the path is a NUL-terminated string that outlives the call.
        check(unsafe { libc::fchownat(dir, path, uid, gid, flags) })
    })?;
    Ok(())
}

/// A time to set: one of utimensat(2)'s three ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// Leave it (`UTIME_OMIT`).
    Omit,
    /// The clock of the file system (`UTIME_NOW`).
    Now,
    /// This time; before 1970 is negative seconds with positive nanoseconds.
    At(Time),
}

impl SetTime {
    /// This, with a time to set in place of [`Self::Omit`].
    #[must_use]
    pub fn or(self, time: Time) -> Self {
        if self == Self::Omit { Self::At(time) } else { self }
    }

    fn timespec(self) -> libc::timespec {
        let (tv_sec, tv_nsec) = match self {
            Self::Omit => (0, libc::UTIME_OMIT),
            Self::Now => (0, libc::UTIME_NOW),
            Self::At(time) => (time.sec, i64::from(time.nsec)),
        };
        libc::timespec { tv_sec, tv_nsec }
    }
}

/// utimensat(2): access time, then modification time.
pub fn set_times(object: Writable<'_>, atime: SetTime, mtime: SetTime) -> Result<()> {
    before_change()?;
    let target = object.target();
    let times = [atime.timespec(), mtime.timespec()];
    if let Target::Fd(fd) = target {
        // SAFETY: two timespecs, as futimens wants; the descriptor is open.
        let result = check(unsafe { libc::futimens(fd.as_raw_fd(), times.as_ptr()) });
        // futimens refuses O_PATH descriptors with EBADF; AT_EMPTY_PATH takes them.
        match result {
            Err(err) if err.errno() == Errno::EBADF => {}
            other => return other.map(drop),
        }
    }
    target.with_at(|dir, path, flags| {
        // SAFETY: the path is NUL-terminated, the array has two entries.
        check(unsafe { libc::utimensat(dir, path, times.as_ptr(), flags) })
    })?;
    Ok(())
}

/// A private view of a directory that was opened: what is mounted below it, now or later, is not
/// seen (open_tree(2); CAP_SYS_ADMIN in the user namespace of the mount).
///
/// # Errors
/// EPERM without privilege, EINVAL where mounts below are not to be uncovered, ENOSYS before Linux
/// 5.2.
pub fn private_view(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_long = 1;
    let flags = OPEN_TREE_CLONE
        | libc::c_long::from(libc::O_CLOEXEC)
        | libc::c_long::from(libc::AT_EMPTY_PATH);
    let tree = opened(|| {
        let dir = dir.as_raw_fd();
        // SAFETY: the path is a NUL-terminated literal.
        let tree = unsafe { libc::syscall(libc::SYS_open_tree, dir, c"".as_ptr(), flags) };
        // A descriptor, or -1.
        libc::c_int::try_from(tree).unwrap_or(-1)
    })?;
    let tree = std::os::fd::AsFd::as_fd(&tree);
    // Where it cannot be had, `O_NOATIME` sees to most of it.
    keep_access_times(tree).ok();
    reopen_dir(tree)
}

/// Makes a private view keep all access times as they are, also where no open(2) can see to that
/// (readlink(2), objects of others). To be called before the descriptor that made it is closed.
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

/// Opens a layer's root by the path that the user gave: the one call that takes a path.
pub fn open_root(path: &std::path::Path) -> Result<OwnedFd> {
    let open = |flags: OFlag| {
        let flags = flags | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        with_room(|| nix::fcntl::open(path, flags, Mode::empty()).map_err(Error::from))
    };
    match quietly(OFlag::O_RDONLY, open) {
        Err(err) if err.errno() == Errno::EACCES => open(OFlag::O_PATH),
        other => other,
    }
}
