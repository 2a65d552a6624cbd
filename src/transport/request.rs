//! Requests, parsed into types.

use super::abi::{self, opcode, setattr};
use super::init::Offer;
use super::wire::{Input, Malformed};
use crate::id::Id;
use crate::sys::Time;
use crate::sys::at::SetTime;

/// The header of a request (`fuse_in_header`).
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Number of the operation (`opcode`).
    pub opcode: u32,
    /// Number of the request, which its answer repeats.
    pub unique: u64,
    /// Number of the node, as the server gave it out.
    pub node: u64,
    /// User id of the caller, for access to files (`fsuid`).
    pub uid: u32,
    /// Group id of the caller, for access to files (`fsgid`).
    pub gid: u32,
    /// Thread id of the caller; 0 if it is in a PID namespace that the mount does not see.
    pub pid: u32,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The header.
    pub header: Header,
    /// The operation, with its arguments.
    pub operation: Operation<'a>,
}

/// Attributes to set. `None` and [`SetTime::Omit`] leave one as it is.
#[derive(Clone, Copy, Debug)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<Id>,
    /// Group.
    pub gid: Option<Id>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Access time.
    pub atime: SetTime,
    /// Modification time.
    pub mtime: SetTime,
}

/// An operation with its arguments. Names are bytes without the NUL.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // The fields have the names of their manual pages.
pub enum Operation<'a> {
    Init(Offer),
    Destroy,
    Lookup {
        name: &'a [u8],
    },
    Forget {
        count: u64,
    },
    BatchForget(Forgets<'a>),
    GetAttr,
    Statx,
    SetAttr {
        change: SetAttr,
        kills_set_id: bool,
    },
    ReadLink,
    Symlink {
        name: &'a [u8],
        target: &'a [u8],
    },
    MakeNode {
        name: &'a [u8],
        mode: u32,
        umask: u32,
        rdev: u32,
    },
    MakeDir {
        name: &'a [u8],
        mode: u32,
        umask: u32,
    },
    Unlink {
        name: &'a [u8],
    },
    RemoveDir {
        name: &'a [u8],
    },
    Rename {
        name: &'a [u8],
        parent: u64,
        new_name: &'a [u8],
        flags: u32,
    },
    /// A new name for `node`, in the directory of the header.
    Link {
        node: u64,
        name: &'a [u8],
    },
    Open {
        flags: i32,
        kills_set_id: bool,
    },
    Create {
        name: &'a [u8],
        flags: i32,
        mode: u32,
        umask: u32,
    },
    TmpFile {
        flags: i32,
        mode: u32,
        umask: u32,
    },
    Read {
        offset: u64,
        size: usize,
    },
    Write {
        offset: u64,
        data: &'a [u8],
        flags: u32,
    },
    StatFs,
    Flush,
    Release,
    /// FSYNC or FSYNCDIR.
    Fsync {
        data_only: bool,
    },
    SetXattr {
        name: &'a [u8],
        value: &'a [u8],
        flags: i32,
        kills_setgid: bool,
    },
    GetXattr {
        name: &'a [u8],
        size: u32,
    },
    ListXattr {
        size: u32,
    },
    RemoveXattr {
        name: &'a [u8],
    },
    OpenDir,
    ReadDir {
        offset: u64,
        size: usize,
        plus: bool,
    },
    ReleaseDir,
    Ioctl {
        command: u32,
        data: &'a [u8],
        room: usize,
    },
    Fallocate {
        offset: u64,
        length: u64,
        mode: i32,
    },
    Seek {
        offset: i64,
        whence: i32,
    },
    CopyRange {
        offset: u64,
        to: u64,
        to_offset: u64,
        length: u64,
    },
    /// The caller of the request `unique` got a signal.
    Interrupt {
        unique: u64,
    },
    /// Any other operation; the answer is ENOSYS.
    Unknown,
}

/// Nodes that the kernel forgets, each with its lookup count.
#[derive(Clone, Copy, Debug)]
pub struct Forgets<'a>(Input<'a>);

impl Iterator for Forgets<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.0.u64().ok()?, self.0.u64().ok()?))
    }
}

impl Request<'_> {
    /// Whether the request makes no visible change, so that it can be given up at any point.
    pub fn only_reads(&self) -> bool {
        let empties =
            matches!(self.operation, Operation::Open { flags, .. } if flags & libc::O_TRUNC != 0);
        !empties
            && matches!(
                self.header.opcode,
                opcode::LOOKUP
                    | opcode::GETATTR
                    | opcode::STATX
                    | opcode::READLINK
                    | opcode::OPEN
                    | opcode::READ
                    | opcode::STATFS
                    | opcode::GETXATTR
                    | opcode::LISTXATTR
                    | opcode::OPENDIR
                    | opcode::READDIR
                    | opcode::READDIRPLUS
                    | opcode::LSEEK
            )
    }
}

impl Header {
    fn parse(input: &mut Input<'_>) -> Result<Self, Malformed> {
        input.skip(4)?;
        let (opcode, unique, node) = (input.u32()?, input.u64()?, input.u64()?);
        let (uid, gid, pid) = (input.u32()?, input.u32()?, input.u32()?);
        // Extensions follow the arguments, but none was negotiated.
        input.skip(4)?;
        Ok(Self { opcode, unique, node, uid, gid, pid })
    }
}

impl<'a> Request<'a> {
    /// Parses a request. `extended` means that SETXATTR_EXT was negotiated.
    ///
    /// # Errors
    /// The header of a malformed request; `None` if the header itself is malformed.
    pub fn parse(bytes: &'a [u8], extended: bool) -> Result<Self, Option<Header>> {
        let mut input = Input::new(bytes);
        let header = Header::parse(&mut input).map_err(|Malformed| None)?;
        let operation = operation(&header, input, extended).map_err(|Malformed| Some(header))?;
        Ok(Self { header, operation })
    }
}

fn operation<'a>(
    header: &Header,
    mut input: Input<'a>,
    extended: bool,
) -> Result<Operation<'a>, Malformed> {
    let i = &mut input;
    Ok(match header.opcode {
        opcode::LOOKUP => Operation::Lookup { name: i.name()? },
        opcode::FORGET => Operation::Forget { count: i.u64()? },
        opcode::BATCH_FORGET => {
            i.skip(8)?;
            Operation::BatchForget(Forgets(input))
        }
        opcode::GETATTR => Operation::GetAttr,
        opcode::STATX => Operation::Statx,
        opcode::SETATTR => set_attr(i)?,
        opcode::READLINK => Operation::ReadLink,
        opcode::UNLINK => Operation::Unlink { name: i.name()? },
        opcode::RMDIR => Operation::RemoveDir { name: i.name()? },
        opcode::OPEN => Operation::Open {
            flags: i.u32()?.cast_signed(),
            kills_set_id: i.u32()? & abi::flag::OPEN_KILL_SUIDGID != 0,
        },
        opcode::STATFS => Operation::StatFs,
        opcode::FLUSH => Operation::Flush,
        opcode::RELEASE => Operation::Release,
        opcode::RELEASEDIR => Operation::ReleaseDir,
        opcode::OPENDIR => Operation::OpenDir,
        opcode::REMOVEXATTR => Operation::RemoveXattr { name: i.name()? },
        opcode::DESTROY => Operation::Destroy,
        opcode::INTERRUPT => Operation::Interrupt { unique: i.u64()? },
        opcode::INIT => init(i)?,
        opcode::SYMLINK
        | opcode::MKNOD
        | opcode::MKDIR
        | opcode::CREATE
        | opcode::TMPFILE
        | opcode::LINK
        | opcode::RENAME
        | opcode::RENAME2 => naming(header.opcode, i)?,
        opcode::SETXATTR | opcode::GETXATTR | opcode::LISTXATTR => {
            attributes(header.opcode, i, extended)?
        }
        _ => data(header.opcode, i)?,
    })
}

fn init<'a>(i: &mut Input<'a>) -> Result<Operation<'a>, Malformed> {
    let (major, minor, max_readahead) = (i.u32()?, i.u32()?, i.u32()?);
    let low = u64::from(i.u32()?);
    // Sent since ABI 7.36, but valid only with INIT_EXT.
    let high = i.u32().map_or(0, u64::from) << 32;
    let flags = if low & abi::capability::INIT_EXT == 0 { low } else { low | high };
    Ok(Operation::Init(Offer { major, minor, max_readahead, flags }))
}

/// Parses requests that give a name to an object.
fn naming<'a>(opcode: u32, i: &mut Input<'a>) -> Result<Operation<'a>, Malformed> {
    Ok(match opcode {
        opcode::SYMLINK => Operation::Symlink { name: i.name()?, target: i.name()? },
        opcode::MKNOD => {
            let (mode, rdev, umask) = (i.u32()?, i.u32()?, i.u32()?);
            i.skip(4)?;
            Operation::MakeNode { name: i.name()?, mode, umask, rdev }
        }
        opcode::MKDIR => {
            let (mode, umask) = (i.u32()?, i.u32()?);
            Operation::MakeDir { name: i.name()?, mode, umask }
        }
        opcode::LINK => Operation::Link { node: i.u64()?, name: i.name()? },
        opcode::RENAME | opcode::RENAME2 => {
            let parent = i.u64()?;
            let flags = if opcode == opcode::RENAME2 { i.u32()? } else { 0 };
            i.skip(if opcode == opcode::RENAME2 { 4 } else { 0 })?;
            Operation::Rename { name: i.name()?, parent, new_name: i.name()?, flags }
        }
        _ => {
            let (flags, mode, umask) = (i.u32()?.cast_signed(), i.u32()?, i.u32()?);
            i.skip(4)?;
            match opcode {
                opcode::CREATE => Operation::Create { name: i.name()?, flags, mode, umask },
                _ => Operation::TmpFile { flags, mode, umask },
            }
        }
    })
}

fn attributes<'a>(
    opcode: u32,
    i: &mut Input<'a>,
    extended: bool,
) -> Result<Operation<'a>, Malformed> {
    let size = i.u32()?;
    let flags = i.u32()?;
    Ok(match opcode {
        opcode::GETXATTR => Operation::GetXattr { name: i.name()?, size },
        opcode::LISTXATTR => Operation::ListXattr { size },
        _ => {
            let more = if extended { i.u32()? } else { 0 };
            i.skip(if extended { 4 } else { 0 })?;
            let (name, value) = (i.name()?, i.bytes(size as usize)?);
            let kills_setgid = more & abi::flag::SETXATTR_ACL_KILL_SGID != 0;
            Operation::SetXattr { name, value, flags: flags.cast_signed(), kills_setgid }
        }
    })
}

/// Parses requests on open files and directories. They begin with a handle, which is unused.
fn data<'a>(opcode: u32, i: &mut Input<'a>) -> Result<Operation<'a>, Malformed> {
    let handle = Input::skip;
    Ok(match opcode {
        opcode::READ | opcode::READDIR | opcode::READDIRPLUS => {
            handle(i, 8)?;
            let (offset, size) = (i.u64()?, i.u32()? as usize);
            match opcode {
                opcode::READ => Operation::Read { offset, size },
                _ => Operation::ReadDir { offset, size, plus: opcode == opcode::READDIRPLUS },
            }
        }
        opcode::WRITE => {
            handle(i, 8)?;
            let (offset, size, flags) = (i.u64()?, i.u32()? as usize, i.u32()?);
            i.skip(16)?;
            Operation::Write { offset, data: i.bytes(size)?, flags }
        }
        opcode::FSYNC | opcode::FSYNCDIR => {
            handle(i, 8)?;
            Operation::Fsync { data_only: i.u32()? & abi::flag::FSYNC_FDATASYNC != 0 }
        }
        opcode::IOCTL => {
            handle(i, 8)?;
            i.skip(4)?;
            let command = i.u32()?;
            i.skip(8)?;
            let (size, room) = (i.u32()? as usize, i.u32()? as usize);
            Operation::Ioctl { command, data: i.bytes(size)?, room }
        }
        opcode::FALLOCATE => {
            handle(i, 8)?;
            let (offset, length, mode) = (i.u64()?, i.u64()?, i.u32()?.cast_signed());
            Operation::Fallocate { offset, length, mode }
        }
        opcode::LSEEK => {
            handle(i, 8)?;
            Operation::Seek { offset: i.u64()?.cast_signed(), whence: i.u32()?.cast_signed() }
        }
        opcode::COPY_FILE_RANGE => {
            handle(i, 8)?;
            let (offset, to) = (i.u64()?, i.u64()?);
            handle(i, 8)?;
            Operation::CopyRange { offset, to, to_offset: i.u64()?, length: i.u64()? }
        }
        _ => Operation::Unknown,
    })
}

fn set_attr<'a>(i: &mut Input<'a>) -> Result<Operation<'a>, Malformed> {
    let valid = i.u32()?;
    i.skip(12)?;
    let size = i.u64()?;
    i.skip(8)?;
    let (atime, mtime, _ctime) = (i.u64()?, i.u64()?, i.u64()?);
    let (atime_nsec, mtime_nsec, _ctime_nsec) = (i.u32()?, i.u32()?, i.u32()?);
    let mode = i.u32()?;
    i.skip(4)?;
    let (uid, gid) = (i.u32()?, i.u32()?);
    let has = |bit| valid & bit != 0;
    // Seconds are signed, although the header file has them unsigned (`fuse_setattr_in`).
    let time = |set, now, sec: u64, nsec| match (has(set), has(now)) {
        (false, _) => SetTime::Omit,
        (true, true) => SetTime::Now,
        (true, false) => SetTime::At(Time { sec: sec.cast_signed(), nsec }),
    };
    // The kernel sends no owner without an id (notify_change, fs/attr.c).
    let id = |set, number| match has(set) {
        true => Id::new(number).map(Some).ok_or(Malformed),
        false => Ok(None),
    };
    let change = SetAttr {
        mode: has(setattr::MODE).then_some(mode),
        uid: id(setattr::UID, uid)?,
        gid: id(setattr::GID, gid)?,
        size: has(setattr::SIZE).then_some(size),
        atime: time(setattr::ATIME, setattr::ATIME_NOW, atime, atime_nsec),
        mtime: time(setattr::MTIME, setattr::MTIME_NOW, mtime, mtime_nsec),
    };
    Ok(Operation::SetAttr { change, kills_set_id: has(setattr::KILL_SUIDGID) })
}
