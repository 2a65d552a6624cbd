//! The language of the scenarios: one operation, one line.
//!
//! `Display` and `FromStr` are each other's inverse, so a random sequence that failed prints as the
//! text that [`crate::scripted`] takes. The same lines build the layers, and go over the pipe to
//! the process that runs them.

use std::fmt;
use std::str::FromStr;

use super::word::{Data, Kind, Mode, OpenFlags, Path, RenameFlags, Time, Word, XattrFlags};

macro_rules! ops {
    ($( $(#[$doc:meta])* $variant:ident $verb:literal ( $($field:ident : $ty:ty),* ) )*) => {
        /// One operation on the tree below the current directory.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Op { $( $(#[$doc])* $variant($($ty),*), )* }

        impl fmt::Display for Op {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $( Op::$variant($($field),*) => {
                        f.write_str($verb)?;
                        $( write!(f, " {}", $field.show())?; )*
                        Ok(())
                    } )*
                }
            }
        }

        impl FromStr for Op {
            type Err = String;
            fn from_str(line: &str) -> Result<Self, String> {
                let mut words = line.split_whitespace();
                let op = match words.next().unwrap_or_default() {
                    $( $verb => Op::$variant($(
                        <$ty as Word>::parse(words.next().unwrap_or_default())
                            .map_err(|why| format!("`{line}`: {}: {why}", stringify!($field)))?
                    ),*), )*
                    verb => return Err(format!("`{line}`: no operation `{verb}`")),
                };
                match words.next() {
                    None => Ok(op),
                    Some(word) => Err(format!("`{line}`: `{word}` is too much")),
                }
            }
        }
    };
}

ops! {
    Mkdir "mkdir" (path: Path, mode: Mode)
    /// open(2) with `O_CREAT` and the flags given, then close(2).
    Create "create" (path: Path, mode: Mode, flags: OpenFlags)
    Mknod "mknod" (path: Path, kind: Kind, mode: Mode)
    Symlink "symlink" (target: Path, path: Path)
    Link "link" (from: Path, to: Path)
    Unlink "unlink" (path: Path)
    Rmdir "rmdir" (path: Path)
    Rename "rename" (from: Path, to: Path, flags: RenameFlags)
    /// Open for writing, pwrite(2), close(2).
    Write "write" (path: Path, offset: i64, data: Data)
    Append "append" (path: Path, data: Data)
    Truncate "truncate" (path: Path, len: i64)
    Chmod "chmod" (path: Path, mode: Mode)
    /// lchown(2); -1 leaves an id as it is.
    Chown "chown" (path: Path, uid: i64, gid: i64)
    /// utimensat(2) on the name itself, not on what a symlink points to.
    Utimens "utimens" (path: Path, atime: Time, mtime: Time)
    Setxattr "setxattr" (path: Path, name: Path, value: Data, flags: XattrFlags)
    Removexattr "removexattr" (path: Path, name: Path)
    Getxattr "getxattr" (path: Path, name: Path)
    Listxattr "listxattr" (path: Path)
    Stat "stat" (path: Path)
    /// The inode number, as "the nth that this process has seen".
    Ino "ino" (path: Path)
    Read "read" (path: Path)
    Readlink "readlink" (path: Path)
    Readdir "readdir" (path: Path)
    Access "access" (path: Path, mode: Mode)

    /// Keeps a file open in the given slot.
    Open "open" (slot: usize, path: Path, flags: OpenFlags)
    Close "close" (slot: usize)
    Pread "pread" (slot: usize, offset: i64, len: usize)
    Pwrite "pwrite" (slot: usize, offset: i64, data: Data)
    Fstat "fstat" (slot: usize)
    Ftruncate "ftruncate" (slot: usize, len: i64)
    Fchmod "fchmod" (slot: usize, mode: Mode)
    Fchown "fchown" (slot: usize, uid: i64, gid: i64)
    Fsetxattr "fsetxattr" (slot: usize, name: Path, value: Data)
    Fsync "fsync" (slot: usize)
    Fallocate "fallocate" (slot: usize, mode: i64, offset: i64, len: i64)
    SeekData "seekdata" (slot: usize, offset: i64)
    SeekHole "seekhole" (slot: usize, offset: i64)
    /// A shared mapping of the first bytes, written and synced.
    MmapWrite "mmapwrite" (slot: usize, data: Data)
    CopyRange "copyrange" (from: usize, to: usize, len: usize)
    /// The names of an open directory, from its start.
    FdReaddir "fdreaddir" (slot: usize)

    Umask "umask" (mode: Mode)
    /// Goes on as another user, with no supplementary groups; 0 is back to root.
    As "as" (uid: i64, gid: i64)

    /// A whiteout of the kernel's form; for building layers.
    Whiteout "whiteout" (path: Path)
    /// Any mark in the namespace of this mount; for building layers.
    Mark "mark" (path: Path, name: Path, value: Data)
    /// Marks a directory opaque in the namespace of this mount; for building layers.
    Opaque "opaque" (path: Path)
}

/// Parses a script: one operation a line; empty lines and `#` comments are skipped.
pub fn script(text: &str) -> Vec<Op> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.parse().unwrap_or_else(|why| panic!("bad script: {why}")))
        .collect()
}
