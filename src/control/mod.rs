//! What a running mount tells about itself, and how it is asked.
//!
//! Questions are names of extended attributes that no listing shows. The namespace `system.` is
//! the one in which the kernel leaves it to the file system who may read what (`xattr_permission`,
//! fs/xattr.c), and reading an attribute takes no opening: so every object can be asked about,
//! whatever its type and mode. Answers are JSON.
//!
//! * [`Question`]: the names;
//! * [`stat`]: numbers, layers, [`options`];
//! * [`which`]: what a path consists of.
//!
//! The command line prints the answers and documents them; the names are between a mount and the
//! program of the same version.

pub mod options;
pub mod stat;
pub mod which;

use crate::error::{Errno, Result};
use crate::sys::Name;

/// What all names begin with.
pub const PREFIX: &str = "system.ovlmerge.";

/// The longest answer, in bytes: the longest value of an attribute (`XATTR_SIZE_MAX`,
/// linux/limits.h).
pub const LONGEST: usize = 65536;

/// What a mount is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Everything but the layers.
    Stat,
    /// The layers from this position on, as many as there is room for.
    Layers(usize),
    /// Where the object comes from, or what there is at a path below it.
    Which(Vec<Box<[u8]>>),
}

impl Question {
    /// The question that an attribute stands for; `None` for an ordinary attribute.
    ///
    /// # Errors
    /// ENODATA for a name that begins as a question does and is none.
    pub fn parse(name: &[u8]) -> Option<Result<Self>> {
        let word = name.strip_prefix(PREFIX.as_bytes())?;
        let (word, rest) = match word.iter().position(|byte| *byte == b'/') {
            Some(at) => (word.get(..at).unwrap_or_default(), word.get(at + 1..)),
            None => (word, None),
        };
        Some(match (word, rest) {
            (b"stat", None) => Ok(Self::Stat),
            (b"layers", Some(from)) => std::str::from_utf8(from)
                .ok()
                .and_then(|from| from.parse().ok())
                .map(Self::Layers)
                .ok_or_else(|| Errno::ENODATA.into()),
            (b"which", None) => Ok(Self::Which(Vec::new())),
            (b"which", Some(path)) => {
                let names = path.split(|byte| *byte == b'/');
                names
                    .map(|name| Ok(Name::new(name)?.bytes().into()))
                    .collect::<Result<_>>()
                    .map(Self::Which)
                    .map_err(|_| Errno::ENODATA.into())
            }
            _ => Err(Errno::ENODATA.into()),
        })
    }

    /// The name of the attribute.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        match self {
            Self::Stat => format!("{PREFIX}stat").into_bytes(),
            Self::Layers(from) => format!("{PREFIX}layers/{from}").into_bytes(),
            Self::Which(path) => {
                let below = path.iter().flat_map(|name| [b"/", &**name].concat());
                format!("{PREFIX}which").into_bytes().into_iter().chain(below).collect()
            }
        }
    }
}

/// Whether an attribute is one that answers a question: it cannot be set.
#[must_use]
pub fn is_ours(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_questions() {
        let below = |names: &[&[u8]]| Question::Which(names.iter().map(|&it| it.into()).collect());
        for (name, question) in [
            (&b"stat"[..], Question::Stat),
            (b"layers/0", Question::Layers(0)),
            (b"layers/499", Question::Layers(499)),
            (b"which", below(&[])),
            (b"which/a/\xff b", below(&[b"a", b"\xff b"])),
        ] {
            let name = [PREFIX.as_bytes(), name].concat();
            assert_eq!(Question::parse(&name).unwrap().unwrap(), question);
            assert_eq!(question.name(), name);
        }
        for none in ["user.x", "system.posix_acl_access", "system.ovlmerge"] {
            assert!(Question::parse(none.as_bytes()).is_none() && !is_ours(none.as_bytes()));
        }
        for wrong in [
            "",
            "stat/",
            "stats",
            "layers",
            "layers/",
            "layers/x",
            "layers/-1",
            "which/",
            "which/..",
            "which/a//b",
        ] {
            let name = [PREFIX, wrong].concat();
            let err = Question::parse(name.as_bytes()).unwrap().unwrap_err();
            assert_eq!(err.errno(), Errno::ENODATA, "{wrong}");
        }
    }
}
