//! Memory that is taken before it is needed, and memory that is given back.
//!
//! The kernel may have to write pages back before it gives out memory, also to us. If they are
//! pages of our own mount, it waits for us: with a limit that client and server share (cgroup v1,
//! Linux 6.16 and later) both wait for ever. So a thread takes the memory for a request before it
//! asks for a request.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed};

use crate::error::{Errno, Result};

/// A buffer whose pages are in memory.
#[must_use]
pub fn ready(len: usize) -> Vec<u8> {
    // No buffer of zeroes, whose pages come only when they are first used.
    vec![1; len]
}

/// A buffer of zeroes, whose pages come when they are first used.
///
/// # Errors
/// ENOMEM if there is no memory, which would end the process in `vec!`.
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

/// Tells the kernel that this thread, and those that it starts, take part in the writing back that
/// others wait for: then they do not wait for it themselves (`PR_SET_IO_FLUSHER`, prctl(2)).
///
/// # Errors
/// EPERM without CAP_SYS_RESOURCE; EINVAL before Linux 5.6.
pub fn serve_writeback() -> Result<()> {
    Ok(rustix::process::configure_io_flusher_behavior(true)?)
}

/// Gives whole pages that nobody uses back to the kernel, wherever they are. By itself the
/// allocator gives back only pages above all objects in use, so that one small object keeps all
/// pages below it. With other C libraries than glibc nothing happens.
pub fn give_back() {
    // SAFETY: malloc_trim(3) takes no pointer, and any thread may call it at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
