//! The index of hard links: `WORKDIR/index`.
//!
//! It has one entry for each file with several names in a lower that was copied up. The entry, made
//! together with the copy, leads to it from names that only the lower has. The directory is made
//! with its first entry. The form is the kernel's ([`crate::format::nlink`]).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::OFlag;
use parking_lot::RwLock;
use rustc_hash::FxHashSet;

use super::dir::{LayerDir, UpperDir};
use super::fdcache::FdCache;
use super::grants::Grants;
use super::owner_storage::OwnerStorage;
use super::staged::{Over, Staged};
use super::upper::Upper;
use super::work;
use crate::config::IndexChoice;
use crate::error::{Errno, Error, Result, best_effort};
use crate::format::metacopy::FileMarks;
use crate::format::nlink::{Count, handle_of};
use crate::format::origin::{self, Side};
use crate::format::overlay::{Mark, Namespace};
use crate::sys::xattr::SetMode;
use crate::sys::{FileType, Name, Stat, Target, Writable, WritableFd, at, handle, uuid, xattr};

/// The directory in WORKDIR (`OVL_INDEXDIR_NAME`, fs/overlayfs/super.c).
const INDEX: &[u8] = b"index";

/// The place of an index, and facts about its upper.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    pub workdir: BorrowedFd<'a>,
    /// The root of the upper.
    pub root: BorrowedFd<'a>,
    /// The root of the topmost lower, if there is any.
    pub lower: Option<BorrowedFd<'a>>,
    pub owner_storage: OwnerStorage,
    pub cache: &'a Arc<FdCache>,
    pub grants: Option<&'a Arc<Grants>>,
}

/// The index of an upper.
#[derive(Debug)]
pub struct LinkIndex {
    workdir: OwnedFd,
    /// The handle of the upper's root, as in `P upper`.
    mark: Vec<u8>,
    namespace: Namespace,
    cache: Arc<FdCache>,
    grants: Option<Arc<Grants>>,
    owner_storage: OwnerStorage,
    /// The directory, once it exists.
    dir: RwLock<Option<UpperDir>>,
    known: RwLock<Known>,
    /// `index=on` was given.
    asked_for: bool,
}

/// The lower files that may have an entry. No others have to be looked up.
#[derive(Debug, Default)]
struct Known {
    /// Their inode numbers.
    numbers: FxHashSet<u64>,
    /// The name of some entry is a handle that tells no inode number.
    unreadable: bool,
}

impl Known {
    fn add(&mut self, value: &[u8]) {
        match origin::decode(value) {
            Some(origin) => {
                self.numbers.insert(origin.ino);
                if origin.in_halves {
                    self.numbers.insert(origin.other_way_round());
                }
            }
            None => self.unreadable = true,
        }
    }
}

/// The entry of a lower file.
#[derive(Debug)]
pub struct Indexed {
    /// Attributes of the copy.
    pub stat: Stat,
    /// Marks of the copy.
    pub marks: FileMarks,
}

/// Whether an error is a shortage that may pass, and says nothing about the index.
fn lacks_resources(err: &Error) -> bool {
    let errno = err.errno();
    errno.is_shortage() || [Errno::ENOSPC, Errno::EDQUOT].contains(&errno)
}

impl LinkIndex {
    /// Opens the index of the upper `root`; `None` where there can be none.
    ///
    /// # Errors
    /// With `index=on`, ESTALE if the index belongs to another upper, or the upper to another
    /// lower. Shortages (ENOSPC, EDQUOT, EIO, ENOMEM, EMFILE, ENFILE) in any case.
    pub(super) fn open(
        site: &Site<'_>,
        namespace: Namespace,
        choice: IndexChoice,
    ) -> Result<Option<Self>> {
        let Site { workdir, root, owner_storage, cache, grants, .. } = *site;
        let asked_for = choice == IndexChoice::On;
        if choice == IndexChoice::Off {
            return Ok(None);
        }
        let Some(handle) = handle::of_open(root)? else {
            if asked_for {
                tracing::warn!("index=on: the file system of upperdir has no file handles");
            }
            return Ok(None);
        };
        let uuid = uuid::fs_uuid(root)?;
        let index = Self {
            workdir: at::reopen_dir(workdir)?,
            mark: origin::encode(Side::Upper, uuid, handle.kind, &handle.bytes),
            namespace,
            cache: Arc::clone(cache),
            grants: grants.cloned(),
            owner_storage,
            dir: RwLock::new(None),
            known: RwLock::default(),
            asked_for,
        };
        match claim_lower(site, namespace).and_then(|()| index.take_over()) {
            Ok(()) => Ok(Some(index)),
            Err(err) if !asked_for && !lacks_resources(&err) => {
                tracing::warn!("the index of hard links in workdir is not used: {err}");
                Ok(None)
            }
            Err(err) if asked_for => Err(err.context("index=on")),
            Err(err) => Err(err.context("the index of hard links in workdir")),
        }
    }

    fn dir_of(&self, fd: OwnedFd) -> Result<UpperDir> {
        UpperDir::root(fd, 0, self.owner_storage, false, &self.cache, self.grants.clone())
    }

    /// Takes over the index of an earlier mount, if there is one.
    fn take_over(&self) -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let dir = match at::open(self.workdir.as_fd(), Name::new(INDEX)?, flags) {
            Err(err) if err.errno() == Errno::ENOENT => return Ok(()),
            other => other?,
        };
        for namespace in Namespace::BOTH {
            let found = xattr::get_if_set(Target::Fd(dir.as_fd()), namespace.key(Mark::Upper))?;
            if found.is_some_and(|found| found != self.mark) {
                let what = "workdir/index belongs to another upperdir; mount with index=off, or \
                            remove it";
                return Err(Error::new(Errno::ESTALE, what));
            }
        }
        let dir = self.dir_of(dir)?;
        let mut names: Vec<Box<[u8]>> = Vec::new();
        dir.dir().for_each(|entry| {
            names.push(entry.name.into());
            Ok(())
        })?;
        for name in names {
            self.look_over(&dir, Name::new(&name)?)?;
        }
        *self.dir.write() = Some(dir);
        Ok(())
    }

    /// Takes an entry over, or removes it if it stands for nothing any more. A file of unknown form
    /// is left alone; an unknown directory is EINVAL.
    fn look_over(&self, dir: &UpperDir, name: Name<'_>) -> Result<()> {
        if name.bytes().starts_with(b"#") {
            // A temporary object of the kernel's overlayfs, which builds in the index.
            let removed = dir.reach(|dir| work::remove_tree(dir, name));
            best_effort("something unfinished stays in the index", removed);
            return Ok(());
        }
        let Some(stat) = dir.dir().stat_entry(name)? else { return Ok(()) };
        let Some(value) = handle_of(name.bytes()).filter(|value| origin::is_handle(value)) else {
            if stat.kind().is_dir() {
                // The kernel refuses any unknown entry (ovl_indexdir_cleanup).
                let what = format!(
                    "index/{name} is a directory of a feature that ovlmerge does not know; mount \
                     with what wrote it, or remove it if nothing needs it"
                );
                return Err(Error::new(Errno::EINVAL, what));
            }
            tracing::warn!("index/{name} is not of an index; it is left alone");
            return Ok(());
        };
        // Entries of directories, and whiteouts, come from the kernel's nfs_export.
        let is_link = !stat.kind().is_dir() && !stat.is_whiteout_device();
        if is_link && stat.nlink == 1 && is_left_over(dir.dir(), name, &value) {
            let removed = dir.reach(|dir| at::unlink(dir, name));
            best_effort("an entry without names stays in the index", removed);
            return Ok(());
        }
        self.known.write().add(&value);
        Ok(())
    }

    /// Whether a copy of this type can carry the marks of an entry: attributes of the `user.`
    /// namespace are for files and directories alone (xattr(7)).
    #[must_use]
    pub fn takes(&self, kind: FileType) -> bool {
        self.namespace == Namespace::Trusted || kind.is_file()
    }

    /// Whether handles of a file system without a UUID are good enough.
    #[must_use]
    pub fn is_trusting(&self) -> bool {
        self.asked_for
    }

    /// The directory, if it exists.
    #[must_use]
    pub fn dir(&self) -> Option<UpperDir> {
        self.dir.read().clone()
    }

    /// Whether a lower file of this inode number may have an entry.
    #[must_use]
    pub fn may_have(&self, ino: u64) -> bool {
        let known = self.known.read();
        known.unreadable || known.numbers.contains(&ino)
    }

    /// The entry `name`, if there is one.
    ///
    /// # Errors
    /// EIO if the entry is not of the type of `like` (`ovl_lookup_index`, fs/overlayfs/namei.c).
    pub fn find(&self, name: &[u8], like: &Stat) -> Result<Option<Indexed>> {
        let Some(dir) = self.dir() else { return Ok(None) };
        let name = Name::new(name)?;
        let Some(stat) = dir.dir().stat_entry(name)? else { return Ok(None) };
        if stat.is_whiteout_device() || stat.kind() != like.kind() {
            return Err(Error::new(Errno::EIO, format!("index/{name} is of another kind")));
        }
        Ok(Some(Indexed { stat, marks: dir.dir().file_marks(name)? }))
    }

    /// Whether the entry `name` is the object whose attributes are `stat`.
    pub fn is_entry_of(&self, name: &[u8], stat: &Stat) -> Result<bool> {
        let Some(dir) = self.dir() else { return Ok(false) };
        let found = dir.dir().stat_entry(Name::new(name)?)?;
        Ok(found.is_some_and(|found| found.same_object(stat)))
    }

    /// The directory, made if it is missing, for an entry named after the handle `value`.
    ///
    /// # Errors
    /// Those of mkdirat(2) and setxattr(2).
    pub(super) fn dir_for(&self, value: &[u8]) -> Result<UpperDir> {
        // Before the entry exists, so that no lookup misses it.
        self.known.write().add(value);
        if let Some(dir) = self.dir() {
            return Ok(dir);
        }
        let mut dir = self.dir.write();
        if let Some(made) = &*dir {
            return Ok(made.clone());
        }
        let name = Name::new(INDEX)?;
        match at::mkdir(WritableFd::vouch(self.workdir.as_fd()), name, 0o700) {
            Err(err) if err.errno() == Errno::EEXIST => {}
            other => other?,
        }
        let fd = at::open(self.workdir.as_fd(), name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let key = self.namespace.key(Mark::Upper);
        xattr::set(WritableFd::vouch(fd.as_fd()).object(), key, &self.mark, SetMode::Any)?;
        let made = self.dir_of(fd)?;
        *dir = Some(made.clone());
        Ok(made)
    }
}

impl Upper {
    /// Marks the copy of a hard link with the handle that its entry in the index is named after.
    pub fn set_index_mark(&self, copy: Writable<'_>, handle: &[u8]) -> Result<()> {
        let namespace = self.forms().namespace.ok_or(Errno::EOPNOTSUPP)?;
        xattr::set(copy, namespace.key(Mark::Origin), handle, SetMode::Any)
    }

    /// Marks a file of the index with the number of its names.
    pub fn set_count(&self, copy: Writable<'_>, count: Count) -> Result<()> {
        let namespace = self.forms().namespace.ok_or(Errno::EOPNOTSUPP)?;
        let (key, value) = (namespace.key(Mark::Nlink), count.to_string());
        xattr::set(copy, key, value.as_bytes(), SetMode::Any)
    }

    /// Publishes a copy as the entry `name` of the index, named after the handle `value`.
    pub fn publish_in_index(&self, copy: Staged, name: Name<'_>, value: &[u8]) -> Result<()> {
        let links = self.links().ok_or(Errno::EOPNOTSUPP)?;
        copy.publish(&links.dir_for(value)?, name, Over::Nothing)
    }
}

/// Marks the root of the upper with the topmost lower of its first mount, or compares that mark.
/// Over another lower the index would be wrong (`ovl_get_indexdir`, fs/overlayfs/super.c).
fn claim_lower(site: &Site<'_>, namespace: Namespace) -> Result<()> {
    let Some(lower) = site.lower else { return Ok(()) };
    let Some(handle) = handle::of_open(lower)? else { return Ok(()) };
    let mark = |uuid| origin::encode(Side::Lower, uuid, handle.kind, &handle.bytes);
    let uuid = uuid::fs_uuid(lower)?;
    let root = Target::Fd(site.root);
    let mut claimed = false;
    for namespace in Namespace::BOTH {
        let found = xattr::get_if_set(root, namespace.key(Mark::Origin))?;
        let Some(found) = found.filter(|found| origin::is_handle(found)) else { continue };
        if ![mark(uuid), mark(None)].contains(&found) {
            let what = "upperdir was written over another lowerdir; put that one on top again, or \
                        mount with index=off";
            return Err(Error::new(Errno::ESTALE, what));
        }
        claimed = true;
    }
    if claimed {
        return Ok(());
    }
    let root = WritableFd::vouch(site.root).object();
    xattr::set(root, namespace.key(Mark::Origin), &mark(uuid), SetMode::Any)
}

/// Whether an entry that is the only link of its file is left over: no name is counted, or it is of
/// another file than its name says (`ovl_verify_index`, fs/overlayfs/namei.c).
fn is_left_over(dir: &Arc<LayerDir>, name: Name<'_>, value: &[u8]) -> bool {
    let Ok(marks) = dir.file_marks(name) else { return false };
    let is_none = match marks.count {
        None => true,
        Some(count @ Count::Upper(_)) => count.resolve(1, None).is_none(),
        // The link count of the lower file is not known here.
        Some(Count::Lower(_)) => false,
    };
    is_none || marks.handle != value
}
