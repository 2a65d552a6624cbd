//! What the allocator keeps of the memory that was freed.

#![allow(unsafe_code)]

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
