//! Problems of an upper, with their numbers and texts.

/// A problem of an upper. Its number never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Problem {
    /// A whiteout for a name that no lower shows.
    NeedlessWhiteout,
    /// A whiteout file beside a whiteout device or an object of that name.
    DoubleWhiteout,
    /// A file `.wh..opq`, which releases of fuse-overlayfs leave beside opaque marks.
    Debris,
    /// More than one opaque mark on a directory.
    DoubleOpaque,
    /// An opaque mark in another form than the marks of this upper.
    ForeignOpaque,
    /// A redirect that does not lead to a directory.
    LostRedirect,
    /// Two directories show the same directory of a lower.
    SharedLower,
    /// A malformed redirect.
    BadRedirect,
    /// A metacopy file without data.
    LostData,
    /// A delegating directory without a directory below that has the metadata.
    LostDelegation,
    /// An object with the name of a whiteout that is not a whiteout.
    NoMarker,
    /// An object that a mount did not finish.
    Leftover,
    /// A feature without which the upper must not be used.
    Incompatible,
    /// An origin that is not a file handle.
    BadOrigin,
    /// An origin that no file of a lower has.
    LostOrigin,
    /// Two objects of the upper have the same origin.
    SharedOrigin,
    /// The root of the upper has the origin of another topmost lower.
    OtherLower,
    /// Flags of chattr(1) that cannot be read.
    BadFlags,
    /// The index of hard links belongs to another upper.
    ForeignIndex,
    /// An entry of the index whose name is not a file handle.
    NoIndexEntry,
    /// An entry of the index whose file has another origin.
    StaleIndexEntry,
    /// An entry of the index whose file has no other name, in the upper or in a lower.
    NamelessIndexEntry,
    /// An entry of the index whose file in a lower is gone.
    LostIndexEntry,
    /// An entry of the index with an impossible number of names.
    WrongCount,
    /// A file of the upper that counts its names by the index, but is not in it.
    NotIndexed,
    /// A layer that a killed run of `ovlmerge apply` was building.
    Abandoned,
}

/// A number that is not used any more. It was for an origin in a directory without `impure`, which
/// the kernel leaves when it makes a hard link in a new directory.
const RETIRED: usize = 10;

impl Problem {
    /// All problems, in the order of their numbers.
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

    /// Returns the number, as `OVL001`.
    #[must_use]
    pub fn id(self) -> String {
        let place = Self::ALL.iter().position(|problem| *problem == self).unwrap_or_default();
        let number = place + 1;
        format!("OVL{:03}", if number < RETIRED { number } else { number + 1 })
    }

    /// Describes the problem in a sentence.
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

    /// Whether the problem can be repaired without a guess and without a visible change.
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

/// Directory that contains a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The upper.
    Upper,
    /// The work directory.
    Work,
    /// The directory that holds the upper.
    Beside,
}

/// A problem and its path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Path in `place`.
    pub path: Vec<u8>,
    /// Directory that contains the problem.
    pub place: Place,
    /// The problem.
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
