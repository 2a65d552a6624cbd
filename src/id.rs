//! Ids of users and groups.

/// An id of a user or a group: any number but the largest.
///
/// The largest, `(uid_t) -1`, is nobody's (`INVALID_UID`, linux/uidgid.h), and chown(2) takes it
/// for "leave it as it is". What might be absent is an `Option`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u32);

impl Id {
    /// Root.
    pub const ROOT: Self = Self(0);

    /// The id with this number, if one can have it.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number == u32::MAX { None } else { Some(Self(number)) }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The number that the kernel takes for an id, or for none.
    #[must_use]
    pub fn or_none(id: Option<Self>) -> u32 {
        id.map_or(u32::MAX, Self::number)
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_number_is_nobodys() {
        assert_eq!(Id::new(0), Some(Id::ROOT));
        assert_eq!(Id::new(u32::MAX - 1).map(Id::number), Some(u32::MAX - 1));
        assert_eq!(Id::new(u32::MAX), None);
        assert_eq!(Id::or_none(None), u32::MAX);
    }
}
