//! The upper, the one layer that changes.
//!
//! Everything that writes to a layer is a method of [`Upper`]. Which forms of marks the upper can
//! hold is found out once, when the mount begins, and kept in [`Forms`].

mod data;
mod forms;
mod no_rename_flags;
mod opaque;
mod owner;
mod protection;
mod whiteout;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::OFlag;
use parking_lot::Mutex;

use super::counters::Counters;
use super::dir::UpperDir;
use super::fdcache::{Fd, FdCache};
use super::filesystems::FileSystem;
use super::grants::{Grants, Need};
use super::link_index::{self, LinkIndex};
use super::owner_storage::OwnerStorage;
use super::staged::{Staged, TakenOut};
use super::work::Work;
use crate::config::Config;
use crate::error::{Errno, Result, best_effort};
use crate::format::aufs;
use crate::format::overlay::{Mark, Namespace};
use crate::sys::at::{Replace, SetTime};
use crate::sys::creds::{self, Owner};
use crate::sys::file::FsKind;
use crate::sys::overflow::Overflow;
use crate::sys::xattr::SetMode;
use crate::sys::{Name, OwnedWritable, Stat, Writable, WritableFd, at, file, xattr};

pub use forms::{Forms, OpaqueForm, WhiteoutForm};
pub use owner::{Attributes, Given};

use data::KnownWays;
use forms::mark_xattr_whiteouts;

/// The writable layer.
#[derive(Debug)]
pub struct Upper {
    root: UpperDir,
    /// Shared with the objects that are being built there.
    work: Arc<Work>,
    forms: Forms,
    owner: Owner,
    /// The ids that stat(2) shows in place of those not mapped into our user namespace.
    overflow: Option<Overflow>,
    /// A new file has no extended attributes but those that we set.
    files_without_xattrs: bool,
    /// Flag to make and open a file with: `O_NOATIME`, or none.
    new_file: OFlag,
    /// The ids that the mount does not show.
    squashed: Squashed,
    /// Where owners, modes and types are stored.
    owner_storage: OwnerStorage,
    links: Option<LinkIndex>,
    /// The rights that we gave ourselves, if modes bind us.
    grants: Option<Arc<Grants>>,
    counters: Counters,
    ways: KnownWays,
    /// The name of a whiteout in the work directory. Others are hard links of it, to save inodes.
    shared_whiteout: Mutex<Option<String>>,
}

/// File systems whose files have no disk: their fsync is `noop_fsync` (mm/shmem.c,
/// fs/ramfs/file-mmu.c).
const IN_MEMORY: [u32; 2] = [FsKind::TMPFS, FsKind::RAMFS];

/// Whether the mount shows the same user, or the same group, for all objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Squashed {
    uid: bool,
    gid: bool,
}

impl Upper {
    /// Takes over an open upper and its work directory, and finds out what marks they can hold.
    /// `lower` is the root of the topmost lower, if there is any.
    ///
    /// # Errors
    /// EOPNOTSUPP if the upper cannot hold a form that was asked for; those of [`LinkIndex`].
    pub fn new(
        root: OwnedFd,
        work: Work,
        lower: Option<BorrowedFd<'_>>,
        config: &Config,
        cache: &Arc<FdCache>,
    ) -> Result<Self> {
        let forms = Forms::probe(&work, config)?;
        if let (WhiteoutForm::Xattr, Some(namespace)) = (forms.whiteout, forms.namespace) {
            mark_xattr_whiteouts(WritableFd::vouch(root.as_fd()).object(), namespace)?;
        }
        tracing::info!("marks in the upper: {forms}");
        let Probed { files_without_xattrs, owned } = probe_new_file(&work)?;
        let owner_storage =
            owner::owner_storage(WritableFd::vouch(root.as_fd()).object(), config.permissions)?;
        if owner_storage != OwnerStorage::Inode {
            tracing::info!(?owner_storage, "owners of the upper");
        }
        let grants = Grants::new(&work)?;
        let links = match forms.namespace {
            Some(namespace) => {
                let (workdir, root, grants) = (work.above(), root.as_fd(), grants.as_ref());
                let at = link_index::Site { workdir, root, lower, owner_storage, cache, grants };
                LinkIndex::open(&at, namespace, config.index)?
            }
            None => None,
        };
        Ok(Self {
            root: {
                let aufs = config.whiteout.reads_aufs();
                UpperDir::root(root, 0, owner_storage, aufs, cache, grants.clone())?
            },
            links,
            grants,
            counters: Counters::default(),
            ways: KnownWays::default(),
            work: Arc::new(work),
            forms,
            owner: creds::effective(),
            overflow: Overflow::of_this_namespace(),
            squashed: Squashed::by(config),
            owner_storage,
            files_without_xattrs,
            new_file: if owned { OFlag::O_NOATIME } else { OFlag::empty() },
            shared_whiteout: Mutex::new(None),
        })
    }

    /// The root of the layer.
    #[must_use]
    pub fn root(&self) -> &UpperDir {
        &self.root
    }

    /// The file system of the upper.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn file_system(&self) -> Result<FileSystem> {
        FileSystem::of(self.root.fd()?.as_ref().as_fd())
    }

    /// Counters of changes since the mount began.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether a new file, in a directory without a default ACL, has no extended attributes. It has
    /// one where the kernel labels new files (SELinux).
    #[must_use]
    pub fn makes_files_without_xattrs(&self) -> bool {
        self.files_without_xattrs
    }

    /// The forms of the marks that are written.
    #[must_use]
    pub fn forms(&self) -> Forms {
        self.forms
    }

    /// The index of hard links, if it is used.
    #[must_use]
    pub fn links(&self) -> Option<&LinkIndex> {
        self.links.as_ref()
    }

    /// Forces the file system of the upper to the disk, by one call instead of an fsync(2) for each
    /// file.
    ///
    /// # Errors
    /// EIO, ENOSPC, EDQUOT of a write that failed since the last call (syncfs(2)).
    pub fn sync_all(&self) -> Result<()> {
        self.counters.syncs.count();
        Ok(nix::unistd::syncfs(self.work.fd().borrowed())?)
    }

    /// Whether fsync(2) has an effect here. It has none in a volatile mount, nor on a file system
    /// without a disk.
    ///
    /// # Errors
    /// Those of fstatfs(2).
    pub fn can_sync(&self) -> Result<bool> {
        let magic = file::fs_kind(self.root.fd()?.as_ref().as_fd())?.magic;
        Ok(!self.is_volatile() && !IN_MEMORY.contains(&magic))
    }

    /// Whether the mount is volatile: nothing has to be forced to the disk.
    #[must_use]
    pub fn is_volatile(&self) -> bool {
        self.work.is_volatile()
    }

    /// Whether copied metadata has to be on the disk before its name is.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.work.is_strict()
    }

    /// Whether a copy with `len` bytes of data has to be on the disk before its name is. Without
    /// data nothing could be lost: a file system with a journal writes the attributes before the
    /// name.
    #[must_use]
    pub fn must_sync(&self, len: u64) -> bool {
        !self.is_volatile() && (len > 0 || self.is_strict())
    }

    /// Lets others see that the mount is ending.
    pub fn announce_end(&self) {
        self.work.announce_end();
    }

    /// Does what an orderly end does, for a process that ends without dropping this. The locks are
    /// released last, as the process may live on: no signal ends a thread that waits for a lower
    /// that hangs.
    pub fn leave(&self) {
        self.work.leave();
        let unlock_root = || file::unlock(self.root.dir().fd()?.as_ref().as_fd());
        let unlocked = unlock_root().and_then(|()| file::unlock(self.work.above()));
        best_effort("giving back the locks of the upper", unlocked);
    }

    /// The owner of new objects, before anybody changes it.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// `O_NOATIME`, if a new file can be opened with it.
    fn keeps_atime(&self) -> OFlag {
        self.new_file
    }

    // Objects in the making -------------------------------------------------------------------

    /// A new regular file in the work directory, open for reading and writing.
    pub fn stage_file(&self, mode: u32) -> Result<(Staged, OwnedWritable)> {
        let (mut file, mode) = (None, self.file_mode(mode));
        let staged = Staged::build(&self.work, |dir, name| {
            file = Some(at::create(dir, name, self.new_file, mode)?);
            Ok(())
        })?;
        Ok((staged, file.ok_or(Errno::EIO)?))
    }

    /// A new directory in the work directory.
    pub fn stage_dir(&self, mode: u32) -> Result<Staged> {
        let mode = self.dir_mode(mode);
        Staged::build(&self.work, |dir, name| at::mkdir(dir, name, mode))
    }

    /// A new device, FIFO or socket in the work directory.
    pub fn stage_node(&self, mode: u32, rdev: u64) -> Result<Staged> {
        let (mode, rdev) = self.node_mode(mode, rdev);
        Staged::build(&self.work, |dir, name| at::mknod(dir, name, mode, rdev))
    }

    /// A new symbolic link in the work directory.
    pub fn stage_symlink(&self, target: &[u8]) -> Result<Staged> {
        Staged::build(&self.work, |dir, name| at::symlink(target, dir, name))
    }

    /// One more name, in the work directory, for an object of the upper.
    pub fn stage_link(&self, from: &UpperDir, name: Name<'_>) -> Result<Staged> {
        Staged::build(&self.work, |dir, new| from.reach(|fd| at::link(fd, name, dir, new)))
    }

    /// A regular file without a name, for one that was unlinked while in use.
    pub fn unnamed_file(&self, mode: u32) -> Result<OwnedWritable> {
        match at::tmpfile(self.work.fd(), OFlag::O_EXCL | self.keeps_atime(), mode) {
            Err(err)
                if matches!(err.errno(), Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT) =>
            {
                let (staged, file) = self.stage_file(mode)?;
                drop(staged);
                Ok(file)
            }
            other => other,
        }
    }

    /// Marks a directory in the making as opaque.
    pub fn set_opaque(&self, dir: Writable<'_>) -> Result<()> {
        match self.forms.opaque {
            OpaqueForm::Xattr(ns) => xattr::set(dir, ns.key(Mark::Opaque), b"y", SetMode::Any),
            OpaqueForm::Aufs => {
                let dir = at::open_writable_dir(dir)?;
                let name = Name::new(aufs::OPAQUE)?;
                match at::mknod(dir.writable(), name, libc::S_IFREG | 0o600, 0) {
                    Err(err) if err.errno() == Errno::EEXIST => Ok(()),
                    other => other,
                }
            }
        }
    }

    /// Marks a copy in the making with the lower object that it is of, if the upper can hold that:
    /// attributes of the `user.` namespace are for files and directories only (xattr(7)).
    pub fn set_origin(&self, copy: Writable<'_>, origin: &[u8]) {
        let Some(namespace) = self.forms.namespace else { return };
        match xattr::set(copy, namespace.key(Mark::Origin), origin, SetMode::Any) {
            Err(err) if err.errno() == Errno::EPERM || xattr::is_absent(&err) => {}
            other => {
                best_effort("the inode number may change with the next mount", other);
            }
        }
    }

    /// Why the kernel's overlayfs would not follow metacopy marks in this upper, and what to do. It
    /// follows none in `user.overlay.` (fs/overlayfs/params.c), and knows no owners in attributes.
    #[must_use]
    pub fn why_no_metacopy(&self) -> Option<String> {
        if let OwnerStorage::Xattr(spelling) = self.owner_storage {
            return Some(format!(
                "the upper keeps owners and modes in the attribute {} (xattr_permissions), which the \
                 kernel's overlayfs does not know; leave metacopy=on out, or use an upper without",
                spelling.key().to_string_lossy()
            ));
        }
        (self.forms.namespace != Some(Namespace::Trusted)).then(|| {
            "the kernel's overlayfs follows no metacopy marks in user.overlay.; leave metacopy=on \
             out, or give xattr=trusted as root"
                .into()
        })
    }

    /// Marks a file in the making as one whose data stays below.
    pub fn set_metacopy(&self, copy: Writable<'_>) -> Result<()> {
        let namespace = self.forms.namespace.ok_or(Errno::EOPNOTSUPP)?;
        xattr::set(copy, namespace.key(Mark::Metacopy), b"", SetMode::Any)
    }

    /// Marks a directory as impure, before the first copy with an origin gets there.
    pub fn set_impure(&self, dir: &UpperDir) -> Result<()> {
        let Some(namespace) = self.forms.namespace else { return Ok(()) };
        if dir.dir().is_impure()? {
            return Ok(());
        }
        let key = namespace.key(Mark::Impure);
        self.with_dir(dir, |target| xattr::set(target, key, b"y", SetMode::Any))?;
        dir.is_impure_now();
        Ok(())
    }

    /// Whether the opaque mark is a file, which the directory's own listing shows.
    #[must_use]
    pub fn opaque_is_a_file(&self) -> bool {
        self.forms.opaque == OpaqueForm::Aufs
    }

    // Changes in place --------------------------------------------------------------------------

    /// Creates a file at its final name; EEXIST if there is any object, even a whiteout.
    pub fn create(&self, dir: &UpperDir, name: Name<'_>, mode: u32) -> Result<OwnedWritable> {
        dir.reach(|dir| at::create(dir, name, self.new_file, mode))
    }

    /// Makes a directory at its final name.
    pub fn mkdir(&self, dir: &UpperDir, name: Name<'_>, mode: u32) -> Result<()> {
        dir.reach(|dir| at::mkdir(dir, name, mode))
    }

    /// Makes a device, FIFO or socket at its final name.
    pub fn mknod(&self, dir: &UpperDir, name: Name<'_>, mode: u32, rdev: u64) -> Result<()> {
        dir.reach(|dir| at::mknod(dir, name, mode, rdev))
    }

    /// Makes a symbolic link at its final name.
    pub fn symlink(&self, dir: &UpperDir, name: Name<'_>, target: &[u8]) -> Result<()> {
        dir.reach(|dir| at::symlink(target, dir, name))
    }

    /// A file without a name, which may get one later (open(2), `O_TMPFILE`).
    ///
    /// # Errors
    /// EOPNOTSUPP where the file system has no such files.
    pub fn linkable_file(&self, mode: u32) -> Result<OwnedWritable> {
        let made = at::tmpfile(self.work.fd(), self.keeps_atime(), self.file_mode(mode));
        made.map_err(|err| match err.errno() {
            Errno::EISDIR | Errno::ENOENT => Errno::EOPNOTSUPP.into(),
            _ => err,
        })
    }

    /// Gives a file without a name its first one.
    pub fn link_unnamed(&self, file: WritableFd<'_>, to: &UpperDir, new: Name<'_>) -> Result<()> {
        to.reach(|to| at::link_unnamed(file, to, new))
    }

    /// Gives a file without a name its first one, in the work directory.
    pub fn stage_unnamed(&self, file: WritableFd<'_>) -> Result<Staged> {
        Staged::build(&self.work, |dir, new| at::link_unnamed(file, dir, new))
    }

    /// Makes one more name for an object of the upper.
    pub fn link(
        &self,
        from: &UpperDir,
        name: Name<'_>,
        to: &UpperDir,
        new: Name<'_>,
    ) -> Result<()> {
        from.reach(|from| to.reach(|to| at::link(from, name, to, new)))
    }

    /// Opens a file of the upper to read and write it.
    pub fn open_to_write(&self, dir: &UpperDir, name: Name<'_>) -> Result<OwnedWritable> {
        dir.reach_entry(name, at::open_to_write)
    }

    /// Opens a file of the upper by a descriptor of it, to read and write it. It may have lost its
    /// names.
    ///
    /// # Errors
    /// ETXTBSY while it is being run (open(2)).
    pub fn open_again_to_write(&self, file: &Fd) -> Result<OwnedWritable> {
        at::open_to_write(file.writable()?.object())
    }

    /// Opens a file of the upper to read it, and to change its attributes.
    pub fn open_to_read(&self, dir: &UpperDir, name: Name<'_>) -> Result<Fd> {
        dir.dir().open_to_read(name).map(Fd::of_upper)
    }

    /// Opens anything in the upper to act on it, and for nothing else (`O_PATH`).
    pub fn open_path(&self, dir: &UpperDir, name: Name<'_>) -> Result<Fd> {
        let open = |dir: WritableFd<'_>| at::open(dir.borrowed(), name, OFlag::O_PATH);
        dir.reach(open).map(Fd::of_upper)
    }

    /// Forces a file of the upper to the disk, by name.
    pub fn sync_entry(&self, dir: &UpperDir, name: Name<'_>) -> Result<()> {
        self.sync(dir.dir().open_to_read(name)?.as_fd(), false)
    }

    /// Forces an object of the upper to the disk: fsync(2), or fdatasync(2) if `data_only`.
    pub fn sync(&self, object: BorrowedFd<'_>, data_only: bool) -> Result<()> {
        self.counters.syncs.count();
        file::sync(object, data_only)
    }

    /// Removes the name of an object that is not a directory, and leaves no whiteout.
    pub fn unlink(&self, dir: &UpperDir, name: Name<'_>) -> Result<()> {
        dir.reach(|dir| at::unlink(dir, name))
    }

    /// Removes a directory that has nothing in it, not even markers.
    pub fn rmdir(&self, dir: &UpperDir, name: Name<'_>) -> Result<()> {
        dir.reach(|dir| at::rmdir(dir, name))
    }

    /// Renames within the layer.
    pub fn rename(
        &self,
        from: &UpperDir,
        name: Name<'_>,
        to: &UpperDir,
        new: Name<'_>,
        replace: Replace,
    ) -> Result<()> {
        let (old, new_dir) = (from.fd()?, to.fd()?);
        let old = WritableFd::vouch(old.as_ref().as_fd());
        let new_dir = WritableFd::vouch(new_dir.as_ref().as_fd());
        // A directory that moves to another one has its `..` changed.
        let needs = [
            Need::of(from.dir(), old.borrowed()),
            Need::of(to.dir(), new_dir.borrowed()),
            Need::moving(old.entry(name).target(), (to.dir(), new)),
            Need::moving(new_dir.entry(new).target(), (from.dir(), name)),
        ];
        Grants::retry(self.grants.as_deref(), &needs, || {
            at::rename(old, name, new_dir, new, replace)
        })
    }

    /// Takes an object out of the tree, to be removed from the work directory later.
    pub fn take_out(&self, dir: &UpperDir, name: Name<'_>) -> Result<TakenOut> {
        TakenOut::of(&self.work, dir, name, None)
    }

    /// Runs `act` on an entry, to read or change its attributes.
    pub fn with_entry<T>(
        &self,
        dir: &UpperDir,
        name: Name<'_>,
        act: impl FnMut(Writable<'_>) -> Result<T>,
    ) -> Result<T> {
        dir.reach_entry(name, act)
    }

    /// Runs `act` on a directory itself.
    pub fn with_dir<T>(
        &self,
        dir: &UpperDir,
        mut act: impl FnMut(Writable<'_>) -> Result<T>,
    ) -> Result<T> {
        dir.reach(|fd| act(fd.object()))
    }

    /// Restores the times that a directory had before a copy-up put an entry there. The copy-up is
    /// done, so a failure is only logged: the directory may not be ours.
    pub fn restore_times(&self, dir: &UpperDir, was: &Stat) {
        let restored = self.with_dir(dir, |target| {
            at::set_times(target, SetTime::At(was.atime), SetTime::At(was.mtime))
        });
        best_effort("times of a directory after a copy-up", restored);
    }
}

/// Facts about new files in the work directory.
struct Probed {
    /// They have no extended attributes.
    files_without_xattrs: bool,
    /// They belong to us.
    owned: bool,
}

fn probe_new_file(work: &Work) -> Result<Probed> {
    let temp = work.fresh_name();
    let name = Name::new(temp.as_bytes())?;
    at::mknod(work.fd(), name, libc::S_IFREG | 0o600, 0)?;
    let names = xattr::list(work.fd().entry(name).target());
    let owned = at::owns_what_it_makes(work.fd().borrowed(), name);
    work.discard(&temp)?;
    Ok(Probed { files_without_xattrs: names.is_ok_and(|names| names.is_empty()), owned })
}
