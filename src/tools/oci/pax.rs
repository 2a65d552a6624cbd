//! Extended headers of pax(1): records `LENGTH KEY=VALUE\n`, where LENGTH counts all of the record.

use crate::error::{Errno, Error, Result};
use crate::sys::stat::Time;

/// Appends one record.
///
/// # Errors
/// EINVAL for a key that holds a `=` or is empty: it could not be told from the value.
pub fn push(out: &mut Vec<u8>, key: &[u8], value: &[u8]) -> Result<()> {
    if key.is_empty() || key.contains(&b'=') {
        let key = key.escape_ascii();
        return Err(Error::new(Errno::EINVAL, format!("\"{key}\" cannot stand in an archive")));
    }
    // A blank, the equals sign and the end of the line.
    let bare = key.len() + value.len() + 3;
    let mut len = bare + digits(bare);
    // The length may get one digit longer by counting itself.
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

/// A time as decimal seconds, without zeros at the end.
#[must_use]
pub fn time(time: Time) -> String {
    if time.nsec == 0 {
        return time.sec.to_string();
    }
    // Nanoseconds go forward also before 1970: -1 s and 0.75 s is -0.25.
    let (sign, sec, nsec) = match time.sec {
        sec if sec < 0 => ("-", (sec + 1).unsigned_abs(), 1_000_000_000 - time.nsec),
        sec => ("", sec.unsigned_abs(), time.nsec),
    };
    let text = format!("{sign}{sec}.{nsec:09}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
