//! From results to replies.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

use fuser::{Errno as Raw, INodeNo, ReplyEmpty, ReplyWrite, ReplyXattr};

use super::convert;
use crate::error::{Errno, Result};

/// What an operation gave, with the errno that the kernel gets.
pub type Answer<T> = std::result::Result<T, Raw>;

/// Runs an operation; a panic in it is EIO and a line in the log.
pub fn guarded<T>(name: &'static str, act: impl FnOnce() -> Result<T>) -> Answer<T> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(err)) => {
            match err.errno() {
                // What a disk or a layer says is for the log too.
                Errno::EIO | Errno::ESTALE => tracing::warn!("{name}: {err}"),
                _ => tracing::debug!("{name}: {err}"),
            }
            Err(convert::errno(&err))
        }
        Err(_) => {
            tracing::error!("{name}: a bug in ovlmerge; this request fails with EIO");
            Err(Raw::EIO)
        }
    }
}

/// Answers a request that gives nothing.
pub fn reply_empty(answer: Answer<()>, reply: ReplyEmpty) {
    match answer {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// Answers a request for bytes: their number if no room was offered, ERANGE if there is too little
/// (getxattr(2)).
pub fn reply_bytes(answer: Answer<Vec<u8>>, size: u32, reply: ReplyXattr) {
    match answer {
        Ok(bytes) if size == 0 => reply.size(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
        Ok(bytes) if bytes.len() <= size as usize => reply.data(&bytes),
        Ok(_) => reply.error(Raw::ERANGE),
        Err(errno) => reply.error(errno),
    }
}

/// Answers a request that gives a length.
pub fn reply_written(answer: Answer<usize>, reply: ReplyWrite) {
    match answer {
        Ok(len) => reply.written(u32::try_from(len).unwrap_or(u32::MAX)),
        Err(errno) => reply.error(errno),
    }
}

/// What stands for "no such name", and for what nobody looks at.
pub fn absent() -> fuser::FileAttr {
    let epoch = SystemTime::UNIX_EPOCH;
    fuser::FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind: fuser::FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_eio_and_no_more() {
        let answer = guarded("test", || -> Result<()> { panic!("a bug") });
        assert_eq!(answer.map_err(i32::from), Err(libc::EIO));
        assert_eq!(guarded("test", || Ok(7)).map_err(i32::from), Ok(7), "and life goes on");
    }
}
