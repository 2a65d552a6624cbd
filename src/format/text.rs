//! Text for people and programs from the bytes of layers.

/// Returns a name or path as one line of text. UTF-8 without backslashes and control characters
/// stays as it is; all else is escaped as in Rust (`\xff`, `\n`, `\\`).
#[must_use]
pub fn printable(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) if !text.chars().any(|c| c.is_control() || c == '\\') => text.to_owned(),
        _ => path.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_escaped() {
        assert_eq!(printable("ä b".as_bytes()), "ä b");
        assert_eq!(printable(b"\xff\\\x1b[m\n"), r"\xff\\\x1b[m\n");
    }
}
