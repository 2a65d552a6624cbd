//! Names of extended attributes that belong to an overlay, and the escaping of others.
//!
//! The kernel's overlayfs stores its marks in `trusted.overlay.*`, or in `user.overlay.*` when
//! mounted with `userxattr`. Users of the mount never see them. An attribute that a user sets below
//! these prefixes, as an overlay inside the overlay does, is stored one level deeper: as `PREFIX` +
//! `overlay.` + the rest. It is shown without that level (Documentation/filesystems/overlayfs.rst,
//! "Nesting overlayfs mounts").

use std::borrow::Cow;
use std::ffi::CStr;

/// One of the two prefixes for marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// `trusted.overlay.`: setting these takes CAP_SYS_ADMIN in the initial user namespace.
    Trusted,
    /// `user.overlay.`: everybody can set these.
    User,
}

/// A mark, independent of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// On a directory: `y` hides what is below, `x` says that the directory holds xattr whiteouts.
    Opaque,
    /// On a directory: it contributes its names, but not its metadata.
    DirmetaDelegate,
    /// On a directory: some entry has its inode number from a lower.
    Impure,
    /// On an empty file, in a directory with `opaque=x`: the file is a whiteout.
    Whiteout,
    /// On a directory or file: the name or path of the object in the layers below.
    Redirect,
    /// On a file: the data is in a layer below.
    Metacopy,
    /// On a copied-up object: the handle of the lower object.
    Origin,
    /// On the copy of a hard link: the number of names that the file has in the mount.
    Nlink,
    /// On the index of hard links: the handle of the upper that it belongs to.
    Upper,
    /// On an immutable or append-only object: the letters of chattr(1).
    Protattr,
}

impl Namespace {
    /// Both namespaces, in the order in which they are searched.
    pub const BOTH: [Self; 2] = [Self::Trusted, Self::User];

    /// Prefix of all names in this namespace.
    #[must_use]
    pub fn prefix(self) -> &'static [u8] {
        match self {
            Self::Trusted => b"trusted.overlay.",
            Self::User => b"user.overlay.",
        }
    }

    /// Full attribute name of a mark.
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
            (Self::Trusted, Mark::Nlink) => c"trusted.overlay.nlink",
            (Self::User, Mark::Nlink) => c"user.overlay.nlink",
            (Self::Trusted, Mark::Upper) => c"trusted.overlay.upper",
            (Self::User, Mark::Upper) => c"user.overlay.upper",
            (Self::Trusted, Mark::Protattr) => c"trusted.overlay.protattr",
            (Self::User, Mark::Protattr) => c"user.overlay.protattr",
            (Self::Trusted, Mark::Metacopy) => c"trusted.overlay.metacopy",
            (Self::User, Mark::Metacopy) => c"user.overlay.metacopy",
            (Self::Trusted, Mark::Redirect) => c"trusted.overlay.redirect",
            (Self::User, Mark::Redirect) => c"user.overlay.redirect",
            (Self::Trusted, Mark::Whiteout) => c"trusted.overlay.whiteout",
            (Self::User, Mark::Whiteout) => c"user.overlay.whiteout",
        }
    }
}

/// Inserted after the prefix to escape a name.
const ESCAPE: &[u8] = b"overlay.";

/// Prefixes of attributes that no user of the mount sees or sets. fuse-overlayfs stores its opaque
/// mark, origin and owners under the first two. containers/storage stores owners under the third,
/// and attributes that it may not set.
const PRIVATE: [&[u8]; 3] =
    [b"user.fuseoverlayfs.", b"security.fuseoverlayfs.", b"user.containers.override_"];

/// Prefix that [`Dialect::Containers`] puts before names that the user may not set.
const OVERRIDE: &[u8] = b"user.containers.override_";

/// Prefix of attributes of file capabilities and security modules, which take privilege to set.
const SECURITY: &[u8] = b"security.";

/// How a layer names the attributes that users set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Attributes have their own names.
    Plain,
    /// As [`Self::Plain`], but without ACLs, as owners and modes are not in the inodes.
    Overridden,
    /// As [`Self::Overridden`], but `security.NAME` is `user.containers.override_security.NAME`.
    Containers,
}

/// The opaque mark of fuse-overlayfs.
pub const FUSE_OVERLAYFS_OPAQUE: &CStr = c"user.fuseoverlayfs.opaque";

/// Access ACL of an object (acl(5)).
pub const ACL_ACCESS: &CStr = c"system.posix_acl_access";
/// Default ACL of a directory, which new objects in it inherit (acl(5)).
pub const ACL_DEFAULT: &CStr = c"system.posix_acl_default";

/// Whether the attribute is an ACL.
#[must_use]
pub fn is_acl(name: &[u8]) -> bool {
    [ACL_ACCESS, ACL_DEFAULT].iter().any(|acl| acl.to_bytes() == name)
}

/// Translates a stored name to the name in the mount; `None` if users do not see it.
#[must_use]
pub fn shown(stored: &[u8], dialect: Dialect) -> Option<Cow<'_, [u8]>> {
    if dialect == Dialect::Containers
        && let Some(inner) = stored.strip_prefix(OVERRIDE)
    {
        return inner.starts_with(SECURITY).then_some(Cow::Borrowed(inner));
    }
    if dialect != Dialect::Plain && is_acl(stored) {
        return None;
    }
    for namespace in Namespace::BOTH {
        let prefix = namespace.prefix();
        if let Some(rest) = stored.strip_prefix(prefix) {
            let inner = rest.strip_prefix(ESCAPE)?;
            return Some(Cow::Owned([prefix, inner].concat()));
        }
    }
    (!is_private(stored)).then_some(Cow::Borrowed(stored))
}

/// Whether an attribute may be stored under its own name too, besides that of [`stored`]:
/// containers/storage does so if it may set the attribute.
#[must_use]
pub fn has_two_places(name: &[u8], dialect: Dialect) -> bool {
    dialect == Dialect::Containers && name.starts_with(SECURITY)
}

/// Whether an attribute with the prefix [`OVERRIDE`] takes precedence over `stored`.
pub fn stands_back<'a>(
    stored: &[u8],
    dialect: Dialect,
    mut all: impl Iterator<Item = &'a [u8]>,
) -> bool {
    has_two_places(stored, dialect) && all.any(|name| name.strip_prefix(OVERRIDE) == Some(stored))
}

/// Translates a name in the mount to the stored name; `None` if users cannot have it.
#[must_use]
pub fn stored(name: &[u8], dialect: Dialect) -> Option<Cow<'_, [u8]>> {
    if is_private(name) || (dialect != Dialect::Plain && is_acl(name)) {
        return None;
    }
    if dialect == Dialect::Containers && name.starts_with(SECURITY) {
        return Some(Cow::Owned([OVERRIDE, name].concat()));
    }
    for namespace in Namespace::BOTH {
        let prefix = namespace.prefix();
        if let Some(rest) = name.strip_prefix(prefix) {
            return Some(Cow::Owned([prefix, ESCAPE, rest].concat()));
        }
    }
    Some(Cow::Borrowed(name))
}

fn is_private(name: &[u8]) -> bool {
    PRIVATE.iter().any(|prefix| name.starts_with(prefix))
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
            assert_eq!(
                shown(on_disk, Dialect::Plain).as_deref(),
                visible,
                "{}",
                on_disk.escape_ascii()
            );
        }
    }

    #[test]
    fn what_is_stored_is_shown_again() {
        for name in [&b"user.x"[..], b"user.overlay.opaque", b"trusted.overlay.overlay.y"] {
            for dialect in [Dialect::Plain, Dialect::Overridden, Dialect::Containers] {
                let on_disk = stored(name, dialect).unwrap();
                assert_eq!(shown(&on_disk, dialect).unwrap(), name);
            }
        }
        assert_eq!(stored(b"user.fuseoverlayfs.origin", Dialect::Plain), None);
    }

    #[test]
    fn what_needs_privilege_has_another_name_where_there_is_none() {
        let capability = &b"security.capability"[..];
        let on_disk = stored(capability, Dialect::Containers).unwrap();
        assert_eq!(*on_disk, *b"user.containers.override_security.capability");
        assert_eq!(shown(&on_disk, Dialect::Containers).as_deref(), Some(capability));
        assert_eq!(shown(&on_disk, Dialect::Plain), None);
        assert_eq!(shown(capability, Dialect::Containers).as_deref(), Some(capability));
        let both = [&*on_disk, capability];
        assert!(stands_back(capability, Dialect::Containers, both.into_iter()));
        assert!(!stands_back(capability, Dialect::Containers, [capability].into_iter()));
        assert!(!stands_back(&on_disk, Dialect::Containers, both.into_iter()));
        assert_eq!(shown(capability, Dialect::Overridden).as_deref(), Some(capability));
        for private in [&b"user.containers.override_stat"[..], b"user.containers.override_user.x"] {
            assert_eq!(shown(private, Dialect::Containers), None);
            assert_eq!(stored(private, Dialect::Containers), None);
        }
        assert_eq!(shown(b"system.posix_acl_access", Dialect::Overridden), None);
        assert_eq!(stored(b"system.posix_acl_default", Dialect::Containers), None);
    }
}
