//! What lookups have to know of the mount.

use crate::error::{Errno, Error, Result};
use crate::format::redirect::Redirect;
use crate::layer::{FileSystems, LinkIndex, LowerDir, Traps};

/// What looking things up has to know of the mount.
#[derive(Clone, Copy, Debug)]
pub struct LookupContext<'a> {
    /// Roots of the lower layers, topmost first.
    pub roots: &'a [LowerDir],
    /// Roots of the layers that only lend data, in the order of the search.
    pub data_only: &'a [LowerDir],
    /// Directories marked `dirmeta_delegate` lend only their names.
    pub delegation: bool,
    /// Redirects are followed.
    pub follow: bool,
    /// Where the number in an origin is from.
    pub filesystems: &'a FileSystems,
    /// The index of hard links, if it is used.
    pub links: Option<&'a LinkIndex>,
    /// Directories of lowers that no name may lead to.
    pub traps: &'a Traps,
    /// Something can be copied up: there is an upper.
    pub has_upper: bool,
}

impl LookupContext<'_> {
    /// Whether anything lies below this layer, so that a redirect can lead there and data can be
    /// there.
    pub fn has_below(&self, layer: u16) -> bool {
        usize::from(layer) < self.roots.len()
    }

    /// Whether the data of a file in this layer can be in another.
    pub fn may_have_data_below(&self, layer: u16) -> bool {
        self.has_below(layer) || !self.data_only.is_empty()
    }

    /// # Errors
    /// EPERM for a redirect where none is to be followed (fs/overlayfs/namei.c).
    pub fn check(&self, redirect: &Redirect) -> Result<()> {
        if self.follow {
            return Ok(());
        }
        let text = format!("redirect_dir=nofollow, and there is a redirect ({redirect:?})");
        Err(Error::new(Errno::EPERM, text).fact())
    }
}
