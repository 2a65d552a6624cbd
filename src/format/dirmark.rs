//! Marks on the directories of a layer, which say how they merge.

use std::ffi::CStr;

use super::redirect::Redirect;
use crate::error::{Errno, Error, Result};

use super::overlay::{ACL_DEFAULT, FUSE_OVERLAYFS_OPAQUE, Mark, Namespace};

/// The marks of one directory of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirMarks {
    /// The directory hides what the layers below have at its path.
    pub opaque: bool,
    /// The directory contributes its names, but not its metadata (`P dirmeta_delegate`).
    pub dirmeta_delegate: bool,
    /// The directory has a default ACL.
    pub default_acl: bool,
    /// Empty files in this directory may be whiteouts by attribute. On the root of a layer: empty
    /// files anywhere in the layer.
    pub xattr_whiteouts: bool,
    /// Some entry was copied up and has its inode number from a lower.
    pub impure: bool,
    /// Another name or path, under which the search in the layers below goes on.
    pub redirect: Option<Redirect>,
    /// The directory has a malformed redirect. If layers are below, the directory cannot be shown.
    pub broken_redirect: bool,
}

/// A mark that [`DirMarks::read`] looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Opaque,
    DirmetaDelegate,
    DefaultAcl,
    Redirect,
    Impure,
}

/// All attributes with a meaning on a directory.
const FIELDS: [(&CStr, Field); 10] = [
    (Namespace::Trusted.key(Mark::Opaque), Field::Opaque),
    (Namespace::User.key(Mark::Opaque), Field::Opaque),
    (FUSE_OVERLAYFS_OPAQUE, Field::Opaque),
    (Namespace::Trusted.key(Mark::DirmetaDelegate), Field::DirmetaDelegate),
    (Namespace::User.key(Mark::DirmetaDelegate), Field::DirmetaDelegate),
    (Namespace::Trusted.key(Mark::Redirect), Field::Redirect),
    (Namespace::User.key(Mark::Redirect), Field::Redirect),
    (Namespace::Trusted.key(Mark::Impure), Field::Impure),
    (Namespace::User.key(Mark::Impure), Field::Impure),
    (ACL_DEFAULT, Field::DefaultAcl),
];

impl DirMarks {
    /// Returns the redirect, for a layer that has other layers below it.
    ///
    /// # Errors
    /// EINVAL for a malformed redirect (fs/overlayfs/namei.c).
    pub fn redirect_to_follow(self) -> Result<Option<Redirect>> {
        match self.broken_redirect {
            true => {
                let text = "a redirect that is neither name nor path";
                Err(Error::new(Errno::EINVAL, text).fact())
            }
            false => Ok(self.redirect),
        }
    }

    /// Reads the marks, given the attribute names of a directory; `value` fetches one value.
    ///
    /// # Errors
    /// What `value` returns.
    pub fn read<'a>(
        names: impl Iterator<Item = &'a [u8]>,
        mut value: impl FnMut(&'static CStr) -> Result<Vec<u8>>,
    ) -> Result<Self> {
        let mut marks = Self::default();
        for name in names {
            let Some((key, field)) = FIELDS.iter().find(|(key, _)| key.to_bytes() == name) else {
                continue;
            };
            match field {
                Field::Opaque => {
                    let value = value(key)?;
                    marks.opaque |= is_yes(&value);
                    marks.xattr_whiteouts |= value == b"x";
                }
                Field::DirmetaDelegate => marks.dirmeta_delegate |= is_yes(&value(key)?),
                Field::Impure => marks.impure |= is_yes(&value(key)?),
                Field::DefaultAcl => marks.default_acl = true,
                Field::Redirect => match Redirect::parse(&value(key)?) {
                    Ok(redirect) => marks.redirect = Some(redirect),
                    Err(_) => marks.broken_redirect = true,
                },
            }
        }
        Ok(marks)
    }
}

/// Whether a mark is set. As in the kernel, only `y` counts (fs/overlayfs/namei.c).
fn is_yes(value: &[u8]) -> bool {
    value == b"y"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Errno;

    fn read(pairs: &[(&str, &str)]) -> DirMarks {
        DirMarks::read(pairs.iter().map(|(k, _)| k.as_bytes()), |key| {
            let found = pairs.iter().find(|(k, _)| k.as_bytes() == key.to_bytes());
            found.map(|(_, v)| v.as_bytes().to_vec()).ok_or_else(|| Errno::ENODATA.into())
        })
        .unwrap()
    }

    #[test]
    fn every_spelling_of_opaque() {
        for key in ["trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque"] {
            assert!(read(&[(key, "y")]).opaque, "{key}");
            assert!(!read(&[(key, "n")]).opaque, "{key}");
            assert!(!read(&[(key, "x")]).opaque, "{key}: x means xattr whiteouts");
            assert!(!read(&[(key, "")]).opaque, "{key}");
        }
        assert!(!read(&[("user.overlay.overlay.opaque", "y")]).opaque, "that of an inner overlay");
    }

    #[test]
    fn redirects_and_xattr_whiteouts() {
        assert!(read(&[("user.overlay.opaque", "x")]).xattr_whiteouts);
        let marks = read(&[("trusted.overlay.redirect", "/a")]);
        assert_eq!(marks.redirect, Some(Redirect::parse(b"/a").unwrap()));
    }

    #[test]
    fn delegation_in_both_namespaces() {
        assert!(read(&[("trusted.overlay.dirmeta_delegate", "y")]).dirmeta_delegate);
        assert!(read(&[("user.overlay.dirmeta_delegate", "y")]).dirmeta_delegate);
        assert!(!read(&[("user.overlay.dirmeta_delegate", "n")]).dirmeta_delegate);
        assert_eq!(read(&[("user.other", "y")]), DirMarks::default());
    }
}
