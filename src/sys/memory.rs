//! Memory that is there when it is needed, and memory that is not needed any more.
//!
//! The kernel may have to write pages back before it can give out memory, also to us, and where
//! these are pages of our own mount it waits for us: with a limit that client and server share
//! (cgroup v1, Linux 6.16 and later) both wait for ever. So what takes requests has its memory
//! before it asks for one.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed};

use crate::error::{Errno, Result};

/// A buffer whose pages are there.
#[must_use]
pub fn ready(len: usize) -> Vec<u8> {
    // Written to: the pages of a buffer of zeroes come when they are first used.
    vec![1; len]
}

/// A buffer of zeroes, whose pages come when they are first used.
///
/// # Errors
/// ENOMEM, where the process would otherwise be ended.
pub fn zeroed(len: usize) -> Result<Vec<u8>> {
    let layout = Layout::array::<u8>(len).map_err(|_| Errno::ENOMEM)?;
    if len == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the layout has a size.
    let start = unsafe { alloc_zeroed(layout) };
    if start.is_null() {
        return Err(Errno::ENOMEM.into());
    }
    // SAFETY: memory of the allocator of `Vec`, with the layout of one of this capacity, and every
    // byte of it has a value.
    Ok(unsafe { Vec::from_raw_parts(start, len, len) })
}

/// Tells the kernel that this thread, and those that it starts, write back what others wait for:
/// then they need not wait for that themselves (`PR_SET_IO_FLUSHER`, prctl(2)).
///
/// # Errors
/// EPERM without CAP_SYS_RESOURCE; EINVAL before Linux 5.6.
pub fn serve_writeback() -> Result<()> {
    Ok(rustix::process::configure_io_flusher_behavior(true)?)
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
