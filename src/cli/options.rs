//! The mount options: how each is read, and what it does to a [`Request`].
//!
//! [`table`](super::table) lists them; parser, `--help` and the manual's table all come from there,
//! so an option cannot be in one and missing in another.

use std::path::PathBuf;
use std::time::Duration;

use super::escape::{unescape, unescape_one_layer};
use super::lowers::Lowers;
use super::request::{Request, UsageError};
use super::table::{IGNORED, IGNORED_PREFIXES, OPTIONS};
use crate::config::{Config, IdRange};
use crate::format::idmap;
use crate::id::Id;

/// A word, and the function that applies it.
pub type Word = (&'static str, fn(&mut Request));

/// The kind of value that an option takes, and where it is stored.
#[derive(Debug, Clone, Copy)]
pub enum Takes {
    /// Words without a value, of which the last one given counts: `suid`, `nosuid`.
    Words(&'static [Word]),
    /// One path.
    Path(fn(&mut Request, PathBuf)),
    /// Layers with colons between them.
    Layers(fn(&mut Request, Lowers)),
    /// One more layer, which has to fit those before.
    Layer(fn(&mut Lowers, PathBuf) -> Result<(), UsageError>),
    /// Any text.
    Text(fn(&mut Request, String)),
    /// `1`, `on`, `yes`, `true` or `0`, `off`, `no`, `false`.
    Switch(fn(&mut Request, bool)),
    /// Seconds, with a fraction if need be.
    Seconds(fn(&mut Request, Duration)),
    /// A whole number within bounds.
    Number {
        /// The smallest value.
        min: u32,
        /// The largest value.
        max: u32,
        /// Stores the value.
        set: fn(&mut Request, u32),
    },
    /// An id of a user or a group.
    Id(fn(&mut Request, Id)),
    /// A map of ids.
    Map(fn(&mut Request, Vec<IdRange>)),
    /// One of some words.
    Choice(&'static [Word]),
    /// An option with one possible value.
    Fixed {
        /// The value.
        value: &'static str,
        /// The error for any other value, with advice.
        why: &'static str,
    },
    /// A value with a form of its own, such as `copy:ENTRIES:BYTES`.
    Form {
        /// Stores the value, or returns `None` if it is not valid.
        set: fn(&mut Request, &str) -> Option<()>,
        /// A description of the valid values.
        wanted: &'static str,
    },
    /// Words of other programs that have no effect, with or without a value.
    Nothing(&'static [&'static str]),
    /// Words of other programs that are not supported, with or without a value, and what to do
    /// instead. Like unknown words they give a warning, or an error with `--strict`.
    Instead(&'static [(&'static str, &'static str)]),
    /// An option that is always refused, and why.
    Never(&'static str),
}

/// The section of the help that an option is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The directories that are merged.
    Layers,
    /// Changes, and when they reach the disk.
    Storage,
    /// The owners of files.
    Owners,
    /// Access to the mount.
    Access,
    /// The flags that mount(8) has for every file system.
    Flags,
    /// Caching, request sizes, threads.
    Speed,
    /// Options of fuse-overlayfs, libfuse and the kernel's overlayfs.
    Compatibility,
}

impl Group {
    /// All groups, in the order of the help.
    pub const ALL: [Self; 7] = [
        Self::Layers,
        Self::Storage,
        Self::Owners,
        Self::Access,
        Self::Flags,
        Self::Speed,
        Self::Compatibility,
    ];

    /// The heading of the section.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Layers => "Layers",
            Self::Storage => "Storage",
            Self::Owners => "Owners",
            Self::Access => "Access",
            Self::Flags => "Mount flags",
            Self::Speed => "Speed",
            Self::Compatibility => "Compatibility",
        }
    }
}

/// One mount option, or a few words that set the same thing.
#[derive(Debug, Clone, Copy)]
pub struct MountOption {
    /// The name before the `=`. For [`Takes::Words`] the first of the words.
    pub name: &'static str,
    /// The value after the `=`, as the help shows it. Empty for words.
    pub metavar: &'static str,
    /// The section of the help.
    pub group: Group,
    /// How a value is read and where it goes.
    pub takes: Takes,
    /// The text of `--help`.
    pub help: &'static str,
    /// The text that the manual adds. May be empty.
    pub doc: &'static str,
}

impl MountOption {
    /// The words or the name that select this option.
    pub fn words(&self) -> impl Iterator<Item = &'static str> {
        let (words, inert, instead): (&[Word], &[&str], &[(&str, &str)]) = match self.takes {
            Takes::Words(words) => (words, &[], &[]),
            Takes::Nothing(words) => (&[], words, &[]),
            Takes::Instead(words) => (&[], &[], words),
            _ => (&[], &[], &[]),
        };
        let none = words.is_empty() && inert.is_empty() && instead.is_empty();
        let words = words.iter().map(|&(word, _)| word).chain(inert.iter().copied());
        words.chain(instead.iter().map(|&(word, _)| word)).chain(none.then_some(self.name))
    }

    /// Whether the option is accepted for compatibility and has no effect.
    #[must_use]
    pub fn is_without_effect(&self) -> bool {
        matches!(self.takes, Takes::Nothing(_) | Takes::Instead(_))
    }

    /// The usage, such as `lowerdir=DIR[:DIR...]` or `suid, nosuid`.
    #[must_use]
    pub fn usage(&self) -> String {
        if self.metavar.is_empty() {
            return self.words().collect::<Vec<_>>().join(", ");
        }
        format!("{}={}", self.name, self.metavar)
    }

    /// Reads `value`, given under the name `word`, into `request`.
    ///
    /// # Errors
    /// If the value is missing, wrong, or not allowed.
    pub fn apply(
        &self,
        word: &str,
        value: Option<&[u8]>,
        request: &mut Request,
    ) -> Result<(), UsageError> {
        if let Takes::Words(words) = self.takes {
            return apply_word(words, word, value, request);
        }
        match self.takes {
            Takes::Nothing(_) => return Ok(()),
            Takes::Instead(words) => return instead(words, word, request),
            Takes::Never(why) => return Err(UsageError::new(format!("option `{word}`: {why}"))),
            _ => {}
        }
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return Err(UsageError::new(format!(
                "option `{word}` needs a value: write {}",
                self.usage()
            )));
        };
        match self.takes {
            Takes::Path(set) => set(request, unescape(value).into()),
            Takes::Layers(set) => {
                let lowers = Lowers::parse(value);
                set(request, lowers.map_err(|wanted| self.wrong(value, wanted))?);
            }
            Takes::Layer(add) => add(&mut request.lowers, unescape_one_layer(value).into())?,
            Takes::Text(set) => set(request, self.text(value)?),
            Takes::Switch(set) => set(request, self.switch(value)?),
            Takes::Seconds(set) => set(request, self.seconds(value)?),
            Takes::Number { min, max, set } => set(request, self.number(value, min, max)?),
            Takes::Id(set) => set(request, self.id(value)?),
            Takes::Map(set) => set(request, self.map(value)?),
            Takes::Fixed { value: only, .. } if only.as_bytes() == value => {}
            Takes::Fixed { why, .. } => {
                return Err(UsageError::new(format!("option `{}`: {why}", self.name)));
            }
            Takes::Choice(choices) => self.choice(value, choices)?(request),
            Takes::Form { set, wanted } => {
                let text = std::str::from_utf8(value).ok();
                text.and_then(|text| set(request, text))
                    .ok_or_else(|| self.wrong(value, wanted))?;
            }
            Takes::Words(_) | Takes::Nothing(_) | Takes::Instead(_) | Takes::Never(_) => {}
        }
        Ok(())
    }

    fn wrong(&self, value: &[u8], wanted: &str) -> UsageError {
        UsageError::new(format!(
            "option `{}` cannot be \"{}\": give {wanted}",
            self.name,
            String::from_utf8_lossy(value)
        ))
    }

    fn text(&self, value: &[u8]) -> Result<String, UsageError> {
        let text = unescape(value).into_string();
        text.map_err(|_| self.wrong(value, "a text in UTF-8"))
    }

    fn switch(&self, value: &[u8]) -> Result<bool, UsageError> {
        match value {
            b"1" | b"on" | b"yes" | b"true" => Ok(true),
            b"0" | b"off" | b"no" | b"false" => Ok(false),
            _ => Err(self.wrong(value, &format!("one of {}", self.metavar.replace('|', ", ")))),
        }
    }

    fn seconds(&self, value: &[u8]) -> Result<Duration, UsageError> {
        let seconds = parse::<f64>(value).filter(|seconds| *seconds >= 0.0);
        let seconds = seconds
            .ok_or_else(|| self.wrong(value, "a number of seconds, 0 or more, such as 1.5"))?;
        let ceiling = Config::FOREVER.as_secs_f64();
        Ok(Duration::from_secs_f64(seconds.min(ceiling)))
    }

    fn number(&self, value: &[u8], min: u32, max: u32) -> Result<u32, UsageError> {
        parse(value)
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| self.wrong(value, &format!("a whole number from {min} to {max}")))
    }

    fn id(&self, value: &[u8]) -> Result<Id, UsageError> {
        parse(value)
            .and_then(Id::new)
            .ok_or_else(|| self.wrong(value, "a whole number from 0 to 4294967294"))
    }

    fn map(&self, value: &[u8]) -> Result<Vec<IdRange>, UsageError> {
        idmap::parse(value).map_err(|wanted| self.wrong(value, &wanted))
    }

    fn choice(&self, value: &[u8], choices: &[Word]) -> Result<fn(&mut Request), UsageError> {
        let chosen = choices.iter().find(|(word, _)| word.as_bytes() == value);
        chosen.map(|&(_, set)| set).ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|&(word, _)| word).collect();
            self.wrong(value, &format!("one of {}", words.join(", ")))
        })
    }
}

fn apply_word(
    words: &[Word],
    word: &str,
    value: Option<&[u8]>,
    request: &mut Request,
) -> Result<(), UsageError> {
    if value.is_some() {
        return Err(UsageError::new(format!("option `{word}` takes no value: write {word} alone")));
    }
    for (name, set) in words {
        if *name == word {
            set(request);
        }
    }
    Ok(())
}

fn instead(words: &[(&str, &str)], word: &str, request: &mut Request) -> Result<(), UsageError> {
    let hint = words.iter().find(|(name, _)| *name == word).map_or("", |(_, hint)| hint);
    request.object(&format!("option `{word}` is of libfuse alone"), hint)
}

fn parse<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The result of [`find`].
#[derive(Debug, Clone, Copy)]
pub enum Found {
    /// An option of the table.
    Known(&'static MountOption),
    /// A word that other programs write into mount options and that has no meaning here.
    Ignored,
    /// Any other word.
    Unknown,
}

/// Looks up the name of an option.
#[must_use]
pub fn find(name: &str) -> Found {
    if let Some(option) = OPTIONS.iter().find(|option| option.words().any(|word| word == name)) {
        return Found::Known(option);
    }
    let prefixed = IGNORED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if prefixed || IGNORED.contains(&name) {
        return Found::Ignored;
    }
    Found::Unknown
}

/// Every word that selects an option.
pub fn words() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().flat_map(MountOption::words)
}
