//! The index of hard links: what its entries are called, and how names are counted.
//!
//! A hard link of a lower that was copied up has an entry in `WORKDIR/index`, one more hard link of
//! the copy. It is called after the handle of the lower file, in hexadecimal
//! (`ovl_get_index_name`, fs/overlayfs/namei.c). How many names the file has in the mount is kept
//! in `P nlink`, relative to the link count of the copy or of the lower file (`ovl_get_nlink`,
//! fs/overlayfs/util.c): so one system call changes the names and the count.

use std::fmt;

/// The longest value of `P nlink`, in bytes (`ovl_get_nlink`).
const LONGEST_COUNT: usize = 12;

/// The name of the entry for a handle, as it stands in `P origin`; `None` for what is no handle.
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

/// The handle that an entry is called after; `None` for a name that is of another form.
#[must_use]
pub fn handle_of(name: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = name.chunks(2).map(|pair| match pair {
        &[high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect()
}

/// How many names a file has in the mount, relative to the link count of one of its inodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Relative to the copy in the upper, its entry in the index included.
    Upper(i32),
    /// Relative to the file in the lower: while names of the copy are being made.
    Lower(i32),
}

impl Count {
    /// Reads `P nlink`.
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

    /// The count as a difference to the link count of the upper's inode.
    #[must_use]
    pub fn by_upper(count: u32, nlink: u32) -> Self {
        Self::Upper(count.cast_signed().wrapping_sub(nlink.cast_signed()))
    }

    /// The count as a difference to the link count of the lower's inode.
    #[must_use]
    pub fn by_lower(count: u32, nlink: u32) -> Self {
        Self::Lower(count.cast_signed().wrapping_sub(nlink.cast_signed()))
    }

    /// The number of names; `None` if it cannot be, or if the link count that it is relative to is
    /// not known.
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
