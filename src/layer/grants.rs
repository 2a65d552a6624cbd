//! Rights that an unprivileged server gives itself for a moment.
//!
//! The kernel checks what a caller may do before it sends a request. The server then acts with its
//! own rights, and without CAP_DAC_OVERRIDE the modes of the upper bind it. It can put nothing into
//! its own directory of mode 0555, move no such directory to another one, and neither list nor mark
//! one of mode 0111. A refused call is tried again with `u+rwx` on the objects that it needs, if
//! the server owns them ([`Grants::retry`]).
//!
//! Nobody but the owner gets more rights, and the mount does not show them: attributes have the
//! mode that the object goes back to ([`Grants::as_shown`]). If the server is killed meanwhile, a
//! note in the work directory tells the next mount what to take back.

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

/// The owner's bits of a mode.
const OWNERS: u32 = 0o700;
/// The bits that are granted. Files get `x` too; nobody runs them because of that.
const ALL: u32 = OWNERS;

/// Device and inode number.
type Key = (u64, u64);

fn key_of(stat: &Stat) -> Key {
    (stat.dev, stat.ino)
}

/// The objects that have more rights now than the mount shows.
#[derive(Debug)]
pub(super) struct Grants {
    us: creds::Owner,
    groups: Vec<u32>,
    notes: Notes,
    table: Mutex<FxHashMap<Key, Grant>>,
    /// The number of grants: raised before a mode changes, lowered after it changed back.
    active: AtomicUsize,
    /// The number of changes of a mode, back and forth.
    turns: AtomicU64,
}

#[derive(Debug)]
struct Grant {
    holders: usize,
    /// The owner's bits that the object goes back to.
    bits: u32,
    note: Option<Note>,
}

/// An object that a call needs rights to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need<'a> {
    /// The object.
    pub target: Target<'a>,
    /// Where the object is, or will be after the call: a directory of the upper, and a name in it,
    /// or `None` for the directory itself.
    pub place: (&'a Arc<LayerDir>, Option<Name<'a>>),
    /// Rights are needed only if the object is a directory.
    pub if_dir: bool,
}

impl<'a> Need<'a> {
    /// Rights to a directory of the upper, of which `here` is a descriptor.
    pub fn of(dir: &'a Arc<LayerDir>, here: BorrowedFd<'a>) -> Self {
        Self { target: Target::Fd(here), place: (dir, None), if_dir: true }
    }

    /// Rights to an object that moves to a name in another directory, if it is a directory itself.
    pub fn moving(target: Target<'a>, (dir, name): (&'a Arc<LayerDir>, Name<'a>)) -> Self {
        Self { target, place: (dir, Some(name)), if_dir: true }
    }
}

impl Grants {
    /// A table without grants; `None` for a server that modes do not bind.
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

    /// Runs `act`, and if it was refused once more, with rights to all of `needs`. An object that
    /// leads to another one has to come before it.
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

    /// Whether an object is ours, lacks rights and would lose nothing. chmod(2) clears the setgid
    /// bit if the group is none of ours.
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

    /// Attributes found by `look`, with the mode that the mount shows.
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

    /// Runs `set`, which changes the mode of `target`: the object goes back to the new one.
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
            // The holders of the grant still need it.
            best_effort("rights to a directory", at::chmod(target, found.permissions() | ALL));
            let notes = &grants.notes;
            let amended = grant.note.as_ref().map(|note| notes.amend(note, found.mode));
            best_effort("a note on a mode tells an older one", amended.unwrap_or(Ok(())));
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
        // Otherwise the note stays, and the next mount restores the mode.
        if restored.is_ok() {
            grant.note.iter().for_each(|note| self.notes.take_back(note));
        }
        table.remove(&key);
        self.turns.fetch_add(1, Ordering::SeqCst);
        self.active.fetch_sub(1, Ordering::SeqCst);
        best_effort("the owner keeps rights that the mode lacked", restored);
    }
}

/// The right to change an object of the upper. Rights are granted to no other object.
fn ours(fd: &OwnedFd) -> Writable<'_> {
    WritableFd::vouch(fd.as_fd()).object()
}

/// Rights to one object, which are given back when this is dropped.
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
