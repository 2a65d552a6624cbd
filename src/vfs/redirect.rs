//! Renaming a directory with a redirect: the directory moves in the upper, and the redirect says
//! where the lowers have it.

use std::sync::Arc;

use super::Vfs;
use super::nodes::node::{Dir, Node};
use crate::config::Config;
use crate::error::{Errno, Error, Result};
use crate::format::redirect::Redirect;
use crate::layer::{Stack, Upper};
use crate::merge::rename::Moving;

/// Fails with EINVAL for `redirect_dir=on` if the kernel's overlayfs would not follow our
/// redirects.
pub(super) fn check_option(config: &Config, stack: &Stack) -> Result<()> {
    let refused = stack.upper.as_ref().is_some_and(|upper| !upper.takes_redirects());
    if !config.write_redirects || !refused {
        return Ok(());
    }
    Err(Error::new(
        Errno::EINVAL,
        "redirect_dir=on needs markers in trusted.overlay., as redirects in user.overlay. are not \
         followed by the kernel's overlayfs; leave it out: directories of lower layers are renamed \
         by copying (rename_lower=copy)",
    ))
}

/// The redirect that a directory of the upper carries.
fn carried(dir: &Dir) -> Result<Option<Redirect>> {
    let upper = dir.stack.read().upper.clone();
    upper.map_or(Ok(None), |upper| Ok(upper.dir().marks()?.redirect))
}

/// The redirect that a directory needs to go on merging after a move; `None` if the one that it has
/// will do (ovl_set_redirect, fs/overlayfs/dir.c). The caller holds `renames`, so that no directory
/// above moves meanwhile, or only asks how long the redirect would be.
fn needed(node: &Arc<Node>, stays_in_directory: bool) -> Result<Option<Redirect>> {
    let own = carried(node.dir()?)?;
    match own {
        Some(Redirect::Absolute(_)) => return Ok(None),
        Some(_) if stays_in_directory => return Ok(None),
        None if stays_in_directory => {
            let link = node.dir()?.link.read().clone().ok_or(Errno::ENOENT)?;
            return Ok(Some(Redirect::Sibling(link.name().into())));
        }
        _ => {}
    }
    // Names in the lowers, from the bottom up to the root or to an absolute redirect.
    let mut path = Vec::new();
    let mut here = Arc::clone(node);
    loop {
        let Some(link) = here.dir()?.link.read().clone() else { break };
        match carried(here.dir()?)? {
            Some(Redirect::Absolute(above)) => {
                path.extend(above.into_iter().rev());
                break;
            }
            Some(Redirect::Sibling(name)) => path.push(name),
            None => path.push(link.name().into()),
        }
        here = link.parent;
    }
    path.reverse();
    Ok(Some(Redirect::Absolute(path)))
}

impl Vfs {
    /// Whether a redirect can move a directory that lowers show through.
    pub(super) fn can_redirect(&self, node: &Arc<Node>, stays_in_directory: bool) -> Result<bool> {
        if !self.write_redirects || !self.stack.upper.as_ref().is_some_and(Upper::takes_redirects) {
            return Ok(false);
        }
        let needed = needed(node, stays_in_directory)?;
        Ok(needed.is_none_or(|redirect| redirect.encode().is_some()))
    }

    /// Prepares an object for a move, with the names of both directories and `renames` locked. Its
    /// marks change nothing at the old name.
    ///
    /// # Errors
    /// EAGAIN for a directory that cannot be moved as it is; errors of setting the mark.
    pub(super) fn mark_for_move(&self, node: &Arc<Node>, stays: bool) -> Result<Moving> {
        let Ok(dir) = node.dir() else { return Ok(Moving { is_dir: false, redirected: false }) };
        let stack = dir.stack.read().clone();
        let upper_dir = stack.upper.as_ref().ok_or(Errno::EAGAIN)?;
        if stack.lowers.is_empty() {
            // A redirect that leads nowhere at one name could lead somewhere at another.
            if carried(dir)?.is_some() {
                self.upper()?.drop_redirect(upper_dir)?;
            }
            return Ok(Moving { is_dir: true, redirected: false });
        }
        if !self.can_redirect(node, stays)? {
            return Err(Errno::EAGAIN.into());
        }
        if let Some(redirect) = needed(node, stays)? {
            self.upper()?.set_redirect(upper_dir, &redirect)?;
        }
        Ok(Moving { is_dir: true, redirected: true })
    }
}
