//! Getting a node into the upper, with all that is above it.

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

impl Vfs {
    /// Whether a change of the data of this node would copy it up first.
    pub(super) fn needs_copy_up(&self, node: &Node) -> bool {
        node.as_leaf().is_ok_and(|leaf| {
            let place = leaf.place.read();
            place.real.upper_key().is_none() || !place.has_own_data()
        })
    }

    /// The directory in the upper that belongs to a node; copied up, with those above, if need be.
    ///
    /// # Errors
    /// EROFS; ENOENT for a removed directory; what [`copyup::directory`] says.
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
            // Not recursive: a tree may be deeper than a stack.
            let mut missing = missing_above(node)?;
            while let Some((here, above)) = missing.pop() {
                let upper = above.dir()?.stack.read().upper.clone();
                match upper {
                    Some(upper) => self.copy_up_dir(&here, &above, &upper)?,
                    // It was moved meanwhile, and another is above it now.
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
            // Cannot be: a directory that is in a lower is not renamed before it is copied up.
            return Err(Errno::ESTALE.into());
        }
        let name = Name::new(link.name())?;
        let about = || format!("copy-up of directory {name}");
        // The lower that is copied may hang: no names are locked.
        let copied = copyup::directory(upper, &from).context(about)?;
        let mut above = DirForChange::lock(parent, to.clone())?;
        // Its own names too: who looks at them with the upper has to have an index from now on.
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

    /// What others have left on a directory of the upper becomes one mark of ours before the first
    /// change in it.
    fn unify_marks(&self, node: &Node, upper_dir: &UpperDir) -> Result<()> {
        let dir = node.dir()?;
        if !dir.unified.load(Ordering::Relaxed) {
            self.upper()?.unify_opaque(upper_dir)?;
            dir.unified.store(true, Ordering::Relaxed);
            self.dir_moved(node);
        }
        Ok(())
    }

    /// Gets a non-directory into the upper.
    ///
    /// # Errors
    /// EROFS; what [`copyup::build`] says. The object is then as it was.
    pub(super) fn copy_up(&self, node: &Arc<Node>, data: Data) -> Result<()> {
        self.copy_up_changed(node, data, &Change::NONE).map(drop)
    }

    /// Copies up for a change of mode, owner or times, or of the size in `data`. Returns whether
    /// that came with it, so that nobody has seen the copy without.
    ///
    /// # Errors
    /// As [`Self::copy_up`]; what [`attr::apply`](crate::merge::attr::apply) says.
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

    /// Copies up for the change of one name.
    ///
    /// # Errors
    /// As [`Self::copy_up`].
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
        let (dir, name, source, link, open, is_orphan) = {
            let place = leaf.place.read();
            let Some((dir, name)) = place.in_lower()? else { return Ok(false) };
            let (source, link) = (place.data().clone(), place.links().next().cloned());
            let is_orphan = matches!(place.real, Real::Orphan(_));
            (dir.clone(), Box::<[u8]>::from(name), source, link, leaf.io.get(), is_orphan)
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
        match link {
            Some(link) if !is_orphan => self.copy_up_lower(node, leaf, &from, &link, data),
            _ => {
                let from = Lower { change: &Change::NONE, ..from };
                self.copy_up_orphan(node, leaf, &from, data).map(|()| false)
            }
        }
    }

    /// The copy of what has no name in the mount has none either.
    fn copy_up_orphan(&self, node: &Node, leaf: &Leaf, from: &Lower<'_>, data: Data) -> Result<()> {
        // Nothing in the upper would keep it: there is nothing to write to but data.
        if node.kind() != FileType::Regular {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let copy = copyup::build_unnamed(self.upper()?, from, data)?;
        let mut place = leaf.place.write();
        leaf.io.take();
        place.real = orphan(copy)?;
        place.set_data(Contents::Own);
        Ok(())
    }

    fn copy_up_lower(
        &self,
        node: &Arc<Node>,
        leaf: &Leaf,
        from: &Lower<'_>,
        link: &Link,
        data: Data,
    ) -> Result<bool> {
        let was = from.dir.dir().stat_entry(from.name)?.ok_or(Errno::ESTALE)?;
        if leaf.place.read().shared().is_some() {
            return self.copy_up_shared(node, leaf, from, &was, data).map(|()| false);
        }
        let copied = match data {
            Data::All => self.build_with_others(from, link, &was)?,
            _ => copyup::build(self.upper()?, from, &was, data)?,
        };
        if self.publish(node, leaf, link, copied)? {
            if was.nlink > 1 {
                // Number and link count are those of the copy now.
                self.tell_changed(node.id);
            }
            return Ok(true);
        }
        let from = Lower { change: &Change::NONE, ..*from };
        self.copy_up_orphan(node, leaf, &from, data).map(|()| false)
    }

    /// Makes the copy of a file that the index keeps together the one that all of its names stand
    /// for. While one of them follows there may still be an error, and then nothing may have
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
            // Copied up under another name, by a node that was gone when this one was made.
            let mut place = leaf.place.write();
            place.set_linked(Box::new(linked));
            self.has_copy(node, leaf, &mut place, &indexed.stat, None);
            return Ok(());
        }
        let plan = links::plan(self.lookup_context(), from.dir, from.name, was)?;
        // Not cut yet: all other names show the copy before this one follows.
        let data = if let Data::UpTo(_) = data { Data::All } else { data };
        let mut copied = copyup::build(upper, &Lower { index: Some(&plan), ..*from }, was, data)?;
        let mut place = leaf.place.write();
        let (file, made, set_id) = (copied.file.take(), copied.made, copied.set_id);
        copied.publish_in_index(upper, &plan, was.nlink)?;
        let (entry, lower) = (plan.entry, Some(was.nlink));
        place.set_linked(Box::new(Linked { entry, count: was.nlink, lower, settled: true }));
        self.has_copy(node, leaf, &mut place, &made, file);
        node.no_set_id.store(!set_id, Ordering::Relaxed);
        Ok(())
    }

    /// Makes one name of a file that only the index has a name in the upper, so that who looks at
    /// the upper alone sees the change. The kernel does it for the name that was used, which no
    /// request tells.
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

    /// Makes a finished copy visible; with the directory locked, as it may have been unlinked while
    /// the data was on its way. Says whether there is a copy then: one without data is of no use to
    /// what has no name any more.
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

/// The directories from this one up that are not in the upper yet, each with the one above it; the
/// topmost last.
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
