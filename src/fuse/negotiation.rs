//! INIT: what we and the kernel agree on.

use super::abi::{self, capability as cap};
use super::opening::OpenMode;
use super::wire::Message;
use crate::config::{Config, CopyUpBy, Xattrs};
use crate::error::{Errno, Error, Result};

/// What was agreed on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Agreed {
    /// OPENDIR may be answered ENOSYS (Linux 5.1).
    pub no_opendir: bool,
    /// What is dirty is written out, and waited for, when a file is closed, whether FLUSH is
    /// answered ENOSYS or not. Linux 5.15 does so; the first version that tells is that of 5.16.
    pub writes_at_close: bool,
    /// SETXATTR has flags of its own (Linux 5.12).
    pub setxattr_ext: bool,
    /// The kernel says when a caller loses set-id bits (Linux 5.12).
    pub says_who_kills: bool,
    /// All capabilities.
    pub flags: u64,
    /// The minor version that the kernel speaks.
    pub minor: u32,
    /// How far the kernel reads ahead, in bytes.
    pub max_readahead: u32,
    /// Files may be passed through (Linux 6.9).
    pub passthrough: bool,
}

/// Requests that the kernel has under way in the background (readahead, delayed writes) before it
/// holds others back: as many as there can be readers. With fewer, those that wait for one layer
/// would hold up the others. Three quarters of it count as congestion, as in the kernel's own
/// defaults. An unprivileged mount gets no more than `max_user_bgreq` (fs/fuse/inode.c).
pub const MAX_BACKGROUND: u16 = 1000;
const CONGESTION: u16 = MAX_BACKGROUND / 4 * 3;

/// How many file systems stand on one another below us, for passthrough: one, that of the upper,
/// which may not be stacked itself. With 2, the most that there is, no overlay could be mounted on
/// us (`FILESYSTEM_MAX_STACK_DEPTH`, linux/fs.h).
const STACK_DEPTH: u32 = 1;

/// The minor version of Linux 5.16. Before 5.15 the kernel writes nothing when a file is closed,
/// once FLUSH was answered ENOSYS (`fuse_flush`, fs/fuse/file.c), and an unmount at once loses it.
const WRITES_AT_CLOSE: u32 = 35;

/// Bytes of a page, in which the kernel counts the data of one request. A larger page makes the
/// limit larger than asked for, which harms nobody.
const PAGE: u32 = 4096;

/// Smallest `max_write` that the kernel takes (`FUSE_MIN_READ_BUFFER` and headers).
const LEAST_WRITE: u32 = 4096;

/// The kernel's side of INIT.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Version.
    pub major: u32,
    /// Version.
    pub minor: u32,
    /// In bytes.
    pub max_readahead: u32,
    /// What it can do.
    pub flags: u64,
}

/// What we want of what there is to be had; what an older kernel does not know is done without.
///
/// `ASYNC_DIO` is not wanted. With it the kernel lets the caller of an asynchronous direct write go
/// on before the data is written, and drops its pages of that part of the file before the write but
/// not after it (`generic_file_direct_write`, mm/filemap.c): who reads meanwhile fills them with
/// the old data, which then stays. Without it such a write waits, and the pages go after it.
fn wanted(config: &Config, open_mode: OpenMode) -> u64 {
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
    // Where lowers change, a new size or time of modification makes the kernel let go of its pages;
    // of the targets of links it would never let go.
    let kept = match config.lowers_settle() {
        Some(_) => cap::AUTO_INVAL_DATA,
        None => cap::EXPLICIT_INVAL_DATA | cap::CACHE_SYMLINKS,
    };
    // What is emptied by being opened need not be copied up first.
    let opens = if config.copy_up == CopyUpBy::Open { cap::ATOMIC_O_TRUNC } else { 0 };
    let acls = if config.xattrs == Xattrs::All { cap::POSIX_ACL } else { 0 };
    let writeback = if gathers_writes(config) { cap::WRITEBACK_CACHE } else { 0 };
    let passthrough = if open_mode == OpenMode::PassedThrough { cap::PASSTHROUGH } else { 0 };
    let export = if config.nfs_export { cap::EXPORT_SUPPORT } else { 0 };
    base | kept | opens | acls | writeback | passthrough | export
}

/// Whether the kernel gathers writes. It then takes its own size and times of a file for the true
/// ones (`fuse_change_attributes`, fs/fuse/inode.c), so not where lowers change.
fn gathers_writes(config: &Config) -> bool {
    config.writeback && config.lowers_settle().is_none()
}

/// Data of one WRITE, in bytes.
pub fn max_write(config: &Config) -> u32 {
    config.max_write.max(LEAST_WRITE)
}

/// Answers INIT: what was agreed on, and the fields of the answer. With a kernel whose major
/// version is newer the answer only names ours, and INIT comes again.
///
/// # Errors
/// EPROTO for a kernel that is too old.
pub fn agree(
    config: &Config,
    open_mode: OpenMode,
    offer: &Offer,
) -> Result<(Option<Agreed>, Message)> {
    let mut answer = Message::new();
    if offer.major > abi::MAJOR {
        answer.u32(abi::MAJOR).u32(abi::MINOR).zeros(56);
        return Ok((None, answer));
    }
    if offer.major < abi::MAJOR || offer.minor < abi::OLDEST_MINOR {
        let text = format!(
            "the kernel speaks FUSE {}.{}; {}.{} (Linux 3.15) is the oldest that will do",
            offer.major,
            offer.minor,
            abi::MAJOR,
            abi::OLDEST_MINOR
        );
        return Err(Error::new(Errno::EPROTO, text));
    }
    let flags = wanted(config, open_mode) & offer.flags;
    let [low, high] = halves(flags);
    let pages = u16::try_from(max_write(config).div_ceil(PAGE)).unwrap_or(u16::MAX);
    answer.u32(abi::MAJOR).u32(abi::MINOR).u32(offer.max_readahead).u32(low);
    answer.u16(MAX_BACKGROUND).u16(CONGESTION).u32(max_write(config));
    // Times are told to the nanosecond.
    let has = |flag| flags & flag != 0;
    let depth = if has(cap::PASSTHROUGH) { STACK_DEPTH } else { 0 };
    answer.u32(1).u16(pages).u16(0).u32(high).u32(depth).zeros(24);
    if open_mode == OpenMode::PassedThrough && !has(cap::PASSTHROUGH) {
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
    let agreed = Agreed {
        no_opendir: offer.flags & cap::NO_OPENDIR_SUPPORT != 0,
        writes_at_close: offer.minor >= WRITES_AT_CLOSE,
        setxattr_ext: has(cap::SETXATTR_EXT),
        says_who_kills: has(cap::HANDLE_KILLPRIV_V2),
        flags,
        minor: offer.minor.min(abi::MINOR),
        max_readahead: offer.max_readahead,
        passthrough: has(cap::PASSTHROUGH),
    };
    Ok((Some(agreed), answer))
}

/// Lower and upper 32 bits.
fn halves(flags: u64) -> [u32; 2] {
    [flags & u64::from(u32::MAX), flags >> 32].map(|half| u32::try_from(half).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::wire::Input;

    fn offer(major: u32, minor: u32, flags: u64) -> Offer {
        Offer { major, minor, max_readahead: 131_072, flags }
    }

    #[test]
    fn nothing_is_agreed_on_that_the_kernel_does_not_offer() {
        let config = Config::new(Vec::new(), None, "/mnt".into());
        let (agreed, mut answer) =
            agree(&config, OpenMode::NotAsked, &offer(7, 31, cap::DONT_MASK)).unwrap();
        assert!(!agreed.unwrap().setxattr_ext);
        let bytes = answer.finish(1, 0, 0).to_vec();
        assert_eq!(bytes.len(), 16 + 64);
        let mut input = Input::new(&bytes);
        input.skip(16 + 12).unwrap();
        assert_eq!(u64::from(input.u32().unwrap()), cap::DONT_MASK);
    }

    /// It was left out, and the kernel waited for each 128 KiB of a long file before it asked for
    /// the next: that took two to three times as long.
    #[test]
    fn the_kernel_may_ask_for_more_before_it_has_what_it_asked_for() {
        let config = Config::new(Vec::new(), None, "/mnt".into());
        let (agreed, _) =
            agree(&config, OpenMode::NotAsked, &offer(7, 31, cap::ASYNC_READ)).unwrap();
        assert_eq!(agreed.unwrap().flags, cap::ASYNC_READ);
    }

    /// Files that were written with `writeback=1` and closed were lost on Linux 5.10 when the mount
    /// ended at once.
    #[test]
    fn what_is_dirty_is_written_when_a_file_is_closed() {
        let config = Config::new(Vec::new(), None, "/mnt".into());
        for (minor, by_itself) in [(32, false), (34, false), (35, true), (41, true)] {
            let (agreed, _) = agree(&config, OpenMode::NotAsked, &offer(7, minor, 0)).unwrap();
            assert_eq!(agreed.unwrap().writes_at_close, by_itself, "{minor}");
        }
    }

    #[test]
    fn versions() {
        let config = Config::new(Vec::new(), None, "/mnt".into());
        assert!(
            agree(&config, OpenMode::NotAsked, &offer(8, 0, 0)).unwrap().0.is_none(),
            "asked again"
        );
        assert_eq!(
            agree(&config, OpenMode::NotAsked, &offer(7, 22, 0)).unwrap_err().errno(),
            Errno::EPROTO
        );
        assert_eq!(
            agree(&config, OpenMode::NotAsked, &offer(6, 99, 0)).unwrap_err().errno(),
            Errno::EPROTO
        );
    }
}
