//! The words that the lines of a script are made of.

use nix::fcntl::{OFlag, RenameFlags as NixRename};

/// A value that is written as one word without blanks.
pub trait Word: Sized {
    fn show(&self) -> String;
    fn parse(word: &str) -> Result<Self, String>;
}

/// Bytes as text: what is not a plain character becomes `%XX`.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"._/-:+@,".contains(&byte) {
            text.push(byte.into());
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = rest.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = digits.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.ok_or("bad % escape")?);
        rest = &rest[2..];
    }
    Ok(bytes)
}

/// A path relative to the root of the tree (`.`), a name, or the target of a symlink: any bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(pub Vec<u8>);

impl Word for Path {
    fn show(&self) -> String {
        escape(&self.0)
    }
    fn parse(word: &str) -> Result<Self, String> {
        if word.is_empty() { Err("missing".into()) } else { unescape(word).map(Self) }
    }
}

impl From<&str> for Path {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

/// Permission bits, in octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

impl Word for Mode {
    fn show(&self) -> String {
        format!("{:o}", self.0)
    }
    fn parse(word: &str) -> Result<Self, String> {
        u32::from_str_radix(word, 8).map(Self).map_err(|_| "not octal".into())
    }
}

impl Word for i64 {
    fn show(&self) -> String {
        self.to_string()
    }
    fn parse(word: &str) -> Result<Self, String> {
        word.parse().map_err(|_| "not a number".into())
    }
}

impl Word for usize {
    fn show(&self) -> String {
        self.to_string()
    }
    fn parse(word: &str) -> Result<Self, String> {
        word.parse().map_err(|_| "not a number".into())
    }
}

/// File content: `hello`, or `x*5000` for many of one byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    Literal(Vec<u8>),
    Repeat(u8, usize),
}

impl Data {
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Literal(bytes) => bytes.clone(),
            Self::Repeat(byte, times) => vec![*byte; *times],
        }
    }
}

impl Word for Data {
    fn show(&self) -> String {
        match self {
            Self::Literal(bytes) => escape(bytes),
            Self::Repeat(byte, times) => format!("{}*{times}", escape(&[*byte])),
        }
    }
    fn parse(word: &str) -> Result<Self, String> {
        let Some((byte, times)) = word.split_once('*') else {
            return unescape(word).map(Self::Literal);
        };
        let byte = unescape(byte)?.first().copied().ok_or("nothing to repeat")?;
        Ok(Self::Repeat(byte, usize::parse(times)?))
    }
}

/// What mknod(2) makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Regular,
    Fifo,
    Socket,
    Char(u64, u64),
    Block(u64, u64),
}

impl Word for Kind {
    fn show(&self) -> String {
        match self {
            Self::Regular => "reg".into(),
            Self::Fifo => "fifo".into(),
            Self::Socket => "sock".into(),
            Self::Char(major, minor) => format!("chr:{major}:{minor}"),
            Self::Block(major, minor) => format!("blk:{major}:{minor}"),
        }
    }
    fn parse(word: &str) -> Result<Self, String> {
        let mut parts = word.split(':');
        let kind = parts.next().unwrap_or_default();
        let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or("device number");
        Ok(match kind {
            "reg" => Self::Regular,
            "fifo" => Self::Fifo,
            "sock" => Self::Socket,
            "chr" => Self::Char(number()?, number()?),
            "blk" => Self::Block(number()?, number()?),
            _ => return Err(format!("no kind `{kind}`")),
        })
    }
}

/// A time for utimensat(2): `now`, `omit`, or `seconds.nanoseconds`, the seconds may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    Now,
    Omit,
    At(i64, i64),
}

impl Word for Time {
    fn show(&self) -> String {
        match self {
            Self::Now => "now".into(),
            Self::Omit => "omit".into(),
            Self::At(seconds, nanos) => format!("{seconds}.{nanos:09}"),
        }
    }
    fn parse(word: &str) -> Result<Self, String> {
        Ok(match (word, word.split_once('.')) {
            ("now", _) => Self::Now,
            ("omit", _) => Self::Omit,
            (_, Some((seconds, nanos))) => Self::At(i64::parse(seconds)?, i64::parse(nanos)?),
            _ => return Err("not a time".into()),
        })
    }
}

/// `-` for none, else names joined by commas.
fn show_names<T: Copy + PartialEq>(table: &[(&str, T)], has: impl Fn(T) -> bool) -> String {
    let names: Vec<&str> =
        table.iter().filter(|(_, flag)| has(*flag)).map(|(name, _)| *name).collect();
    if names.is_empty() { "-".into() } else { names.join(",") }
}

fn parse_names<T: Copy>(table: &[(&str, T)], word: &str) -> Result<Vec<T>, String> {
    let names = word.split(',').filter(|name| *name != "-");
    names
        .map(|name| {
            let found = table.iter().find(|(known, _)| *known == name);
            found.map(|(_, flag)| *flag).ok_or_else(|| format!("no flag `{name}`"))
        })
        .collect()
}

/// Flags of open(2). Without `w` or `rw` the file is opened for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFlags(pub OFlag);

const OPEN_FLAGS: &[(&str, OFlag)] = &[
    ("w", OFlag::O_WRONLY),
    ("rw", OFlag::O_RDWR),
    ("creat", OFlag::O_CREAT),
    ("excl", OFlag::O_EXCL),
    ("trunc", OFlag::O_TRUNC),
    ("append", OFlag::O_APPEND),
    ("dir", OFlag::O_DIRECTORY),
    ("nofollow", OFlag::O_NOFOLLOW),
    ("path", OFlag::O_PATH),
    ("sync", OFlag::O_SYNC),
];

impl Word for OpenFlags {
    fn show(&self) -> String {
        show_names(OPEN_FLAGS, |flag| self.0.contains(flag))
    }
    fn parse(word: &str) -> Result<Self, String> {
        Ok(Self(parse_names(OPEN_FLAGS, word)?.into_iter().collect()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenameFlags(pub NixRename);

const RENAME_FLAGS: &[(&str, NixRename)] = &[
    ("noreplace", NixRename::RENAME_NOREPLACE),
    ("exchange", NixRename::RENAME_EXCHANGE),
    ("whiteout", NixRename::RENAME_WHITEOUT),
];

impl Word for RenameFlags {
    fn show(&self) -> String {
        show_names(RENAME_FLAGS, |flag| self.0.contains(flag))
    }
    fn parse(word: &str) -> Result<Self, String> {
        Ok(Self(parse_names(RENAME_FLAGS, word)?.into_iter().collect()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XattrFlags(pub i32);

const XATTR_FLAGS: &[(&str, i32)] =
    &[("create", libc::XATTR_CREATE), ("replace", libc::XATTR_REPLACE)];

impl Word for XattrFlags {
    fn show(&self) -> String {
        show_names(XATTR_FLAGS, |flag| self.0 & flag != 0)
    }
    fn parse(word: &str) -> Result<Self, String> {
        Ok(Self(parse_names(XATTR_FLAGS, word)?.into_iter().fold(0, |all, flag| all | flag)))
    }
}
