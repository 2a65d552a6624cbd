//! Owner, mode and type of objects of the upper, wherever it stores them.
//!
//! In an upper that stores them in attributes, only the server has access to the real files and
//! directories. Devices, FIFOs and sockets are empty files there. Symbolic links are real; they can
//! hold no attribute, so their owner is that of the inode.

use super::{Squashed, Upper};
use crate::config::{Config, IdView, Permissions};
use crate::error::{Errno, Error, Result};
use crate::format::override_stat::{self, Spelling};
use crate::id::Id;
use crate::layer::grants::Grants;
use crate::layer::owner_storage::{OwnerStorage, is_kept_in_xattr};
use crate::sys::xattr::SetMode;
use crate::sys::{FileType, Stat, Target, Writable, at, stat, xattr};

/// Whether a copy got the owner of its original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "set-id bits are for the owner that they were given to"]
pub enum Given {
    /// The copy has that owner.
    Owner,
    /// The copy stayed ours, which the mount does not show (`squash_to_uid`, `squash_to_gid`).
    Nothing,
}

/// Owner, mode with the type, and device number of a new object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// User.
    pub uid: Id,
    /// Group.
    pub gid: Id,
    /// Type and permission bits.
    pub mode: u32,
    /// Device that a device node stands for.
    pub rdev: u64,
}

/// Mode of a file whose effective mode is in an attribute: for us alone.
const HIDDEN_FILE: u32 = 0o600;
/// Mode of a directory whose effective mode is in an attribute.
const HIDDEN_DIR: u32 = 0o700;
/// Bits that lend the rights of an owner.
const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;

impl Squashed {
    pub(super) fn by(config: &Config) -> Self {
        let all_the_same = |view: &IdView| matches!(view, IdView::All(_));
        Self { uid: all_the_same(&config.owners.uids), gid: all_the_same(&config.owners.gids) }
    }
}

/// The owner storage of an upper: as its root announces it, or as was asked. The root announces it
/// from then on.
///
/// # Errors
/// EINVAL if the root announces another one; those of setxattr(2).
pub(super) fn owner_storage(root: Writable<'_>, asked: Permissions) -> Result<OwnerStorage> {
    let found = OwnerStorage::of_root(root.target())?;
    let (value, wanted) = match asked {
        Permissions::Inode => return OwnerStorage::of_trusted_root(root.target()),
        Permissions::SecurityXattr => ("1", Spelling::Security),
        Permissions::UserXattr => ("2", Spelling::Containers),
    };
    let same_kind = |spelling: Spelling| (spelling == Spelling::Security) == (value == "1");
    match found {
        OwnerStorage::Xattr(spelling) if same_kind(spelling) => return Ok(found),
        OwnerStorage::Xattr(spelling) => {
            let text = format!(
                "xattr_permissions={value}, but it has its owners in {}: leave the option out to \
                 go on with that, or use another upper",
                spelling.key().to_string_lossy()
            );
            return Err(Error::new(Errno::EINVAL, text));
        }
        OwnerStorage::Inode => {}
    }
    let written = override_stat::value(&stat::stat(root.target())?).ok_or(Errno::EOVERFLOW)?;
    let set = xattr::set(root, wanted.key(), &written, SetMode::Any);
    set.map_err(|err| {
        let advice = match (err.errno(), asked) {
            (Errno::EPERM, Permissions::SecurityXattr) => {
                "only root outside of user namespaces can set it, so use xattr_permissions=2"
            }
            (Errno::EOPNOTSUPP, _) => "its file system has no such attributes",
            _ => "it cannot be set",
        };
        err.context(format!("xattr_permissions={value} needs {:?}: {advice}", wanted.key()))
    })?;
    Ok(OwnerStorage::Xattr(wanted))
}

impl Upper {
    /// Where owners, modes and types are kept.
    #[must_use]
    pub fn owner_storage(&self) -> OwnerStorage {
        self.owner_storage
    }

    /// The mode that a file in the making has until it is finished.
    pub(super) fn file_mode(&self, wanted: u32) -> u32 {
        if self.owner_storage == OwnerStorage::Inode { wanted } else { HIDDEN_FILE }
    }

    /// The mode that a directory in the making has until it is finished.
    pub(super) fn dir_mode(&self, wanted: u32) -> u32 {
        if self.owner_storage == OwnerStorage::Inode { wanted } else { HIDDEN_DIR }
    }

    /// The mode and device number that a device, FIFO or socket is made with.
    pub(super) fn node_mode(&self, wanted: u32, rdev: u64) -> (u32, u64) {
        match self.owner_storage {
            OwnerStorage::Inode => (wanted, rdev),
            OwnerStorage::Xattr(_) => (libc::S_IFREG | HIDDEN_FILE, 0),
        }
    }

    fn keep(&self, object: Writable<'_>, meant: &Stat) -> Result<()> {
        let OwnerStorage::Xattr(spelling) = self.owner_storage else {
            return Err(Errno::EINVAL.into());
        };
        let value = override_stat::value(meant).ok_or(Errno::EOVERFLOW)?;
        xattr::set(object, spelling.key(), &value, SetMode::Any)
    }

    /// Sets the owner of an object in the making, and its mode and type if these are in attributes.
    ///
    /// # Errors
    /// Those of chown(2) and setxattr(2).
    pub fn set_new(&self, object: Writable<'_>, new: &Attributes) -> Result<()> {
        let Attributes { uid, gid, mode, rdev } = *new;
        if FileType::from_mode(mode) == FileType::Symlink
            || self.owner_storage == OwnerStorage::Inode
        {
            return self.chown(object, Some(uid), Some(gid));
        }
        let (uid, gid) = (uid.number(), gid.number());
        self.keep(object, &Stat { uid, gid, mode, rdev, ..stat::stat(object.target())? })
    }

    /// Changes owners as chown(2) does: `None` leaves an id as it is, and a file loses its set-id
    /// bits and file capabilities.
    ///
    /// # Errors
    /// Those of chown(2) and setxattr(2). A symbolic link that cannot get the owner keeps its own.
    pub fn chown(&self, object: Writable<'_>, uid: Option<Id>, gid: Option<Id>) -> Result<()> {
        if self.owner_storage == OwnerStorage::Inode {
            return at::chown(object, uid, gid);
        }
        let real = stat::stat(object.target())?;
        if !is_kept_in_xattr(&real) {
            return match at::chown(object, uid, gid) {
                Err(err) if real.kind() == FileType::Symlink && err.errno() == Errno::EPERM => {
                    Ok(())
                }
                other => other,
            };
        }
        let was = self.owner_storage.effective_stat(object.target(), real)?;
        let (uid, gid) = (uid.map_or(was.uid, Id::number), gid.map_or(was.gid, Id::number));
        let mut new = Stat { uid, gid, ..was };
        if !real.kind().is_dir() {
            new.mode = without_set_id(new.mode);
            self.drop_capability(object)?;
        }
        self.keep(object, &new)
    }

    /// Changes the permission bits as chmod(2) does.
    ///
    /// # Errors
    /// Those of chmod(2) and setxattr(2).
    pub fn chmod(&self, object: Writable<'_>, mode: u32) -> Result<()> {
        if self.owner_storage == OwnerStorage::Inode {
            return self.setting_mode(object, || at::chmod(object, mode));
        }
        let real = stat::stat(object.target())?;
        if !is_kept_in_xattr(&real) {
            return at::chmod(object, mode);
        }
        let was = self.owner_storage.effective_stat(object.target(), real)?;
        self.keep(object, &Stat { mode: was.mode & libc::S_IFMT | mode & 0o7777, ..was })
    }

    /// Clears set-id bits as a write by an unprivileged user does: setuid always, setgid where the
    /// group may execute (`setattr_should_drop_sgid`, fs/attr.c). Returns whether any was set.
    ///
    /// # Errors
    /// As [`Self::chmod`].
    pub fn drop_set_id(&self, object: Writable<'_>) -> Result<bool> {
        let now = self.as_shown(self.owner_storage, object.target())?.permissions();
        let kept = without_set_id(now);
        if kept != now {
            self.chmod(object, kept)?;
        }
        Ok(kept != now)
    }

    /// Removes the file capabilities of a file whose contents or owner change. The file system does
    /// that by itself for those that it knows.
    ///
    /// # Errors
    /// Those of removexattr(2).
    pub fn drop_capability(&self, object: Writable<'_>) -> Result<()> {
        if self.owner_storage != OwnerStorage::Xattr(Spelling::Containers) {
            return Ok(());
        }
        // Another program may have set the real one. Look first: its removal takes privilege.
        for name in [c"user.containers.override_security.capability", c"security.capability"] {
            if xattr::get_if_set(object.target(), name)?.is_some() {
                xattr::remove(object, name)?;
            }
        }
        Ok(())
    }

    /// Gives a copy the owner of its original. `now` are the attributes of the copy so far, `was`
    /// those of `original`, and `from` is the owner storage of its layer. chown(2) clears set-id
    /// bits and capabilities, so attributes and [`Self::give_mode`] come after this.
    ///
    /// # Errors
    /// Those of chown(2); EOVERFLOW for an owner that is not mapped into our user namespace.
    pub fn give_owner(
        &self,
        copy: Writable<'_>,
        now: &Stat,
        (original, was, from): (Target<'_>, &Stat, OwnerStorage),
    ) -> Result<Given> {
        self.check_owner(original, was, from)?;
        if self.owner_storage != OwnerStorage::Inode && was.kind() != FileType::Symlink {
            // `give_mode` stores it together with the mode.
            return Ok(Given::Owner);
        }
        let owner = was.owner().ok_or(Errno::EOVERFLOW)?;
        let (uid, gid) = (Some(owner.uid), Some(owner.gid));
        let squashed = self.squashed;
        if !squashed.uid && !squashed.gid {
            if (now.uid, now.gid) != (was.uid, was.gid) || self.shows_overflow(now) {
                self.chown(copy, uid, gid).map_err(unknown_id)?;
            }
            return Ok(Given::Owner);
        }
        // An id that the mount shows has to be right.
        if !squashed.uid {
            self.chown(copy, uid, None)?;
        }
        if !squashed.gid {
            self.chown(copy, None, gid)?;
        }
        match self.chown(copy, uid, gid) {
            // Not ours to give (chown(2)), or not mapped into our user namespace.
            Err(err) if matches!(err.errno(), Errno::EPERM | Errno::EINVAL) => Ok(Given::Nothing),
            other => other.map(|()| Given::Owner),
        }
    }

    /// Gives a copy the permission bits of its original. `now` are its attributes so far, if known.
    /// The copy gets no set-id bits if its owner is another one. Otherwise these are always set, as
    /// it may have lost them since.
    ///
    /// # Errors
    /// Those of chmod(2) and setxattr(2).
    pub fn give_mode(
        &self,
        copy: Writable<'_>,
        now: Option<&Stat>,
        was: &Stat,
        given: Given,
    ) -> Result<()> {
        if was.kind() == FileType::Symlink {
            return Ok(());
        }
        if self.owner_storage != OwnerStorage::Inode {
            return self.keep(copy, was);
        }
        let lost = if given == Given::Owner { 0 } else { SET_ID };
        let mode = was.permissions() & !lost;
        if mode & SET_ID == 0 && now.is_some_and(|now| now.permissions() == mode) {
            return Ok(());
        }
        self.setting_mode(copy, || at::chmod(copy, mode))
    }

    /// Runs `set`, which changes the mode of an object.
    ///
    /// # Errors
    /// Those of `set`.
    pub fn setting_mode<T>(
        &self,
        object: Writable<'_>,
        set: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        Grants::setting_mode(self.grants.as_deref(), object, set)
    }

    /// The attributes of an object as the mount shows them, wherever its layer stores them.
    ///
    /// # Errors
    /// Those of stat(2) and getxattr(2).
    pub fn as_shown(&self, owner_storage: OwnerStorage, target: Target<'_>) -> Result<Stat> {
        let look = || owner_storage.stat(target).map(Some);
        Grants::as_shown(self.grants.as_deref(), look)?.ok_or_else(|| Errno::ESTALE.into())
    }

    /// Whether the ids of an object may stand for others, not mapped into our user namespace.
    fn shows_overflow(&self, stat: &Stat) -> bool {
        self.overflow.as_ref().is_some_and(|overflow| overflow.is_shown(stat))
    }

    /// Checks that the owner of an original is mapped into our user namespace.
    ///
    /// # Errors
    /// EOVERFLOW if not, as in the kernel's copy-up: the copy would belong to somebody else.
    fn check_owner(&self, original: Target<'_>, was: &Stat, from: OwnerStorage) -> Result<()> {
        let Some(overflow) = self.overflow.as_ref().filter(|it| it.is_shown(was)) else {
            return Ok(());
        };
        // An id in an attribute is a real one.
        if from != OwnerStorage::Inode && from.has_attribute(original, &stat::stat(original)?)? {
            return Ok(());
        }
        let lacks = overflow.lacks(original, was)?;
        if lacks.uid && !self.squashed.uid || lacks.gid && !self.squashed.gid {
            return Err(not_mapped());
        }
        Ok(())
    }
}

fn not_mapped() -> Error {
    Error::new(Errno::EOVERFLOW, "its owner is not mapped into this user namespace")
}

/// Turns EINVAL of chown(2), for an id that our user namespace lacks, into EOVERFLOW.
fn unknown_id(err: Error) -> Error {
    if err.errno() == Errno::EINVAL { not_mapped() } else { err }
}

fn without_set_id(mode: u32) -> u32 {
    let kept = mode & !libc::S_ISUID;
    if mode & libc::S_IXGRP == 0 { kept } else { kept & !libc::S_ISGID }
}
