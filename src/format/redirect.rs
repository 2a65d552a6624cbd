//! Redirects: the name or path of a renamed object in the layers below.
//!
//! Renamed directories and metacopy files have them. The value of `P redirect` is a name in the
//! same directory of the layers below, or a path from the root of the layers. It is not trusted:
//! each component has to be a [`Name`].

use crate::error::{Errno, Error, Result};
use crate::sys::Name;

/// Longest value that is read, in bytes (`PATH_MAX`).
const LONGEST: usize = 4096;

/// Longest value that is written, in bytes, as in the kernel (`OVL_REDIRECT_MAX`,
/// fs/overlayfs/dir.c).
const LONGEST_WRITTEN: usize = 256;

/// A parsed redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// Another name in the same directory.
    Sibling(Box<[u8]>),
    /// A path from the root of the layer, with at least one component.
    Absolute(Vec<Box<[u8]>>),
}

impl Redirect {
    /// Parses a value.
    ///
    /// # Errors
    /// EINVAL for a value that is neither a name nor an absolute path, as in fs/overlayfs/namei.c.
    pub fn parse(value: &[u8]) -> Result<Self> {
        let text = || format!("redirect \"{}\"", value.escape_ascii());
        let bad = || Error::new(Errno::EINVAL, text()).fact();
        if value.len() > LONGEST {
            return Err(bad());
        }
        let component = |bytes: &[u8]| match Name::new(bytes) {
            Ok(name) => Ok(Box::from(name.bytes())),
            Err(_) => Err(bad()),
        };
        match value.strip_prefix(b"/") {
            Some(path) => Ok(Self::Absolute(
                path.split(|b| *b == b'/').map(component).collect::<Result<_>>()?,
            )),
            None => Ok(Self::Sibling(component(value)?)),
        }
    }

    /// Encodes the redirect as a value; `None` if it is longer than the kernel would write.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let value = self.value();
        (value.len() <= LONGEST_WRITTEN).then_some(value)
    }

    /// Encodes the redirect as a value of any length.
    #[must_use]
    pub fn value(&self) -> Vec<u8> {
        match self {
            Self::Sibling(name) => name.to_vec(),
            Self::Absolute(path) => path.iter().fold(Vec::new(), |mut value, name| {
                value.push(b'/');
                value.extend_from_slice(name);
                value
            }),
        }
    }

    /// Applies the redirect to `path`, whose component `at` is the object that has it.
    #[must_use]
    pub fn apply(&self, path: &[Box<[u8]>], at: usize) -> Vec<Box<[u8]>> {
        let rest = path.iter().skip(at + 1).cloned();
        match self {
            Self::Absolute(to) => to.iter().cloned().chain(rest).collect(),
            Self::Sibling(name) => {
                path.iter().take(at).cloned().chain([name.clone()]).chain(rest).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<Box<[u8]>> {
        text.split('/').map(|c| c.as_bytes().into()).collect()
    }

    #[test]
    fn values() {
        assert_eq!(Redirect::parse(b"old").unwrap(), Redirect::Sibling(b"old"[..].into()));
        assert_eq!(Redirect::parse(b"/a/b").unwrap(), Redirect::Absolute(path("a/b")));
        for bad in [
            &b""[..],
            b"/",
            b"a/b",
            b"..",
            b"/..",
            b"/a//b",
            b"/a/../b",
            b"/a/",
            b"/./a",
            b"a\0b",
            &[b'x'; 300],
            &[b'/'; 5000],
        ] {
            assert_eq!(Redirect::parse(bad).unwrap_err().errno(), Errno::EINVAL, "{bad:?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for value in [&b"name"[..], b"/a", b"/a/b/c\xff"] {
            assert_eq!(Redirect::parse(value).unwrap().encode().unwrap(), value);
        }
        let path = |last: usize| Redirect::Absolute(path(&format!("a/{}", "x".repeat(last))));
        assert_eq!(path(253).encode().unwrap().len(), 256);
        assert_eq!(path(254).encode(), None);
    }

    #[test]
    fn chains() {
        let absolute = Redirect::parse(b"/x/y").unwrap();
        assert_eq!(absolute.apply(&path("a/b/c"), 1), path("x/y/c"));
        let sibling = Redirect::parse(b"z").unwrap();
        assert_eq!(sibling.apply(&path("a/b/c"), 1), path("a/z/c"));
        assert_eq!(sibling.apply(&path("a"), 0), path("z"));
    }
}
