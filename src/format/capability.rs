//! File capabilities (`security.capability`) that are bound to a user namespace.
//!
//! A value of version 3 has the id of the user who is root in the namespace for which the
//! capabilities are valid. Versions 1 and 2 have no id.
//!
//! # References
//! capabilities(7), "File capability extended attribute versioning"; `struct vfs_ns_cap_data` of
//! linux/capability.h.

use crate::id::Id;

/// Name of the attribute.
pub const NAME: &[u8] = b"security.capability";

/// `VFS_CAP_REVISION_MASK` and `VFS_CAP_REVISION_3` (linux/capability.h).
const REVISION: u32 = 0xff00_0000;
const REVISION_3: u32 = 0x0300_0000;

/// Bytes of a value of version 3: version and flags, two pairs of words, root id; little-endian.
const LEN: usize = 24;
/// Length of the root id, in bytes.
const ROOT_ID: usize = 4;

/// Replaces the root id of a value of version 3 by what `other` returns.
///
/// Any other value is returned as it is. Returns `None` if `other` does, or if the id is nobody's.
pub fn with_root(value: Vec<u8>, other: impl Fn(Id) -> Option<Id>) -> Option<Vec<u8>> {
    let version = value.first_chunk().map(|word| u32::from_le_bytes(*word) & REVISION);
    let (Some(REVISION_3), LEN) = (version, value.len()) else { return Some(value) };
    let (caps, root) = value.split_last_chunk::<ROOT_ID>()?;
    let root = other(Id::new(u32::from_le_bytes(*root))?)?;
    Some([caps, &root.number().to_le_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version_3(root: u32) -> Vec<u8> {
        let mut value = vec![1, 0, 0, 3];
        value.extend([7; 16]);
        value.extend(root.to_le_bytes());
        value
    }

    #[test]
    fn only_version_3_names_a_user() {
        let plus = |id: Id| Id::new(id.number().checked_add(10)?);
        assert_eq!(with_root(version_3(5), plus), Some(version_3(15)));
        assert_eq!(with_root(version_3(u32::MAX), plus), None);
        assert_eq!(with_root(version_3(u32::MAX), Some), None, "nobody");
        let version_2 = [&[1, 0, 0, 2][..], &[7; 16]].concat();
        for other in
            [version_2, vec![], vec![3], vec![1, 0, 0, 3], [&version_3(5)[..], b"x"].concat()]
        {
            assert_eq!(with_root(other.clone(), |_| None), Some(other));
        }
    }
}
