//! POSIX ACLs in the form of the `system.posix_acl_*` attributes.
//!
//! An entry may name an id that has no number in this user namespace. The kernel shows it as
//! `(uid_t) -1`, and refuses an ACL that contains it, so these entries are left out.
//!
//! A file system applies the default ACL of a directory to each object that is created there. An
//! object that is built in the work directory and then moved gets nothing that way, so the server
//! applies the ACL itself.
//!
//! # References
//! acl(5), "Object creation and default ACLs"; linux/posix_acl_xattr.h for the layout.

use crate::error::{Errno, Result};
use crate::id::Id;

/// Version word at the front of the value (`POSIX_ACL_XATTR_VERSION`).
const VERSION: u32 = 2;
/// Length of the version word, in bytes.
const HEADER: usize = 4;
/// Length of an entry, in bytes: tag (16 bits), permissions (16 bits), id (32 bits).
const ENTRY: usize = 8;

// Tags of linux/posix_acl.h.
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Mode and ACL that a new object inherits from its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inherited {
    /// Permission bits of the object.
    pub mode: u32,
    /// Access ACL of the object; `None` if the permission bits express all of it.
    pub access: Option<Vec<u8>>,
}

/// Applies `default_acl` to an object created with `mode`, without the umask (umask(2)).
///
/// # Errors
/// EIO for bytes that are not an ACL.
pub fn inherit(default_acl: &[u8], mode: u32) -> Result<Inherited> {
    let mut entries = parse(default_acl)?;
    let has_mask = entries.iter().any(|e| e.tag == MASK);
    let mut bits = mode & 0o7000;
    let mut extended = false;
    for entry in &mut entries {
        // The class of permission bits that limits this entry. The entry limits these bits in turn.
        let shift = match entry.tag {
            USER_OBJ => 6,
            GROUP_OBJ if !has_mask => 3,
            MASK => 3,
            OTHER => 0,
            _ => {
                extended = true;
                continue;
            }
        };
        entry.perm &= u16::try_from((mode >> shift) & 7).unwrap_or(0);
        bits |= u32::from(entry.perm) << shift;
    }
    extended |= has_mask;
    Ok(Inherited { mode: bits, access: extended.then(|| emit(&entries)) })
}

/// Replaces the ids in an ACL by what `of_user` and `of_group` return.
///
/// An entry is removed if the function returns `None`, or if its id has no number here.
///
/// # Errors
/// EIO for bytes that are not an ACL.
pub fn with_ids(
    bytes: &[u8],
    of_user: impl Fn(Id) -> Option<Id>,
    of_group: impl Fn(Id) -> Option<Id>,
) -> Result<Vec<u8>> {
    let mut entries = parse(bytes)?;
    entries.retain_mut(|entry| {
        entry.id = match entry.tag {
            USER => entry.id.and_then(&of_user),
            GROUP => entry.id.and_then(&of_group),
            _ => return true,
        };
        entry.id.is_some()
    });
    Ok(emit(&entries))
}

/// Removes the entries of an ACL whose ids have no number here.
///
/// # Errors
/// EIO for bytes that are not an ACL.
pub fn of_known_ids(bytes: &[u8]) -> Result<Vec<u8>> {
    with_ids(bytes, Some, Some)
}

/// Returns the number of entries of an ACL.
///
/// # Errors
/// EIO for bytes that are not an ACL.
pub fn len(bytes: &[u8]) -> Result<usize> {
    Ok(parse(bytes)?.len())
}

struct Entry {
    tag: u16,
    perm: u16,
    /// Id of the user or group that the entry names; `None` for other tags.
    id: Option<Id>,
}

fn parse(bytes: &[u8]) -> Result<Vec<Entry>> {
    let bad = || crate::error::Error::new(Errno::EIO, "an ACL of unknown form");
    let (header, body) = bytes.split_first_chunk::<HEADER>().ok_or_else(bad)?;
    if u32::from_le_bytes(*header) != VERSION || body.len() % ENTRY != 0 {
        return Err(bad());
    }
    let entry = |e: &[u8]| match *e {
        [t0, t1, p0, p1, i0, i1, i2, i3] => Some(Entry {
            tag: u16::from_le_bytes([t0, t1]),
            perm: u16::from_le_bytes([p0, p1]),
            id: Id::new(u32::from_le_bytes([i0, i1, i2, i3])),
        }),
        _ => None,
    };
    body.chunks_exact(ENTRY).map(|e| entry(e).ok_or_else(bad)).collect()
}

fn emit(entries: &[Entry]) -> Vec<u8> {
    let mut out = VERSION.to_le_bytes().to_vec();
    for e in entries {
        out.extend_from_slice(&e.tag.to_le_bytes());
        out.extend_from_slice(&e.perm.to_le_bytes());
        out.extend_from_slice(&Id::or_none(e.id).to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entry = |&(tag, perm, id): &(u16, u16, u32)| Entry { tag, perm, id: Id::new(id) };
        emit(&entries.iter().map(entry).collect::<Vec<_>>())
    }

    #[test]
    fn a_minimal_acl_is_only_bits() {
        let default =
            acl(&[(USER_OBJ, 7, u32::MAX), (GROUP_OBJ, 5, u32::MAX), (OTHER, 0, u32::MAX)]);
        let got = inherit(&default, 0o666).unwrap();
        assert_eq!(got, Inherited { mode: 0o640, access: None });
    }

    #[test]
    fn the_mask_takes_the_place_of_the_group() {
        let default = acl(&[
            (USER_OBJ, 7, u32::MAX),
            (0x02, 7, 1000),
            (GROUP_OBJ, 7, u32::MAX),
            (MASK, 7, u32::MAX),
            (OTHER, 5, u32::MAX),
        ]);
        let got = inherit(&default, 0o2644).unwrap();
        assert_eq!(got.mode, 0o2644);
        let access = parse(&got.access.unwrap()).unwrap();
        let perm = |tag| access.iter().find(|e| e.tag == tag).unwrap().perm;
        assert_eq!((perm(USER_OBJ), perm(GROUP_OBJ), perm(MASK), perm(OTHER)), (6, 7, 4, 4));
    }

    #[test]
    fn ids_change_and_nobody_goes() {
        let before = [
            (USER_OBJ, 7, u32::MAX),
            (USER, 6, 1000),
            (USER, 5, 9),
            (GROUP_OBJ, 7, u32::MAX),
            (GROUP, 4, 1000),
            (MASK, 7, u32::MAX),
            (OTHER, 5, u32::MAX),
        ];
        let less = |id: Id| Id::new(id.number().checked_sub(10)?);
        let more = |id: Id| Id::new(id.number() + 1);
        let after = with_ids(&acl(&before), less, more).unwrap();
        let mut expected = before.to_vec();
        expected[1].2 = 990;
        expected[4].2 = 1001;
        expected.remove(2);
        assert_eq!(after, acl(&expected));
        assert_eq!(len(&after).unwrap(), 6);
        assert!(with_ids(b"rubbish", Some, Some).is_err());
    }

    /// For an id that a user namespace lacks, the kernel shows `u32::MAX`, which it accepts from
    /// nobody.
    #[test]
    fn ids_without_a_number_go() {
        let all = [
            (USER_OBJ, 7, u32::MAX),
            (USER, 6, u32::MAX),
            (USER, 5, 9),
            (GROUP_OBJ, 7, u32::MAX),
            (GROUP, 4, u32::MAX),
            (MASK, 7, u32::MAX),
            (OTHER, 5, u32::MAX),
        ];
        let known: Vec<_> = [0, 2, 3, 5, 6].map(|at: usize| all[at]).to_vec();
        assert_eq!(of_known_ids(&acl(&all)).unwrap(), acl(&known));
        assert_eq!(of_known_ids(&acl(&known)).unwrap(), acl(&known));
        assert!(of_known_ids(b"rubbish").is_err());
    }

    #[test]
    fn rubbish_is_refused() {
        for bad in [&b""[..], b"\x02\0\0", b"\x03\0\0\0", b"\x02\0\0\0\x01"] {
            assert!(inherit(bad, 0o644).is_err());
        }
    }
}
