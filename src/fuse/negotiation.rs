//! The capabilities that a mount asks the kernel for, by its options.

use super::open_mode::OpenMode;
use crate::config::{Config, CopyUpBy, Xattrs};
use crate::transport::abi::capability as cap;
use crate::transport::init::{Agreed, Wanted};

/// Smallest `max_write` that the kernel takes (`FUSE_MIN_READ_BUFFER` and headers).
const LEAST_WRITE: u32 = 4096;

/// The capabilities that we want. Those that an older kernel does not know are done without.
///
/// `ASYNC_DIO` is not wanted. With it the kernel lets the caller of an asynchronous direct write go
/// on before the data is written. It drops its pages of that part of the file before the write but
/// not after it (`generic_file_direct_write`, mm/filemap.c). A reader meanwhile fills them with the
/// old data, which then stays. Without it such a write waits, and the pages go after it.
fn flags(config: &Config, open_mode: OpenMode) -> u64 {
    let base = cap::ASYNC_READ
        | cap::DONT_MASK
        | cap::BIG_WRITES
        | cap::PARALLEL_DIROPS
        | cap::DO_READDIRPLUS
        | cap::READDIRPLUS_AUTO
        | cap::HANDLE_KILLPRIV_V2
        | cap::SETXATTR_EXT
        | cap::DIRECT_IO_ALLOW_MMAP
        | cap::MAX_PAGES
        | cap::INIT_EXT;
    // Where lowers change, a new size or time of modification makes the kernel drop its pages. It
    // would never drop the targets of symbolic links.
    let kept = match config.lowers_settle() {
        Some(_) => cap::AUTO_INVAL_DATA,
        None => cap::EXPLICIT_INVAL_DATA | cap::CACHE_SYMLINKS,
    };
    // A file that is emptied when it is opened need not be copied up first.
    let opens = if config.copy_up == CopyUpBy::Open { cap::ATOMIC_O_TRUNC } else { 0 };
    let acls = if config.xattrs == Xattrs::All { cap::POSIX_ACL } else { 0 };
    let writeback = if gathers_writes(config) { cap::WRITEBACK_CACHE } else { 0 };
    let passthrough = if open_mode == OpenMode::PassedThrough { cap::PASSTHROUGH } else { 0 };
    let export = if config.nfs_export { cap::EXPORT_SUPPORT } else { 0 };
    base | kept | opens | acls | writeback | passthrough | export
}

/// Whether the kernel gathers writes. It then takes its own size and times of a file for the true
/// ones (`fuse_change_attributes`, fs/fuse/inode.c), so it must not where lowers change.
fn gathers_writes(config: &Config) -> bool {
    config.writeback && config.lowers_settle().is_none()
}

/// The most data of one WRITE, in bytes.
pub fn max_write(config: &Config) -> u32 {
    config.max_write.max(LEAST_WRITE)
}

/// The capabilities and sizes that a mount with these options wants at INIT.
pub fn wanted(config: &Config, open_mode: OpenMode) -> Wanted {
    Wanted { flags: flags(config, open_mode), max_write: max_write(config) }
}

/// Warns of options that have no effect after INIT.
pub fn warn_of_what_is_missing(config: &Config, open_mode: OpenMode, agreed: &Agreed) {
    if open_mode == OpenMode::PassedThrough && !agreed.passthrough {
        tracing::warn!(
            "io=passthrough has no effect: the kernel has no FUSE passthrough (Linux 6.9, \
             CONFIG_FUSE_PASSTHROUGH)"
        );
    }
    if config.writeback && !gathers_writes(config) {
        tracing::warn!(
            "writeback=1 has no effect with timeout=: with it the kernel would not see that a file \
             of a lower layer has changed"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ASYNC_READ` used to be missing. The kernel then waited for each 128 KiB of a long file
    /// before it asked for the next, which took two to three times as long.
    #[test]
    fn the_kernel_may_ask_for_more_before_it_has_what_it_asked_for() {
        let config = Config::new(Vec::new(), None, "/mnt".into());
        let flags = wanted(&config, OpenMode::NotAsked).flags;
        assert_eq!(flags & cap::ASYNC_READ, cap::ASYNC_READ);
    }
}
