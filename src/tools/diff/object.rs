//! An object that the upper adds or changes.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::error::{Context, Errno, Error, Result};
use crate::layer::{LayerDir, OwnerStorage};
use crate::merge::found::Contents;
use crate::merge::owner::Owners;
use crate::merge::{DirStack, Found, What, xattr as shown};
use crate::sys::creds::Owner;
use crate::sys::overflow::Overflow;
use crate::sys::{FileType, Name, Stat, Target, stat, xattr};
use crate::tools::oci::entry::Attributes;
use crate::tools::oci::printable;
use crate::tools::views::Views;

/// Attributes that are valid only on one machine: labels of SELinux, signatures over inode numbers
/// (security/integrity/evm), ACLs of a mounted NFS.
const OF_THE_MACHINE: [&[u8]; 3] = [b"security.selinux", b"security.evm", b"system.nfs4_acl"];

/// An object of the merged tree.
#[derive(Debug)]
pub struct Object<'a> {
    /// Path of the object, without a slash at either end; empty for the root.
    pub path: &'a [u8],
    /// Effective attributes, with the owners that users of a mount see.
    pub stat: Stat,
    /// The lowers have an object at this path.
    pub below: bool,
    holder: Holder<'a>,
    views: &'a Views,
    /// The layer shows the object with the overflow id as an owner.
    shows_overflow: bool,
}

#[derive(Debug)]
enum Holder<'a> {
    Dir(&'a DirStack),
    Leaf { dir: &'a Arc<LayerDir>, name: Name<'a>, data: &'a Contents },
}

impl<'a> Object<'a> {
    /// Creates the object for the root directory.
    pub(super) fn root(stat: Stat, stack: &'a DirStack, views: &'a Views) -> Self {
        let (shows_overflow, stat) = (views.show_overflow(&stat), views.owners.shown(stat));
        let holder = Holder::Dir(stack);
        Self { path: b"", stat, below: true, holder, views, shows_overflow }
    }

    /// Creates the object for the result of a lookup of `name`.
    pub(super) fn found(
        path: &'a [u8],
        name: Name<'a>,
        found: &'a Found,
        below: bool,
        views: &'a Views,
    ) -> Result<Self> {
        let holder = match &found.what {
            What::Dir(stack) => Holder::Dir(stack),
            What::Lower(dir) => Holder::Leaf { dir: dir.dir(), name, data: &found.data },
            What::Upper | What::Linked => return Err(Errno::EIO.into()),
        };
        let shows_overflow = views.show_overflow(&found.stat);
        let stat = views.owners.shown(found.stat);
        Ok(Self { path, stat, below, holder, views, shows_overflow })
    }

    /// Type of the object.
    #[must_use]
    pub fn kind(&self) -> FileType {
        self.stat.kind()
    }

    /// Returns layer, device and inode number, which identify an object with several names.
    #[must_use]
    pub fn identity(&self) -> (u16, u64, u64) {
        let layer = match &self.holder {
            Holder::Leaf { dir, .. } => dir.layer(),
            Holder::Dir(_) => 0,
        };
        (layer, self.stat.dev, self.stat.ino)
    }

    fn on_target<T>(&self, act: impl FnOnce(Target<'_>, OwnerStorage) -> Result<T>) -> Result<T> {
        match &self.holder {
            Holder::Dir(stack) => {
                let dir = stack.meta_dir()?;
                act(Target::Fd(dir.fd()?.as_ref().as_fd()), dir.owner_storage())
            }
            Holder::Leaf { dir, name, .. } => {
                act(Target::At(dir.fd()?.as_ref().as_fd(), *name), dir.owner_storage())
            }
        }
    }

    /// Returns the extended attributes that users of a mount see, without those of the machine.
    ///
    /// # Errors
    /// Those of listxattr(2) and getxattr(2).
    pub fn xattrs(&self) -> Result<Attributes> {
        self.on_target(|target, owner_storage| {
            attributes(target, owner_storage, &self.views.owners)
        })
        .context(|| printable(self.path))
    }

    /// Returns the target of a symbolic link.
    ///
    /// # Errors
    /// Those of readlink(2).
    pub fn target(&self) -> Result<Vec<u8>> {
        self.on_target(|target, owner_storage| owner_storage.readlink(target))
            .context(|| printable(self.path))
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// Those of open(2); EIO if no layer has the data.
    pub fn open(&self) -> Result<OwnedFd> {
        let opened = match &self.holder {
            Holder::Dir(_) => Err(Errno::EISDIR.into()),
            Holder::Leaf { dir, name, data } => match data {
                Contents::Own => dir.open_to_read(*name),
                Contents::Elsewhere(source) => {
                    source.dir.dir().open_to_read(Name::new(&source.name)?)
                }
                Contents::Missing => {
                    Err(Error::new(Errno::EIO, "a metacopy file, and no layer has its data"))
                }
            },
        };
        opened.context(|| printable(self.path))
    }

    /// Returns how many other names in the lowers lead to this file of the upper by the index of
    /// hard links. Only a mount with that index shows the file at these names.
    pub(super) fn names_by_index(&self) -> u32 {
        let Holder::Leaf { dir, name, .. } = &self.holder else { return 0 };
        // One of its links is the entry in the index.
        if self.stat.nlink < 2 {
            return 0;
        }
        let count = dir.file_marks(*name).ok().and_then(|marks| marks.count);
        let all = count.and_then(|count| count.resolve(self.stat.nlink, None));
        all.map_or(0, |all| (all + 1).saturating_sub(self.stat.nlink))
    }

    /// # Errors
    /// EOVERFLOW if the owner has no id in the mapping of the options, or in our user namespace.
    pub(super) fn owner(&self) -> Result<Owner> {
        let text = "its owner has no id in uidmapping or gidmapping";
        let owner = self.stat.owner().ok_or_else(|| Error::new(Errno::EOVERFLOW, text))?;
        if let Some(overflow) = self.views.overflow.as_ref().filter(|_| self.shows_overflow)
            && self.on_target(|target, owner_storage| {
                self.is_unmapped(overflow, target, owner_storage)
            })?
        {
            let text = "its owner is not mapped into this user namespace";
            return Err(Error::new(Errno::EOVERFLOW, text));
        }
        Ok(owner)
    }

    fn is_unmapped(
        &self,
        overflow: &Overflow,
        target: Target<'_>,
        owner_storage: OwnerStorage,
    ) -> Result<bool> {
        let real = stat::stat(target)?;
        // An id in an attribute is a real one, even if it equals the overflow id.
        if owner_storage.has_attribute(target, &real)? {
            return Ok(false);
        }
        let lacks = overflow.lacks(target, &real)?;
        let shown = self.views.owners.shows_each();
        Ok(lacks.uid && shown.uid || lacks.gid && shown.gid)
    }

    /// Whether a directory has the mode, owner, modification time and extended attributes of
    /// another.
    pub(super) fn same_metadata(&self, stat: &Stat, other: &DirStack) -> Result<bool> {
        let facts = |stat: Stat| (stat.mode, stat.uid, stat.gid, stat.mtime);
        if facts(self.stat) != facts(self.views.owners.shown(*stat)) {
            return Ok(false);
        }
        let other = other.meta_dir()?;
        let (fd, owner_storage) = (other.fd()?, other.owner_storage());
        let theirs =
            attributes(Target::Fd(fd.as_ref().as_fd()), owner_storage, &self.views.owners)?;
        Ok(self.xattrs()? == theirs)
    }
}

fn attributes(
    target: Target<'_>,
    owner_storage: OwnerStorage,
    owners: &Owners,
) -> Result<Attributes> {
    let dialect = owner_storage.dialect();
    let list = shown::list(target, dialect)?;
    let mut found = Attributes::new();
    for name in xattr::names(&list).filter(|name| !OF_THE_MACHINE.contains(name)) {
        match shown::get(target, dialect, name) {
            Ok(value) => {
                found.insert(name.to_vec(), owners.shown_xattr(name, value)?);
            }
            // The attribute was removed between the two calls.
            Err(err) if xattr::is_absent(&err) => {}
            Err(err) => return Err(err),
        }
    }
    Ok(found)
}
