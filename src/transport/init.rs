//! INIT: negotiation with the kernel.

use super::abi::{self, capability as cap};
use super::wire::Message;
use crate::error::{Errno, Error, Result};

/// Result of the negotiation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Agreed {
    /// The server may answer OPENDIR with ENOSYS (Linux 5.1).
    pub no_opendir: bool,
    /// close(2) writes dirty pages out and waits for them, even if FLUSH was answered with ENOSYS.
    /// Linux 5.15 does so, but only the version of Linux 5.16 shows it.
    pub writes_at_close: bool,
    /// SETXATTR has a field for flags (Linux 5.12).
    pub setxattr_ext: bool,
    /// The kernel says which requests clear set-id bits (Linux 5.12).
    pub says_who_kills: bool,
    /// All capabilities that were negotiated.
    pub flags: u64,
    /// Minor version that both sides use.
    pub minor: u32,
    /// Largest readahead of the kernel, in bytes.
    pub max_readahead: u32,
    /// The kernel can read and write files of the server itself (Linux 6.9).
    pub passthrough: bool,
}

/// Limit of background requests (readahead, delayed writes): the largest number of readers. With
/// less, requests that wait for one layer would hold up the others. The congestion threshold is
/// three quarters of it, as in the kernel's own defaults. An unprivileged mount gets no more than
/// `max_user_bgreq` (fs/fuse/inode.c).
pub const MAX_BACKGROUND: u16 = 1000;
const CONGESTION: u16 = MAX_BACKGROUND / 4 * 3;

/// Stacking depth of passthrough: only the file system of the upper, which may not be stacked
/// itself. With the limit of 2 no overlay could be mounted on top of the mount
/// (`FILESYSTEM_MAX_STACK_DEPTH`, linux/fs.h).
const STACK_DEPTH: u32 = 1;

/// The minor version of Linux 5.16. Before 5.15, once FLUSH was answered with ENOSYS, close(2)
/// writes nothing (`fuse_flush`, fs/fuse/file.c), and an unmount right after it loses the data.
const WRITES_AT_CLOSE: u32 = 35;

/// Size of a page, in bytes, by which the kernel counts the data of a request. With larger pages
/// the limit exceeds what was asked for, which does no harm.
const PAGE: u32 = 4096;

/// The kernel's request of INIT.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Major version.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
    /// Largest readahead, in bytes.
    pub max_readahead: u32,
    /// Capabilities of the kernel.
    pub flags: u64,
}

/// Parameters that the server asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Capabilities, of [`abi::capability`]. Those that the kernel lacks are not used.
    pub flags: u64,
    /// Largest data of one WRITE, in bytes.
    pub max_write: u32,
}

/// Returns the result of the negotiation and the answer to INIT. A kernel with a newer major
/// version gets only our version, and sends INIT again.
///
/// # Errors
/// EPROTO for a kernel whose version is too old.
pub fn agree(wanted: &Wanted, offer: &Offer) -> Result<(Option<Agreed>, Message)> {
    let mut answer = Message::default();
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
    let flags = wanted.flags & offer.flags;
    let [low, high] = halves(flags);
    let pages = u16::try_from(wanted.max_write.div_ceil(PAGE)).unwrap_or(u16::MAX);
    answer.u32(abi::MAJOR).u32(abi::MINOR).u32(offer.max_readahead).u32(low);
    answer.u16(MAX_BACKGROUND).u16(CONGESTION).u32(wanted.max_write);
    // `time_gran` is 1: times have a resolution of a nanosecond.
    let has = |flag| flags & flag != 0;
    let depth = if has(cap::PASSTHROUGH) { STACK_DEPTH } else { 0 };
    answer.u32(1).u16(pages).u16(0).u32(high).u32(depth).zeros(24);
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

/// Splits a number into its lower and upper 32 bits.
fn halves(flags: u64) -> [u32; 2] {
    [flags & u64::from(u32::MAX), flags >> 32].map(|half| u32::try_from(half).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::wire::Input;

    fn all() -> Wanted {
        Wanted { flags: u64::MAX, max_write: 1 << 20 }
    }

    fn offer(major: u32, minor: u32, flags: u64) -> Offer {
        Offer { major, minor, max_readahead: 131_072, flags }
    }

    #[test]
    fn nothing_is_agreed_on_that_the_kernel_does_not_offer() {
        let (agreed, mut answer) = agree(&all(), &offer(7, 31, cap::DONT_MASK)).unwrap();
        assert!(!agreed.unwrap().setxattr_ext);
        let bytes = answer.finish(1, 0, 0).to_vec();
        assert_eq!(bytes.len(), 16 + 64);
        let mut input = Input::new(&bytes);
        input.skip(16 + 12).unwrap();
        assert_eq!(u64::from(input.u32().unwrap()), cap::DONT_MASK);
    }

    /// On Linux 5.10, files that were written with `writeback=1` and closed were lost if the mount
    /// ended right after that.
    #[test]
    fn what_is_dirty_is_written_when_a_file_is_closed() {
        for (minor, by_itself) in [(32, false), (34, false), (35, true), (41, true)] {
            let (agreed, _) = agree(&all(), &offer(7, minor, 0)).unwrap();
            assert_eq!(agreed.unwrap().writes_at_close, by_itself, "{minor}");
        }
    }

    #[test]
    fn versions() {
        assert!(agree(&all(), &offer(8, 0, 0)).unwrap().0.is_none(), "asked again");
        assert_eq!(agree(&all(), &offer(7, 22, 0)).unwrap_err().errno(), Errno::EPROTO);
        assert_eq!(agree(&all(), &offer(6, 99, 0)).unwrap_err().errno(), Errno::EPROTO);
    }
}
