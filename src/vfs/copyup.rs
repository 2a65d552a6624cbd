//! Copy-up of a node, and of all directories above it.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Vfs;
use super::dir_for_change::DirForChange;
use super::hardlinks::orphan;
use super::nodes::node::{Leaf, Node};
use super::nodes::place::{Link, Place, Real};
use crate::error::{Context, Errno, Result};
use crate::layer::UpperDir;
use crate::merge::attr::Change;
use crate::merge::copyup::{self, Copied, Data, Destination, Lower};
use crate::merge::found::Contents;
use crate::merge::key::Key;
use crate::merge::links::{self, Linked};
use crate::merge::stack::MetaSource;
use crate::sys::commit::unseen;
use crate::sys::{FileType, Name, OwnedWritable, Stat};

/// How often a copy-up begins anew because a lower that may change (`timeout=`) changes meanwhile.
/// A copy-up does not wait for a file that changes all the time.
const TRIES: u32 = 4;

impl Vfs {
    /// Whether a change of this node's data would copy the data up first.
    pub(super) fn needs_copy_up(&self, node: &Node) -> bool {
        node.as_leaf().is_ok_and(|leaf| {
            let place = leaf.place.read();
            place.real.upper_key().is_none() || !place.has_own_data()
        })
    }

    /// The directory of a node in the upper. Copies it up, with those above it, if need be.
    ///
    /// # Errors
    /// EROFS; ENOENT for a removed directory of a lower; errors of [`copyup::directory`].
    pub(super) fn dir_to_write(&self, node: &Arc<Node>) -> Result<UpperDir> {
        self.upper()?;
        loop {
            let upper = node.dir()?.stack.read().upper.clone();
            if let Some(upper) = upper {
                unseen(|| {
                    self.own_metadata(node, &upper)?;
                    self.unify_marks(node, &upper)
                })?;
                return Ok(upper);
            }
            // Not by recursion: a tree may be deeper than a stack.
            let mut missing = missing_above(node)?;
            while let Some((here, above)) = missing.pop() {
                let upper = above.dir()?.stack.read().upper.clone();
                match upper {
                    Some(upper) => self.copy_up_dir(&here, &above, &upper)?,
                    // The directory was moved meanwhile, and another one is above it now.
                    None => break,
                }
            }
        }
    }

    fn copy_up_dir(&self, node: &Arc<Node>, parent: &Arc<Node>, to: &UpperDir) -> Result<()> {
        let upper = self.upper()?;
        let _gate = node.gate.lock_another();
        let dir = node.dir()?;
        let from = dir.stack.read().clone();
        if from.upper.is_some() {
            return Ok(());
        }
        let link = dir.link.read().clone().ok_or(Errno::ENOENT)?;
        if link.parent.id != parent.id {
            // Impossible: a directory of a lower is copied up before it is renamed.
            return Err(Errno::ESTALE.into());
        }
        let name = Name::new(link.name())?;
        let about = || format!("copy-up of directory {name}");
        // No names are locked, because the lower may hang.
        let copied = copyup::directory(upper, &from).context(about)?;
        let mut above = DirForChange::lock(parent, to.clone())?;
        // Its own names are locked too: with a part in the upper its readers need an index.
        let own_names = dir.names.write_another();
        if own_names.dead {
            return Err(Errno::ENOENT.into());
        }
        let made = copied.publish(upper, Destination { dir: to, name }).context(about)?;
        let part = Key { dev: made.dir().dev()?, ino: made.dir().ino()?, layer: 0 };
        above.has_put(name, FileType::Directory, part.ino);
        self.table.has_upper_part(node.id, part);
        {
            let mut stack = dir.stack.write();
            stack.upper = Some(made);
            stack.meta = MetaSource::Top;
        }
        dir.unified.store(true, Ordering::Relaxed);
        self.dir_moved(parent);
        self.dir_moved(node);
        Ok(())
    }

    /// Copies up a directory that was removed, for programs that have it open. The copy has no name
    /// either: its descriptor takes the place of that of the lower.
    ///
    /// # Errors
    /// EROFS; what [`copyup::directory`] says.
    pub(super) fn removed_dir_to_write(&self, node: &Node) -> Result<UpperDir> {
        let upper = self.upper()?;
        let _gate = node.gate.lock();
        let dir = node.dir()?;
        let from = dir.stack.read().clone();
        if let Some(there) = from.upper {
            return Ok(there);
        }
        let (kept, made) = copyup::directory(upper, &from)?.into_unnamed(upper)?;
        let mut orphan = dir.orphan.write();
        let mut stack = dir.stack.write();
        *orphan = Some(Arc::new(kept));
        (stack.upper, stack.meta) = (Some(made.clone()), MetaSource::Top);
        Ok(made)
    }

    /// Replaces the marks that other programs left on a directory of the upper by one of ours,
    /// before the first change in it.
    fn unify_marks(&self, node: &Node, upper_dir: &UpperDir) -> Result<()> {
        let dir = node.dir()?;
        if !dir.unified.load(Ordering::Relaxed) {
            self.upper()?.unify_opaque(upper_dir)?;
            dir.unified.store(true, Ordering::Relaxed);
            self.dir_moved(node);
        }
        Ok(())
    }

    /// Copies a non-directory up.
    ///
    /// # Errors
    /// EROFS; errors of [`copyup::build`]. The object is then as it was.
    pub(super) fn copy_up(&self, node: &Arc<Node>, data: Data) -> Result<()> {
        self.copy_up_changed(node, data, &Change::NONE).map(drop)
    }

    /// Copies up for a change of mode, owner or times, or of the size in `data`. Returns whether
    /// the copy had the change when it was published.
    ///
    /// # Errors
    /// Those of [`Self::copy_up`] and of [`attr::apply`](crate::merge::attr::apply).
    pub(super) fn copy_up_changed(
        &self,
        node: &Arc<Node>,
        data: Data,
        change: &Change,
    ) -> Result<bool> {
        let done = self.copy_up_leaf(node, data, change)?;
        self.give_name(node)?;
        Ok(done)
    }

    /// Copies a file up, and the one name of it that is about to change.
    ///
    /// # Errors
    /// Those of [`Self::copy_up`].
    pub(super) fn copy_up_name(
        &self,
        node: &Arc<Node>,
        parent: &Arc<Node>,
        name: Name<'_>,
    ) -> Result<()> {
        self.copy_up_leaf(node, Data::All, &Change::NONE)?;
        self.name_to_upper(node, &Link::new(parent, name.bytes(), false))
    }

    fn copy_up_leaf(&self, node: &Arc<Node>, data: Data, change: &Change) -> Result<bool> {
        self.upper()?;
        let leaf = node.as_leaf()?;
        if leaf.place.read().real.upper_key().is_some() {
            return Ok(false);
        }
        let _gate = node.gate.lock();
        let mut tries = 0;
        loop {
            tries += 1;
            match self.copy_up_as_it_is(node, leaf, data, change) {
                Err(err) if err.errno() == Errno::ESTALE && self.may_try_again(tries) => {}
                other => return other,
            }
        }
    }

    /// Whether a copy-up that found another object than it began with begins anew.
    fn may_try_again(&self, tries: u32) -> bool {
        self.lowers_settle.is_some() && tries < TRIES
    }

    fn copy_up_as_it_is(
        &self,
        node: &Arc<Node>,
        leaf: &Leaf,
        data: Data,
        change: &Change,
    ) -> Result<bool> {
        let (dir, name, source, link, open, is_orphan) = {
            let place = leaf.place.read();
            let Some((dir, name)) = place.in_lower()? else { return Ok(false) };
            let (source, link) = (place.data().clone(), place.links().next().cloned());
            let is_orphan = matches!(place.real, Real::Orphan(_));
            // Where lowers change it may be of what stood there before.
            let open = leaf.io.get().filter(|_| self.lowers_settle.is_none());
            (dir.clone(), Box::<[u8]>::from(name), source, link, open, is_orphan)
        };
        let from = Lower {
            dir: &dir,
            name: Name::new(&name)?,
            data: &source,
            open: open.as_ref().map(|open| open.as_fd()),
            filesystems: &self.stack.filesystems,
            index: None,
            no_xattrs: node.no_xattrs.is_known(),
            change,
        };
        if !self.is_copied_ahead(node) {
            self.will_wait();
        }
        let was = from.dir.dir().stat_entry(from.name)?.ok_or(Errno::ESTALE)?;
        if self.lowers_settle.is_some() {
            self.check_is_still(node, &was, dir.dir().layer())?;
        }
        match link {
            Some(link) if !is_orphan => self.copy_up_lower(node, leaf, (&from, &was), &link, data),
            _ => {
                let from = Lower { change: &Change::NONE, ..from };
                self.copy_up_orphan(node, leaf, (&from, &was), data).map(|()| false)
            }
        }
    }

    /// Runs `build`, which copies an object of a lower that had the attributes `was` before.
    ///
    /// # Errors
    /// Those of `build`; ESTALE where the object has changed meanwhile: then what was copied may be
    /// of both.
    fn unless_it_changes<T>(
        &self,
        (from, was): (&Lower<'_>, &Stat),
        build: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let built = build();
        if self.lowers_settle.is_some() {
            let now = from.dir.dir().stat_entry(from.name)?;
            now.filter(|now| now.is_unchanged(was)).ok_or(Errno::ESTALE)?;
        }
        built
    }

    /// Copies up an object that has no name in the mount. The copy has none either.
    fn copy_up_orphan(
        &self,
        node: &Node,
        leaf: &Leaf,
        (from, was): (&Lower<'_>, &Stat),
        data: Data,
    ) -> Result<()> {
        let upper = self.upper()?;
        let copy = self.unless_it_changes((from, was), || {
            if node.kind() == FileType::Regular {
                return orphan(copyup::build_unnamed(upper, from, was, data)?);
            }
            let (kept, made) = copyup::build_other_unnamed(upper, from, was)?;
            Ok(Real::orphan(Arc::new(kept), (made.dev, made.ino)))
        })?;
        let mut place = leaf.place.write();
        leaf.io.take();
        place.real = copy;
        place.set_data(Contents::Own);
        Ok(())
    }

    fn copy_up_lower(
        &self,
        node: &Arc<Node>,
        leaf: &Leaf,
        (from, was): (&Lower<'_>, &Stat),
        link: &Link,
        data: Data,
    ) -> Result<bool> {
        if leaf.place.read().shared().is_some() {
            return self.copy_up_shared(node, leaf, from, was, data).map(|()| false);
        }
        let copied = self.unless_it_changes((from, was), || match data {
            Data::All => self.build_with_others(from, link, was),
            _ => copyup::build(self.upper()?, from, was, data),
        })?;
        if self.publish(node, leaf, link, copied)? {
            if was.nlink > 1 {
                // The inode number and the link count are those of the copy now.
                self.tell_changed(node.id);
            }
            return Ok(true);
        }
        let from = Lower { change: &Change::NONE, ..*from };
        self.copy_up_orphan(node, leaf, (&from, was), data).map(|()| false)
    }

    /// Copies up a file that the index keeps together, so that all its names stand for the copy.
    /// The copy does not get the change: an error may still follow, and then nothing may have
    /// changed.
    fn copy_up_shared(
        &self,
        node: &Arc<Node>,
        leaf: &Leaf,
        from: &Lower<'_>,
        was: &Stat,
        data: Data,
    ) -> Result<()> {
        let (upper, from) = (self.upper()?, &Lower { change: &Change::NONE, ..*from });
        if let Some((indexed, linked)) =
            links::of_lower(self.lookup_context(), from.dir, from.name, was)?
        {
            // Another node copied the file up under another name, and was gone before this one was
            // made.
            let mut place = leaf.place.write();
            place.set_linked(Box::new(linked));
            self.has_copy(node, leaf, &mut place, &indexed.stat, None);
            return Ok(());
        }
        let plan = links::plan(self.lookup_context(), from.dir, from.name, was)?;
        // The copy is not truncated yet: other names show it before the change is made.
        let data = if let Data::UpTo(_) = data { Data::All } else { data };
        let build = || copyup::build(upper, &Lower { index: Some(&plan), ..*from }, was, data);
        let mut copied = self.unless_it_changes((from, was), build)?;
        let mut place = leaf.place.write();
        let (file, made, set_id) = (copied.file.take(), copied.made, copied.set_id);
        copied.publish_in_index(upper, &plan, was.nlink)?;
        let (entry, lower) = (plan.entry, Some(was.nlink));
        place.set_linked(Box::new(Linked { entry, count: was.nlink, lower, settled: true }));
        self.has_copy(node, leaf, &mut place, &made, file);
        node.no_set_id.store(!set_id, Ordering::Relaxed);
        Ok(())
    }

    /// Makes one name in the upper for a copy that only the index has, so that a user of the upper
    /// alone sees the change. The kernel's overlayfs takes the name that was used, which no request
    /// tells.
    fn give_name(&self, node: &Arc<Node>) -> Result<()> {
        let link = {
            let place = node.as_leaf()?.place.read();
            match place.linked() {
                Some(_) if place.upper_link().is_none() => place.links().next().cloned(),
                _ => None,
            }
        };
        link.map_or(Ok(()), |link| self.name_to_upper(node, &link))
    }

    /// Notes that the copy of a node is in the upper.
    fn has_copy(
        &self,
        node: &Arc<Node>,
        leaf: &Leaf,
        place: &mut Place,
        made: &Stat,
        file: Option<OwnedWritable>,
    ) {
        self.table.copied_up(node, Key::of(made, 0));
        place.real = Real::upper((made.dev, made.ino));
        place.set_data(Contents::Own);
        node.no_set_id.store(false, Ordering::Relaxed);
        node.no_capability.store(false, Ordering::Relaxed);
        leaf.io.take();
        if let Some(file) = file {
            leaf.io.put(Arc::new(file.into()));
            let weak: std::sync::Weak<Node> = Arc::downgrade(node);
            self.cache.opened(weak);
        }
    }

    /// Publishes a finished copy, with its directory locked: the file may have been unlinked while
    /// the data was copied. Returns whether there is a copy: one without data is of no use to a
    /// file that has no name any more.
    fn publish(
        &self,
        node: &Arc<Node>,
        leaf: &Leaf,
        link: &Link,
        mut copied: Copied,
    ) -> Result<bool> {
        let name = Name::new(link.name())?;
        let mut dir = self.dir_for_change(&link.parent)?;
        let mut place = leaf.place.write();
        let (file, made, set_id) = (copied.file.take(), copied.made, copied.set_id);
        if place.find(&link.parent, link.name()).is_none() {
            let Some(file) = file else { return Ok(false) };
            leaf.io.take();
            place.real = orphan(file)?;
            place.set_data(Contents::Own);
            return Ok(true);
        }
        let data = copied.data.clone();
        copied.publish(self.upper()?, Destination { dir: &dir.upper, name })?;
        self.dir_moved(&link.parent);
        dir.has_put(name, node.kind(), made.ino);
        self.has_copy(node, leaf, &mut place, &made, file);
        node.no_set_id.store(!set_id, Ordering::Relaxed);
        place.set_data(data);
        place.add(Link::new(&link.parent, link.name(), true));
        Ok(true)
    }
}

/// The directories from this one up that the upper lacks, each with the one above it. The topmost
/// is the last.
fn missing_above(node: &Arc<Node>) -> Result<Vec<(Arc<Node>, Arc<Node>)>> {
    let mut missing = Vec::new();
    let mut here = Arc::clone(node);
    while here.dir()?.stack.read().upper.is_none() {
        let above = here.dir()?.link.read().clone().ok_or(Errno::ENOENT)?.parent;
        missing.push((here, Arc::clone(&above)));
        here = above;
    }
    Ok(missing)
}
