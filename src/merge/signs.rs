//! What the marks of one object of one layer say, for people.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::redirect::Redirect;
use crate::layer::LayerDir;
use crate::sys::Name;

/// How a directory is marked as opaque.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opaque {
    /// By an attribute.
    Xattr,
    /// By a file `.wh..wh..opq` in it.
    File,
}

/// The marks of one object. One that makes no sense is an error, and says nothing else.
#[derive(Clone, Debug, Default)]
pub struct Signs {
    /// Nothing below shows through it.
    pub opaque: Option<Opaque>,
    /// It lends its names, not its metadata.
    pub delegates: bool,
    /// Where it goes on.
    pub redirect: Option<Redirect>,
    /// Its data is elsewhere.
    pub metacopy: bool,
    /// It says what it is a copy of.
    pub origin: bool,
    /// Why its marks cannot be read.
    pub error: Option<Error>,
}

impl Signs {
    /// Those of a directory.
    #[must_use]
    pub fn of_dir(dir: &Arc<LayerDir>) -> Self {
        let read = || {
            let marks = dir.marks()?;
            let opaque = match marks.opaque {
                true => Some(Opaque::Xattr),
                false => dir.has_aufs_opaque()?.then_some(Opaque::File),
            };
            let delegates = marks.dirmeta_delegate;
            // That of an opaque directory is not followed, whatever it says.
            let redirect = match opaque {
                Some(_) => marks.redirect,
                None => marks.redirect_to_follow()?,
            };
            Ok(Self { opaque, delegates, redirect, ..Self::default() })
        };
        Self::or_error(read())
    }

    /// Those of the entry `name` of a directory, which is none itself.
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
