//! The inode flags `i` and `a` of chattr(1), stored as a mark.
//!
//! On the inode, these flags would keep an object of the upper from being renamed, linked and
//! marked. So the kernel's overlayfs stores them in `P protattr`, one letter for each flag
//! (`ovl_set_protattr`, fs/overlayfs/util.c).

use crate::sys::Protection;

/// Longest value that the kernel reads, in bytes (`OVL_PROTATTR_MAX`, fs/overlayfs/util.c).
const LONGEST: usize = 32;

/// Encodes the flags as a value; `None` if no flag is set.
#[must_use]
pub fn encode(protection: Protection) -> Option<&'static [u8]> {
    match (protection.append_only, protection.immutable) {
        (false, false) => None,
        (true, false) => Some(b"a"),
        (false, true) => Some(b"i"),
        (true, true) => Some(b"ai"),
    }
}

/// Parses a value. As in the kernel, a value that is empty, too long or has other letters means
/// nothing.
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
