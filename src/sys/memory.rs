//! Memory that is there when it is needed, and memory that is not needed any more.
//!
//! The kernel may have to write pages back before it can give out memory, also to us, and where
//! these are pages of our own mount it waits for us: with a limit that client and server share
//! (cgroup v1, Linux 6.16 and later) both wait for ever. So what takes requests has its memory
//! before it asks for one.

#![allow(unsafe_code)]

use super::at::check;
use crate::error::Result;

/// A buffer whose pages are there.
#[must_use]
pub fn ready(len: usize) -> Vec<u8> {
    // Written to: the pages of a buffer of zeroes come when they are first used.
    vec![1; len]
}

/// Tells the kernel that this thread, and those that it starts, write back what others wait for:
/// then they need not wait for that themselves (`PR_SET_IO_FLUSHER`, prctl(2)).
///
/// # Errors
/// EPERM without CAP_SYS_RESOURCE; EINVAL before Linux 5.6.
pub fn serve_writeback() -> Result<()> {
    /// linux/prctl.h.
    const PR_SET_IO_FLUSHER: libc::c_int = 57;
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) })?;
    Ok(())
}

/// Gives whole pages that nobody uses back to the kernel, wherever they are: by itself the
/// allocator gives back what is above everything that is in use, and one small object keeps all
/// below it. With other C libraries than glibc nothing happens.
pub fn give_back() {
    // SAFETY: malloc_trim(3) takes no pointer, and any thread may call it at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
