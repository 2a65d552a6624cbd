//! Copy-up of one object of a lower into a directory of the upper.
//!
//! The copy is built in the work directory, with owner, mode, attributes, ACLs and times. Its data
//! is forced to the disk, unless the mount is volatile. Then one rename makes it visible. For users
//! it is the same object, which comes from another layer now. The times of its directory stay.
//!
//! A crash before the rename leaves the lower object visible, a crash after it leaves the copy.
//! Both look the same, except for a change of attributes that only the copy has.
//!
//! A copy is made with its final mode, without the bits that a later step could clear. Then its
//! attributes are read, and only what is missing is set.

use std::os::fd::{AsFd, BorrowedFd};

use crate::error::{Context, Errno, Result, best_effort};
use crate::format::nlink::Count;
use crate::format::overlay::{Mark, Namespace};
use crate::layer::marks::drop_mark;
use crate::layer::upper::Given;
use crate::layer::{Fd, FileSystems, LowerDir, Over, OwnerStorage, Staged, Upper, UpperDir};
use crate::merge::attr::{self, Change};
use crate::merge::found::{Contents, Source};
use crate::merge::links::Plan;
use crate::merge::stack::DirStack;
use crate::merge::xattr;
use crate::sys::at::SetTime;
use crate::sys::commit::unseen;
use crate::sys::{
    FileType, Name, OwnedWritable, Stat, Target, Writable, WritableFd, at, file, stat,
};

/// The part of a file's data that a copy needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// All of it.
    All,
    /// The data of a file of this size in bytes, which becomes the size of the copy.
    UpTo(u64),
    /// No data: it stays below (metacopy). A file without data is copied whole all the same, and so
    /// is a file with several names, which may lead to different places below.
    Below,
}

impl Data {
    /// The number of bytes to copy.
    fn len(self, was: &Stat) -> u64 {
        match self {
            Self::All | Self::Below => was.size,
            Self::UpTo(size) => was.size.min(size),
        }
    }
}

/// The mode bits with which an object is made. Set-id bits follow, as writes and chown(2) clear
/// them.
const PLAIN: u32 = 0o777;
/// The mode bits that we need to write data and attributes of a file that is being made. Nobody
/// else can reach it: the work directory is ours alone.
const OUR_FILE: u32 = 0o600;
/// The mode bits that we need to write entries and attributes of a directory that is being made.
const OUR_DIR: u32 = 0o700;
/// The name that a directory without a name is given in messages.
const NOWHERE: &[u8] = b"#removed";

/// The place in the upper where a copy is to appear.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The directory in the upper.
    pub dir: &'a UpperDir,
    /// The name there.
    pub name: Name<'a>,
}

/// The object that is to be copied up.
#[derive(Clone, Copy, Debug)]
pub struct Lower<'a> {
    /// The directory of the lower.
    pub dir: &'a LowerDir,
    /// The name there.
    pub name: Name<'a>,
    /// Where the data of the object is.
    pub data: &'a Contents,
    /// A descriptor to read the object, if it is open.
    pub open: Option<BorrowedFd<'a>>,
    /// The file systems of the layers.
    pub filesystems: &'a FileSystems,
    /// The entry that the copy gets in the index of hard links, if any.
    pub index: Option<&'a Plan>,
    /// The object is known to have no extended attributes that users see.
    pub no_xattrs: bool,
    /// The change of mode, owner and times that the copy gets.
    pub change: &'a Change,
}

/// A copy that nobody sees yet. It takes long to build, so no directory is locked meanwhile.
#[derive(Debug)]
pub struct Copied {
    staged: Staged,
    /// Attributes of the copy when it was made. Device and number have not changed since.
    pub made: Stat,
    /// The copy may have set-id bits.
    pub set_id: bool,
    /// A descriptor of the copy, if it is a regular file with its data.
    pub file: Option<OwnedWritable>,
    /// Where the data of the copy is.
    pub data: Contents,
    /// The copy has to be forced to the disk before it is published.
    to_sync: bool,
}

/// Copies a file, symbolic link, device, FIFO or socket into the work directory.
///
/// # Errors
/// Those of reading the lower and of writing the upper: EIO, ENOSPC, EDQUOT; EPERM for an owner
/// that we may not give. The lower object stays as it is.
pub fn build(upper: &Upper, lower: &Lower<'_>, was: &Stat, data: Data) -> Result<Copied> {
    let copied = build_unsynced(upper, lower, was, data)?;
    copied.sync(upper).context(|| format!("copy-up of {}", lower.name))?;
    Ok(copied)
}

/// Copies as [`build`] does, but does not force the data to the disk. The caller does that before
/// the copy is published ([`Upper::sync_all`]).
///
/// # Errors
/// As for [`build`].
pub fn build_unsynced(upper: &Upper, lower: &Lower<'_>, was: &Stat, data: Data) -> Result<Copied> {
    let below = data == Data::Below && was.nlink == 1 && was.size > 0;
    let make = || match was.kind() {
        FileType::Regular if below => build_without_data(upper, lower, was),
        FileType::Regular => build_file(upper, lower, was, data),
        _ => build_other(upper, lower, was),
    };
    unseen(make).context(|| format!("copy-up of {}", lower.name))
}

fn build_file(upper: &Upper, lower: &Lower<'_>, was: &Stat, data: Data) -> Result<Copied> {
    let (staged, to) = upper.stage_file(lower.first_mode(was) | OUR_FILE)?;
    let made = stat::fstat(to.as_fd())?;
    let len = data.len(was);
    lower.fill(upper, to.writable(), was, len)?;
    let dir = lower.dir.dir().fd()?;
    let source = dir.as_ref().as_fd();
    let copy = to.writable().object();
    note_origin(upper, lower, source, was, copy)?;
    finish(upper, &lower.original(source, was), copy, &made)?;
    if let Data::UpTo(size) = data {
        // The copy is cut as a file of the upper: that may clear set-id bits and capabilities too.
        file::truncate(to.writable(), size)?;
    }
    let set_id = lower.may_set_id(was);
    let (file, data, to_sync) = (Some(to), Contents::Own, upper.must_sync(len));
    Ok(Copied { staged, made, set_id, file, data, to_sync })
}

/// Copies the data that another file holds for this one.
fn fill_from(upper: &Upper, source: &Source, to: WritableFd<'_>, len: u64) -> Result<()> {
    let from = source.open()?;
    upper.copy_data(from.as_fd(), to, &stat::fstat(from.as_fd())?, len)
}

/// Copies the metadata alone. The copy is synced only if the mount is strict: no data could be
/// lost, and a file system with a journal writes the attributes before the name.
fn build_without_data(upper: &Upper, lower: &Lower<'_>, was: &Stat) -> Result<Copied> {
    let data = match lower.data {
        Contents::Own => {
            let source = Source { dir: lower.dir.clone(), name: lower.name.bytes().into() };
            Contents::Elsewhere(Box::new(source))
        }
        Contents::Elsewhere(source) => Contents::Elsewhere(source.clone()),
        Contents::Missing => return Err(Errno::EIO.into()),
    };
    let (staged, to) = upper.stage_file(lower.first_mode(was) | OUR_FILE)?;
    let made = stat::fstat(to.as_fd())?;
    // The copy has the size of the data (`ovl_do_copy_up`, fs/overlayfs/copy_up.c).
    file::truncate(to.writable(), was.size)?;
    let dir = lower.dir.dir().fd()?;
    let (source, copy) = (dir.as_ref().as_fd(), to.writable().object());
    note_origin(upper, lower, source, was, copy)?;
    finish(upper, &lower.original(source, was), copy, &made)?;
    upper.set_metacopy(copy)?;
    if upper.is_strict() {
        upper.sync(to.as_fd(), false)?;
    }
    let (set_id, to_sync) = (lower.may_set_id(was), false);
    Ok(Copied { staged, made, set_id, file: None, data, to_sync })
}

fn build_other(upper: &Upper, lower: &Lower<'_>, was: &Stat) -> Result<Copied> {
    let dir = lower.dir.dir().fd()?;
    let original = lower.original(dir.as_ref().as_fd(), was);
    let staged = match was.kind() {
        FileType::Symlink => {
            upper.stage_symlink(&original.owner_storage.readlink(original.target)?)?
        }
        kind => upper.stage_node(kind.mode() | lower.first_mode(was), was.rdev)?,
    };
    let made = stat::stat(staged.object()?.target())?;
    note_origin(upper, lower, dir.as_ref().as_fd(), was, staged.object()?)?;
    finish(upper, &original, staged.object()?, &made)?;
    let (set_id, data, to_sync) = (lower.may_set_id(was), Contents::Own, false);
    Ok(Copied { staged, made, set_id, file: None, data, to_sync })
}

impl Lower<'_> {
    /// Copies the first `len` bytes of data.
    fn fill(&self, upper: &Upper, to: WritableFd<'_>, was: &Stat, len: u64) -> Result<()> {
        match (self.data, self.open) {
            (Contents::Missing, _) => Err(Errno::EIO.into()),
            _ if len == 0 => Ok(()),
            (Contents::Own, Some(from)) => upper.copy_data(from, to, was, len),
            (Contents::Own, None) => {
                let from = self.dir.dir().open_to_read(self.name)?;
                upper.copy_data(from.as_fd(), to, was, len)
            }
            (Contents::Elsewhere(source), _) => fill_from(upper, source, to, len),
        }
    }

    /// The permission bits that a copy is made with.
    fn first_mode(&self, was: &Stat) -> u32 {
        self.change.mode.unwrap_or(was.mode) & PLAIN
    }

    fn may_set_id(&self, was: &Stat) -> bool {
        (was.mode | self.change.mode.unwrap_or(0)) & (libc::S_ISUID | libc::S_ISGID) != 0
    }

    /// The object as an original of metadata; `dir` is its directory.
    fn original<'a>(&'a self, dir: BorrowedFd<'a>, was: &'a Stat) -> Original<'a> {
        Original {
            target: Target::At(dir, self.name),
            was,
            owner_storage: self.dir.dir().owner_storage(),
            no_xattrs: self.no_xattrs,
            change: self.change,
        }
    }
}

/// Notes the origin of a copy, which gives the copy its number after the next mount. A copy of one
/// of several hard links has its own number if it is not in the index (`ovl_do_copy_up`,
/// fs/overlayfs/copy_up.c).
fn note_origin(
    upper: &Upper,
    lower: &Lower<'_>,
    dir: BorrowedFd<'_>,
    was: &Stat,
    copy: Writable<'_>,
) -> Result<()> {
    if let Some(plan) = lower.index {
        return upper.set_index_mark(copy, &plan.handle);
    }
    if was.nlink == 1 {
        upper.set_origin(copy, &lower.filesystems.origin(was.dev, dir, lower.name)?);
    }
    Ok(())
}

/// The object that metadata is copied from.
struct Original<'a> {
    target: Target<'a>,
    was: &'a Stat,
    /// Where its layer keeps owners and modes.
    owner_storage: OwnerStorage,
    /// The object is known to have no extended attributes that users see.
    no_xattrs: bool,
    /// The change that the copy gets.
    change: &'a Change,
}

/// Gives a copy the metadata of its original. So far the copy has the attributes `made`. The owner
/// comes first, as chown(2) clears set-id bits and capabilities; the times come last, as all other
/// calls change them.
fn finish(upper: &Upper, from: &Original<'_>, to: Writable<'_>, made: &Stat) -> Result<()> {
    let Original { target, was, owner_storage, no_xattrs, change } = *from;
    let given = upper.give_owner(to, made, (target, was, owner_storage))?;
    let has_acl = !no_xattrs
        && xattr::copy((target, owner_storage.dialect()), (to, upper.owner_storage().dialect()))?;
    // A new mode is set in place of the old one, unless another step comes between the two.
    let has_mode = was.kind() != FileType::Symlink;
    let at_once = has_mode && given == Given::Owner && !change.gives_owner();
    let mode = change.mode.filter(|_| at_once).map_or(was.mode, |mode| was.kind().mode() | mode);
    let known = Some(made).filter(|_| !has_acl);
    // Marks come before the mode, which may forbid to set them.
    if was.protection.is_any() && matches!(was.kind(), FileType::Regular | FileType::Directory) {
        protect(upper, to, was)?;
    }
    upper.give_mode(to, known, &Stat { mode, ..*was }, given)?;
    if !at_once {
        attr::apply(upper, to, &change.without_times())?;
    }
    at::set_times(to, change.atime.or(was.atime), change.mtime.or(was.mtime))
}

/// Gives a copy the protection of its original, if the upper can hold that (`ovl_copy_fileattr`,
/// fs/overlayfs/copy_up.c).
fn protect(upper: &Upper, to: Writable<'_>, was: &Stat) -> Result<()> {
    let marked = upper.set_protection(to, was.protection);
    if !matches!(&marked, Err(err) if err.errno() == Errno::EPERM) {
        return marked;
    }
    best_effort("a copy is not immutable or append-only any more", marked);
    Ok(())
}

impl Copied {
    /// Forces the data to the disk, unless there is none or the mount is volatile.
    ///
    /// # Errors
    /// EIO, ENOSPC, EDQUOT of fsync(2).
    pub fn sync(&self, upper: &Upper) -> Result<()> {
        match &self.file {
            Some(file) if self.to_sync => upper.sync(file.as_fd(), false),
            _ => Ok(()),
        }
    }

    /// Changes mode, owner and times of the copy.
    ///
    /// # Errors
    /// As for [`attr::apply`].
    pub fn change(&mut self, upper: &Upper, change: &Change) -> Result<()> {
        self.set_id |= change.mode.is_some();
        attr::apply(upper, self.staged.object()?, change)
    }

    /// Makes the copy visible, and restores the times of its directory.
    pub fn publish(self, upper: &Upper, to: Destination<'_>) -> Result<()> {
        let times = to.dir.dir().stat()?;
        upper.set_impure(to.dir)?;
        self.staged.publish(to.dir, to.name, Over::Nothing)?;
        upper.restore_times(to.dir, &times);
        upper.counters().copy_ups.count();
        Ok(())
    }

    /// Makes the copy an entry of the index, for a file of `count` names. From then on, every name
    /// that only the lower has leads to the copy.
    pub fn publish_in_index(self, upper: &Upper, plan: &Plan, count: u32) -> Result<()> {
        // The entry will be its only link.
        self.staged.mark(|copy| upper.set_count(copy, Count::by_upper(count, 1)))?;
        upper.publish_in_index(self.staged, Name::new(&plan.entry)?, &plan.handle)?;
        upper.counters().copy_ups.count();
        Ok(())
    }
}

/// Builds a copy without a name, for a lower file that was unlinked in use and is now written to.
pub fn build_unnamed(
    upper: &Upper,
    lower: &Lower<'_>,
    was: &Stat,
    data: Data,
) -> Result<OwnedWritable> {
    unseen(|| build_without_name(upper, lower, was, data))
}

fn build_without_name(
    upper: &Upper,
    lower: &Lower<'_>,
    was: &Stat,
    data: Data,
) -> Result<OwnedWritable> {
    let dir = lower.dir.dir().fd()?;
    let source = dir.as_ref().as_fd();
    let to = upper.unnamed_file(OUR_FILE)?;
    let made = &stat::fstat(to.as_fd())?;
    lower.fill(upper, to.writable(), was, data.len(was))?;
    finish(upper, &lower.original(source, was), to.writable().object(), made)?;
    upper.counters().copy_ups.count();
    Ok(to)
}

/// Builds a copy without a name of a link, device, FIFO or socket that was removed while in use.
/// Returns its only descriptor, and the attributes that it was made with (device and number).
pub fn build_other_unnamed(upper: &Upper, lower: &Lower<'_>, was: &Stat) -> Result<(Fd, Stat)> {
    unseen(|| {
        let Copied { staged, made, .. } = build_other(upper, lower, was)?;
        upper.counters().copy_ups.count();
        Ok((staged.into_unnamed()?, made))
    })
}

/// Completes a file of the upper, open to write: copies the data that another file holds for it.
pub fn complete(upper: &Upper, to: WritableFd<'_>, source: &Source) -> Result<()> {
    let make = || {
        let was = stat::fstat(to.as_fd())?;
        let copied = fill_from(upper, source, to, was.size);
        // The times are restored after a failure too, as nothing has changed then.
        at::set_times(to.object(), SetTime::At(was.atime), SetTime::At(was.mtime))?;
        copied?;
        if !upper.is_volatile() {
            upper.sync(to.as_fd(), false)?;
        }
        let keys = Namespace::BOTH.map(|namespace| namespace.key(Mark::Metacopy));
        keys.into_iter().try_for_each(|key| drop_mark(to.object(), key))
    };
    unseen(make).context(|| format!("completing the data of {}", source.name.escape_ascii()))
}

/// A new upper part of a merged directory, in the work directory.
#[derive(Debug)]
#[must_use = "what is not published is removed"]
pub struct CopiedDir {
    staged: Staged,
    made: Stat,
}

/// Makes the upper part of a merged directory, with the effective metadata. It carries no mark, so
/// that it goes on merging with the lowers.
pub fn directory(upper: &Upper, from: &DirStack) -> Result<CopiedDir> {
    unseen(|| {
        let was = from.stat()?;
        let staged = upper.stage_dir(was.permissions() & PLAIN | OUR_DIR)?;
        let made = stat::stat(staged.object()?.target())?;
        // It is opened now because its final mode may forbid that.
        let to_sync = if upper.is_strict() { Some(staged.open_dir()?) } else { None };
        {
            let lends = from.meta_dir()?;
            let (source, owner_storage) = (lends.fd()?, lends.owner_storage());
            let target = Target::Fd(source.as_ref().as_fd());
            let (was, change) = (&was, &Change::NONE);
            let original = Original { target, was, owner_storage, no_xattrs: false, change };
            finish(upper, &original, staged.object()?, &made)?;
        }
        if let Some(dir) = to_sync {
            upper.sync(dir.as_fd(), false)?;
        }
        Ok(CopiedDir { staged, made })
    })
}

impl CopiedDir {
    /// Publishes the directory at its place, and restores the times of the directory above.
    pub fn publish(self, upper: &Upper, to: Destination<'_>) -> Result<UpperDir> {
        unseen(|| {
            let times = to.dir.dir().stat()?;
            self.staged.publish(to.dir, to.name, Over::Nothing)?;
            upper.restore_times(to.dir, &times);
            upper.counters().copied_dirs.count();
            Ok(to.dir.new_child(to.name, &self.made))
        })
    }

    /// The copy of one that was removed: it has no name either, and all goes by the descriptor.
    pub fn into_unnamed(self, upper: &Upper) -> Result<(Fd, UpperDir)> {
        let nowhere = upper.root().new_child(Name::new(NOWHERE)?, &self.made);
        upper.counters().copied_dirs.count();
        Ok((unseen(|| self.staged.into_unnamed())?, nowhere))
    }
}
