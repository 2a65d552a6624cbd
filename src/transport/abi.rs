//! Constants of the FUSE protocol: include/uapi/linux/fuse.h of Linux 6.18, without the prefix
//! `FUSE_` of its names.

/// Major version; another major version is another protocol.
pub const MAJOR: u32 = 7;
/// Newest minor version that this module implements.
pub const MINOR: u32 = 45;
/// Oldest minor version whose messages have the sizes used here (Linux 3.15).
pub const OLDEST_MINOR: u32 = 23;

/// Size of `fuse_out_header`, in bytes.
pub const OUT_HEADER: usize = 16;
/// Room for a request besides the data of a WRITE, in bytes. The largest is a SETXATTR: 64 KiB of
/// value (`XATTR_SIZE_MAX`), the name and the headers.
pub const ROOM_BESIDES_DATA: usize = 68 << 10;

/// Defines constants, and a list of them with their names for statistics and logs.
macro_rules! numbers {
    ($kind:ty: $($name:ident = $value:expr),* $(,)?) => {
        $(#[allow(dead_code)] pub const $name: $kind = $value;)*
        /// Each constant with its name.
        pub const NAMES: &[($kind, &str)] = &[$(($name, stringify!($name))),*];
    };
}

/// Opcodes: the operation that a request asks for.
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

    /// Returns the name of an opcode; its number if it is unknown.
    pub fn name(number: u32) -> String {
        let known = NAMES.iter().find(|(known, _)| *known == number);
        known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
    }
}

/// Capabilities that INIT negotiates.
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

/// Bits that say which fields of a SETATTR are valid.
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

/// Answers to OPEN and OPENDIR: how the kernel treats the opened object.
pub mod open {
    #![allow(missing_docs)]
    pub const KEEP_CACHE: u32 = 1 << 1;
    pub const CACHE_DIR: u32 = 1 << 3;
    pub const PASSTHROUGH: u32 = 1 << 7;
}

/// Flags of particular requests.
pub mod flag {
    #![allow(missing_docs)]
    pub const FSYNC_FDATASYNC: u32 = 1 << 0;
    pub const OPEN_KILL_SUIDGID: u32 = 1 << 0;
    pub const WRITE_CACHE: u32 = 1 << 0;
    pub const WRITE_KILL_SUIDGID: u32 = 1 << 2;
    pub const SETXATTR_ACL_KILL_SGID: u32 = 1 << 0;
}

/// Notification that makes the kernel forget attributes or pages of a node.
pub const NOTIFY_INVAL_INODE: i32 = 2;

/// Notification that makes the kernel forget a name.
pub const NOTIFY_INVAL_ENTRY: i32 = 3;
