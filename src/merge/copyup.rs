//! Bringing one object of a lower into the upper, where its directory already is.
//!
//! The copy is built in the work directory with owner, mode, attributes, ACLs and times, its data
//! is forced out (unless the mount is volatile), and one rename makes it visible. Nothing of the
//! tree changes by that: the same object now comes from another layer. The times of the directory
//! that gets the entry are put back.
//!
//! A crash before the rename leaves the lower object visible, a crash after it the copy; both look
//! the same.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Context, Errno, Result, best_effort};
use crate::format::links::Count;
use crate::format::overlay::{Mark, Namespace};
use crate::layer::marks::drop_mark;
use crate::layer::{FileSystems, Keeping, LowerDir, Over, Staged, Upper, UpperDir};
use crate::merge::links::Plan;
use crate::merge::lookup::{Contents, Source};
use crate::merge::stack::DirStack;
use crate::merge::xattr;
use crate::sys::at::SetTime;
use crate::sys::copy::{self, Moved};
use crate::sys::{FileType, Name, Stat, Target, at, file, stat};

/// How much of a file's data is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// All of it.
    All,
    /// The file is about to be cut to this size.
    UpTo(u64),
    /// None: the copy says that its data stays below (metacopy). Files without data, and those with
    /// several names, which may show in different places below, are copied whole all the same.
    Below,
}

impl Data {
    /// Whether contents are missing from the copy: it is then as new as the change that wants it
    /// so.
    fn cuts(self, was: &Stat) -> bool {
        matches!(self, Self::UpTo(size) if size < was.size)
    }
}

/// Where a copy is to appear.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The directory in the upper.
    pub dir: &'a UpperDir,
    /// The name there.
    pub name: Name<'a>,
}

/// What is to be copied up.
#[derive(Clone, Copy, Debug)]
pub struct Lower<'a> {
    /// The directory of the lower.
    pub dir: &'a LowerDir,
    /// The name there.
    pub name: Name<'a>,
    /// Where its data is.
    pub data: &'a Contents,
    /// What its layer lies on.
    pub filesystems: &'a FileSystems,
    /// How the copy gets into the index of hard links, if it does.
    pub index: Option<&'a Plan>,
}

/// A copy that nobody sees yet: the expensive part, made with no lock held.
#[derive(Debug)]
pub struct Copied {
    staged: Staged,
    /// The copy's attributes.
    pub stat: Stat,
    /// The copy's descriptor, if it is a regular file with its data.
    pub file: Option<OwnedFd>,
    /// Where its data is.
    pub data: Contents,
    /// It can get into the index of hard links.
    pub can_index: bool,
}

/// Copies a file, link, device, FIFO or socket into the work directory.
///
/// # Errors
/// What reading the lower and writing the upper says: EIO, ENOSPC, EDQUOT, EPERM for an owner that
/// we may not give. The lower object stays as it is.
pub fn build(upper: &Upper, lower: &Lower<'_>, was: &Stat, data: Data) -> Result<Copied> {
    let copied = build_unsynced(upper, lower, was, data)?;
    copied.sync(upper).context(|| format!("copy-up of {}", lower.name))?;
    Ok(copied)
}

/// The same without forcing the data to the disk, which has to be done before the copy is
/// published ([`Upper::sync_all`]).
///
/// # Errors
/// As [`build`].
pub fn build_unsynced(upper: &Upper, lower: &Lower<'_>, was: &Stat, data: Data) -> Result<Copied> {
    let below = data == Data::Below && was.nlink == 1 && was.size > 0;
    let make = || match was.kind() {
        FileType::Regular if below => build_without_data(upper, lower, was),
        FileType::Regular => build_file(upper, lower, was, data),
        _ => build_other(upper, lower, was),
    };
    make().context(|| format!("copy-up of {}", lower.name))
}

fn build_file(upper: &Upper, lower: &Lower<'_>, was: &Stat, data: Data) -> Result<Copied> {
    let from = match lower.data {
        Contents::Own => lower.dir.dir().open_to_read(lower.name)?,
        Contents::Elsewhere(source) => source.open()?,
        Contents::Missing => return Err(Errno::EIO.into()),
    };
    // Nobody but us while the data is on its way.
    let (staged, to) = upper.stage_file(0o600)?;
    fill(upper, from.as_fd(), &to, was, data)?;
    let dir = lower.dir.dir().fd()?;
    let source = dir.as_ref().as_fd();
    let copy = Target::Fd(to.as_fd());
    let can_index = note_origin(upper, lower, source, was, copy)?;
    let original = Original {
        target: Target::At(source, lower.name),
        was,
        keeping: lower.dir.dir().keeping(),
    };
    finish(upper, &original, copy)?;
    if data.cuts(was) {
        at::set_times(copy, SetTime::Omit, SetTime::Now)?;
    }
    let stat = upper.keeping().stat(copy)?;
    Ok(Copied { staged, stat, file: Some(to), data: Contents::Own, can_index })
}

/// A copy of the metadata alone. Nothing is synced, unless the mount asks for it: there is no data
/// that could be lost, and a file system with a journal writes the attributes before the name.
fn build_without_data(upper: &Upper, lower: &Lower<'_>, was: &Stat) -> Result<Copied> {
    let data = match lower.data {
        Contents::Own => {
            let source = Source { dir: lower.dir.clone(), name: lower.name.bytes().into() };
            Contents::Elsewhere(Box::new(source))
        }
        Contents::Elsewhere(source) => Contents::Elsewhere(source.clone()),
        Contents::Missing => return Err(Errno::EIO.into()),
    };
    let (staged, to) = upper.stage_file(0o600)?;
    // The size is that of the data (ovl_do_copy_up, fs/overlayfs/copy_up.c).
    file::truncate(to.as_fd(), was.size)?;
    let dir = lower.dir.dir().fd()?;
    let (source, copy) = (dir.as_ref().as_fd(), Target::Fd(to.as_fd()));
    let can_index = note_origin(upper, lower, source, was, copy)?;
    let keeping = lower.dir.dir().keeping();
    finish(upper, &Original { target: Target::At(source, lower.name), was, keeping }, copy)?;
    upper.set_metacopy(copy)?;
    if upper.is_strict() {
        upper.sync(to.as_fd(), false)?;
    }
    let stat = upper.keeping().stat(copy)?;
    Ok(Copied { staged, stat, file: None, data, can_index })
}

fn fill(upper: &Upper, from: BorrowedFd<'_>, to: &OwnedFd, was: &Stat, data: Data) -> Result<()> {
    let (len, whole) = match data {
        Data::All | Data::Below => (was.size, true),
        Data::UpTo(size) => (was.size.min(size), size >= was.size),
    };
    note_moved(upper, copy::data(from, to.as_fd(), len, whole)?);
    Ok(())
}

fn note_moved(upper: &Upper, moved: Moved) {
    match moved {
        Moved::Shared => upper.tally().reflinks.count(),
        Moved::Copied(bytes) => upper.tally().copied_bytes.add(bytes),
    }
}

fn build_other(upper: &Upper, lower: &Lower<'_>, was: &Stat) -> Result<Copied> {
    let dir = lower.dir.dir().fd()?;
    let (target, keeping) =
        (Target::At(dir.as_ref().as_fd(), lower.name), lower.dir.dir().keeping());
    let staged = match was.kind() {
        FileType::Symlink => upper.stage_symlink(&keeping.readlink(target)?)?,
        _ => upper.stage_node(was.mode, was.rdev)?,
    };
    let can_index = note_origin(upper, lower, dir.as_ref().as_fd(), was, staged.target()?)?;
    finish(upper, &Original { target, was, keeping }, staged.target()?)?;
    let stat = upper.keeping().stat(staged.target()?)?;
    Ok(Copied { staged, stat, file: None, data: Contents::Own, can_index })
}

/// Notes the origin of a copy, which gives it its number after the next mount. Returns whether it
/// can get into the index: one of several hard links that cannot gets a number of its own, as in
/// the kernel's overlayfs.
fn note_origin(
    upper: &Upper,
    lower: &Lower<'_>,
    dir: BorrowedFd<'_>,
    was: &Stat,
    copy: Target<'_>,
) -> Result<bool> {
    if let Some(plan) = lower.index {
        return upper.set_index_marks(copy, &plan.handle, &plan.layer);
    }
    if was.nlink == 1 {
        upper.set_origin(copy, &lower.filesystems.origin(was.dev, dir, lower.name));
    }
    Ok(false)
}

/// What metadata is copied from.
struct Original<'a> {
    target: Target<'a>,
    was: &'a Stat,
    /// Where its layer keeps owners and modes.
    keeping: Keeping,
}

/// Copies the metadata of an original. The owner first, as chown(2) takes set-id bits and
/// capabilities away; the times last, as everything else changes them.
fn finish(upper: &Upper, from: &Original<'_>, to: Target<'_>) -> Result<()> {
    let Original { target, was, keeping } = *from;
    let given = upper.give_owner(to, was, keeping)?;
    xattr::copy((target, keeping.dialect()), (to, upper.keeping().dialect()))?;
    upper.give_mode(to, was, given)?;
    if was.protection.is_any() && matches!(was.kind(), FileType::Regular | FileType::Directory) {
        protect(upper, to, was)?;
    }
    at::set_times(to, SetTime::At(was.atime), SetTime::At(was.mtime))
}

/// A copy keeps what its original is protected from, where the upper can hold that
/// (`ovl_copy_fileattr`, fs/overlayfs/copy_up.c).
fn protect(upper: &Upper, to: Target<'_>, was: &Stat) -> Result<()> {
    let marked = upper.set_protection(to, was.protection);
    if !matches!(&marked, Err(err) if err.errno() == Errno::EPERM) {
        return marked;
    }
    best_effort("a copy is not immutable or append-only any more", marked);
    Ok(())
}

impl Copied {
    /// Forces the data to the disk, unless the mount is volatile.
    ///
    /// # Errors
    /// EIO, ENOSPC, EDQUOT of fsync(2).
    pub fn sync(&self, upper: &Upper) -> Result<()> {
        match &self.file {
            Some(file) if !upper.is_volatile() => upper.sync(file.as_fd(), false),
            _ => Ok(()),
        }
    }

    /// Makes the copy visible and leaves the times of its directory as they were.
    pub fn publish(self, upper: &Upper, to: Destination<'_>) -> Result<()> {
        let times = to.dir.dir().stat()?;
        upper.set_impure(to.dir)?;
        self.staged.publish(to.dir, to.name, Over::Nothing)?;
        upper.restore_times(to.dir, &times);
        upper.tally().copy_ups.count();
        Ok(())
    }

    /// Makes the copy an entry of the index, for a file of `count` names: every name that only the
    /// lower has leads to it from then on.
    pub fn publish_in_index(self, upper: &Upper, plan: &Plan, count: u32) -> Result<()> {
        // The entry will be its only link.
        upper.set_count(self.staged.target()?, Count::by_upper(count, 1))?;
        upper.publish_in_index(self.staged, Name::new(&plan.entry)?, &plan.handle)?;
        upper.tally().copy_ups.count();
        Ok(())
    }
}

/// A copy without a name, for a lower file that was unlinked while in use and is now written to.
/// `source` has its data, if it has none itself.
pub fn build_unnamed(
    upper: &Upper,
    from: BorrowedFd<'_>,
    source: &Contents,
    keeping: Keeping,
    data: Data,
) -> Result<OwnedFd> {
    let target = Target::Fd(from);
    let was = &keeping.stat(target)?;
    let to = upper.unnamed_file(0o600)?;
    match source {
        Contents::Own => fill(upper, from, &to, was, data)?,
        Contents::Elsewhere(source) => fill(upper, source.open()?.as_fd(), &to, was, data)?,
        Contents::Missing => return Err(Errno::EIO.into()),
    }
    finish(upper, &Original { target, was, keeping }, Target::Fd(to.as_fd()))?;
    upper.tally().copy_ups.count();
    Ok(to)
}

/// Gives a file of the upper, open to write, the data that it has elsewhere so far.
pub fn complete(upper: &Upper, to: BorrowedFd<'_>, source: &Source) -> Result<()> {
    let make = || {
        let from = source.open()?;
        let was = stat::fstat(to)?;
        let copied = copy::data(from.as_fd(), to, was.size, false);
        // Also where it failed: nothing has changed then.
        at::set_times(Target::Fd(to), SetTime::At(was.atime), SetTime::At(was.mtime))?;
        note_moved(upper, copied?);
        if !upper.is_volatile() {
            upper.sync(to, false)?;
        }
        let keys = Namespace::BOTH.map(|namespace| namespace.key(Mark::Metacopy));
        keys.into_iter().try_for_each(|key| drop_mark(Target::Fd(to), key))
    };
    make().context(|| format!("completing the data of {}", source.name.escape_ascii()))
}

/// Makes the upper directory of a merged one, with the effective metadata and without a mark: it
/// goes on merging with what is below.
pub fn directory(upper: &Upper, from: &DirStack, to: Destination<'_>) -> Result<UpperDir> {
    let make = || {
        let was = from.stat()?;
        let staged = upper.stage_dir(0o700)?;
        // As long as its mode is one that lets us.
        let to_sync = if upper.is_strict() { Some(staged.open_dir()?) } else { None };
        {
            let lends = from.meta_dir()?;
            let (source, keeping) = (lends.fd()?, lends.keeping());
            let target = Target::Fd(source.as_ref().as_fd());
            finish(upper, &Original { target, was: &was, keeping }, staged.target()?)?;
        }
        if let Some(dir) = to_sync {
            upper.sync(dir.as_fd(), false)?;
        }
        let made = stat::stat(staged.target()?)?;
        let times = to.dir.dir().stat()?;
        staged.publish(to.dir, to.name, Over::Nothing)?;
        upper.restore_times(to.dir, &times);
        upper.tally().copied_dirs.count();
        Ok(to.dir.child(to.name, &made))
    };
    make().context(|| format!("copy-up of directory {}", to.name))
}
