//! Numbers of the FUSE protocol: include/uapi/linux/fuse.h of Linux 6.18, where each has the same
//! name with `FUSE_` before it.

/// Major version; another one is another protocol.
pub const MAJOR: u32 = 7;
/// The newest minor version that this was written for.
pub const MINOR: u32 = 45;
/// The oldest minor version whose messages have the sizes that are used here (Linux 3.15).
pub const OLDEST_MINOR: u32 = 23;

/// Bytes of `fuse_out_header`.
pub const OUT_HEADER: usize = 16;
/// Room for all of a request but the data of a WRITE: a SETXATTR with 64 KiB of value
/// (`XATTR_SIZE_MAX`), its name and headers.
pub const ROOM_BESIDES_DATA: usize = 68 << 10;

/// Numbers with names, and a list of both for those who tell of them.
macro_rules! numbers {
    ($kind:ty: $($name:ident = $value:expr),* $(,)?) => {
        $(#[allow(dead_code)] pub const $name: $kind = $value;)*
        /// All of them.
        pub const NAMES: &[($kind, &str)] = &[$(($name, stringify!($name))),*];
    };
}

/// What a request asks for.
pub mod opcode {
    #![allow(missing_docs)]
    numbers! { u32:
        LOOKUP = 1,
        FORGET = 2,
        GETATTR = 3,
        SETATTR = 4,
        READLINK = 5,
        SYMLINK = 6,
        MKNOD = 8,
        MKDIR = 9,
        UNLINK = 10,
        RMDIR = 11,
        RENAME = 12,
        LINK = 13,
        OPEN = 14,
        READ = 15,
        WRITE = 16,
        STATFS = 17,
        RELEASE = 18,
        FSYNC = 20,
        SETXATTR = 21,
        GETXATTR = 22,
        LISTXATTR = 23,
        REMOVEXATTR = 24,
        FLUSH = 25,
        INIT = 26,
        OPENDIR = 27,
        READDIR = 28,
        RELEASEDIR = 29,
        FSYNCDIR = 30,
        GETLK = 31,
        SETLK = 32,
        SETLKW = 33,
        ACCESS = 34,
        CREATE = 35,
        INTERRUPT = 36,
        BMAP = 37,
        DESTROY = 38,
        IOCTL = 39,
        POLL = 40,
        NOTIFY_REPLY = 41,
        BATCH_FORGET = 42,
        FALLOCATE = 43,
        READDIRPLUS = 44,
        RENAME2 = 45,
        LSEEK = 46,
        COPY_FILE_RANGE = 47,
        SETUPMAPPING = 48,
        REMOVEMAPPING = 49,
        SYNCFS = 50,
        TMPFILE = 51,
        STATX = 52,
    }

    /// The name of a request; its number if nobody knows it.
    pub fn name(number: u32) -> String {
        let known = NAMES.iter().find(|(known, _)| *known == number);
        known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
    }
}

/// What INIT agrees on.
pub mod capability {
    #![allow(missing_docs)]
    numbers! { u64:
        ASYNC_READ = 1 << 0,
        ATOMIC_O_TRUNC = 1 << 3,
        EXPORT_SUPPORT = 1 << 4,
        BIG_WRITES = 1 << 5,
        DONT_MASK = 1 << 6,
        AUTO_INVAL_DATA = 1 << 12,
        DO_READDIRPLUS = 1 << 13,
        READDIRPLUS_AUTO = 1 << 14,
        WRITEBACK_CACHE = 1 << 16,
        PARALLEL_DIROPS = 1 << 18,
        POSIX_ACL = 1 << 20,
        MAX_PAGES = 1 << 22,
        CACHE_SYMLINKS = 1 << 23,
        NO_OPENDIR_SUPPORT = 1 << 24,
        EXPLICIT_INVAL_DATA = 1 << 25,
        HANDLE_KILLPRIV_V2 = 1 << 28,
        SETXATTR_EXT = 1 << 29,
        INIT_EXT = 1 << 30,
        DIRECT_IO_ALLOW_MMAP = 1 << 36,
        PASSTHROUGH = 1 << 37,
    }
}

/// Which fields of a SETATTR count.
pub mod setattr {
    #![allow(missing_docs)]
    pub const MODE: u32 = 1 << 0;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    pub const ATIME: u32 = 1 << 4;
    pub const MTIME: u32 = 1 << 5;
    pub const ATIME_NOW: u32 = 1 << 7;
    pub const MTIME_NOW: u32 = 1 << 8;
    pub const KILL_SUIDGID: u32 = 1 << 11;
}

/// How an opened file or directory behaves.
pub mod open {
    #![allow(missing_docs)]
    pub const KEEP_CACHE: u32 = 1 << 1;
    pub const CACHE_DIR: u32 = 1 << 3;
    pub const PASSTHROUGH: u32 = 1 << 7;
}

/// Flags of single requests.
pub mod flag {
    #![allow(missing_docs)]
    pub const FSYNC_FDATASYNC: u32 = 1 << 0;
    pub const OPEN_KILL_SUIDGID: u32 = 1 << 0;
    pub const WRITE_CACHE: u32 = 1 << 0;
    pub const WRITE_KILL_SUIDGID: u32 = 1 << 2;
    pub const SETXATTR_ACL_KILL_SGID: u32 = 1 << 0;
}

/// `FUSE_NOTIFY_INVAL_INODE`.
pub const NOTIFY_INVAL_INODE: i32 = 2;

/// `FUSE_NOTIFY_INVAL_ENTRY`.
pub const NOTIFY_INVAL_ENTRY: i32 = 3;
