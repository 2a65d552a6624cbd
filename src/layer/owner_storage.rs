//! The owner storage of a layer: where it stores owners, modes and types of its objects.

use std::os::fd::AsFd;

use nix::fcntl::OFlag;

use crate::error::{Errno, Result};
use crate::format::overlay::Dialect;
use crate::format::override_stat::{self, Spelling};
use crate::id::Id;
use crate::sys::{FileType, Stat, Target, at, creds, file, stat, xattr};

/// Where a layer stores owner, mode and type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerStorage {
    /// In the inode, as every file system does.
    Inode,
    /// In an attribute of files and directories, where they have it; otherwise in the inode.
    Xattr(Spelling),
}

impl OwnerStorage {
    /// The owner storage that the root of a layer announces, whoever wrote it.
    pub fn of_root(root: Target<'_>) -> Result<Self> {
        let list = xattr::list(root)?;
        let carried =
            |spelling: &Spelling| xattr::names(&list).any(|name| name == spelling.key().to_bytes());
        Ok(Spelling::ALL.into_iter().find(carried).map_or(Self::Inode, Self::Xattr))
    }

    /// The owner storage that the root of a layer announces, if its writer can be trusted. A user
    /// who owns a directory can set `user.` attributes in it, but must not get programs that run as
    /// root on the host by that.
    pub fn of_trusted_root(root: Target<'_>) -> Result<Self> {
        let found = Self::of_root(root)?;
        let takes_trust =
            matches!(found, Self::Xattr(Spelling::Containers | Spelling::FuseOverlayfs));
        let us = creds::effective();
        // Both can make mounts in which set-id bits count.
        let privileged = us.uid == Id::ROOT || creds::has_capability(creds::CAP_SYS_ADMIN)?;
        if takes_trust && privileged && creds::in_initial_user_namespace() {
            let owner = stat::stat(root)?.uid;
            if owner != us.uid.number() {
                tracing::warn!(
                    "owners in extended attributes of user {owner}'s layer do not count"
                );
                return Ok(Self::Inode);
            }
        }
        Ok(found)
    }

    /// The effective attributes of an object.
    pub fn stat(self, target: Target<'_>) -> Result<Stat> {
        self.effective_stat(target, stat::stat(target)?)
    }

    /// Whether an object has its owner in an attribute; `real` are the attributes of its inode.
    ///
    /// # Errors
    /// Those of getxattr(2).
    pub fn has_attribute(self, target: Target<'_>, real: &Stat) -> Result<bool> {
        let Self::Xattr(spelling) = self else { return Ok(false) };
        Ok(is_kept_in_xattr(real) && xattr::get_if_set(target, spelling.key())?.is_some())
    }

    /// The effective attributes of an object; `real` are those of its inode.
    pub fn effective_stat(self, target: Target<'_>, real: Stat) -> Result<Stat> {
        let Self::Xattr(spelling) = self else { return Ok(real) };
        if !is_kept_in_xattr(&real) {
            return Ok(real);
        }
        let Some(value) = xattr::get_if_set(target, spelling.key())? else { return Ok(real) };
        let meant = override_stat::apply(&real, &value);
        if meant.is_none() {
            tracing::debug!("an override_stat of unknown form: {}", value.escape_ascii());
        }
        Ok(meant.unwrap_or(real))
    }

    /// The target of a symbolic link, which may also be a file that holds the target.
    ///
    /// # Errors
    /// EINVAL for any other object (readlink(2)); EIO for a file that holds no valid target.
    pub fn readlink(self, target: Target<'_>) -> Result<Vec<u8>> {
        match at::readlink(target) {
            Err(err) if self != Self::Inode && err.errno() == Errno::EINVAL => {
                if self.stat(target)?.kind() != FileType::Symlink {
                    return Err(err);
                }
                let fd = at::open_target(target, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
                let mut text = vec![0; at::PATH_MAX];
                let len = file::read_at(fd.as_fd(), &mut text, 0, None)?;
                text.truncate(len);
                // One byte of the limit is for the terminator (path_resolution(7)).
                let sound = (1..at::PATH_MAX).contains(&len) && !text.contains(&0);
                if sound { Ok(text) } else { Err(Errno::EIO.into()) }
            }
            other => other,
        }
    }

    /// The names under which the layer stores the attributes of users.
    #[must_use]
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Inode => Dialect::Plain,
            Self::Xattr(Spelling::Containers) => Dialect::Containers,
            Self::Xattr(_) => Dialect::Overridden,
        }
    }
}

/// Whether an object can have the attribute: those of the user namespace are for files and
/// directories only (xattr(7)).
pub(super) fn is_kept_in_xattr(real: &Stat) -> bool {
    matches!(real.kind(), FileType::Regular | FileType::Directory)
}
