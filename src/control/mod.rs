//! Questions to a running mount about itself, and the answers.
//!
//! A question is the name of an extended attribute that no listing shows, and the answer is its
//! value, as JSON. In the namespace `system.` the kernel lets the file system decide who may read
//! an attribute (`xattr_permission`, fs/xattr.c). Reading an attribute does not open the object, so
//! any object can be asked about, whatever its type and mode.
//!
//! * [`Question`]: names of the attributes;
//! * [`stat`]: numbers, layers and [`options`];
//! * [`which`]: the objects of the layers behind a path.
//!
//! The command line prints and documents the answers. The names are an interface between a mount
//! and the program of the same version, and no other.

pub mod options;
pub mod stat;
pub mod which;

use crate::error::{Errno, Result};
use crate::sys::Name;

/// Prefix of all question attributes.
pub const PREFIX: &str = "system.ovlmerge.";

/// Longest answer, in bytes (`XATTR_SIZE_MAX`, linux/limits.h).
pub const LONGEST: usize = 65536;

/// A question to a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// All facts about the mount except its layers.
    Stat,
    /// Facts about the layers from this position on, as many as fit into an answer.
    Layers(usize),
    /// Asks what each layer has for this object, or at a path below it.
    Which(Vec<Box<[u8]>>),
}

impl Question {
    /// Parses the name of an attribute; `None` for one that is not a question.
    ///
    /// # Errors
    /// ENODATA for a name with the prefix of questions that is none.
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

    /// Returns the name of the attribute.
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

/// Whether an attribute has the prefix of questions. Such attributes cannot be set.
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
