//! Immutable and append-only objects of the upper, by a mark (see [`protattr`]).

use super::Upper;
use crate::error::{Errno, Result};
use crate::format::overlay::{Mark, Namespace};
use crate::format::protattr;
use crate::layer::marks::drop_mark;
use crate::sys::xattr::SetMode;
use crate::sys::{Protection, Target, Writable, xattr};

impl Upper {
    /// The protection of an object by its marks, in both namespaces.
    ///
    /// # Errors
    /// Those of listxattr(2) and getxattr(2).
    pub fn protection_mark(&self, target: Target<'_>) -> Result<Protection> {
        let there = xattr::list(target)?;
        let keys = Namespace::BOTH.map(|namespace| namespace.key(Mark::Protattr));
        let mut found = Protection::default();
        for key in keys {
            if xattr::names(&there).any(|name| name == key.to_bytes())
                && let Some(value) = xattr::get_if_set(target, key)?
            {
                found = found.and(protattr::parse(&value));
            }
        }
        Ok(found)
    }

    /// Sets the mark of a file or directory, or removes it if nothing is protected.
    ///
    /// # Errors
    /// EPERM on an upper without extended attributes (`ovl_set_protattr`, fs/overlayfs/util.c).
    pub fn set_protection(&self, target: Writable<'_>, protection: Protection) -> Result<()> {
        let keys = Namespace::BOTH.map(|namespace| (namespace, namespace.key(Mark::Protattr)));
        let ours = protattr::encode(protection);
        if let Some(value) = ours {
            let namespace = self.forms.namespace.ok_or(Errno::EPERM)?;
            xattr::set(target, namespace.key(Mark::Protattr), value, SetMode::Any)?;
        }
        let stays = |namespace| ours.is_some() && self.forms.namespace == Some(namespace);
        keys.into_iter()
            .filter(|(namespace, _)| !stays(*namespace))
            .try_for_each(|(_, key)| drop_mark(target, key))
    }
}
