//! Rights that the server gives itself for a moment.
//!
//! Whether a caller may do something the kernel has checked before it asks. What is left is done
//! with the rights of the server, which the modes of the upper bind like anybody else unless it has
//! CAP_DAC_OVERRIDE: it can put nothing into its own directory of mode 0555, move no such directory
//! to another one, and neither list nor mark one of mode 0111. A refused call is tried once more
//! with `u+rwx` on what it needs, if that is the server's own ([`Grants::retry`]).
//!
//! Nobody but the owner gets more by that, and nobody sees it in the mount: who looks at a mode
//! meanwhile is shown the one that it goes back to ([`Grants::as_shown`]). A note in the work
//! directory tells the next mount what to take back should the server be killed in between.

mod notes;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use nix::fcntl::OFlag;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::dir::LayerDir;
use super::work::Work;
use crate::error::{Errno, Error, Result, best_effort};
use crate::sys::commit::unseen;
use crate::sys::{FileType, Name, Stat, Target, Writable, WritableFd, at, creds, stat};

pub(super) use notes::repair;

use notes::{Note, Notes};

/// The bits of a mode that are about the owner.
const OWNERS: u32 = 0o700;
/// What is given of them: also to a file, which nobody runs by that.
const ALL: u32 = OWNERS;

/// Device and inode number.
type Key = (u64, u64);

fn key_of(stat: &Stat) -> Key {
    (stat.dev, stat.ino)
}

/// What has more rights just now than it has in the mount.
#[derive(Debug)]
pub(super) struct Grants {
    us: creds::Owner,
    groups: Vec<u32>,
    notes: Notes,
    table: Mutex<FxHashMap<Key, Grant>>,
    /// How many there are: raised before a mode changes, lowered after it changed back.
    active: AtomicUsize,
    /// How often a mode was changed, or changed back.
    turns: AtomicU64,
}

#[derive(Debug)]
struct Grant {
    holders: usize,
    /// The owner's bits that it goes back to.
    bits: u32,
    note: Option<Note>,
}

/// Something that a call needs rights to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need<'a> {
    /// What to give them to.
    pub target: Target<'a>,
    /// Where it is, or will be when the call has been made: a directory of the upper, and a name
    /// there or the directory itself.
    pub place: (&'a Arc<LayerDir>, Option<Name<'a>>),
    /// Only a directory is needed.
    pub if_dir: bool,
}

impl<'a> Need<'a> {
    /// A directory of the upper, which `here` is a descriptor of.
    pub fn of(dir: &'a Arc<LayerDir>, here: BorrowedFd<'a>) -> Self {
        Self { target: Target::Fd(here), place: (dir, None), if_dir: true }
    }

    /// What moves to a name in another directory, if it is a directory itself.
    pub fn moving(target: Target<'a>, (dir, name): (&'a Arc<LayerDir>, Name<'a>)) -> Self {
        Self { target, place: (dir, Some(name)), if_dir: true }
    }
}

impl Grants {
    /// None for a server that modes do not bind.
    ///
    /// # Errors
    /// Those of capget(2) and of opening the work directory once more.
    pub fn new(work: &Work) -> Result<Option<Arc<Self>>> {
        if creds::has_capability(creds::CAP_DAC_OVERRIDE)? {
            return Ok(None);
        }
        Ok(Some(Arc::new(Self {
            us: creds::effective(),
            groups: creds::own_groups(),
            notes: Notes::new(work)?,
            table: Mutex::default(),
            active: AtomicUsize::new(0),
            turns: AtomicU64::new(0),
        })))
    }

    /// Runs `act`, and once more with rights to all of `needs` if it was refused. What is needed
    /// to reach another comes before it.
    ///
    /// # Errors
    /// Those of `act`.
    pub fn retry<T>(
        grants: Option<&Self>,
        needs: &[Need<'_>],
        mut act: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let refused = match act() {
            Err(err) if err.errno() == Errno::EACCES => err,
            other => return other,
        };
        let Some(grants) = grants else { return Err(refused) };
        let mut held = Vec::new();
        for need in needs {
            held.extend(unseen(|| grants.take(need))?);
        }
        if held.is_empty() { Err(refused) } else { act() }
    }

    fn take(&self, need: &Need<'_>) -> Result<Option<Granted<'_>>> {
        let fd = match need.target {
            Target::Fd(fd) => fd.try_clone_to_owned().map_err(Error::from)?,
            Target::At(dir, name) => match at::open(dir, name, OFlag::O_PATH) {
                Err(err) if err.errno() == Errno::ENOENT => return Ok(None),
                other => other?,
            },
        };
        let mut table = self.table.lock();
        let found = stat::fstat(fd.as_fd())?;
        let key = key_of(&found);
        if let Some(grant) = table.get_mut(&key) {
            grant.holders += 1;
            return Ok(Some(Granted { grants: self, fd, key }));
        }
        if !self.can_give(&found, need.if_dir) {
            return Ok(None);
        }
        let note = self.notes.leave(&found, need.place)?;
        self.active.fetch_add(1, Ordering::SeqCst);
        self.turns.fetch_add(1, Ordering::SeqCst);
        if let Err(err) = at::chmod(ours(&fd), found.permissions() | ALL) {
            self.turns.fetch_add(1, Ordering::SeqCst);
            self.active.fetch_sub(1, Ordering::SeqCst);
            note.iter().for_each(|note| self.notes.take_back(note));
            return Err(err);
        }
        table.insert(key, Grant { holders: 1, bits: found.mode & OWNERS, note });
        Ok(Some(Granted { grants: self, fd, key }))
    }

    /// Whether an object is ours, lacks something, and would lose nothing: chmod(2) takes the
    /// setgid bit from what belongs to a group that is none of ours.
    fn can_give(&self, found: &Stat, if_dir: bool) -> bool {
        let of_kind = match found.kind() {
            FileType::Directory => true,
            FileType::Symlink => false,
            _ => !if_dir,
        };
        let in_group = found.gid == self.us.gid.number() || self.groups.contains(&found.gid);
        let keeps_all = found.mode & libc::S_ISGID == 0 || in_group;
        of_kind && found.uid == self.us.uid.number() && found.mode & ALL != ALL && keeps_all
    }

    /// Attributes found by `look`, with the mode that shows in the mount.
    ///
    /// # Errors
    /// Those of `look`.
    pub fn as_shown(
        grants: Option<&Self>,
        look: impl Fn() -> Result<Option<Stat>>,
    ) -> Result<Option<Stat>> {
        let Some(grants) = grants else { return look() };
        let before = grants.turns.load(Ordering::SeqCst);
        if grants.active.load(Ordering::SeqCst) == 0 {
            let found = look();
            if grants.turns.load(Ordering::SeqCst) == before {
                return found;
            }
        }
        let table = grants.table.lock();
        let found = look()?;
        Ok(found.map(|found| match table.get(&key_of(&found)) {
            Some(grant) => Stat { mode: found.mode & !OWNERS | grant.bits, ..found },
            None => found,
        }))
    }

    /// Runs `set`, which gives `target` another mode: the one that it goes back to.
    ///
    /// # Errors
    /// Those of `set`.
    pub fn setting_mode<T>(
        grants: Option<&Self>,
        target: Writable<'_>,
        set: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(grants) = grants else { return set() };
        let mut table = grants.table.lock();
        let done = set()?;
        if table.is_empty() {
            return Ok(done);
        }
        let found = stat::stat(target.target())?;
        if let Some(grant) = table.get_mut(&key_of(&found)) {
            grant.bits = found.mode & OWNERS;
            // Who holds it is not done yet.
            best_effort("rights to a directory", at::chmod(target, found.permissions() | ALL));
        }
        Ok(done)
    }

    fn give_back(&self, key: Key, fd: &OwnedFd) {
        let mut table = self.table.lock();
        let Some(grant) = table.get_mut(&key) else { return };
        grant.holders -= 1;
        if grant.holders > 0 {
            return;
        }
        let bits = grant.bits;
        let restored = stat::fstat(fd.as_fd())
            .and_then(|now| at::chmod(ours(fd), now.permissions() & !OWNERS | bits));
        // Else the next mount is told.
        if restored.is_ok() {
            grant.note.iter().for_each(|note| self.notes.take_back(note));
        }
        table.remove(&key);
        self.turns.fetch_add(1, Ordering::SeqCst);
        self.active.fetch_sub(1, Ordering::SeqCst);
        best_effort("the owner keeps rights that the mode lacked", restored);
    }
}

/// An object of the upper: nothing else is given rights to.
fn ours(fd: &OwnedFd) -> Writable<'_> {
    WritableFd::vouch(fd.as_fd()).object()
}

/// Rights to one object, for as long as this lives.
struct Granted<'a> {
    grants: &'a Grants,
    fd: OwnedFd,
    key: Key,
}

impl Drop for Granted<'_> {
    fn drop(&mut self) {
        unseen(|| self.grants.give_back(self.key, &self.fd));
    }
}
