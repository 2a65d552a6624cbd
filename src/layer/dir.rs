//! A directory of one layer.
//!
//! A [`LayerDir`] knows its place (the directory above and its name there), so that its descriptor
//! can be closed and opened again. It is opened component by component, without following links,
//! and must turn out to be the same inode.
//!
//! [`LowerDir`] and [`UpperDir`] are the two kinds. Both can be read. Only an [`UpperDir`] is
//! accepted by calls that change a layer, and only [`super::Upper`] makes one.

mod reach;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use nix::fcntl::OFlag;
use parking_lot::{Mutex, RwLock};

use super::fdcache::{Closable, Fd, FdCache, FdSlot};
use super::grants::{Grants, Need};
use super::name::PackedName;
use super::owner_storage::OwnerStorage;
use crate::error::{Context, Errno, Error, Result};
use crate::format::aufs::{self, AufsName};
use crate::format::dirmark::DirMarks;
use crate::format::metacopy::FileMarks;
use crate::format::overlay::{Mark, Namespace};
use crate::sys::dir::Entry;
use crate::sys::stat::Dev;
use crate::sys::{FileType, Name, Stat, Target, at, dir, stat, xattr};

/// Facts about a layer, which all its directories share.
struct Layer {
    /// 0 is the upper, 1 the topmost lower.
    number: u16,
    /// Some directory of the layer may hold whiteouts by attribute.
    xattr_whiteouts: bool,
    /// Where the layer stores owners, modes and types.
    owner_storage: OwnerStorage,
    /// Names that begin with `.wh.` are marks.
    aufs: bool,
    /// The device of its root.
    dev: Dev,
    /// How listings of directories on that device end.
    end: dir::End,
    /// How long facts about the layer stay valid, if others change it.
    settles: Option<Duration>,
    /// Counts the descriptors of its directories.
    cache: Arc<FdCache>,
    /// Set in an upper if modes bind us.
    grants: Option<Arc<Grants>>,
}

/// The place of a directory: the directory above, and its name there.
#[derive(Clone)]
struct Place {
    above: Arc<LayerDir>,
    name: PackedName<()>,
}

impl Place {
    fn new(above: &Arc<LayerDir>, name: Name<'_>) -> Self {
        Self { above: Arc::clone(above), name: PackedName::new(name.bytes(), ()) }
    }
}

/// Device and inode number. Packed, so that it takes two words together with its `OnceLock`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, packed(4))]
struct Identity {
    dev: Dev,
    ino: u64,
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        Self { dev: Dev::new(stat.dev), ino: stat.ino }
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { dev, ino } = *self;
        write!(f, "{:x}:{ino}", dev.number())
    }
}

/// A directory of a layer, to be read.
pub struct LayerDir {
    /// Set when the directory is first looked at.
    identity: OnceLock<Identity>,
    layer: Arc<Layer>,
    /// Directory above and name there; `None` for the root of a layer. Changes when an upper
    /// directory is renamed.
    place: RwLock<Option<Place>>,
    slot: FdSlot,
    /// Taken by each listing, because listings share the offset of the descriptor. True once there
    /// was one: until then every descriptor is at the beginning.
    listing: Mutex<bool>,
    /// Whether the directory carries `impure`: one of the constants below. It counts in an upper
    /// alone.
    impure: AtomicU8,
}

/// The mark has not been read yet.
const UNKNOWN: u8 = 0;
const PURE: u8 = 1;
const IMPURE: u8 = 2;

/// There is one for each layer of each directory. With the counts of an `Arc` and a word of the
/// allocator it takes 112 bytes.
const _: () = assert!(size_of::<LayerDir>() <= 88);

impl std::fmt::Debug for LayerDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LayerDir({:?})", self.identity.get())
    }
}

impl Closable for LayerDir {
    fn slot(&self) -> &FdSlot {
        &self.slot
    }

    /// A root stays open, as it has no directory above from which it could be opened again. So does
    /// a directory whose place is locked, as this is called while other locks are held.
    fn pinned(&self) -> bool {
        self.place.try_read().is_none_or(|place| place.is_none())
    }
}

/// Flags to open a directory with. Reading serves listing, lookups and attributes.
const OPEN_DIR: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY);

/// When a deep directory is opened again, so many directories above it are kept open, and further
/// up one in so many. A program that climbs out of a tree deeper than the cache (16,384 descriptors
/// at most) then opens two directories for each level, instead of all of them. The square root of a
/// depth of 10,000 is about the best number.
const STEPS: usize = 100;

impl LayerDir {
    fn root(
        fd: OwnedFd,
        number: u16,
        owner_storage: OwnerStorage,
        aufs: bool,
        settles: Option<Duration>,
        cache: &Arc<FdCache>,
        grants: Option<Arc<Grants>>,
    ) -> Result<Arc<Self>> {
        let stat = stat::fstat(fd.as_fd())?;
        let marks = read_marks(Target::Fd(fd.as_fd()))?;
        let layer = Layer {
            number,
            xattr_whiteouts: marks.xattr_whiteouts,
            owner_storage,
            aufs,
            dev: Dev::new(stat.dev),
            end: dir::End::of(fd.as_fd())?,
            settles,
            cache: Arc::clone(cache),
            grants,
        };
        let dir = Self::at(Some(&stat), Arc::new(layer), None);
        // The opener may have listed it.
        *dir.listing.lock() = true;
        dir.slot.put(Arc::new(fd.into()));
        Ok(dir)
    }

    fn at(stat: Option<&Stat>, layer: Arc<Layer>, place: Option<Place>) -> Arc<Self> {
        let identity = stat.map(|stat| OnceLock::from(Identity::of(stat)));
        Arc::new(Self {
            identity: identity.unwrap_or_default(),
            layer,
            place: RwLock::new(place),
            slot: FdSlot::default(),
            listing: Mutex::default(),
            impure: AtomicU8::new(UNKNOWN),
        })
    }

    fn child(self: &Arc<Self>, name: Name<'_>, stat: Option<&Stat>) -> Arc<Self> {
        Self::at(stat, Arc::clone(&self.layer), Some(Place::new(self, name)))
    }

    fn identity(self: &Arc<Self>) -> Result<Identity> {
        if self.identity.get().is_none() {
            // Opening it sets the identity.
            self.fd()?;
        }
        self.identity.get().copied().ok_or_else(|| Errno::EIO.into())
    }

    /// Device number of the file system that the directory lies on.
    ///
    /// # Errors
    /// Those of [`Self::fd`], if the directory has not been looked at.
    pub fn dev(self: &Arc<Self>) -> Result<u64> {
        Ok({ self.identity()?.dev }.number())
    }

    /// The device of the directory's file system, if that is known without asking the layer.
    #[must_use]
    pub fn known_dev(&self) -> Option<u64> {
        self.identity.get().map(|identity| { identity.dev }.number())
    }

    /// Inode number of the directory in its layer.
    ///
    /// # Errors
    /// As for [`Self::dev`].
    pub fn ino(self: &Arc<Self>) -> Result<u64> {
        Ok(self.identity()?.ino)
    }

    /// Number of the layer: 0 is the upper, 1 the topmost lower.
    #[must_use]
    pub fn layer(&self) -> u16 {
        self.layer.number
    }

    /// How long facts about the layer stay valid; `None` for ever.
    #[must_use]
    pub fn settles(&self) -> Option<Duration> {
        self.layer.settles
    }

    /// Where the layer keeps owners, modes and types.
    #[must_use]
    pub fn owner_storage(&self) -> OwnerStorage {
        self.layer.owner_storage
    }

    /// Whether this is the entry `name` of `above`.
    #[must_use]
    pub fn is_entry_of(&self, above: &Arc<Self>, name: Name<'_>) -> bool {
        let is_it = |at: &Place| Arc::ptr_eq(&at.above, above) && at.name.bytes() == name.bytes();
        self.place.read().as_ref().is_some_and(is_it)
    }

    /// The path from the root of the layer, with a slash in front.
    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut place = self.place.read().clone();
        while let Some(Place { above, name }) = place {
            names.push(name);
            place = above.place.read().clone();
        }
        if names.is_empty() {
            return b"/".to_vec();
        }
        names.iter().rev().flat_map(|name| [b"/", name.bytes()].concat()).collect()
    }

    /// A descriptor of the directory, opened if need be.
    ///
    /// # Errors
    /// Those of openat(2); ESTALE if another directory has taken the place of this one.
    pub fn fd(self: &Arc<Self>) -> Result<Arc<Fd>> {
        // A rename may come between reading where the directory is and opening it there.
        const TRIES: u32 = 4;
        let mut last = Errno::ESTALE.into();
        for _ in 0..TRIES {
            if let Some(fd) = self.slot.get() {
                return Ok(fd);
            }
            match self.open_from_above() {
                Err(err) if matches!(err.errno(), Errno::ENOENT | Errno::ESTALE) => last = err,
                other => return other,
            }
        }
        Err(last)
    }

    fn open_from_above(self: &Arc<Self>) -> Result<Arc<Fd>> {
        // Not recursive: a tree may be deeper than a stack.
        let mut closed = vec![Arc::clone(self)];
        let mut fd = loop {
            let Some(lowest) = closed.last() else { return Err(Errno::ESTALE.into()) };
            let above = lowest.place.read().as_ref().map(|place| Arc::clone(&place.above));
            let above = above.ok_or(Errno::ESTALE)?;
            match above.slot.get() {
                Some(fd) => break fd,
                None => closed.push(above),
            }
        };
        while let Some(dir) = closed.pop() {
            fd = dir.open_below(&fd)?;
            if closed.len() < STEPS || closed.len().is_multiple_of(STEPS) {
                dir.keep(&fd);
            }
        }
        Ok(fd)
    }

    fn keep(self: &Arc<Self>, fd: &Arc<Fd>) {
        self.slot.put(Arc::clone(fd));
        let weak: Weak<Self> = Arc::downgrade(self);
        self.layer.cache.opened(weak);
    }

    fn open_below(self: &Arc<Self>, above: &Fd) -> Result<Arc<Fd>> {
        let place = self.place.read().clone().ok_or(Errno::ESTALE)?;
        let name = Name::new(place.name.bytes())?;
        let open = || match at::open(above.as_fd(), name, OPEN_DIR) {
            // We may not read it, but lookups still work.
            Err(err) if err.errno() == Errno::EACCES => {
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
                Ok(Fd::path_only(at::open(above.as_fd(), name, flags)?))
            }
            other => other.map(Fd::from),
        };
        let needs = [Need::of(&place.above, above.as_fd())];
        let fd = Grants::retry(self.grants(), &needs, open)
            .context(|| format!("directory {name} of a layer"))?;
        let found = Identity::of(&stat::fstat(fd.as_fd())?);
        if *self.identity.get_or_init(|| found) != found {
            return Err(Error::new(Errno::ESTALE, format!("{name} was replaced in its layer")));
        }
        Ok(Arc::new(fd))
    }

    /// Attributes of the directory itself.
    pub fn stat(self: &Arc<Self>) -> Result<Stat> {
        let owner_storage = self.layer.owner_storage;
        let by_descriptor = |fd: &Fd| {
            let target = Target::Fd(fd.as_fd());
            owner_storage.effective_stat(target, self.look(target)?.ok_or(Errno::ESTALE)?)
        };
        if let Some(fd) = self.slot.get() {
            return by_descriptor(&fd);
        }
        // By name if it has one, which spares opening the directory.
        let place = self.place.read().clone();
        if let Some(Place { above, name }) = place {
            let fd = above.fd()?;
            let target = Target::At(fd.as_ref().as_fd(), Name::new(name.bytes())?);
            let needs = [Need::of(&above, fd.as_ref().as_fd())];
            let found = Grants::retry(self.grants(), &needs, || self.look(target))?;
            let is_this = |it: &Stat| self.identity.get() == Some(&Identity::of(it));
            if let Some(found) = found.filter(is_this) {
                return owner_storage.effective_stat(target, found);
            }
        }
        // Another object has the name: the directory is being renamed.
        by_descriptor(&*self.fd()?)
    }

    /// Attributes of an entry, or `None`.
    pub fn stat_entry(self: &Arc<Self>, name: Name<'_>) -> Result<Option<Stat>> {
        let fd = self.fd()?;
        let here = fd.as_ref().as_fd();
        let target = Target::At(here, name);
        let needs = [Need::of(self, here)];
        let found = Grants::retry(self.grants(), &needs, || self.look(target))?;
        found.map(|found| self.layer.owner_storage.effective_stat(target, found)).transpose()
    }

    /// The marks of the directory `name` in this one.
    pub fn marks_of(self: &Arc<Self>, name: Name<'_>) -> Result<DirMarks> {
        self.reach_entry(name, read_marks)
    }

    /// Whether an entry is a whiteout: a device 0:0, or an empty file with the mark. The mark
    /// counts if the directory and the layer say that they have such files (Linux 6.7).
    pub fn is_whiteout(self: &Arc<Self>, name: Name<'_>, stat: &Stat) -> Result<bool> {
        if stat.is_whiteout_device() {
            return Ok(true);
        }
        let candidate = self.layer.xattr_whiteouts && stat.kind().is_file() && stat.size == 0;
        // In the upper, which only we read, the mark of the file is enough. So a directory may
        // become opaque before its whiteouts are removed.
        let in_upper = self.layer.number == 0;
        if !candidate || !(in_upper || self.marks()?.xattr_whiteouts) {
            return Ok(false);
        }
        let list = self.reach_entry(name, xattr::list)?;
        let marks = Namespace::BOTH.map(|ns| ns.key(Mark::Whiteout).to_bytes());
        Ok(xattr::names(&list).any(|name| marks.contains(&name)))
    }

    /// Whether an entry that a listing gives this type may be a whiteout or of another type, so
    /// that its attributes have to be read.
    #[must_use]
    pub fn may_be_other(&self, kind: Option<FileType>) -> bool {
        match kind {
            None | Some(FileType::CharDevice) => true,
            Some(FileType::Regular) => {
                self.layer.xattr_whiteouts || self.layer.owner_storage != OwnerStorage::Inode
            }
            Some(_) => false,
        }
    }

    /// Whether the directory is impure: some entry may have its number from a lower. Read once.
    pub fn is_impure(self: &Arc<Self>) -> Result<bool> {
        if self.impure.load(Ordering::Acquire) == UNKNOWN {
            self.marks()?;
        }
        Ok(self.impure.load(Ordering::Acquire) == IMPURE)
    }

    /// The marks of the non-directory `name`.
    pub fn file_marks(self: &Arc<Self>, name: Name<'_>) -> Result<FileMarks> {
        self.reach_entry(name, |target| {
            let list = xattr::list(target)?;
            FileMarks::read(xattr::names(&list), |key| xattr::get(target, key))
        })
    }

    /// The marks of this directory.
    pub fn marks(self: &Arc<Self>) -> Result<DirMarks> {
        let marks = self.reach(|fd| read_marks(Target::Fd(fd)))?;
        let found = if marks.impure { IMPURE } else { PURE };
        // Another thread may have set the mark meanwhile.
        let (acquire, release) = (Ordering::Acquire, Ordering::AcqRel);
        self.impure.compare_exchange(UNKNOWN, found, release, acquire).ok();
        Ok(marks)
    }

    /// Whether this directory holds the file that makes it opaque the AUFS way.
    pub fn has_aufs_opaque(self: &Arc<Self>) -> Result<bool> {
        Ok(self.layer.aufs && self.stat_entry(Name::new(aufs::OPAQUE)?)?.is_some())
    }

    /// Classifies a name as AUFS does, or as plain if this mount does not read such names.
    #[must_use]
    pub fn classify<'a>(&self, name: &'a [u8]) -> AufsName<'a> {
        if self.layer.aufs { aufs::classify(name) } else { AufsName::Plain }
    }

    /// Whether a file `.wh.NAME` stands beside `name`, which hides it in the layers below.
    pub fn has_whiteout_file(self: &Arc<Self>, name: Name<'_>) -> Result<bool> {
        // A name that is too long for a whiteout beside it has none.
        match Name::new(&aufs::whiteout_of(name.bytes())) {
            Ok(marker) if self.layer.aufs => Ok(self.stat_entry(marker)?.is_some()),
            _ => Ok(false),
        }
    }

    /// Calls `each` for every entry as it lies on the disk, markers included.
    pub fn for_each(self: &Arc<Self>, each: impl FnMut(Entry<'_>) -> Result<()>) -> Result<()> {
        let fd = match self.fd()? {
            fd if fd.is_path_only() => self.open_to_list()?,
            fd => fd,
        };
        let mut listed = self.listing.lock();
        // A descriptor of the upper may list what there was before: on btrfs, what there was when
        // it was opened or rewound (`btrfs_opendir`, fs/btrfs/inode.c).
        if std::mem::replace(&mut *listed, true) || self.layer.number == 0 {
            dir::rewind(fd.as_ref().as_fd())?;
        }
        let on_device = self.identity.get().is_some_and(|it| { it.dev } == self.layer.dev);
        let end = if on_device { self.layer.end } else { dir::End::UNKNOWN };
        dir::for_each_from_here(fd.as_ref().as_fd(), end, each)
    }

    /// A descriptor to read the file `name`.
    pub fn open_to_read(self: &Arc<Self>, name: Name<'_>) -> Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        self.reach_entry(name, |file| at::open_target(file, flags))
    }
}

fn read_marks(target: Target<'_>) -> Result<DirMarks> {
    let list = xattr::list(target)?;
    if list.is_empty() {
        return Ok(DirMarks::default());
    }
    DirMarks::read(xattr::names(&list), |key| match xattr::get(target, key) {
        // The attribute vanished between the two calls. Marks of the trusted namespace are not
        // listed to those who cannot read them.
        Err(err) if xattr::is_absent(&err) => Ok(Vec::new()),
        other => other,
    })
}

macro_rules! kind_of_dir {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(Arc<LayerDir>);

        impl $name {
            /// The directory `name` in this one, whose attributes are `stat`.
            #[must_use]
            pub fn child(&self, name: Name<'_>, stat: &Stat) -> Self {
                Self(self.0.child(name, Some(stat)))
            }

            /// The directory to be read, whatever its kind.
            #[must_use]
            pub fn dir(&self) -> &Arc<LayerDir> {
                &self.0
            }
        }
    };
}

kind_of_dir! {
    /// A directory of a lower layer. Nothing can be changed through it.
    LowerDir
}

impl LowerDir {
    /// The root of a lower, from its descriptor. Facts about the layer stay valid as long as
    /// `settles` says.
    pub(super) fn root(
        fd: OwnedFd,
        layer: u16,
        owner_storage: OwnerStorage,
        aufs: bool,
        settles: Option<Duration>,
        cache: &Arc<FdCache>,
    ) -> Result<Self> {
        Ok(Self(LayerDir::root(fd, layer, owner_storage, aufs, settles, cache, None)?))
    }

    /// The directory `name` in this one, as a listing shows it. Its attributes are read when it is
    /// opened.
    #[must_use]
    pub fn child_as_listed(&self, name: Name<'_>) -> Self {
        Self(self.0.child(name, None))
    }
}

kind_of_dir! {
    /// A directory of the upper layer.
    UpperDir
}

impl Drop for LayerDir {
    /// Drops a chain of directories in a loop, because a tree may be deeper than a stack.
    fn drop(&mut self) {
        let mut above = self.place.get_mut().take().map(|place| place.above);
        while let Some(dir) = above {
            above = Arc::into_inner(dir)
                .and_then(|mut dir| dir.place.get_mut().take().map(|place| place.above));
        }
    }
}

impl UpperDir {
    /// The root of the upper, or another directory that we alone change, from its descriptor.
    pub(super) fn root(
        fd: OwnedFd,
        layer: u16,
        owner_storage: OwnerStorage,
        aufs: bool,
        cache: &Arc<FdCache>,
        grants: Option<Arc<Grants>>,
    ) -> Result<Self> {
        Ok(Self(LayerDir::root(fd, layer, owner_storage, aufs, None, cache, grants)?))
    }

    /// A descriptor of the directory.
    pub(super) fn fd(&self) -> Result<Arc<Fd>> {
        self.0.fd()
    }

    /// The directory `name` in this one, which we have just made. It is not impure.
    #[must_use]
    pub fn new_child(&self, name: Name<'_>, stat: &Stat) -> Self {
        let child = self.child(name, stat);
        child.0.impure.store(PURE, Ordering::Release);
        child
    }

    /// Notes that the directory carries `impure` now.
    pub(super) fn is_impure_now(&self) {
        self.0.impure.store(IMPURE, Ordering::Release);
    }

    /// Notes that the directory has been renamed.
    pub(crate) fn moved(&self, to: &UpperDir, name: Name<'_>) {
        *self.0.place.write() = Some(Place::new(&to.0, name));
    }
}
