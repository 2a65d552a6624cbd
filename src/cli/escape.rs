//! Paths in option strings: how they are escaped, and how they are read back.
//!
//! Two readings of a backslash are in use. The kernel (and containers/storage) escapes once: `a\:b`
//! is a path with a colon. fuse-overlayfs in C gets its options from libfuse, which removes one
//! level of backslashes, so its callers write `a\\:b` for the same path. Both must work, and every
//! path must have a spelling. The rule for a run of `n` backslashes and the byte after it:
//!
//! | behind the run | `n` odd | `n` even |
//! |---|---|---|
//! | `:` in `lowerdir` | `(n-1)/2` backslashes and a colon | read twice: with `h = n/2`, `h/2` backslashes and then a colon (`h` odd) or the end of the path (`h` even, so also `n` = 0) |
//! | `,` | `(n-1)/2` backslashes and a comma | `n/2` backslashes, and the option ends (inside quotes: a comma) |
//! | `"` | `(n-1)/2` backslashes and a quote | `n/2` backslashes and a quote |
//! | `:` elsewhere, but in `lowerdir+` and `datadir+` | `(n-1)/2` backslashes and a colon | `n/2` backslashes and a colon |
//! | anything else, or the end | `(n+1)/2` backslashes | `n/2` backslashes |
//!
//! The last row keeps a lone backslash that escapes nothing: callers pass paths such as
//! `dev-disk\x2dby` as they are.
//!
//! A value in double quotes, `context="a,b"`, may hold commas. The quotes count only where the
//! first stands right behind the `=` and the second ends the option; any other quote is part of a
//! name.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The options of one `-o` argument, still escaped. Empty ones (`a,,b`, `a,`) are left out.
pub fn split_options(text: &[u8]) -> Vec<&[u8]> {
    let mut options = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (option, tail) = rest.split_at(option_end(rest));
        if !option.is_empty() {
            options.push(option);
        }
        rest = tail.get(1..).unwrap_or_default();
    }
    options
}

fn option_end(text: &[u8]) -> usize {
    let quoted = quoted_value_end(text).unwrap_or(0);
    let mut escaped = false;
    for (at, &byte) in text.iter().enumerate().skip(quoted) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => return at,
            _ => {}
        }
    }
    text.len()
}

/// The end of the option, if its value is in quotes.
fn quoted_value_end(text: &[u8]) -> Option<usize> {
    let equals = text.iter().position(|&b| b == b'=' || b == b',')?;
    let value = text.get(equals..)?.strip_prefix(b"=\"")?;
    let mut escaped = false;
    for (at, &byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' if matches!(value.get(at + 1), None | Some(b',')) => {
                return Some(equals + 2 + at + 1);
            }
            _ => {}
        }
    }
    None
}

/// The name of an option, and its value without quotes but still escaped.
pub fn name_and_value(option: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some(equals) = option.iter().position(|&b| b == b'=') else {
        return (option, None);
    };
    let (name, value) = option.split_at(equals);
    let value = value.get(1..).unwrap_or_default();
    let bare = match quoted_value_end(option) {
        Some(end) if end == option.len() => value.get(1..value.len() - 1).unwrap_or_default(),
        _ => value,
    };
    (name, Some(bare))
}

/// One value, unescaped.
pub fn unescape(value: &[u8]) -> OsString {
    unescaped(value, b",\":")
}

/// One value in which a colon is as ordinary as any other byte, as in the kernel's `lowerdir+`.
pub fn unescape_one_layer(value: &[u8]) -> OsString {
    unescaped(value, b",\"")
}

fn unescaped(value: &[u8], special: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while !rest.is_empty() {
        let (run, next, tail) = take_run(rest);
        let escapes = next.is_some_and(|byte| special.contains(&byte));
        let kept = if escapes { run / 2 } else { run.div_ceil(2) };
        out.extend(std::iter::repeat_n(b'\\', kept));
        out.extend(next);
        rest = tail;
    }
    OsString::from_vec(out)
}

/// The paths of a list with colons, unescaped. An empty path stays in, for the caller to refuse.
pub fn split_paths(value: &[u8]) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut path = Vec::new();
    let mut rest = value;
    while !rest.is_empty() {
        let (run, next, tail) = take_run(rest);
        let (kept, ends) = match next {
            Some(b':') => before_colon(run),
            Some(b',' | b'"') => (run / 2, false),
            _ => (run.div_ceil(2), false),
        };
        path.extend(std::iter::repeat_n(b'\\', kept));
        if ends {
            paths.push(path_from(std::mem::take(&mut path)));
        } else {
            path.extend(next);
        }
        rest = tail;
    }
    paths.push(path_from(path));
    paths
}

/// How many backslashes of `run` stay before a colon, and whether the colon ends the path.
fn before_colon(run: usize) -> (usize, bool) {
    if run % 2 == 1 {
        return (run / 2, false);
    }
    let half = run / 2;
    (half / 2, half.is_multiple_of(2))
}

/// The number of leading backslashes, the byte after them, and the rest.
fn take_run(text: &[u8]) -> (usize, Option<u8>, &[u8]) {
    let run = text.iter().take_while(|&&b| b == b'\\').count();
    let next = text.get(run).copied();
    (run, next, text.get(run + 1..).unwrap_or_default())
}

fn path_from(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// A path as a value of an option, so that [`unescape`] gives it back.
#[must_use]
pub fn escape_path(path: &Path) -> OsString {
    OsString::from_vec(escape(path, b",\"", 2))
}

/// Paths as the value of `lowerdir`, so that [`split_paths`] gives them back.
#[must_use]
pub fn escape_paths<P: AsRef<Path>>(paths: &[P]) -> OsString {
    let mut out = Vec::new();
    for (at, path) in paths.iter().enumerate() {
        let last = at + 1 == paths.len();
        // Backslashes before the colon that ends the path are read twice.
        out.extend(escape(path.as_ref(), b",\":", if last { 2 } else { 4 }));
        if !last {
            out.push(b':');
        }
    }
    OsString::from_vec(out)
}

fn escape(path: &Path, special: &[u8], times_at_end: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path.as_os_str().as_bytes();
    while !rest.is_empty() {
        let (run, next, tail) = take_run(rest);
        let written = match next {
            Some(byte) if special.contains(&byte) => 2 * run + 1,
            Some(_) => 2 * run,
            None => times_at_end * run,
        };
        out.extend(std::iter::repeat_n(b'\\', written));
        out.extend(next);
        rest = tail;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(text: &str) -> Vec<&str> {
        split_options(text.as_bytes())
            .into_iter()
            .map(|option| std::str::from_utf8(option).unwrap())
            .collect()
    }

    fn paths(text: &str) -> Vec<String> {
        let to_string = |path: PathBuf| path.into_os_string().into_string().unwrap();
        split_paths(text.as_bytes()).into_iter().map(to_string).collect()
    }

    #[test]
    fn options_split_on_bare_commas() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            (",", &[]),
            ("ro", &["ro"]),
            ("workdir=w,", &["workdir=w"]),
            ("workdir=w,,volatile", &["workdir=w", "volatile"]),
            (r"lowerdir=a\,b,ro", &[r"lowerdir=a\,b", "ro"]),
            (r"lowerdir=a\\,ro", &[r"lowerdir=a\\", "ro"]),
            (r"lowerdir=a\\\,b,ro", &[r"lowerdir=a\\\,b", "ro"]),
            (r#"context="s0:c1,c2",ro"#, &[r#"context="s0:c1,c2""#, "ro"]),
            (r#"ro,context="s0:c1,c2""#, &["ro", r#"context="s0:c1,c2""#]),
            (r#"context="a,,b",,ro"#, &[r#"context="a,,b""#, "ro"]),
            (r#"upperdir=say"cheese,ro"#, &[r#"upperdir=say"cheese"#, "ro"]),
            (r#"upperdir="open,ro"#, &[r#"upperdir="open"#, "ro"]),
            (r#"ro,upperdir="a"b,rw"#, &["ro", r#"upperdir="a"b"#, "rw"]),
            (r#"upperdir=\"a,b""#, &[r#"upperdir=\"a"#, r#"b""#]),
        ];
        for (text, expected) in table {
            assert_eq!(&options(text), expected, "{text}");
        }
    }

    #[test]
    fn values_lose_their_quotes() {
        let table: &[(&str, &str, Option<&str>)] = &[
            ("ro", "ro", None),
            ("fsname=", "fsname", Some("")),
            ("fsname=a=b", "fsname", Some("a=b")),
            (r#"context="a,b""#, "context", Some("a,b")),
            (r#"context="""#, "context", Some("")),
            (r#"context="a"#, "context", Some(r#""a"#)),
        ];
        for (text, name, value) in table {
            let expected = (name.as_bytes(), value.map(str::as_bytes));
            assert_eq!(name_and_value(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn lower_paths_split_on_bare_colons() {
        let table: &[(&str, &[&str])] = &[
            ("a", &["a"]),
            ("a:b:c", &["a", "b", "c"]),
            ("", &[""]),
            ("a::b", &["a", "", "b"]),
            (":a", &["", "a"]),
            ("a:", &["a", ""]),
            (r"a\:b", &["a:b"]),
            (r"a\\:b", &["a:b"]),
            (r"a\\\:b", &[r"a\:b"]),
            (r"a\\\\:b", &[r"a\", "b"]),
            (r"a\\\\\\:b", &[r"a\:b"]),
            (r"a\,b", &["a,b"]),
            (r"a\\b", &[r"a\b"]),
            (r"a\x2db:c", &[r"a\x2db", "c"]),
            (r"a\", &[r"a\"]),
            (r"a\\", &[r"a\"]),
            (r#"\"a"#, &[r#""a"#]),
            (r"\:a\::\\:b", &[":a:", ":b"]),
        ];
        for (text, expected) in table {
            assert_eq!(&paths(text), expected, "{text}");
        }
    }

    #[test]
    fn one_path_keeps_bare_colons() {
        let table = [
            ("a:b", "a:b"),
            (r"a\:b", "a:b"),
            (r"a\\:b", r"a\:b"),
            (r"a\,b", "a,b"),
            (r"a\x2d", r"a\x2d"),
            (r"a\\", r"a\"),
        ];
        for (text, expected) in table {
            assert_eq!(unescape(text.as_bytes()), expected, "{text}");
        }
    }

    fn any_path() -> impl Strategy<Value = PathBuf> {
        let byte = prop_oneof![
            6 => prop::sample::select(&b"\\:,\"="[..]),
            3 => prop::sample::select(&b"/a0 "[..]),
            1 => 1..=255u8,
        ];
        prop::collection::vec(byte, 1..12).prop_map(path_from)
    }

    proptest! {
        #[test]
        fn what_is_escaped_reads_back(
            lowers in prop::collection::vec(any_path(), 1..5),
            upper in any_path(),
        ) {
            let mut text = b"ro,lowerdir=".to_vec();
            text.extend(escape_paths(&lowers).as_bytes());
            text.extend(b",upperdir=");
            text.extend(escape_path(&upper).as_bytes());
            text.extend(b",volatile");

            let options = split_options(&text);
            let values: Vec<_> = options.iter().map(|option| name_and_value(option)).collect();
            prop_assert_eq!(values.len(), 4);
            prop_assert_eq!(split_paths(values[1].1.unwrap()), lowers);
            prop_assert_eq!(PathBuf::from(unescape(values[2].1.unwrap())), upper);
        }

        #[test]
        fn nothing_that_is_typed_panics(text in prop::collection::vec(any::<u8>(), 0..60)) {
            for option in split_options(&text) {
                prop_assert!(!option.is_empty());
                if let (_, Some(value)) = name_and_value(option) {
                    prop_assert!(!split_paths(value).is_empty());
                    unescape(value);
                }
            }
        }
    }
}
