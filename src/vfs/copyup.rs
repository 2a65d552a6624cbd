//! Getting a node into the upper, with all that is above it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Vfs;
use super::hardlinks::orphan;
use super::lookup::ensure_index;
use super::node::{Leaf, Node};
use super::place::{Link, Place, Real};
use crate::error::{Errno, Result, best_effort};
use crate::layer::{Over, UpperDir};
use crate::merge::attr::Change;
use crate::merge::copyup::{self, Copied, Data, Destination, Lower};
use crate::merge::links::{self, Linked, Plan};
use crate::merge::lookup::{Contents, Key};
use crate::merge::stack::MetaSource;
use crate::sys::{FileType, Name, Stat};

impl Vfs {
    /// Whether a change of this node would copy data first: slow enough to be done elsewhere.
    #[must_use]
    pub fn needs_copy_up(&self, id: super::NodeId) -> bool {
        let Some(node) = self.table.get(id) else { return false };
        node.as_leaf().is_ok_and(|leaf| {
            let place = leaf.place.read();
            let needs = place.real.upper_key().is_none() || !place.has_own_data();
            drop(place);
            needs && !self.is_copied_ahead(leaf)
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
                self.own_metadata(node, &upper)?;
                self.unify_marks(node, &upper)?;
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
        let _gate = node.gate.lock();
        let mut names = parent.dir()?.names.write();
        ensure_index(parent.dir()?, &mut names)?;
        let dir = node.dir()?;
        // Its own names too: who looks at them with the upper has to have an index from now on.
        let _own_names = dir.names.write();
        if dir.stack.read().upper.is_some() {
            return Ok(());
        }
        let link = dir.link.read().clone().ok_or(Errno::ENOENT)?;
        if link.parent.id != parent.id {
            // Cannot be: a directory that is in a lower is not renamed before it is copied up.
            return Err(Errno::ESTALE.into());
        }
        let name = Name::new(link.name())?;
        let from = dir.stack.read().clone();
        let made = copyup::directory(upper, &from, Destination { dir: to, name })?;
        let part = Key { dev: made.dir().dev()?, ino: made.dir().ino()?, layer: 0 };
        if let Some(index) = &mut names.index {
            index.put_upper(name, FileType::Directory, part.ino);
        }
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

    /// The same for a change of mode, owner or times, or of the size in `data`. Returns whether
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
        self.upper()?;
        let leaf = node.as_leaf()?;
        let (in_upper, all_names) = {
            let place = leaf.place.read();
            (place.real.upper_key().is_some(), place.links().all(Link::in_upper))
        };
        if in_upper {
            // A name that was met after the copy-up follows before anything else changes.
            if !all_names {
                self.link_other_names(node, leaf)?;
            }
            return Ok(false);
        }
        let gate = node.gate.lock();
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
            bare: node.bare.is_known(),
            change,
        };
        if is_orphan {
            let from = Lower { change: &Change::NONE, ..from };
            return self.copy_up_orphan(node, leaf, &from, data).map(|()| false);
        }
        match self.copy_up_lower(node, leaf, &from, link.as_ref(), data) {
            Err(err) if err.errno() == Errno::EAGAIN => {
                drop(gate);
                self.copy_up_changed(node, data, change)
            }
            other => other,
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
        link: Option<&Link>,
        data: Data,
    ) -> Result<bool> {
        let upper = self.upper()?;
        let was = from.dir.dir().stat_entry(from.name)?.ok_or(Errno::ESTALE)?;
        // While one of several names follows there may still be an error, and then nothing may have
        // changed.
        let alone = was.nlink == 1;
        let from = &Lower { change: if alone { from.change } else { &Change::NONE }, ..*from };
        if let Some((indexed, linked)) = links::of_lower(self.rules(), from.dir, from.name, &was)? {
            // Copied up under another name, by a node that was gone when this one was made.
            let mut place = leaf.place.write();
            place.set_linked(Box::new(linked));
            self.has_copy(node, leaf, &mut place, &indexed.stat, None);
            drop(place);
            return self.link_other_names(node, leaf).map(|()| false);
        }
        let plan = links::plan(self.rules(), from.dir, from.name, &was)?;
        let copied = match link {
            Some(link) if plan.is_none() && data == Data::All => {
                self.build_with_others(from, link, &was)?
            }
            _ => copyup::build(upper, &Lower { index: plan.as_ref(), ..*from }, &was, data)?,
        };
        match (plan, link) {
            (Some(plan), _) if copied.can_index => {
                self.publish_in_index(node, leaf, &plan, &was, copied)?;
            }
            (_, Some(link)) => {
                let to = self.dir_to_write(&link.parent)?;
                self.publish(node, leaf, link, &to, copied)?;
            }
            // Its names are not known any more.
            (_, None) => {
                let file = copied.file.ok_or(Errno::EOPNOTSUPP)?;
                leaf.io.take();
                leaf.place.write().real = orphan(file)?;
                return Ok(alone);
            }
        }
        self.link_other_names(node, leaf).map(|()| alone)
    }

    /// Makes a finished copy of a hard link the file that all of its names stand for. Those that
    /// are known become names in the upper after that, one by one.
    fn publish_in_index(
        &self,
        node: &Arc<Node>,
        leaf: &Leaf,
        plan: &Plan,
        was: &Stat,
        mut copied: Copied,
    ) -> Result<()> {
        let mut place = leaf.place.write();
        let count = self.names_left(Key::of(was, leaf.layer), was.nlink);
        let (file, made, set_id) = (copied.file.take(), copied.made, copied.set_id);
        if matches!(place.real, Real::Orphan(_)) || (count == 0 && place.is_nameless()) {
            leaf.io.take();
            place.real = orphan(file.ok_or(Errno::EOPNOTSUPP)?)?;
            place.set_data(Contents::Own);
            return Ok(());
        }
        let count = count.max(1);
        copied.publish_in_index(self.upper()?, plan, count)?;
        let entry = plan.entry.clone();
        let linked = Linked { entry, count, lower: Some(was.nlink), settled: true };
        place.set_linked(Box::new(linked));
        self.has_copy(node, leaf, &mut place, &made, file);
        node.no_set_id.store(!set_id, Ordering::Relaxed);
        Ok(())
    }

    /// Notes that the copy of a node is in the upper.
    fn has_copy(
        &self,
        node: &Arc<Node>,
        leaf: &Leaf,
        place: &mut Place,
        made: &Stat,
        file: Option<OwnedFd>,
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
    /// the data was on its way.
    fn publish(
        &self,
        node: &Arc<Node>,
        leaf: &Leaf,
        link: &Link,
        to: &UpperDir,
        mut copied: Copied,
    ) -> Result<()> {
        let name = Name::new(link.name())?;
        let mut names = link.parent.dir()?.names.write();
        ensure_index(link.parent.dir()?, &mut names)?;
        let mut place = leaf.place.write();
        let (file, made, set_id) = (copied.file.take(), copied.made, copied.set_id);
        if place.find(&link.parent, link.name()).is_none() {
            let lacks_file = file.is_none() && node.kind() == FileType::Regular;
            if !place.is_nameless() || lacks_file {
                // Another name is left: begin anew with that. Or none, and then the data is needed.
                return Err(Errno::EAGAIN.into());
            }
            leaf.io.take();
            place.real = orphan(file.ok_or(Errno::ESTALE)?)?;
            place.set_data(Contents::Own);
            return Ok(());
        }
        let data = copied.data.clone();
        copied.publish(self.upper()?, Destination { dir: to, name })?;
        self.dir_moved(&link.parent);
        if let Some(index) = &mut names.index {
            index.put_upper(name, node.kind(), made.ino);
        }
        self.has_copy(node, leaf, &mut place, &made, file);
        node.no_set_id.store(!set_id, Ordering::Relaxed);
        place.set_data(data);
        place.add(Link::new(&link.parent, link.name(), true));
        Ok(())
    }

    /// The other known names of a file that was copied up follow it, so that they stay names of one
    /// file after the next mount too.
    pub(super) fn link_other_names(&self, node: &Arc<Node>, leaf: &Leaf) -> Result<()> {
        loop {
            let next = {
                let place = leaf.place.read();
                place.links().find(|link| !link.in_upper()).cloned()
            };
            let is_orphan = matches!(leaf.place.read().real, Real::Orphan(_));
            let Some(link) = next.filter(|_| !is_orphan) else { return Ok(()) };
            self.name_to_upper(node, &link)?;
        }
    }

    /// Makes one more name of a node that is in the upper a name there.
    pub(super) fn name_to_upper(&self, node: &Arc<Node>, link: &Link) -> Result<()> {
        let upper = self.upper()?;
        let to = self.dir_to_write(&link.parent)?;
        let name = Name::new(link.name())?;
        let mut names = link.parent.dir()?.names.write();
        ensure_index(link.parent.dir()?, &mut names)?;
        let mut place = node.as_leaf()?.place.write();
        match place.find(&link.parent, link.name()) {
            Some(known) if !known.in_upper() => {}
            _ => return Ok(()),
        }
        let times = to.dir().stat()?;
        let staged = {
            let (from, source) = self.upper_path(&place)?;
            upper.stage_link(&from, Name::new(source)?)?
        };
        if place.linked().is_some() {
            upper.set_impure(&to)?;
            self.unsettle_count(&mut place)?;
        }
        staged.publish(&to, name, Over::Nothing)?;
        upper.restore_times(&to, &times);
        self.dir_moved(&link.parent);
        best_effort("names are counted by the next change", self.settle_count(&mut place));
        place.add(Link::new(&link.parent, link.name(), true));
        if let (Some(index), Some((_, ino))) = (&mut names.index, place.real.upper_key()) {
            index.put_upper(name, node.kind(), ino);
        }
        Ok(())
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
