//! The facts about a mount that its lookups need.

use crate::error::{Errno, Error, Result};
use crate::format::redirect::Redirect;
use crate::layer::{FileSystems, LinkIndex, LowerDir, Traps};

/// The facts about a mount that its lookups need.
#[derive(Clone, Copy, Debug)]
pub struct LookupContext<'a> {
    /// Roots of the lower layers, topmost first.
    pub roots: &'a [LowerDir],
    /// Roots of the data-only layers, in the order of the search.
    pub data_only: &'a [LowerDir],
    /// Directories marked `dirmeta_delegate` contribute their names, but not their metadata.
    pub delegation: bool,
    /// Redirects are followed.
    pub follow: bool,
    /// The file systems of the layers, to find the object that an origin names.
    pub filesystems: &'a FileSystems,
    /// The index of hard links, if it is used.
    pub links: Option<&'a LinkIndex>,
    /// Directories of lowers that no name may lead to.
    pub traps: &'a Traps,
    /// There is an upper, so that objects can be copied up.
    pub has_upper: bool,
}

impl LookupContext<'_> {
    /// Whether there is a layer below this one that a redirect could lead to.
    pub fn has_below(&self, layer: u16) -> bool {
        usize::from(layer) < self.roots.len()
    }

    /// Whether the data of a file in this layer may be in another layer.
    pub fn may_have_data_below(&self, layer: u16) -> bool {
        self.has_below(layer) || !self.data_only.is_empty()
    }

    /// Checks that a redirect may be followed.
    ///
    /// # Errors
    /// EPERM if redirects are not followed (fs/overlayfs/namei.c).
    pub fn check(&self, redirect: &Redirect) -> Result<()> {
        if self.follow {
            return Ok(());
        }
        let text = format!("redirect_dir=nofollow, and there is a redirect ({redirect:?})");
        Err(Error::new(Errno::EPERM, text).fact())
    }
}
