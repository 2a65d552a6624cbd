//! The Rust files of the project, and what in them is code.

use std::path::Path;

/// One file.
pub struct Source {
    /// Path below the root of the project, with `/`.
    pub path: String,
    /// The file as it is.
    pub text: String,
    /// The same with comments, strings and characters blanked: positions and lines stay.
    pub code: String,
    /// `code` without what is compiled for unit tests only.
    pub shipped: String,
    /// The whole file is compiled for unit tests only.
    pub only_tests: bool,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = blank_comments_and_strings(text);
        let shipped = blank_spans(&code, test_items(&code));
        Self { path: path.to_owned(), text: text.to_owned(), code, shipped, only_tests: false }
    }

    /// Whether the file is part of the program or the library.
    pub fn is_product(&self) -> bool {
        self.path.starts_with("src/") && !self.only_tests
    }

    /// The file's text without unit tests: comments and strings are still there.
    pub fn shipped_text(&self) -> String {
        blank_spans(&self.text, test_items(&self.code))
    }
}

/// All Rust files below `src`, `tests` and `bench`.
pub fn all() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for top in ["src", "tests", "bench"] {
        if root.join(top).is_dir() {
            collect(root, top, &mut found);
        }
    }
    mark_test_files(&mut found);
    found
}

fn collect(root: &Path, dir: &str, found: &mut Vec<Source>) {
    let mut names: Vec<_> = std::fs::read_dir(root.join(dir))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in names {
        let path = format!("{dir}/{name}");
        if root.join(&path).is_dir() {
            collect(root, &path, found);
        } else if name.ends_with(".rs") {
            found.push(Source::new(&path, &std::fs::read_to_string(root.join(&path)).unwrap()));
        }
    }
}

/// A module that is declared with `#[cfg(test)] mod NAME;` is a file of unit tests.
fn mark_test_files(sources: &mut [Source]) {
    let mut tests = Vec::new();
    for source in &*sources {
        let (dir, _) = source.path.rsplit_once('/').unwrap();
        for (at, _) in source.code.match_indices(TEST_ATTRIBUTE) {
            let rest = source.code[at + TEST_ATTRIBUTE.len()..].trim_start();
            let name = rest.strip_prefix("mod ").and_then(|rest| rest.split_once(';'));
            if let Some((name, _)) = name.filter(|(name, _)| is_word(name)) {
                tests.extend([format!("{dir}/{name}.rs"), format!("{dir}/{name}/mod.rs")]);
            }
        }
    }
    for source in sources {
        source.only_tests = tests.contains(&source.path);
    }
}

const TEST_ATTRIBUTE: &str = "#[cfg(test)]";

pub fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_word_byte)
}

pub fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `word` stands by itself, not as a part of a longer one.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = at.checked_sub(1).is_none_or(|i| !is_word_byte(bytes[i]));
        let after = bytes.get(at + word.len()).is_none_or(|b| !is_word_byte(*b));
        before && after
    })
}

/// Number of the line that a position is in, from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1
}

fn blank(out: &mut [u8], from: usize, to: usize) {
    for byte in &mut out[from..to] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

fn blank_comments_and_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = skip(bytes, at);
        if end > at {
            blank(&mut out, at, end);
            at = end;
        } else {
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The end of the comment, string or character that begins here; `at` itself if none does.
fn skip(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let in_word = at > 0 && is_word_byte(bytes[at - 1]);
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + block_comment(rest),
        [b'"', ..] => at + quoted(rest, 0, b'"'),
        [b'r', b'"' | b'#', ..] if !in_word => at + raw(rest, 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !in_word => at + raw(rest, 2),
        [b'\'', ..] => at + character(rest),
        _ => at,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[u8], open: usize, quote: u8) -> usize {
    let mut at = open + 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// A raw string; 0 for a raw identifier.
fn raw(rest: &[u8], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
    if rest.get(prefix + hashes) != Some(&b'"') {
        return 0;
    }
    let mut end = vec![b'"'];
    end.extend(vec![b'#'; hashes]);
    let body = prefix + hashes + 1;
    let found = rest[body..].windows(end.len()).position(|w| w == end);
    found.map_or(rest.len(), |found| body + found + end.len())
}

/// A character; 0 for a lifetime.
fn character(rest: &[u8]) -> usize {
    let text = String::from_utf8_lossy(&rest[1..rest.len().min(8)]).into_owned();
    match text.chars().next() {
        Some('\\') => quoted(rest, 0, b'\''),
        Some(c) if text[c.len_utf8()..].starts_with('\'') => c.len_utf8() + 2,
        _ => 0,
    }
}

/// From where to where the items behind `#[cfg(test)]` reach.
fn test_items(code: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    code.match_indices(TEST_ATTRIBUTE)
        .map(|(at, _)| (at, item_end(code.as_bytes(), at + TEST_ATTRIBUTE.len())))
}

fn blank_spans(text: &str, spans: impl Iterator<Item = (usize, usize)>) -> String {
    let mut out = text.as_bytes().to_vec();
    for (from, to) in spans {
        blank(&mut out, from, to);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The end of an item: its `;` outside of brackets, or the brace that closes its body.
pub fn item_end(code: &[u8], from: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.iter().enumerate().skip(from) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'}' if depth <= 1 => return at + 1,
            b'}' => depth -= 1,
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_are_no_code() {
        let text = concat!(
            "a(\"un\\\"safe\", 'x', '\\'', b'\\n', r#\"raw \" unsafe\"#); // unsafe\n",
            "/* unsafe /* unsafe */ */ fn f<'a>(c: &'a str, d: char) { g('\"'); unsafe {} }\n",
        );
        let code = Source::new("src/x.rs", text).code;
        assert_eq!(code.len(), text.len());
        assert_eq!(words(&code, "unsafe").count(), 1, "{code}");
        assert!(code.contains("fn f<'a>(c: &'a str, d: char)"), "{code}");
        assert_eq!(line_of(&code, words(&code, "unsafe").next().unwrap()), 2);
    }

    #[test]
    fn unit_tests_are_not_shipped() {
        let text = "fn a() { one() }\n#[cfg(test)]\nmod tests { fn b() { two(\"two\"); } }\n\
                    #[cfg(test)]\nuse x::{three};\n#[cfg(test)]\nmod other;\nfn c() { four() }";
        let source = Source::new("src/x.rs", text);
        for (word, shipped) in
            [("one", true), ("two", false), ("three", false), ("other", false), ("four", true)]
        {
            assert_eq!(source.shipped.contains(word), shipped, "{word}");
            assert_eq!(source.shipped_text().contains(word), shipped, "{word}");
        }
    }

    #[test]
    fn a_module_of_tests_is_known_from_its_declaration() {
        let mut sources = [
            Source::new("src/a/mod.rs", "#[cfg(test)]\nmod tests;\nmod real;"),
            Source::new("src/a/tests.rs", ""),
            Source::new("src/a/real.rs", ""),
        ];
        mark_test_files(&mut sources);
        assert_eq!(sources.map(|s| s.only_tests), [false, true, false]);
    }
}
