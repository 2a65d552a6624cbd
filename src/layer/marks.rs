//! Redirects of directories of the upper, and the removal of marks that are not needed any more.

use std::ffi::CStr;

use super::dir::UpperDir;
use super::upper::{OpaqueForm, Upper};
use crate::error::{Errno, Result};
use crate::format::overlay::{Mark, Namespace};
use crate::format::redirect::Redirect;
use crate::sys::xattr::{self, SetMode};
use crate::sys::{Name, Writable};

impl Upper {
    /// Whether the upper can hold redirects. The kernel's overlayfs follows only those in
    /// `trusted.overlay.` (fs/overlayfs/params.c).
    #[must_use]
    pub fn takes_redirects(&self) -> bool {
        self.forms().opaque == OpaqueForm::Xattr(Namespace::Trusted)
    }

    /// Sets where a directory continues in the layers below. Removes a redirect in the other
    /// namespace, as there is one place to continue.
    ///
    /// # Errors
    /// EXDEV for a path that is too long; EOPNOTSUPP where redirects are not written.
    pub fn set_redirect(&self, dir: &UpperDir, redirect: &Redirect) -> Result<()> {
        if !self.takes_redirects() {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let value = redirect.encode().ok_or(Errno::EXDEV)?;
        self.with_dir(dir, |target| {
            let key = Namespace::Trusted.key(Mark::Redirect);
            xattr::set(target, key, &value, SetMode::Any)?;
            drop_mark(target, Namespace::User.key(Mark::Redirect))
        })
    }

    /// Removes a redirect that leads nowhere, in both namespaces.
    pub fn drop_redirect(&self, dir: &UpperDir) -> Result<()> {
        self.with_dir(dir, |target| {
            Namespace::BOTH.into_iter().try_for_each(|ns| drop_mark(target, ns.key(Mark::Redirect)))
        })
    }

    /// Removes our opaque attribute from a directory that hides nothing any more. An opaque mark
    /// that is a file stays.
    pub fn drop_opaque(&self, dir: &UpperDir, name: Name<'_>) -> Result<()> {
        let OpaqueForm::Xattr(namespace) = self.forms().opaque else { return Ok(()) };
        self.with_entry(dir, name, |target| drop_mark(target, namespace.key(Mark::Opaque)))
    }

    /// Removes a whiteout that hides nothing: the object at the name, and the file beside it.
    pub fn drop_whiteout(&self, dir: &UpperDir, name: Name<'_>) -> Result<()> {
        if let Some(stat) = dir.dir().stat_entry(name)?
            && dir.dir().is_whiteout(name, &stat)?
        {
            self.unlink(dir, name)?;
        }
        self.remove_whiteout_file(dir, name)
    }
}

/// Removes a mark from an object of the upper, if the object has it.
pub fn drop_mark(object: Writable<'_>, key: &CStr) -> Result<()> {
    match xattr::remove(object, key) {
        // Those who may not remove a `trusted.` attribute cannot see it either (xattr(7)).
        Err(err) if xattr::is_absent(&err) || err.errno() == Errno::EPERM => Ok(()),
        other => other,
    }
}
