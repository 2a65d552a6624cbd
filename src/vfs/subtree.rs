//! Copying a directory that lowers show through to the upper whole, so that it can be moved (see
//! [`crate::merge::subtree`]).
//!
//! Its objects are copied up one by one, so that open files, numbers and hard links stay as they
//! are. No names are locked meanwhile. Then all merged directories of the subtree are locked,
//! parents first. If nothing is left in the lowers alone, they are cut off from the lowers.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustc_hash::FxHashSet;

use super::lookup::ensure_index;
use super::nodes::locks::WriteNames;
use super::nodes::node::{Names, Node};
use super::nodes::table::Held;
use super::{NodeId, Vfs};
use crate::config::{CopyLimit, RenameLower};
use crate::error::{Errno, Error, Result, best_effort};
use crate::format::redirect::Redirect;
use crate::layer::UpperDir;
use crate::merge::found::Contents;
use crate::merge::index::{Entry, InUpper};
use crate::merge::key::Key;
use crate::merge::stack::MetaSource;
use crate::merge::subtree as merge;
use crate::merge::{DirStack, What};
use crate::sys::commit::unseen;
use crate::sys::{FileType, Name, file};

/// How often the subtree is copied, as others may change it meanwhile. No change puts a name back
/// into a lower, so a second pass is enough, except for hard links.
const PASSES: u32 = 4;

/// What a pass has copied up.
struct Copied<'a> {
    /// The directories that merged with lowers, each behind the one above it, without the topmost
    /// one.
    dirs: Vec<Held<'a>>,
    /// Of these and the topmost, those with a redirect that begins at the root, which an opaque
    /// directory above does not cut off. `redirected` has all that have a redirect.
    absolute: FxHashSet<NodeId>,
    redirected: FxHashSet<NodeId>,
    /// Inode numbers of the objects that are in the upper whole.
    settled: FxHashSet<u64>,
}

impl Vfs {
    /// The limit of copying a directory up whole, if it has to be copied to be moved.
    ///
    /// # Errors
    /// EXDEV if the option `rename_lower` forbids it.
    pub(super) fn to_be_copied(&self, node: &Arc<Node>, stays: bool) -> Result<Option<CopyLimit>> {
        let Ok(dir) = node.dir() else { return Ok(None) };
        if dir.stack.read().lowers.is_empty() || self.can_redirect(node, stays)? {
            return Ok(None);
        }
        match self.rename_lower {
            RenameLower::Off => Err(Errno::EXDEV.into()),
            RenameLower::Copy(limit) => Ok(Some(limit)),
        }
    }

    /// Checks that a directory can be moved.
    ///
    /// # Errors
    /// EXDEV if it is too large to be copied up, or must not be; ENOSPC if there is no room for it.
    pub(super) fn check_movable(&self, node: &Arc<Node>, stays: bool) -> Result<()> {
        let Some(limit) = self.to_be_copied(node, stays)? else { return Ok(()) };
        let stack = node.dir()?.stack.read().clone();
        let bytes = merge::check(self.lookup_context(), &stack, limit).map_err(as_exdev)?;
        self.check_room(&stack, bytes)
    }

    /// Checks that there is room for so many bytes: copies that were made before the disk is full
    /// would stay in the upper. Lowers on the upper's file system are not checked, because their
    /// copies may share data and take no room.
    fn check_room(&self, stack: &DirStack, bytes: u64) -> Result<()> {
        let root = self.upper()?.root().dir();
        let device = root.known_dev();
        if stack.lowers.iter().all(|lower| lower.dir().known_dev() == device) {
            return Ok(());
        }
        let space = file::stat_fs(root.fd()?.as_ref().as_fd())?;
        let free = space.bavail.saturating_mul(space.frsize.into());
        if bytes <= free {
            return Ok(());
        }
        let text = format!("rename_lower: {bytes} bytes to be copied, and room for {free}");
        Err(Error::new(Errno::ENOSPC, text))
    }

    /// Gets a directory into the upper to be moved: with a redirect, or else whole.
    ///
    /// # Errors
    /// EXDEV if it cannot be copied up whole; errors of copy-up.
    pub(super) fn make_dir_movable(&self, node: &Arc<Node>, stays: bool) -> Result<()> {
        if node.dir()?.stack.read().lowers.is_empty() {
            return Ok(());
        }
        if self.can_redirect(node, stays)? {
            return self.dir_to_write(node).map(drop);
        }
        for _ in 0..PASSES {
            let copied = unseen(|| self.copy_subtree(node)).map_err(as_exdev)?;
            match self.cut_off(node, &copied) {
                Err(err) if err.errno() == Errno::EAGAIN => {}
                other => return other,
            }
        }
        Err(Error::new(Errno::EXDEV, "rename_lower: the directory changes all the time"))
    }

    fn copy_subtree(&self, top: &Arc<Node>) -> Result<Copied<'_>> {
        let mut copied = Copied {
            dirs: Vec::new(),
            absolute: FxHashSet::default(),
            redirected: FxHashSet::default(),
            settled: FxHashSet::default(),
        };
        self.copy_entries(top, &mut copied)?;
        let mut next = 0;
        while let Some(dir) = copied.dirs.get(next).map(|held| Arc::clone(held)) {
            next += 1;
            match self.copy_entries(&dir, &mut copied) {
                // The directory was removed meanwhile.
                Err(err) if err.errno() == Errno::ENOENT && dir.dir()?.names.read().dead => {}
                other => other?,
            }
        }
        Ok(copied)
    }

    /// Copies up one directory and all non-directories in it.
    fn copy_entries<'a>(&'a self, node: &Arc<Node>, copied: &mut Copied<'a>) -> Result<()> {
        let upper_dir = self.dir_to_write(node)?;
        match upper_dir.dir().marks()?.redirect {
            Some(Redirect::Absolute(_)) => {
                copied.absolute.insert(node.id);
                copied.redirected.insert(node.id);
            }
            Some(Redirect::Sibling(_)) => {
                copied.redirected.insert(node.id);
            }
            None => {}
        }
        let mut todo: Vec<Box<[u8]>> = Vec::new();
        if let Some(index) = &self.names(node.dir()?)?.index {
            for (name, entry) in index.iter() {
                match entry.upper {
                    InUpper::Object { kind, ino, .. }
                        if !kind.is_dir() && kind != FileType::Regular =>
                    {
                        copied.settled.insert(ino);
                    }
                    _ if entry.kind().is_some() => todo.push(name.into()),
                    _ => {}
                }
            }
        }
        todo.iter().try_for_each(|name| self.copy_entry(node, Name::new(name)?, copied))
    }

    fn copy_entry<'a>(
        &'a self,
        parent: &Arc<Node>,
        name: Name<'_>,
        copied: &mut Copied<'a>,
    ) -> Result<()> {
        let hold = |found| Ok(self.table.hold(found, parent, name.bytes()));
        let Some(held) = self.with_found(parent, name, hold)? else { return Ok(()) };
        if let Ok(dir) = held.dir() {
            let stack = dir.stack.read().clone();
            match &stack.upper {
                Some(upper) if stack.lowers.is_empty() => {
                    copied.settled.insert(upper.dir().ino()?);
                }
                _ => copied.dirs.push(held),
            }
            return Ok(());
        }
        let was_below = held.as_leaf()?.place.read().real.upper_key().is_none();
        self.make_movable(&held, parent, name, true)?;
        if was_below && held.lookups.load(Ordering::Relaxed) > 0 {
            self.tell_changed(held.id);
        }
        if let Some((_, ino)) = held.as_leaf()?.place.read().real.upper_key() {
            copied.settled.insert(ino);
        }
        Ok(())
    }

    /// Cuts a copied-up directory, and those below it, off from the lowers.
    ///
    /// # Errors
    /// EAGAIN, with nothing done, if an object is still in a lower alone.
    fn cut_off(&self, top: &Arc<Node>, copied: &Copied<'_>) -> Result<()> {
        let _one_at_a_time = self.renames.lock();
        let all: Vec<&Arc<Node>> =
            std::iter::once(top).chain(copied.dirs.iter().map(|held| &**held)).collect();
        check_order(&all)?;
        let mut locked = Vec::with_capacity(all.len());
        for node in &all {
            // Parents come first, and `renames` keeps all directories in their places.
            let mut names = node.dir()?.names.write_another();
            ensure_index(node.dir()?, &mut names)?;
            locked.push((*node, names));
        }
        if locked.first().is_none_or(|(_, names)| names.dead) {
            return Err(Errno::ENOENT.into());
        }
        if top.dir()?.stack.read().lowers.is_empty() {
            return Ok(());
        }
        locked.retain(|(_, names)| !names.dead);
        self.check_settled(&locked, copied)?;
        self.make_opaque(&locked, copied)?;
        for (node, names) in &mut locked {
            self.forget_lowers(node, names, copied.redirected.contains(&node.id))?;
        }
        drop(locked);
        // A merged directory shows a link count of 1, any other its own.
        for node in all.iter().filter(|node| node.lookups.load(Ordering::Relaxed) > 0) {
            self.tell_changed(node.id);
        }
        Ok(())
    }

    fn check_settled(
        &self,
        locked: &[(&Arc<Node>, WriteNames<'_>)],
        copied: &Copied<'_>,
    ) -> Result<()> {
        let merged = locked.iter().map(|(node, _)| upper_of(node)?.dir().ino());
        let merged: FxHashSet<u64> = merged.collect::<Result<_>>()?;
        for (node, names) in locked {
            let Some(index) = &names.index else { continue };
            if merge::only_in_lowers(index) {
                return Err(Errno::EAGAIN.into());
            }
            for (name, Entry { upper, .. }) in index.iter() {
                let InUpper::Object { ino, .. } = upper else { continue };
                if copied.settled.contains(&ino) || merged.contains(&ino) {
                    continue;
                }
                // New since the copying: made here, or moved here from elsewhere.
                let stack = node.dir()?.stack.read().clone();
                let found = self.look_up(&stack, Some(index), Name::new(name)?)?;
                let whole = match found.map(|found| (found.what, found.data)) {
                    Some((What::Dir(stack), _)) => stack.lowers.is_empty(),
                    Some((What::Upper, data)) => !matches!(data, Contents::Elsewhere(_)),
                    Some((What::Lower(_) | What::Linked, _)) => false,
                    None => true,
                };
                if !whole {
                    return Err(Errno::EAGAIN.into());
                }
            }
        }
        Ok(())
    }

    /// Marks the topmost directory as opaque, the one step that cuts off those below it too.
    /// Directories with a redirect from the root are marked before, one by one.
    fn make_opaque(
        &self,
        locked: &[(&Arc<Node>, WriteNames<'_>)],
        copied: &Copied<'_>,
    ) -> Result<()> {
        let upper = self.upper()?;
        let (top, below) = locked.split_first().ok_or(Errno::EIO)?;
        let redirected = below.iter().rev().filter(|(node, _)| copied.absolute.contains(&node.id));
        for (node, _) in redirected.chain([top]) {
            upper.with_dir(&upper_of(node)?, |target| upper.set_opaque(target))?;
        }
        Ok(())
    }

    /// Notes that a directory has no lowers any more, once they are cut off on the disk.
    fn forget_lowers(&self, node: &Node, names: &mut Names, redirected: bool) -> Result<()> {
        let dir = node.dir()?;
        let upper_dir = upper_of(node)?;
        let layer_dir = upper_dir.dir();
        // The directory keeps its number as long as its node lives.
        let key = Key { dev: layer_dir.dev()?, ino: layer_dir.ino()?, layer: 0 };
        self.table.copied_up(node, key);
        {
            let mut stack = dir.stack.write();
            stack.lowers = Arc::new([]);
            stack.meta = MetaSource::Top;
        }
        let index = names.index.take();
        let upper = self.upper()?;
        if let Some(index) = index {
            merge::sweep(upper, &upper_dir, &merge::hidden(&index));
        }
        if redirected {
            let dropped = upper.drop_redirect(&upper_dir);
            best_effort("a redirect stays that leads nowhere", dropped);
        }
        Ok(())
    }
}

fn upper_of(node: &Node) -> Result<UpperDir> {
    node.dir()?.stack.read().upper.clone().ok_or_else(|| Errno::EAGAIN.into())
}

/// Checks that each directory lies in one before it, so that they can be locked in this order. The
/// caller holds `renames`, which keeps it true. A removed one may be locked at any time.
fn check_order(all: &[&Arc<Node>]) -> Result<()> {
    let mut before: FxHashSet<NodeId> = FxHashSet::default();
    for (position, node) in all.iter().enumerate() {
        if position > 0
            && let Some(link) = node.dir()?.link.read().as_ref()
            && !before.contains(&link.parent.id)
        {
            return Err(Errno::EAGAIN.into());
        }
        before.insert(node.id);
    }
    Ok(())
}

/// Turns the errors of objects that we may not read or give away into EXDEV. Programs that get
/// EXDEV copy what they can.
fn as_exdev(err: Error) -> Error {
    match err.errno() {
        Errno::EPERM | Errno::EACCES | Errno::EOVERFLOW | Errno::EOPNOTSUPP => {
            tracing::debug!("a directory of a lower is not moved: {err}");
            Error::new(Errno::EXDEV, format!("rename_lower: {err}"))
        }
        _ => err,
    }
}
