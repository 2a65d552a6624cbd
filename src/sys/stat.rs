//! Attributes of an object, as statx(2) gives them.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Statx, StatxAttributes, StatxFlags, StatxTimestamp, statx};

use super::creds::Owner;
use super::name::Target;
use crate::error::{Errno, Result};
use crate::id::Id;

/// Seconds since 1970 (negative before) and nanoseconds (always forward, below 10^9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Whole seconds, rounded towards the past.
    pub sec: i64,
    /// Nanoseconds after `sec`.
    pub nsec: u32,
}

/// The type of an object. An object has one type for life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FileType {
    /// A regular file.
    Regular = libc::DT_REG,
    /// A directory.
    Directory = libc::DT_DIR,
    /// A symbolic link.
    Symlink = libc::DT_LNK,
    /// A character device.
    CharDevice = libc::DT_CHR,
    /// A block device.
    BlockDevice = libc::DT_BLK,
    /// A named pipe.
    Fifo = libc::DT_FIFO,
    /// A socket.
    Socket = libc::DT_SOCK,
}

impl FileType {
    /// The type in the upper bits of `st_mode` (inode(7)). An unknown type counts as a regular
    /// file.
    #[must_use]
    pub fn from_mode(mode: u32) -> Self {
        match mode & libc::S_IFMT {
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFCHR => Self::CharDevice,
            libc::S_IFBLK => Self::BlockDevice,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            _ => Self::Regular,
        }
    }

    /// The type as the upper bits of `st_mode`.
    #[must_use]
    pub fn mode(self) -> u32 {
        match self {
            Self::Regular => libc::S_IFREG,
            Self::Directory => libc::S_IFDIR,
            Self::Symlink => libc::S_IFLNK,
            Self::CharDevice => libc::S_IFCHR,
            Self::BlockDevice => libc::S_IFBLK,
            Self::Fifo => libc::S_IFIFO,
            Self::Socket => libc::S_IFSOCK,
        }
    }

    /// The `d_type` of a directory entry (readdir(3)); `None` for `DT_UNKNOWN`.
    #[must_use]
    pub fn from_dirent(d_type: u8) -> Option<Self> {
        Some(match d_type {
            libc::DT_REG => Self::Regular,
            libc::DT_DIR => Self::Directory,
            libc::DT_LNK => Self::Symlink,
            libc::DT_CHR => Self::CharDevice,
            libc::DT_BLK => Self::BlockDevice,
            libc::DT_FIFO => Self::Fifo,
            libc::DT_SOCK => Self::Socket,
            _ => return None,
        })
    }

    /// Whether this is a directory.
    #[must_use]
    pub fn is_dir(self) -> bool {
        self == Self::Directory
    }

    /// Whether this is a regular file.
    #[must_use]
    pub fn is_file(self) -> bool {
        self == Self::Regular
    }
}

/// The changes that the flags of an inode forbid (ioctl_iflags(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// `FS_APPEND_FL`.
    pub append_only: bool,
    /// `FS_IMMUTABLE_FL`.
    pub immutable: bool,
}

impl Protection {
    /// Whether any change is forbidden.
    #[must_use]
    pub fn is_any(self) -> bool {
        self.append_only || self.immutable
    }

    /// The changes that at least one of the two forbids.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            append_only: self.append_only || other.append_only,
            immutable: self.immutable || other.immutable,
        }
    }
}

/// The attributes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Device number of the file system (makedev(3) of major and minor).
    pub dev: u64,
    /// Inode number on that file system.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device that a device node stands for.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Allocated space, in units of 512 bytes.
    pub blocks: u64,
    /// Preferred size of I/O, in bytes.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of the contents.
    pub mtime: Time,
    /// Last change of the attributes.
    pub ctime: Time,
    /// Time of birth, if the file system has it.
    pub btime: Option<Time>,
    /// The changes that the inode flags forbid, where statx(2) tells (ext4, XFS, btrfs, tmpfs).
    pub protection: Protection,
}

/// A device number in the 32 bits that it has in the kernel (`dev_t`, include/linux/types.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dev(u32);

impl Dev {
    /// `MINORBITS` of include/linux/kdev_t.h.
    const MINOR_BITS: u32 = 20;

    /// From the number in the form of stat(2).
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self(libc::major(number) << Self::MINOR_BITS | libc::minor(number))
    }

    /// The number in the form of stat(2).
    #[must_use]
    pub fn number(self) -> u64 {
        let minor = self.0 & ((1 << Self::MINOR_BITS) - 1);
        libc::makedev(self.0 >> Self::MINOR_BITS, minor)
    }
}

impl Stat {
    /// Type of the object.
    #[must_use]
    pub fn kind(&self) -> FileType {
        FileType::from_mode(self.mode)
    }

    /// Permission bits with set-id and sticky bits.
    #[must_use]
    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    /// A character device 0:0, which is how the kernel's overlayfs spells a whiteout.
    #[must_use]
    pub fn is_whiteout_device(&self) -> bool {
        self.kind() == FileType::CharDevice && self.rdev == 0
    }

    /// User and group, if both have a number here.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        Some(Owner { uid: Id::new(self.uid)?, gid: Id::new(self.gid)? })
    }

    /// Whether both are attributes of one object: of one inode of one file system.
    #[must_use]
    pub fn same_object(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    /// Whether both are of one object that has not been changed in between.
    #[must_use]
    pub fn is_unchanged(&self, other: &Self) -> bool {
        let facts = |stat: &Self| (stat.size, stat.mtime, stat.ctime);
        self.same_object(other) && facts(self) == facts(other)
    }
}

/// The attributes that are asked for. The time of birth costs nothing: a file system that has it
/// reads it with the rest.
const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// Attributes of `target`. A symbolic link is not followed.
pub fn stat(target: Target<'_>) -> Result<Stat> {
    let how = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_SYNC_AS_STAT;
    let found = target.with_at(|dir, path, flags| statx(dir, path, flags | how, WANTED))?;
    Ok(from_statx(&found))
}

/// Attributes of `target`, or `None` if there is no such name.
pub fn stat_if_exists(target: Target<'_>) -> Result<Option<Stat>> {
    match stat(target) {
        Ok(stat) => Ok(Some(stat)),
        Err(err) if err.errno() == Errno::ENOENT => Ok(None),
        Err(err) => Err(err),
    }
}

/// Attributes of the object that `fd` refers to.
pub fn fstat(fd: BorrowedFd<'_>) -> Result<Stat> {
    stat(Target::Fd(fd))
}

/// The number of the mount that `fd` was reached through (`STATX_MNT_ID`, Linux 5.8); 0 where the
/// kernel does not tell.
pub fn mount_id(fd: BorrowedFd<'_>) -> Result<u64> {
    let wanted = StatxFlags::MNT_ID;
    let found = Target::Fd(fd).with_at(|dir, path, flags| statx(dir, path, flags, wanted))?;
    Ok(if found.stx_mask & wanted.bits() == 0 { 0 } else { found.stx_mnt_id })
}

fn from_statx(s: &Statx) -> Stat {
    // A file system that knows both attributes has them from the flags of the inode. erofs knows
    // one: it calls all of its files immutable, as it takes no changes (`erofs_getattr`,
    // fs/erofs/inode.c). That does not forbid a change of a copy.
    let has_flags = s.stx_attributes_mask.contains(StatxAttributes::APPEND);
    let has = |attribute| has_flags && s.stx_attributes.contains(attribute);
    let time = |t: &StatxTimestamp| Time { sec: t.tv_sec, nsec: t.tv_nsec };
    Stat {
        dev: libc::makedev(s.stx_dev_major, s.stx_dev_minor),
        ino: s.stx_ino,
        mode: u32::from(s.stx_mode),
        nlink: s.stx_nlink,
        uid: s.stx_uid,
        gid: s.stx_gid,
        rdev: libc::makedev(s.stx_rdev_major, s.stx_rdev_minor),
        size: s.stx_size,
        blocks: s.stx_blocks,
        blksize: s.stx_blksize,
        atime: time(&s.stx_atime),
        mtime: time(&s.stx_mtime),
        ctime: time(&s.stx_ctime),
        btime: (s.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| time(&s.stx_btime)),
        protection: Protection {
            append_only: has(StatxAttributes::APPEND),
            immutable: has(StatxAttributes::IMMUTABLE),
        },
    }
}
