//! Whiteouts by name, `.wh.NAME` and `.wh..wh..opq`: the form of AUFS and of OCI layers.
//!
//! Some tools unpack an image layer without translating these files, so lower layers contain them.
//! A whiteout hides what the layers *below* have at the name. An object of that name in the same
//! layer stays visible (OCI image specification, layer.md).

/// Prefix of all names that AUFS reserves.
pub const PREFIX: &[u8] = b".wh.";

/// Name of the file that makes its directory opaque.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// Prefix of the bookkeeping files of AUFS (`.wh..wh.plnk`, `.wh..wh.aufs`, `.wh..wh.orph`).
const META: &[u8] = b".wh..wh.";

/// Meaning of a name in a directory of a layer, by the rules of AUFS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AufsName<'a> {
    /// An ordinary name.
    Plain,
    /// A whiteout, which hides this name in the layers below.
    Whiteout(&'a [u8]),
    /// The opaque marker: hides everything that the layers below have in this directory.
    Opaque,
    /// A bookkeeping file, which means nothing for the tree.
    Meta,
}

/// Classifies a name.
#[must_use]
pub fn classify(name: &[u8]) -> AufsName<'_> {
    let Some(hidden) = name.strip_prefix(PREFIX) else { return AufsName::Plain };
    if name == OPAQUE {
        AufsName::Opaque
    } else if name.starts_with(META) || hidden.is_empty() {
        AufsName::Meta
    } else {
        AufsName::Whiteout(hidden)
    }
}

/// Whether the name is reserved: users never see it, and cannot create it.
#[must_use]
pub fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(PREFIX)
}

/// The name of the whiteout for `name`.
#[must_use]
pub fn whiteout_of(name: &[u8]) -> Vec<u8> {
    [PREFIX, name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, expected) in [
            (&b"a"[..], AufsName::Plain),
            (b".wh", AufsName::Plain),
            (b".whale", AufsName::Plain),
            (b".wh.", AufsName::Meta),
            (b".wh.a", AufsName::Whiteout(b"a")),
            (b".wh..a", AufsName::Whiteout(b".a")),
            (b".wh..wh..opq", AufsName::Opaque),
            (b".wh..wh.plnk", AufsName::Meta),
            (b".wh..wh.aufs", AufsName::Meta),
            // Old releases of fuse-overlayfs leave this file beside the real marker.
            (b".wh..opq", AufsName::Whiteout(b".opq")),
        ] {
            assert_eq!(classify(name), expected, "{}", name.escape_ascii());
        }
        assert_eq!(whiteout_of(b"x"), b".wh.x");
    }
}
