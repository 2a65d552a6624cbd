//! Names of extended attributes that belong to an overlay, and how others are kept apart from them.
//!
//! The kernel's overlayfs keeps its marks in `trusted.overlay.*`, or in `user.overlay.*` when
//! mounted with `userxattr`. A user of the mount never sees them. What a user sets below these
//! prefixes (an overlay inside the overlay does) is stored one level deeper, as `PREFIX` +
//! `overlay.` + the rest, and shown without that level (Documentation/filesystems/overlayfs.rst,
//! "Nesting overlayfs mounts").

use std::borrow::Cow;
use std::ffi::CStr;

/// One of the two prefixes for marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// `trusted.overlay.`: needs CAP_SYS_ADMIN in the initial user namespace.
    Trusted,
    /// `user.overlay.`: for everybody.
    User,
}

/// A mark, whatever its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// On a directory: `y` hides what is below, `x` says that it holds xattr whiteouts.
    Opaque,
    /// On a directory: lends its names, not its metadata.
    DirmetaDelegate,
    /// On a directory: some entry has an inode number from elsewhere.
    Impure,
    /// On an empty file, in a directory with `opaque=x`: it is a whiteout.
    Whiteout,
    /// On a directory or file: where to go on in the layers below.
    Redirect,
    /// On a file: its data is in a layer below.
    Metacopy,
    /// On what was copied up: from which lower object.
    Origin,
}

impl Namespace {
    /// Both, in the order in which they are looked at.
    pub const BOTH: [Self; 2] = [Self::Trusted, Self::User];

    /// What the names begin with.
    #[must_use]
    pub fn prefix(self) -> &'static [u8] {
        match self {
            Self::Trusted => b"trusted.overlay.",
            Self::User => b"user.overlay.",
        }
    }

    /// The full name of a mark.
    #[must_use]
    pub const fn key(self, mark: Mark) -> &'static CStr {
        match (self, mark) {
            (Self::Trusted, Mark::Opaque) => c"trusted.overlay.opaque",
            (Self::User, Mark::Opaque) => c"user.overlay.opaque",
            (Self::Trusted, Mark::DirmetaDelegate) => c"trusted.overlay.dirmeta_delegate",
            (Self::User, Mark::DirmetaDelegate) => c"user.overlay.dirmeta_delegate",
            (Self::Trusted, Mark::Impure) => c"trusted.overlay.impure",
            (Self::User, Mark::Impure) => c"user.overlay.impure",
            (Self::Trusted, Mark::Origin) => c"trusted.overlay.origin",
            (Self::User, Mark::Origin) => c"user.overlay.origin",
            (Self::Trusted, Mark::Metacopy) => c"trusted.overlay.metacopy",
            (Self::User, Mark::Metacopy) => c"user.overlay.metacopy",
            (Self::Trusted, Mark::Redirect) => c"trusted.overlay.redirect",
            (Self::User, Mark::Redirect) => c"user.overlay.redirect",
            (Self::Trusted, Mark::Whiteout) => c"trusted.overlay.whiteout",
            (Self::User, Mark::Whiteout) => c"user.overlay.whiteout",
        }
    }
}

/// What escaped names have after the prefix.
const ESCAPE: &[u8] = b"overlay.";

/// Attributes of fuse-overlayfs: its opaque mark, its origin, its made-up owners.
const FUSE_OVERLAYFS: [&[u8]; 2] = [b"user.fuseoverlayfs.", b"security.fuseoverlayfs."];

/// The made-up owner that containers/storage writes.
const OVERRIDE_STAT: &[u8] = b"user.containers.override_stat";

/// fuse-overlayfs' own opaque mark.
pub const FUSE_OVERLAYFS_OPAQUE: &CStr = c"user.fuseoverlayfs.opaque";

/// The access ACL of an object (acl(5)).
pub const ACL_ACCESS: &CStr = c"system.posix_acl_access";
/// The ACL that new objects in a directory begin with (acl(5)).
pub const ACL_DEFAULT: &CStr = c"system.posix_acl_default";

/// How a stored name appears in the mount: as what, or not at all.
#[must_use]
pub fn shown(stored: &[u8]) -> Option<Cow<'_, [u8]>> {
    for namespace in Namespace::BOTH {
        let prefix = namespace.prefix();
        if let Some(rest) = stored.strip_prefix(prefix) {
            let inner = rest.strip_prefix(ESCAPE)?;
            return Some(Cow::Owned([prefix, inner].concat()));
        }
    }
    (!is_private(stored)).then_some(Cow::Borrowed(stored))
}

/// Under which name an attribute that a user names is stored; `None` if users cannot have it.
#[must_use]
pub fn stored(name: &[u8]) -> Option<Cow<'_, [u8]>> {
    for namespace in Namespace::BOTH {
        let prefix = namespace.prefix();
        if let Some(rest) = name.strip_prefix(prefix) {
            return Some(Cow::Owned([prefix, ESCAPE, rest].concat()));
        }
    }
    (!is_private(name)).then_some(Cow::Borrowed(name))
}

fn is_private(name: &[u8]) -> bool {
    name == OVERRIDE_STAT || FUSE_OVERLAYFS.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_hidden_and_escapes_are_stripped() {
        for (on_disk, visible) in [
            (&b"user.x"[..], Some(&b"user.x"[..])),
            (b"security.capability", Some(b"security.capability")),
            (b"trusted.overlay.opaque", None),
            (b"user.overlay.anything", None),
            (b"user.overlay.", None),
            (b"user.overlay.overlay.opaque", Some(b"user.overlay.opaque")),
            (b"trusted.overlay.overlay.overlay.x", Some(b"trusted.overlay.overlay.x")),
            (b"user.overlayx", Some(b"user.overlayx")),
            (b"user.fuseoverlayfs.opaque", None),
            (b"user.containers.override_stat", None),
            (b"user.containers.other", Some(b"user.containers.other")),
        ] {
            assert_eq!(shown(on_disk).as_deref(), visible, "{}", on_disk.escape_ascii());
        }
    }

    #[test]
    fn what_is_stored_is_shown_again() {
        for name in [&b"user.x"[..], b"user.overlay.opaque", b"trusted.overlay.overlay.y"] {
            let on_disk = stored(name).unwrap();
            assert_eq!(shown(&on_disk).unwrap(), name);
        }
        assert_eq!(stored(b"user.fuseoverlayfs.origin"), None);
    }
}
