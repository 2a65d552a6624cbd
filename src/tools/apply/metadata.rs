//! Sets owners, modes, attributes and times, in an order in which none undoes another.

use std::collections::BTreeSet;
use std::ffi::CString;

use crate::error::{Context, Errno, Error, Result};
use crate::format::overlay::{self, is_acl};
use crate::id::Id;
use crate::layer::Upper;
use crate::layer::owner_storage::OwnerStorage;
use crate::layer::upper::Attributes;
use crate::merge::attr::Change;
use crate::merge::owner::Owners;
use crate::sys::at::SetTime;
use crate::sys::stat::Time;
use crate::sys::xattr::SetMode;
use crate::sys::{Writable, at, xattr};
use crate::tools::oci::entry::Entry;

/// Limit of attribute names that are logged and remembered: more than file systems differ by.
const MOST_TOLD: usize = 100;

/// Metadata that a directory gets after its entries: a mode and an ACL that may keep us out, an ACL
/// that each entry would inherit, a time that each entry would change.
#[derive(Clone, Debug, Default)]
pub(super) struct Later {
    pub mode: u32,
    pub mtime: Time,
    /// Names and values of both ACLs.
    pub acls: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Gives objects the metadata of their entries.
pub(super) struct Metadata<'a> {
    upper: &'a Upper,
    owners: Owners,
    /// Names of attributes that could not be set and were logged.
    told: BTreeSet<Vec<u8>>,
    pub left_out: u64,
}

impl<'a> Metadata<'a> {
    pub fn new(upper: &'a Upper, owners: &crate::config::Owners) -> Self {
        Self { upper, owners: Owners::new(owners), told: BTreeSet::new(), left_out: 0 }
    }

    /// Sets all metadata of an object that is no directory. `kind` is its type (inode(7)).
    pub fn give(&mut self, object: Writable<'_>, entry: &Entry, kind: u32) -> Result<()> {
        self.owner(object, entry, kind)?;
        // Before the mode, which may keep us from setting attributes. ACLs change it, so they come
        // last.
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| !is_acl(name)) {
            self.attribute(object, name, value)?;
        }
        if kind != libc::S_IFLNK {
            self.upper.chmod(object, entry.mode)?;
        }
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_acl(name)) {
            self.attribute(object, name, value)?;
        }
        set_time(object, entry.mtime)
    }

    /// Sets the metadata that a directory can have at once. Returns the rest.
    pub fn begin(&mut self, object: Writable<'_>, entry: &Entry) -> Result<Later> {
        self.owner(object, entry, libc::S_IFDIR)?;
        let mut later = Later { mode: entry.mode, mtime: entry.mtime, acls: Vec::new() };
        for (name, value) in &entry.xattrs {
            if is_acl(name) {
                later.acls.push((name.clone(), value.clone()));
            } else {
                self.attribute(object, name, value)?;
            }
        }
        Ok(later)
    }

    /// Sets the metadata that [`Self::begin`] returned.
    pub fn end(&mut self, object: Writable<'_>, later: &Later) -> Result<()> {
        self.upper.chmod(object, later.mode)?;
        for (name, value) in &later.acls {
            self.attribute(object, name, value)?;
        }
        set_time(object, later.mtime)
    }

    /// Sets the owner and mode of a directory without an entry, if they are stored in attributes.
    pub fn make_up(&self, object: Writable<'_>, mode: u32) -> Result<()> {
        if self.upper.owner_storage() == OwnerStorage::Inode {
            return Ok(());
        }
        let new = Attributes { uid: Id::ROOT, gid: Id::ROOT, mode: libc::S_IFDIR | mode, rdev: 0 };
        self.upper.set_new(object, &new)
    }

    fn owner(&self, object: Writable<'_>, entry: &Entry, kind: u32) -> Result<()> {
        let wanted = Change { uid: Some(entry.uid), gid: Some(entry.gid), ..Change::NONE };
        let stored = self.owners.stored_change(&wanted)?;
        let all_look_the_same = stored.uid.is_none() && stored.gid.is_none();
        if all_look_the_same && self.upper.owner_storage() == OwnerStorage::Inode {
            return Ok(());
        }
        let (major, minor) = entry.device;
        let new = Attributes {
            uid: stored.uid.unwrap_or(entry.uid),
            gid: stored.gid.unwrap_or(entry.gid),
            mode: kind | entry.mode,
            rdev: libc::makedev(major, minor),
        };
        let given = match self.upper.owner_storage() {
            OwnerStorage::Inode => at::chown(object, stored.uid, stored.gid),
            OwnerStorage::Xattr(_) => self.upper.set_new(object, &new),
        };
        given.map_err(|err| match err.errno() {
            Errno::EPERM | Errno::EINVAL => err.context(format!(
                "it cannot be given to {}:{}; call this as root, in a user namespace that has these \
                 ids (podman unshare), or with -o xattr_permissions=2",
                entry.uid, entry.gid
            )),
            _ => err,
        })
    }

    fn attribute(&mut self, object: Writable<'_>, name: &[u8], value: &[u8]) -> Result<()> {
        // Labels are valid only on the machine that set them.
        if name == b"security.selinux" {
            return Ok(());
        }
        let text = || format!("attribute {}", name.escape_ascii());
        let set = || {
            let stored = overlay::stored(name, self.upper.owner_storage().dialect())
                .ok_or(Errno::EOPNOTSUPP)?;
            let key = CString::new(stored.into_owned()).map_err(|_| Errno::EINVAL)?;
            if is_acl(name) {
                let value = self.owners.stored_acl(value.to_vec())?;
                return xattr::set(object, &key, &value, SetMode::Any).map_err(say_who_is_missing);
            }
            xattr::set(object, &key, value, SetMode::Any)
        };
        // ACLs mean nothing if owners are stored in attributes.
        let acl_counts = self.upper.owner_storage() == OwnerStorage::Inode;
        let decides_access = (is_acl(name) && acl_counts) || name == b"security.capability";
        match set() {
            Err(err) if !decides_access && may_be_left_out(&err) => {
                self.left_out += 1;
                if self.told.len() < MOST_TOLD && self.told.insert(name.to_vec()) {
                    tracing::warn!("{} is left out: {err}", text());
                }
                Ok(())
            }
            other => other.context(text),
        }
    }
}

/// The kernel refuses an ACL with an id that the user namespace lacks like a malformed one
/// (`posix_acl_from_xattr`, fs/posix_acl.c).
fn say_who_is_missing(err: Error) -> Error {
    match err.errno() {
        Errno::EINVAL => err.context(
            "it is malformed, or names a user or group that cannot be had here; call this as root, \
             or in a user namespace that has these ids (podman unshare)",
        ),
        _ => err,
    }
}

/// The file system lacks such attributes, or ovlmerge may not set them, or reserves them.
fn may_be_left_out(err: &Error) -> bool {
    matches!(err.errno(), Errno::EOPNOTSUPP | Errno::EPERM)
}

fn set_time(object: Writable<'_>, time: Time) -> Result<()> {
    at::set_times(object, SetTime::At(time), SetTime::At(time))
}
