//! The ioctls of chattr(1) and lsattr(1).

use crate::error::{Errno, Result};
use crate::sys::ioctl;
use crate::vfs::{NodeId, Vfs};

/// Runs an ioctl of these programs; ENOTTY for any other.
pub fn run(vfs: &Vfs, id: NodeId, cmd: u32, input: &[u8]) -> Result<Vec<u8>> {
    match cmd {
        ioctl::GETFLAGS => Ok(vfs.get_flags(id)?.to_ne_bytes().to_vec()),
        ioctl::SETFLAGS => {
            let flags = input.first_chunk().ok_or(Errno::EINVAL)?;
            vfs.set_flags(id, u32::from_ne_bytes(*flags))?;
            Ok(Vec::new())
        }
        ioctl::FSGETXATTR => Ok(vfs.get_fsxattr(id)?.to_vec()),
        ioctl::FSSETXATTR => {
            let value = input.first_chunk().ok_or(Errno::EINVAL)?;
            vfs.set_fsxattr(id, value)?;
            Ok(Vec::new())
        }
        _ => Err(Errno::ENOTTY.into()),
    }
}
