//! Copying up ahead: one wait for the disk serves many files.
//!
//! A copy is published once its data is on the disk. Waiting for that takes far longer than making
//! the copy, and `chmod -R` over a lower tree would wait once for each file. So after several
//! copy-ups in a row the next file is copied together with the files that follow it in a walk
//! through the tree. One syncfs(2) forces all of them to the disk. Each copy is published, complete
//! and durable, when the change of its own file comes. Until then it is no part of the tree: it
//! lies in the work directory, as any unfinished copy.
//!
//! The number of files grows while the guess is right, and falls to none when it is wrong. The next
//! guess takes the other order, listed or sorted. After that each wrong guess doubles the copy-ups
//! in a row that are needed for the next one, so that little is copied in vain.
//!
//! With `fsync=strict` nothing is copied ahead: each later change would have to be forced to the
//! disk by itself.

use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::Vfs;
use super::nodes::ids::NodeId;
use super::nodes::node::Node;
use super::nodes::place::{Link, Real};
use crate::error::{Error, Result};
use crate::layer::LowerDir;
use crate::merge::Found;
use crate::merge::attr::Change;
use crate::merge::copyup::{self, Copied, Data, Lower};
use crate::merge::found::{Contents, What};
use crate::merge::key::Key;
use crate::merge::walk::{self, Order, Walk};
use crate::sys::{FileType, Name, Stat};

/// Copy-ups in a row in one directory, after which files are copied ahead.
const BEGINNING: u32 = 3;
/// Limit of the factor by which wrong guesses multiply [`BEGINNING`].
const MOST_CAUTION: u32 = 256;
/// Files that the first guess copies ahead. Each right guess multiplies the number by four.
const FIRST: usize = 8;
/// Limit of that number: at 256 the wait for the disk is a small part of what the copies take.
const MOST: usize = 256;
/// Limit of a file's size in bytes: copying more takes longer than the wait.
const LARGEST: u64 = 1 << 20;
/// Limit of the bytes that are copied ahead at a time.
const MOST_BYTES: u64 = 16 << 20;

/// Objects that are looked at for each file to copy: a look costs a fifth of a copy.
const LOOKS: usize = 2;

/// Copies that wait for the change of their file.
#[derive(Debug, Default)]
pub(super) struct CopyUpAhead(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The copies, each by its original.
    ready: FxHashMap<Original, Ready>,
    /// How many copies the last guess made.
    made: usize,
    /// How many copies the last guess asked for.
    window: usize,
    /// Copy-ups in a row in one directory.
    run: u32,
    /// The directory of the last copy-up.
    last: Option<NodeId>,
    /// The factor of [`BEGINNING`] for the next guess: 0, which counts as 1, after a right guess,
    /// and doubled with each further wrong one.
    caution: u32,
    order: Order,
    /// Device number of the file system that all this is about.
    device: u64,
}

/// An original: its directory in a lower, and its name there.
type Original = (Key, Box<[u8]>);

#[derive(Debug)]
struct Ready {
    copied: Copied,
    /// Attributes of the original when it was copied.
    was: Stat,
}

/// A file that may be copied up next.
struct Candidate {
    dir: LowerDir,
    name: Box<[u8]>,
    was: Stat,
    no_xattrs: bool,
}

fn original(dir: &LowerDir, name: &[u8]) -> Result<Original> {
    let dir = dir.dir();
    Ok((Key { dev: dir.dev()?, ino: dir.ino()?, layer: dir.layer() }, name.into()))
}

impl CopyUpAhead {
    /// Takes the copy of an original, if that is still as it was.
    fn take(&self, original: &Original, was: &Stat) -> Option<Copied> {
        let ready = self.0.lock().ready.remove(original)?;
        ready.was.is_unchanged(was).then_some(ready.copied)
    }

    /// Notes a copy-up for which no copy was ready. Returns how many files to copy with it, and in
    /// which order.
    fn next_window(&self, dir: NodeId, device: u64) -> Option<(usize, Order)> {
        // Declared first, so that its copies are removed after the lock is free: that takes time.
        let unused;
        let mut state = self.0.lock();
        // All ready copies are of one file system. A file of another one says nothing about them.
        if !state.ready.is_empty() && state.device != device {
            return None;
        }
        state.device = device;
        unused = std::mem::take(&mut state.ready);
        if unused.len() > state.made / 2 {
            (state.window, state.run) = (0, 0);
            state.caution = (state.caution * 2).clamp(1, MOST_CAUTION);
            state.order = state.order.other();
        } else if state.made > 0 {
            state.caution = 0;
        }
        state.made = 0;
        state.run = if state.last == Some(dir) || state.window > 0 { state.run + 1 } else { 1 };
        state.last = Some(dir);
        // The second guess, in the other order, needs no more copy-ups than the first.
        if state.run < BEGINNING * state.caution.max(1) {
            return None;
        }
        state.window = (state.window * 4).clamp(FIRST, MOST);
        Some((state.window, state.order))
    }

    fn put(&self, ready: Vec<(Original, Ready)>) {
        let mut state = self.0.lock();
        state.made = ready.len();
        state.ready.extend(ready);
    }

    /// Whether a copy is ready.
    fn has(&self, original: &Original) -> bool {
        self.0.lock().ready.contains_key(original)
    }

    /// Removes the copies that were not used. Returns whether there were any.
    pub(super) fn drop_all(&self) -> bool {
        let state = std::mem::take(&mut *self.0.lock());
        // The copies are removed when the lock is free again, because that takes time.
        !state.ready.is_empty()
    }
}

impl Vfs {
    /// Whether the copy of a non-directory is ready, and only has to be published.
    pub(super) fn is_copied_ahead(&self, node: &Node) -> bool {
        let Ok(leaf) = node.as_leaf() else { return false };
        let place = leaf.place.read();
        match (&place.real, place.in_lower()) {
            (Real::Lower { .. }, Ok(Some((dir, name)))) => {
                original(dir, name).is_ok_and(|original| self.ahead.has(&original))
            }
            _ => false,
        }
    }

    /// Copies a file up with all of its data, and maybe others ahead.
    ///
    /// # Errors
    /// Those of [`copyup::build`]. A failure to copy the others is not an error.
    pub(super) fn build_with_others(
        &self,
        from: &Lower<'_>,
        link: &Link,
        was: &Stat,
    ) -> Result<Copied> {
        let upper = self.upper()?;
        let waits = was.kind() == FileType::Regular && upper.must_sync(was.size);
        if !waits || upper.is_strict() || was.nlink > 1 || was.size > LARGEST {
            return copyup::build(upper, from, was, Data::All);
        }
        if let Some(mut copied) = self.ahead.take(&original(from.dir, from.name.bytes())?, was) {
            copied.change(upper, from.change)?;
            return Ok(copied);
        }
        let device = from.dir.dir().dev()?;
        let window = self.ahead.next_window(link.parent.id, device);
        let others = window.map_or_else(Vec::new, |(most, order)| {
            let none = Candidates { most, looks: most * LOOKS, order, device, ..Candidates::NONE };
            self.others(link, none)
        });
        if others.is_empty() {
            return copyup::build(upper, from, was, Data::All);
        }
        let copied = copyup::build_unsynced(upper, from, was, Data::All)?;
        let others = self.build_others(&others);
        match upper.sync_all() {
            Ok(()) => self.ahead.put(others),
            // The error may concern another file: this one is tried alone.
            Err(_) => copied.sync(upper)?,
        }
        Ok(copied)
    }

    /// The files to copy with the file of `link`; none after an error, which is logged.
    fn others(&self, link: &Link, wanted: Candidates) -> Vec<Candidate> {
        match self.candidates(link, wanted) {
            Ok(found) => found.files,
            Err(err) => {
                tracing::debug!("nothing is copied ahead: {err}");
                Vec::new()
            }
        }
    }

    /// Copies the files up to the first one that fails.
    fn build_others(&self, others: &[Candidate]) -> Vec<(Original, Ready)> {
        let build = |file: &Candidate| {
            let copied = self.build_other(file)?;
            Ok((original(&file.dir, &file.name)?, Ready { copied, was: file.was }))
        };
        let copies = others.iter().map_while(|file| match build(file) {
            Ok(copy) => Some(copy),
            Err(err) => {
                let err: Error = err;
                tracing::debug!("no more is copied ahead: {err}");
                None
            }
        });
        copies.collect()
    }

    fn build_other(&self, from: &Candidate) -> Result<Copied> {
        let Candidate { dir, name, was, no_xattrs } = from;
        let lower = Lower {
            dir,
            name: Name::new(name)?,
            data: &Contents::Own,
            open: None,
            filesystems: &self.stack.filesystems,
            index: None,
            no_xattrs: *no_xattrs,
            change: &Change::NONE,
        };
        let mut copied = copyup::build_unsynced(self.upper()?, &lower, was, Data::All)?;
        // Closed, so that the copies do not use up all descriptors.
        copied.file = None;
        Ok(copied)
    }

    /// Finds files of lowers that a walk through the tree meets behind `link`. It stays on the file
    /// system of the changed file, so that the change waits for no other one that may hang.
    fn candidates(&self, link: &Link, mut found: Candidates) -> Result<Candidates> {
        let (mut here, mut link) = (Arc::clone(&link.parent), link.clone());
        while !found.is_full() {
            self.candidates_in(&here, link.name(), &mut found)?;
            let above = here.dir()?.link.read().clone();
            match above {
                Some(above) => (here, link) = (Arc::clone(&above.parent), above),
                None => break,
            }
        }
        Ok(found)
    }

    /// Adds files that a walk meets in one directory behind a name, and below it.
    fn candidates_in(&self, dir: &Node, behind: &[u8], found: &mut Candidates) -> Result<()> {
        let (order, device) = (found.order, found.device);
        let stack = dir.dir()?.stack.read().clone();
        // A thread that holds the lock may wait for a layer.
        let Some(names) = dir.dir()?.names.try_read() else { return Ok(()) };
        let listed = names.index.as_ref().map(|index| {
            walk::behind(self.lookup_context(), (index, &stack), behind, order, device)
        });
        drop(names);
        let Some(names) = listed else {
            let walk = Walk::through(self.lookup_context(), &stack, order, device)?;
            return found.walk(walk.behind(behind));
        };
        for name in names {
            if found.is_full() {
                break;
            }
            let Some(entry) = self.find(dir, Name::new(&name)?)? else { continue };
            match &entry.what {
                What::Dir(inner) => {
                    found.walk(Walk::through(self.lookup_context(), inner, order, device)?)?;
                }
                _ => found.add(name, entry),
            }
        }
        Ok(())
    }
}

/// The files that were found for the next guess.
struct Candidates {
    files: Vec<Candidate>,
    most: usize,
    /// How many more objects may be looked at.
    looks: usize,
    bytes: u64,
    order: Order,
    /// Device number of the file system of the files.
    device: u64,
}

impl Candidates {
    const NONE: Self =
        Self { files: Vec::new(), most: 0, looks: 0, bytes: 0, order: Order::Listed, device: 0 };

    fn is_full(&self) -> bool {
        self.files.len() >= self.most || self.looks == 0 || self.bytes >= MOST_BYTES
    }

    fn walk(&mut self, mut walk: Walk<'_>) -> Result<()> {
        while !self.is_full()
            && let Some(step) = walk.step()?
        {
            self.add(step.name, step.found);
        }
        Ok(())
    }

    fn add(&mut self, name: Box<[u8]>, found: Found) {
        self.looks = self.looks.saturating_sub(1);
        let was = found.stat;
        // An empty file does not wait for the disk.
        let is_small = was.size > 0 && was.size <= LARGEST;
        let is_file = was.kind() == FileType::Regular && was.nlink == 1 && is_small;
        if let What::Lower(dir) = found.what
            && is_file
            && matches!(found.data, Contents::Own)
        {
            self.bytes += was.size;
            self.files.push(Candidate { dir, name, was, no_xattrs: found.no_xattrs });
        }
    }
}
