//! The inode flags `i` and `a` of chattr(1), as a mark.
//!
//! On the inode itself they would keep an object of the upper from being renamed, linked and
//! marked, so the kernel's overlayfs keeps them in `P protattr`: one letter for each
//! (`ovl_set_protattr`, fs/overlayfs/util.c).

use crate::sys::Protection;

/// Longest value that the kernel reads, in bytes (`OVL_PROTATTR_MAX`, fs/overlayfs/util.c).
const LONGEST: usize = 32;

/// The value for what an object is protected from; `None` where there is nothing to mark.
#[must_use]
pub fn encode(protection: Protection) -> Option<&'static [u8]> {
    match (protection.append_only, protection.immutable) {
        (false, false) => None,
        (true, false) => Some(b"a"),
        (false, true) => Some(b"i"),
        (true, true) => Some(b"ai"),
    }
}

/// What a value says. One with any other letter, an empty one and one that is too long mean
/// nothing, as in the kernel.
#[must_use]
pub fn parse(value: &[u8]) -> Protection {
    let known = value.iter().all(|letter| matches!(letter, b'a' | b'i'));
    if !known || value.len() > LONGEST {
        return Protection::default();
    }
    Protection { append_only: value.contains(&b'a'), immutable: value.contains(&b'i') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for (value, append_only, immutable) in [
            (&b"a"[..], true, false),
            (b"i", false, true),
            (b"ai", true, true),
            (b"ia", true, true),
            (b"", false, false),
            (b"ax", false, false),
            (b"a\0", false, false),
            (&[b'i'; 32], false, true),
            (&[b'i'; 33], false, false),
        ] {
            let wanted = Protection { append_only, immutable };
            assert_eq!(parse(value), wanted, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for (append_only, immutable) in [(false, false), (true, false), (false, true), (true, true)]
        {
            let protection = Protection { append_only, immutable };
            assert_eq!(parse(encode(protection).unwrap_or_default()), protection);
        }
    }
}
