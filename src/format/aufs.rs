//! Whiteouts by name: `.wh.NAME` and `.wh..wh..opq`, as AUFS made them and OCI layers carry them.
//!
//! Tools that unpack an image layer without translating leave these files in lower layers. A
//! whiteout hides what the layers *below* have; an object of that name in the same layer stays
//! (OCI image specification, layer.md).

/// What every such name begins with.
pub const PREFIX: &[u8] = b".wh.";

/// The file that makes its directory opaque.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// What AUFS' own bookkeeping begins with (`.wh..wh.plnk`, `.wh..wh.aufs`, `.wh..wh.orph`).
const META: &[u8] = b".wh..wh.";

/// A name in a layer's directory, read the AUFS way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AufsName<'a> {
    /// An ordinary name.
    Plain,
    /// Hides this name in the layers below.
    Whiteout(&'a [u8]),
    /// Hides everything that the layers below have in this directory.
    Opaque,
    /// Bookkeeping without meaning for the tree.
    Meta,
}

/// Reads a name.
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

/// Whether the name is one that users never see and cannot make.
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
            // What old releases of fuse-overlayfs leave beside the real marker: noise.
            (b".wh..opq", AufsName::Whiteout(b".opq")),
        ] {
            assert_eq!(classify(name), expected, "{}", name.escape_ascii());
        }
        assert_eq!(whiteout_of(b"x"), b".wh.x");
    }
}
