//! The index of hard links: names of its entries, and counts of names.
//!
//! Each copied-up hard link of a lower has an entry in `WORKDIR/index`, which is one more hard link
//! of the copy. The name of the entry is the handle of the lower file, in hexadecimal
//! (`ovl_get_index_name`, fs/overlayfs/namei.c). `P nlink` holds the number of names that the file
//! has in the mount. It is relative to the link count of the copy or of the lower file
//! (`ovl_get_nlink`, fs/overlayfs/util.c), so that one system call changes both the names and the
//! count.

use std::fmt;

/// The longest value of `P nlink`, in bytes (`ovl_get_nlink`).
const LONGEST_COUNT: usize = 12;

/// Returns the name of the entry for a value of `P origin`; `None` if it cannot be a handle.
#[must_use]
pub fn entry_name(origin: &[u8]) -> Option<Box<[u8]>> {
    // NAME_MAX of limits.h.
    const LONGEST: usize = 255;
    if origin.is_empty() || origin.len() * 2 > LONGEST {
        return None;
    }
    let hex: String = origin.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(hex.into_bytes().into())
}

/// Returns the handle that an entry is named after; `None` for a name of another form.
#[must_use]
pub fn handle_of(name: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = name.chunks(2).map(|pair| match pair {
        &[high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect()
}

/// Number of names that a file has in the mount, relative to a link count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Relative to the link count of the copy in the upper, which includes the entry in the index.
    Upper(i32),
    /// Relative to the link count of the file in the lower, while the names of the copy are made.
    Lower(i32),
}

impl Count {
    /// Parses the value of `P nlink`.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok().filter(|_| value.len() <= LONGEST_COUNT)?;
        let signed =
            |rest: &str| rest.starts_with(['+', '-']).then(|| rest.parse::<i32>().ok()).flatten();
        match text.split_at_checked(1)? {
            ("U", rest) => signed(rest).map(Self::Upper),
            ("L", rest) => signed(rest).map(Self::Lower),
            _ => None,
        }
    }

    /// Expresses `count` as a difference to `nlink`, the link count of the copy in the upper.
    #[must_use]
    pub fn by_upper(count: u32, nlink: u32) -> Self {
        Self::Upper(count.cast_signed().wrapping_sub(nlink.cast_signed()))
    }

    /// Expresses `count` as a difference to `nlink`, the link count of the file in the lower.
    #[must_use]
    pub fn by_lower(count: u32, nlink: u32) -> Self {
        Self::Lower(count.cast_signed().wrapping_sub(nlink.cast_signed()))
    }

    /// Returns the number of names, given both link counts; `None` if the result is not positive,
    /// or if it depends on an unknown link count.
    #[must_use]
    pub fn resolve(self, upper: u32, lower: Option<u32>) -> Option<u32> {
        let (base, more) = match self {
            Self::Upper(more) => (upper, more),
            Self::Lower(more) => (lower?, more),
        };
        base.checked_add_signed(more).filter(|count| *count > 0)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upper(more) => write!(f, "U{more:+}"),
            Self::Lower(more) => write!(f, "L{more:+}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_entries() {
        assert_eq!(entry_name(&[0, 0xfb, 0x1d]).unwrap(), (*b"00fb1d").into());
        assert_eq!(handle_of(b"00fb1d").unwrap(), [0, 0xfb, 0x1d]);
        assert_eq!([entry_name(b""), entry_name(&[1; 128])], [None, None]);
        for bad in [&b"00f"[..], b"#1", b"0g", b"\xff\xff"] {
            assert_eq!(handle_of(bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn counts() {
        for (text, count) in [("U+1", Count::Upper(1)), ("U+0", Count::Upper(0))] {
            assert_eq!(Count::parse(text.as_bytes()), Some(count));
            assert_eq!(count.to_string(), text);
        }
        assert_eq!(Count::parse(b"L-12"), Some(Count::Lower(-12)));
        let bad = ["", "U", "U1", "X+1", "U+", "U+x", "U+99999999999", "U+1234567890123", "U+-1"];
        for bad in bad {
            assert_eq!(Count::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Count::parse(&[0xff; 4]), None);
        assert_eq!(Count::Upper(-1).resolve(1, None), None, "no name is left");
        assert_eq!(Count::by_upper(3, 2).resolve(2, None), Some(3));
        assert_eq!(Count::by_lower(3, 5).resolve(9, Some(5)), Some(3));
        assert_eq!(Count::Lower(1).resolve(1, None), None, "not known");
        assert_eq!(Count::Upper(i32::MIN).resolve(7, None), None);
    }
}
