//! Extended headers of pax(1): records `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record.

use crate::error::{Errno, Error, Result};
use crate::sys::stat::Time;

/// Appends one record.
///
/// # Errors
/// EINVAL for an empty key, or one that contains `=`, which would end the key.
pub fn push(out: &mut Vec<u8>, key: &[u8], value: &[u8]) -> Result<()> {
    if key.is_empty() || key.contains(&b'=') {
        let key = key.escape_ascii();
        return Err(Error::new(Errno::EINVAL, format!("\"{key}\" cannot stand in an archive")));
    }
    // The blank, the equals sign and the newline.
    let bare = key.len() + value.len() + 3;
    let mut len = bare + digits(bare);
    // The length may need one more digit because it counts itself.
    len = bare + digits(len);
    out.extend_from_slice(format!("{len} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
    Ok(())
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Formats a time as decimal seconds, without trailing zeros.
#[must_use]
pub fn time(time: Time) -> String {
    if time.nsec == 0 {
        return time.sec.to_string();
    }
    // Nanoseconds count forward, also before 1970: -1 s and 0.75 s is -0.25.
    let (sign, sec, nsec) = match time.sec {
        sec if sec < 0 => ("-", (sec + 1).unsigned_abs(), 1_000_000_000 - time.nsec),
        sec => ("", sec.unsigned_abs(), time.nsec),
    };
    let text = format!("{sign}{sec}.{nsec:09}");
    text.trim_end_matches('0').to_owned()
}

/// Returns the keys and values of an extended header.
pub fn records(mut rest: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8])>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let record = split(rest);
        rest = record.map_or(&[], |(.., rest)| rest);
        let wrong = || Error::new(Errno::EINVAL, "an extended header that is none");
        Some(record.map(|(key, value, _)| (key, value)).ok_or_else(wrong))
    })
}

/// Returns the key and value of the first record, and the bytes after it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().position(|byte| *byte == b' ')?;
    let len: usize = std::str::from_utf8(bytes.get(..blank)?).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(len)?;
    let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = record.split_at_checked(equals)?;
    Some((key, value.get(1..)?, rest))
}

/// Parses the output of [`time`]. Digits after the nanoseconds are dropped.
#[must_use]
pub fn parse_time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (sec, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if sec.is_empty() || !is_number(sec) || !is_number(fraction) {
        return None;
    }
    let sec: i64 = sec.parse().ok()?;
    let nsec: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    match (negative, nsec) {
        (false, _) => Some(Time { sec, nsec }),
        (true, 0) => Some(Time { sec: -sec, nsec }),
        (true, _) => Some(Time { sec: -sec - 1, nsec: 1_000_000_000 - nsec }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back() {
        let mut bytes = Vec::new();
        for (key, value) in [(&b"a"[..], &b"1\n2=3\0"[..]), (b"key", b""), (b"k", &[7; 300])] {
            push(&mut bytes, key, value).unwrap();
        }
        let back: Vec<_> = records(&bytes).map(Result::unwrap).collect();
        assert_eq!(back, [(&b"a"[..], &b"1\n2=3\0"[..]), (b"key", b""), (b"k", &[7; 300])]);
        for wrong in
            [&b"5 a=b"[..], b"99 a=b\n", b"0 a=b\n", b"x", b"6 ab\n\n", b"-1 a=\n", b"3 \n"]
        {
            assert!(records(wrong).any(|record| record.is_err()), "{wrong:?}");
        }
    }

    #[test]
    fn times_come_back() {
        for (sec, nsec) in [(0, 0), (5, 1), (-1, 750_000_000), (-5, 0), (1 << 40, 999_999_999)] {
            let there = Time { sec, nsec };
            assert_eq!(parse_time(time(there).as_bytes()), Some(there));
        }
        assert_eq!(parse_time(b"1.0000000019"), Some(Time { sec: 1, nsec: 1 }));
        for wrong in [&b""[..], b"-", b".5", b"1e3", b"1.-5", b"--1", b"99999999999999999999"] {
            assert_eq!(parse_time(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_record_counts_itself() {
        for len in [1, 5, 90, 91, 92, 93, 94, 95, 989, 990, 991, 992, 9000, 9990] {
            let mut out = Vec::new();
            push(&mut out, b"k", &vec![b'v'; len]).unwrap();
            let text = String::from_utf8(out.clone()).unwrap();
            let (said, _) = text.split_once(' ').unwrap();
            assert_eq!(said.parse::<usize>().unwrap(), out.len(), "{len}");
        }
        assert!(push(&mut Vec::new(), b"a=b", b"").is_err());
    }

    #[test]
    fn times_before_1970_and_between_seconds() {
        for (sec, nsec, text) in [
            (0, 0, "0"),
            (12, 0, "12"),
            (12, 500_000_000, "12.5"),
            (1, 1, "1.000000001"),
            (-5, 0, "-5"),
            (-1, 750_000_000, "-0.25"),
            (-2, 500_000_000, "-1.5"),
        ] {
            assert_eq!(time(Time { sec, nsec }), text);
        }
    }
}
