//! The marks of one object of one layer, for people.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::redirect::Redirect;
use crate::layer::LayerDir;
use crate::sys::Name;

/// The form of an opaque mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opaque {
    /// An attribute.
    Xattr,
    /// A file `.wh..wh..opq` in the directory.
    File,
}

/// The marks of one object. If one is malformed, only `error` is set.
#[derive(Clone, Debug, Default)]
pub struct Signs {
    /// The form of its opaque mark, by which nothing below shows through it.
    pub opaque: Option<Opaque>,
    /// It contributes its names, but not its metadata.
    pub delegates: bool,
    /// The name or path at which it goes on in the layers below.
    pub redirect: Option<Redirect>,
    /// Its data is in a layer below.
    pub metacopy: bool,
    /// It names the object that it is a copy of.
    pub origin: bool,
    /// The error that keeps its marks from being read.
    pub error: Option<Error>,
}

impl Signs {
    /// The marks of a directory.
    #[must_use]
    pub fn of_dir(dir: &Arc<LayerDir>) -> Self {
        let read = || {
            let marks = dir.marks()?;
            let opaque = match marks.opaque {
                true => Some(Opaque::Xattr),
                false => dir.has_aufs_opaque()?.then_some(Opaque::File),
            };
            let delegates = marks.dirmeta_delegate;
            // The redirect of an opaque directory is not followed, so a malformed one is no error.
            let redirect = match opaque {
                Some(_) => marks.redirect,
                None => marks.redirect_to_follow()?,
            };
            Ok(Self { opaque, delegates, redirect, ..Self::default() })
        };
        Self::or_error(read())
    }

    /// The marks of the non-directory `name` in a directory.
    #[must_use]
    pub fn of_other(above: &Arc<LayerDir>, name: Name<'_>) -> Self {
        Self::or_error(above.file_marks(name).map(|marks| Self {
            metacopy: marks.metacopy,
            origin: !marks.handle.is_empty(),
            redirect: marks.redirect,
            ..Self::default()
        }))
    }

    fn or_error(read: Result<Self>) -> Self {
        read.unwrap_or_else(|err| Self { error: Some(err), ..Self::default() })
    }
}
