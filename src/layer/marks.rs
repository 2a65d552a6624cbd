//! Marks of the upper that go: on directories that are renamed, and on what has become whole.

use std::ffi::CStr;

use super::dir::UpperDir;
use super::upper::{OpaqueForm, Upper};
use crate::error::{Errno, Result};
use crate::format::overlay::{Mark, Namespace};
use crate::format::redirect::Redirect;
use crate::sys::xattr::{self, SetMode};
use crate::sys::{Name, Writable};

impl Upper {
    /// Whether a mount that writes this upper's form follows redirects: the kernel's does with
    /// trusted.overlay. alone (fs/overlayfs/params.c).
    #[must_use]
    pub fn takes_redirects(&self) -> bool {
        self.forms().opaque == OpaqueForm::Xattr(Namespace::Trusted)
    }

    /// Says where a directory goes on in the layers below. What the other namespace says goes:
    /// there is one place to go on.
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

    /// Takes away a redirect that leads nowhere.
    pub fn drop_redirect(&self, dir: &UpperDir) -> Result<()> {
        self.with_dir(dir, |target| {
            Namespace::BOTH.into_iter().try_for_each(|ns| drop_mark(target, ns.key(Mark::Redirect)))
        })
    }

    /// Takes our opaque mark off a directory that no longer stands over anything. One that is a
    /// file stays.
    pub fn drop_opaque(&self, dir: &UpperDir, name: Name<'_>) -> Result<()> {
        let OpaqueForm::Xattr(namespace) = self.forms().opaque else { return Ok(()) };
        self.with_entry(dir, name, |target| drop_mark(target, namespace.key(Mark::Opaque)))
    }

    /// Takes a whiteout away that hides nothing: the object itself, or the file beside the name.
    pub fn drop_whiteout(&self, dir: &UpperDir, name: Name<'_>) -> Result<()> {
        if let Some(stat) = dir.dir().stat_entry(name)?
            && dir.dir().is_whiteout(name, &stat)?
        {
            self.unlink(dir, name)?;
        }
        self.remove_whiteout_file(dir, name)
    }
}

/// Takes a mark off an object of the upper, if it is there.
pub fn drop_mark(object: Writable<'_>, key: &CStr) -> Result<()> {
    match xattr::remove(object, key) {
        // trusted. cannot be seen by those who may not remove it.
        Err(err) if xattr::is_absent(&err) || err.errno() == Errno::EPERM => Ok(()),
        other => other,
    }
}
