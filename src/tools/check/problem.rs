//! What can be wrong, by number.

/// What can be wrong. The numbers stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Problem {
    /// A whiteout for a name that no lower shows.
    NeedlessWhiteout,
    /// A whiteout file beside the whiteout device or the object of the same name.
    DoubleWhiteout,
    /// The file `.wh..opq` that releases of fuse-overlayfs leave beside opaque marks.
    Debris,
    /// More than one mark says that a directory is opaque.
    DoubleOpaque,
    /// A mark in a form that is not the one of this upper.
    ForeignOpaque,
    /// A redirect that leads to no directory.
    LostRedirect,
    /// Two directories show the same one of a lower.
    SharedLower,
    /// A redirect that is none.
    BadRedirect,
    /// A metacopy file without data.
    LostData,
    /// A directory that lends its names, and there is nobody to have the metadata from.
    LostDelegation,
    /// Something with the name of a whiteout that is none.
    NoMarker,
    /// Something that a mount did not finish.
    Leftover,
    /// A feature without which the upper must not be used.
    Incompatible,
    /// An origin that is no file handle.
    BadOrigin,
    /// An origin that no file of a lower has.
    LostOrigin,
    /// Two objects of the upper have the same origin.
    SharedOrigin,
    /// The root of the upper was copied from another root than that of the topmost lower.
    OtherLower,
    /// Flags of chattr(1) that cannot be read.
    BadFlags,
    /// The index of hard links is of another upper.
    ForeignIndex,
    /// An entry of the index that is not called after a file handle.
    NoIndexEntry,
    /// An entry of the index whose file has another origin.
    StaleIndexEntry,
    /// An entry of the index whose file has no other name, in the upper or in a lower.
    NamelessIndexEntry,
    /// An entry of the index whose file of a lower is gone.
    LostIndexEntry,
    /// The number of names that an entry of the index tells is not possible.
    WrongCount,
    /// A file of the upper that counts its names by the index, and the index does not have it.
    NotIndexed,
    /// A layer in the making, of a run of `ovlmerge apply` that was killed.
    Abandoned,
}

/// A number that nothing has any more: an origin in a directory without `impure`. The kernel leaves
/// such where it makes a hard link in a new directory.
const RETIRED: usize = 10;

impl Problem {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 26] = [
        Self::NeedlessWhiteout,
        Self::DoubleWhiteout,
        Self::Debris,
        Self::DoubleOpaque,
        Self::ForeignOpaque,
        Self::LostRedirect,
        Self::SharedLower,
        Self::BadRedirect,
        Self::LostData,
        Self::LostDelegation,
        Self::NoMarker,
        Self::Leftover,
        Self::Incompatible,
        Self::BadOrigin,
        Self::LostOrigin,
        Self::SharedOrigin,
        Self::OtherLower,
        Self::BadFlags,
        Self::ForeignIndex,
        Self::NoIndexEntry,
        Self::StaleIndexEntry,
        Self::NamelessIndexEntry,
        Self::LostIndexEntry,
        Self::WrongCount,
        Self::NotIndexed,
        Self::Abandoned,
    ];

    /// `OVL001` and so on.
    #[must_use]
    pub fn id(self) -> String {
        let place = Self::ALL.iter().position(|problem| *problem == self).unwrap_or_default();
        let number = place + 1;
        format!("OVL{:03}", if number < RETIRED { number } else { number + 1 })
    }

    /// What is wrong, in a sentence.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NeedlessWhiteout => "a whiteout for a name that no lower layer shows",
            Self::DoubleWhiteout => "a whiteout file beside what says the same",
            Self::Debris => "a file .wh..opq, which old releases of fuse-overlayfs leave",
            Self::DoubleOpaque => "several marks say that the directory is opaque",
            Self::ForeignOpaque => {
                "the opaque mark is in a form that the kernel does not read here"
            }
            Self::LostRedirect => "the redirect leads to no directory of a lower layer",
            Self::SharedLower => "another directory shows the same one of a lower layer",
            Self::BadRedirect => "the redirect is neither a name nor an absolute path",
            Self::LostData => "a metadata-only copy, and no layer has its data",
            Self::LostDelegation => "marked dirmeta_delegate, and no layer below has the metadata",
            Self::NoMarker => "the name of a whiteout, but not an empty file; a mount hides it",
            Self::Leftover => "something that a mount did not finish",
            Self::Incompatible => {
                "a mount refuses the upper for it: volatile stands for a mount that did not end in \
                 order, so throw the upper away, or remove the entry if you know better; any other \
                 name is a feature, so mount it with what wrote it"
            }
            Self::BadOrigin => "the origin is no file handle; nothing reads it",
            Self::LostOrigin => "the origin is no file of a lower layer of this type",
            Self::SharedOrigin => "another object has the same origin, so both have one number",
            Self::OtherLower => "the upper was used with another topmost lower",
            Self::BadFlags => "flags of chattr in a form that nobody reads",
            Self::ForeignIndex => "the index of hard links belongs to another upper",
            Self::NoIndexEntry => "not called as an entry of the index is; index=on fails in Linux",
            Self::StaleIndexEntry => "the entry is of a file with another origin",
            Self::NamelessIndexEntry => "no name leads to the file of this entry any more",
            Self::LostIndexEntry => "the file of a lower layer that the entry stands for is gone",
            Self::WrongCount => "the file cannot have as many names as its mark nlink says",
            Self::NotIndexed => "the file counts its names by the index, which does not have it",
            Self::Abandoned => "what a killed ovlmerge apply left beside the upper",
        }
    }

    /// Whether it can be mended without a guess and without changing what a mount shows.
    #[must_use]
    pub fn is_repairable(self) -> bool {
        match self {
            Self::NeedlessWhiteout
            | Self::DoubleWhiteout
            | Self::Debris
            | Self::DoubleOpaque
            | Self::ForeignOpaque
            | Self::LostDelegation
            | Self::Leftover
            | Self::BadOrigin
            | Self::StaleIndexEntry
            | Self::NamelessIndexEntry
            | Self::WrongCount
            | Self::Abandoned => true,
            Self::LostRedirect
            | Self::SharedLower
            | Self::BadRedirect
            | Self::LostData
            | Self::NoMarker
            | Self::Incompatible
            | Self::LostOrigin
            | Self::SharedOrigin
            | Self::OtherLower
            | Self::BadFlags
            | Self::ForeignIndex
            | Self::NoIndexEntry
            | Self::LostIndexEntry
            | Self::NotIndexed => false,
        }
    }
}

/// Where a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the upper.
    Upper,
    /// In the work directory.
    Work,
    /// In the directory that holds the upper.
    Beside,
}

/// One problem, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Path from there.
    pub path: Vec<u8>,
    /// In which of them.
    pub place: Place,
    /// What is wrong.
    pub problem: Problem,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_as_they_are() {
        let ids: Vec<_> = Problem::ALL.iter().map(|problem| problem.id()).collect();
        assert_eq!(ids.first().map(String::as_str), Some("OVL001"));
        assert_eq!(Problem::LostRedirect.id(), "OVL006");
        assert_eq!(Problem::LostData.id(), "OVL009");
        assert_eq!(Problem::LostDelegation.id(), "OVL011");
        assert_eq!(Problem::Incompatible.id(), "OVL014");
        assert_eq!(Problem::NotIndexed.id(), "OVL026");
        assert_eq!(Problem::Abandoned.id(), "OVL027");
    }
}
