//! The work directory, in which changes are built.
//!
//! They are built in `WORKDIR/work`, as in the kernel's overlayfs. Objects that a crash left there
//! belong to no tree, and the next mount sweeps them.

use std::ffi::OsStr;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::fcntl::OFlag;

use crate::config::Durability;
use crate::error::{Context, Errno, Error, Result, best_effort};
use crate::format::overlay::{ACL_ACCESS, ACL_DEFAULT};
use crate::sys::commit::unseen;
use crate::sys::locks::Locks;
use crate::sys::trail::Trail;
use crate::sys::{FileType, Name, Target, Writable, WritableFd, at, creds, dir, file, stat, xattr};

/// The directory in WORKDIR where changes are built (fs/overlayfs/super.c, `OVL_WORKDIR_NAME`).
pub(super) const WORK: &[u8] = b"work";
/// The directory in `work` with an entry for each feature that the use of the upper needs.
const INCOMPAT: &[u8] = b"incompat";
/// The entry of `incompat` that a volatile mount keeps until its orderly end.
const VOLATILE: &[u8] = b"volatile";

const OPEN_DIR: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY);

/// Whether others use a directory too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nobody else uses it.
    Alone,
    /// Others use it.
    Shared,
}

/// An open work directory.
#[derive(Debug)]
pub struct Work {
    /// WORKDIR itself, which carries the lock of this mount.
    locked: OwnedFd,
    dir: OwnedFd,
    /// A part of our names that another mount of the same directory does not have.
    salt: u64,
    next: AtomicU64,
    durability: Durability,
    has_left: AtomicBool,
}

impl Work {
    /// Prepares `WORKDIR/work`: made if missing, emptied if nobody else uses it.
    ///
    /// # Errors
    /// EINVAL if `work/incompat` names a feature that forbids the use of this upper; otherwise what
    /// the calls say, such as EROFS, EACCES or ENOSPC.
    pub fn prepare(workdir: OwnedFd, durability: Durability, claim: Claim) -> Result<Self> {
        let name = Name::new(WORK)?;
        let made = at::mkdir(WritableFd::vouch(workdir.as_fd()), name, 0o700);
        if let Err(err) = made
            && err.errno() != Errno::EEXIST
        {
            return Err(err);
        }
        let dir = at::open(workdir.as_fd(), name, OPEN_DIR)
            .map_err(|err| of_another_user(workdir.as_fd(), err))?;
        if let Err(err) = file::lock_shared_when_free(dir.as_fd()) {
            tracing::debug!("nobody can see when this mount begins to end: {err}");
        }
        // The guard of a mount that lives is no sign of a crash.
        let is_shared = claim == Claim::Shared;
        check_incompat(dir.as_fd(), is_shared)?;
        make_plain(WritableFd::vouch(dir.as_fd()))
            .context(|| "taking group and ACLs off work")
            .map_err(|err| of_another_user(workdir.as_fd(), err))?;
        if !is_shared {
            sweep(WritableFd::vouch(dir.as_fd()))
                .context(|| "sweeping what an earlier mount left in work")?;
        }
        // The keys of a hash table are random numbers.
        let salt = RandomState::new().build_hasher().finish();
        let next = AtomicU64::new(1);
        let has_left = AtomicBool::new(false);
        let work = Self { locked: workdir, dir, salt, next, durability, has_left };
        if work.is_volatile() {
            work.guard()?;
        }
        Ok(work)
    }

    /// Leaves the guard of a volatile mount, as the kernel's `volatile` does: after a crash the
    /// upper is not to be trusted. Another mount that lives may have left it.
    fn guard(&self) -> Result<()> {
        let mut dir = at::reopen_dir(self.dir.as_fd())?;
        for name in [INCOMPAT, VOLATILE] {
            let name = Name::new(name)?;
            match at::mkdir(WritableFd::vouch(dir.as_fd()), name, 0o700) {
                Err(err) if err.errno() == Errno::EEXIST => {}
                other => other?,
            }
            dir = at::open(dir.as_fd(), name, OPEN_DIR)?;
        }
        Ok(())
    }

    /// Lets others see that the mount is ending.
    pub fn announce_end(&self) {
        if let Err(err) = file::unlock(self.dir.as_fd()) {
            tracing::debug!("nobody can see that this mount ends: {err}");
        }
    }

    /// Whether the mount that holds the lock of a WORKDIR is ending. It writes its data to the
    /// disk, which may take its time, and then releases the lock.
    #[must_use]
    pub fn is_ending(workdir: BorrowedFd<'_>) -> bool {
        // The mount in the way has another work directory, of which nothing is known.
        if file::lock_exclusive(workdir).is_ok() {
            best_effort("unlocking workdir", file::unlock(workdir));
            return false;
        }
        let dir = Name::new(WORK).and_then(|name| at::open(workdir, name, OPEN_DIR));
        // The lock is released at once, with the descriptor.
        dir.is_ok_and(|dir| file::lock_exclusive(dir.as_fd()).is_ok())
    }

    /// The directory `WORKDIR/work`.
    #[must_use]
    pub fn fd(&self) -> WritableFd<'_> {
        WritableFd::vouch(self.dir.as_fd())
    }

    /// The directory above it, WORKDIR.
    #[must_use]
    pub fn above(&self) -> BorrowedFd<'_> {
        self.locked.as_fd()
    }

    /// Whether nothing has to be forced to the disk.
    #[must_use]
    pub fn is_volatile(&self) -> bool {
        self.durability == Durability::Volatile
    }

    /// Whether copied metadata has to be on the disk before its name is.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.durability == Durability::Strict
    }

    /// A name that nothing in the work directory has.
    #[must_use]
    pub fn fresh_name(&self) -> String {
        // "#" and a number in hexadecimal, as the kernel names its temporaries.
        format!("#{:x}.{:x}", self.salt, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Removes `name` from the work directory, with all below it.
    pub fn discard(&self, name: &str) -> Result<()> {
        self.discard_known(name, None)
    }

    /// Removes `name`, with all below it. `is_dir` says whether it is a directory, if known.
    pub fn discard_known(&self, name: &str, is_dir: Option<bool>) -> Result<()> {
        unseen(|| remove(self.fd(), (name.as_bytes().into(), is_dir)))
    }
}

/// Adds the owner of `work` to an error, if that is why we have no access: another user has mounted
/// the upper before.
fn of_another_user(workdir: BorrowedFd<'_>, err: Error) -> Error {
    let found = Name::new(WORK).and_then(|name| stat::stat(Target::At(workdir, name)));
    match found {
        Ok(found)
            if matches!(err.errno(), Errno::EACCES | Errno::EPERM)
                && found.owner() != Some(creds::effective()) =>
        {
            err.context(format!(
                "its directory `work` belongs to user {}, who has mounted it before: remove that, \
                 or use another workdir",
                found.uid
            ))
        }
        _ => err,
    }
}

/// Makes the directory ours, of mode 0700 and without ACLs. It may have got setgid and ACLs from
/// the directory above, and would pass them on to all that is built in it.
fn make_plain(dir: WritableFd<'_>) -> Result<()> {
    let object = dir.object();
    for acl in [ACL_DEFAULT, ACL_ACCESS] {
        match xattr::remove(object, acl) {
            Err(err) if xattr::is_absent(&err) => {}
            other => other?,
        }
    }
    let (found, us) = (stat::stat(object.target())?, creds::effective());
    if found.owner() != Some(us) {
        at::chown(object, Some(us.uid), Some(us.gid))?;
    }
    at::chmod(object, 0o700)
}

/// Checks that an upper with this WORKDIR can be read.
///
/// # Errors
/// As [`Work::prepare`], with other advice.
pub(super) fn check_readable(workdir: BorrowedFd<'_>) -> Result<()> {
    refused(why_not_to_read(workdir)?)
}

/// Why an upper with this WORKDIR is not to be read, in sentences. The kernel's overlayfs refuses
/// the guard of a volatile mount with `ro` too (`ovl_workdir_cleanup_recurse`,
/// fs/overlayfs/readdir.c). That of a mount that lives does not count: it is no sign of a crash.
///
/// # Errors
/// Those of openat(2), getdents64(2) and statx(2).
pub fn why_not_to_read(workdir: BorrowedFd<'_>) -> Result<Vec<String>> {
    let Ok(work) = at::open(workdir, Name::new(WORK)?, OPEN_DIR) else {
        // It does not exist, or we may not open it.
        return Ok(Vec::new());
    };
    let work = work.as_fd();
    let tells_of_crash = has_guard(work)? && !is_locked(workdir)?;
    let features = incompat(work, !tells_of_crash)?;
    let advice = "throw the upper away, leave workdir out to see what is left of it, or remove that \
                  entry if you know better";
    Ok(features.iter().map(|name| why_not(name, advice)).collect())
}

/// Whether a mount or a tool holds the lock of a WORKDIR.
fn is_locked(workdir: BorrowedFd<'_>) -> Result<bool> {
    // Locking is the last resort: a mount that begins or ends just then would find us in the way.
    if Locks::read().holder(workdir)?.is_some() {
        return Ok(true);
    }
    match file::lock_exclusive(workdir) {
        Ok(()) => {
            best_effort("unlocking workdir", file::unlock(workdir));
            Ok(false)
        }
        Err(err) if err.errno() == Errno::EAGAIN => Ok(true),
        // A file system without locks cannot tell.
        Err(_) => Ok(false),
    }
}

fn has_guard(work: BorrowedFd<'_>) -> Result<bool> {
    match at::open(work, Name::new(INCOMPAT)?, OPEN_DIR) {
        Ok(incompat) => {
            let guard = Target::At(incompat.as_fd(), Name::new(VOLATILE)?);
            Ok(stat::stat_if_exists(guard)?.is_some())
        }
        Err(err) if matches!(err.errno(), Errno::ENOENT | Errno::ENOTDIR) => Ok(false),
        Err(err) => Err(err),
    }
}

/// Checks that an upper may be written.
fn check_incompat(work: BorrowedFd<'_>, may_be_volatile: bool) -> Result<()> {
    let features = incompat(work, may_be_volatile)?;
    let advice = "throw the upper away, or remove that entry if you know better";
    refused(features.iter().map(|name| why_not(name, advice)).collect())
}

fn refused(reasons: Vec<String>) -> Result<()> {
    match reasons.is_empty() {
        true => Ok(()),
        false => Err(Error::new(Errno::EINVAL, reasons.join("; "))),
    }
}

/// The features in `work/incompat`, without `volatile` if it may be there.
fn incompat(work: BorrowedFd<'_>, may_be_volatile: bool) -> Result<Vec<String>> {
    let dir = match at::open(work, Name::new(INCOMPAT)?, OPEN_DIR) {
        Ok(dir) => dir,
        Err(err) if matches!(err.errno(), Errno::ENOENT | Errno::ENOTDIR) => return Ok(Vec::new()),
        Err(err) => return Err(err),
    };
    let mut features = Vec::new();
    dir::for_each(dir.as_fd(), |entry| {
        if !(may_be_volatile && entry.name == VOLATILE) {
            features.push(OsStr::from_bytes(entry.name).to_string_lossy().into_owned());
        }
        Ok(())
    })?;
    Ok(features)
}

/// The meaning of a feature in `work/incompat`, in a sentence, and what to do. For `volatile` that
/// is `advice`.
fn why_not(feature: &str, advice: &str) -> String {
    if feature.as_bytes() == VOLATILE {
        return format!(
            "work/incompat/volatile is there: an earlier mount with that option did not end in \
             order, and the upper may be damaged; {advice}"
        );
    }
    format!(
        "work/incompat/{feature} is there: the upper was written with the overlay feature \
         {feature:?}, which ovlmerge does not know and could damage; mount it with what wrote it, \
         or remove that entry if nothing in the upper needs the feature"
    )
}

/// Empties a directory.
pub(super) fn sweep(dir: WritableFd<'_>) -> Result<()> {
    entries(dir.borrowed())?.into_iter().try_for_each(|entry| remove(dir, entry))
}

/// A name, and whether it is that of a directory, if the file system tells.
type Listed = (Box<[u8]>, Option<bool>);

fn entries(dir: BorrowedFd<'_>) -> Result<Vec<Listed>> {
    let mut names = Vec::new();
    dir::for_each(dir, |entry| {
        names.push((entry.name.into(), entry.kind.map(FileType::is_dir)));
        Ok(())
    })?;
    Ok(names)
}

/// Removes `name` and all below it. Not recursive: the tree may be deeper than a stack.
///
/// # Errors
/// Those of the system calls. What was removed until then is gone.
pub fn remove_tree(dir: WritableFd<'_>, name: Name<'_>) -> Result<()> {
    remove(dir, (name.bytes().into(), None))
}

fn remove(dir: WritableFd<'_>, top: Listed) -> Result<()> {
    /// A directory being emptied: its name, and the entries that are left.
    type Open = (Box<[u8]>, Vec<Listed>);
    let mut open: Vec<Open> = Vec::new();
    let mut trail = Trail::default();
    let (mut current, mut is_dir) = top;
    loop {
        let here = trail.here().map_or(dir, WritableFd::vouch);
        let target = Name::new(&current)?;
        match remove_one(here, target, is_dir) {
            Ok(()) => {}
            Err(err) if matches!(err.errno(), Errno::ENOTEMPTY | Errno::EEXIST) => {
                make_accessible(here.entry(target))?;
                let fd = at::open(here.borrowed(), target, OPEN_DIR)?;
                let names = entries(fd.as_fd())?;
                trail.enter(fd)?;
                open.push((current, names));
            }
            Err(err) => return Err(err),
        }
        // Next entry of the innermost directory, or that directory once it is empty.
        let Some((_, names)) = open.last_mut() else { return Ok(()) };
        (current, is_dir) = match names.pop() {
            Some(next) => next,
            None => match open.pop() {
                Some((emptied, _)) => {
                    trail.leave()?;
                    (emptied, Some(true))
                }
                None => return Ok(()),
            },
        };
    }
}

/// Gives us access to our own directory, whatever its mode. For others' the next call fails.
fn make_accessible(dir: Writable<'_>) -> Result<()> {
    const OURS: u32 = 0o700;
    if stat::stat(dir.target())?.permissions() & OURS != OURS {
        best_effort("opening a directory to empty it", at::chmod(dir, OURS));
    }
    Ok(())
}

fn remove_one(dir: WritableFd<'_>, name: Name<'_>, is_dir: Option<bool>) -> Result<()> {
    let is_dir = match is_dir {
        None => stat::stat_if_exists(dir.entry(name).target())?.map(|found| found.kind().is_dir()),
        told => told,
    };
    let removed = match is_dir {
        Some(true) => at::rmdir(dir, name),
        Some(false) => at::unlink(dir, name),
        None => return Ok(()),
    };
    match removed {
        Err(err) if err.errno() == Errno::ENOENT => Ok(()),
        other => other,
    }
}

impl Work {
    /// Removes the volatile guard at an orderly end. Written data is in the page cache, and only a
    /// crash of the machine can lose it. While other mounts go on, the guard stays.
    pub fn leave(&self) {
        // Only once: when the lock is released, another mount may begin.
        if self.has_left.swap(true, Ordering::SeqCst) || self.others_go_on() {
            return;
        }
        let unguard = || match has_guard(self.dir.as_fd())? {
            true => remove_tree(self.fd(), Name::new(INCOMPAT)?),
            false => Ok(()),
        };
        best_effort("volatile guard", unguard());
    }

    /// Whether others hold the lock too. Trying to lock exclusively may lose our own (flock(2)).
    fn others_go_on(&self) -> bool {
        file::lock_exclusive(self.above()).is_err_and(|err| err.errno() == Errno::EAGAIN)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(tmp: &tempfile::TempDir) -> OwnedFd {
        std::fs::File::open(tmp.path()).unwrap().into()
    }

    #[test]
    fn a_deep_tree_is_swept() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("work")).unwrap();
        let mut dir: OwnedFd = std::fs::File::open(tmp.path().join("work")).unwrap().into();
        for depth in 0..3000 {
            let name = Name::new(b"d").unwrap();
            let here = WritableFd::vouch(dir.as_fd());
            at::mkdir(here, name, 0o700).unwrap();
            if depth % 100 == 0 {
                at::symlink(b"/etc", here, Name::new(b"link").unwrap()).unwrap();
            }
            dir = at::open(dir.as_fd(), name, OPEN_DIR).unwrap();
        }
        let work = Work::prepare(root(&tmp), Durability::Normal, Claim::Alone).unwrap();
        assert!(entries(work.fd().borrowed()).unwrap().is_empty());
        assert!(std::path::Path::new("/etc").exists());
    }

    #[test]
    fn a_volatile_mount_that_crashed_is_not_mounted_again() {
        let tmp = tempfile::tempdir().unwrap();
        std::mem::forget(Work::prepare(root(&tmp), Durability::Volatile, Claim::Alone).unwrap());
        let err = Work::prepare(root(&tmp), Durability::Volatile, Claim::Alone).unwrap_err();
        assert!(err.to_string().contains("volatile"), "{err}");
        std::fs::remove_dir(tmp.path().join("work/incompat/volatile")).unwrap();
        drop(Work::prepare(root(&tmp), Durability::Volatile, Claim::Alone).unwrap());
        Work::prepare(root(&tmp), Durability::Normal, Claim::Alone).unwrap();
    }

    #[test]
    fn each_feature_gets_a_sentence() {
        assert!(why_not("volatile", "").contains("did not end in order"));
        let unknown = why_not("dir\nmeta", "");
        assert!(unknown.contains(r#"the overlay feature "dir\nmeta""#), "{unknown}");
    }
}
