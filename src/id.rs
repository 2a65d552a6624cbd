//! Ids of users and groups.

/// Id of a user or group: any number except `u32::MAX`.
///
/// `(uid_t) -1` is nobody's id (`INVALID_UID`, linux/uidgid.h), and tells chown(2) to leave an
/// owner as it is. An id that may be absent is an `Option<Id>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u32);

impl Id {
    /// The id of root.
    pub const ROOT: Self = Self(0);

    /// Creates an id from its number; `None` for `u32::MAX`.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number == u32::MAX { None } else { Some(Self(number)) }
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Returns the number of an id, or `u32::MAX` for `None`, as the kernel expects.
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
