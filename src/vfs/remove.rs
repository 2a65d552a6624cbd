//! Taking names away.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::OFlag;

use super::hardlinks::Going;
use super::lookup::{ensure_index, survey, survey_found};
use super::node::{Dir, Node};
use super::place::{Link, Real};
use super::protection::NameChange;
use super::table::Held;
use super::{NodeId, Vfs};
use crate::error::{Errno, Result, best_effort};
use crate::format::aufs::AufsName;
use crate::layer::upper::WhiteoutForm;
use crate::layer::{Fd, LinkIndex, UpperDir};
use crate::merge::copyup::Data;
use crate::merge::index::{self, InUpper};
use crate::merge::remove::{self, Standing};
use crate::merge::{DirStack, Found, What, lookup};
use crate::sys::{FileType, Name, at};

impl Vfs {
    /// Removes a name that is not a directory.
    ///
    /// # Errors
    /// EROFS; ENOENT; EISDIR; EPERM for what is immutable or append-only, or in such a directory;
    /// what [`remove::unlink`] says.
    pub fn unlink(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        let parent = self.node(parent)?;
        let name = Name::new(name)?;
        loop {
            match self.unlink_once(&parent, name) {
                Err(err) if err.errno() == Errno::EAGAIN => self.settle_names(&parent, name)?,
                other => return other,
            }
        }
    }

    /// Makes all known names of a file of the upper names there. With nothing locked.
    pub(super) fn settle_names(&self, parent: &Arc<Node>, name: Name<'_>) -> Result<()> {
        let node = match self.child(parent, name) {
            Err(err) if err.errno() == Errno::ENOENT => return Ok(()),
            other => other?,
        };
        match node.as_leaf() {
            Ok(leaf) if leaf.place.read().real.upper_key().is_some() => {
                self.link_other_names(&node, leaf)
            }
            // To count its names it has to be in the upper.
            Ok(_) if self.links().is_some_and(LinkIndex::is_eager) => match self.stat_of(&node) {
                Ok(stat) if stat.nlink > 1 => self.copy_up(&node, Data::All),
                other => other.map(drop),
            },
            _ => Ok(()),
        }
    }

    fn unlink_once(&self, parent: &Arc<Node>, name: Name<'_>) -> Result<()> {
        let upper = self.upper()?;
        if parent.dir()?.stack.read().upper.is_none() {
            // Nothing is copied up for what cannot be removed.
            let found = self.find(parent, name)?.ok_or(Errno::ENOENT)?;
            if found.stat.kind().is_dir() {
                return Err(Errno::EISDIR.into());
            }
        }
        self.check_names(parent, NameChange::Gone)?;
        let dir = parent.dir()?;
        let upper_dir = self.dir_to_write(parent)?;
        let mut names = self.names_mut(dir)?;
        let stack = dir.stack.read().clone();
        let found = lookup::lookup(self.rules(), &stack, names.index.as_ref(), name)?
            .ok_or(Errno::ENOENT)?;
        if found.stat.kind().is_dir() {
            return Err(Errno::EISDIR.into());
        }
        self.check_free(&self.table.hold(found.clone(), parent, name.bytes()))?;
        let site = survey_found(&names, name, &found);
        let in_upper = matches!(site.upper, InUpper::Object { .. });
        let standing = Standing { in_upper, in_lowers: site.in_lowers };
        let known = self.known_or_counted(&found, parent, name);
        let known = known.as_ref();
        self.detaching(known.map(|node| &***node), parent, name, &found, || {
            remove::unlink(upper, &upper_dir, name, standing)
        })?;
        if matches!(site.upper, InUpper::Object { cut: true, .. }) {
            self.one_whiteout(&upper_dir, name);
        }
        if let Some(index) = &mut names.index {
            index.remove(name);
        }
        Ok(())
    }

    /// The node of a name that is about to go, if there is one, if its names are counted, or if a
    /// handle may be about that is to be stale then.
    pub(super) fn known_or_counted(
        &self,
        found: &Found,
        parent: &Arc<Node>,
        name: Name<'_>,
    ) -> Option<Held<'_>> {
        let is_known = self.table.known(found, parent, name.bytes()).is_some();
        let wanted = is_known || self.is_counted(found) || self.table.remembers(found);
        wanted.then(|| self.table.hold(found.clone(), parent, name.bytes()))
    }

    /// Where an object had a whiteout beside it (`.wh.NAME`), which is in its place now, one is
    /// enough.
    fn one_whiteout(&self, dir: &UpperDir, name: Name<'_>) {
        if let Ok(upper) = self.upper()
            && upper.forms().whiteout != WhiteoutForm::Aufs
        {
            best_effort("a second whiteout stays", upper.remove_whiteout_file(dir, name));
        }
    }

    /// Takes a name away from its node with `act`. A node that loses its last name keeps a
    /// descriptor: nobody tells us whether it is in use.
    ///
    /// # Errors
    /// EAGAIN, with nothing done, if names stay that only a lower has: [`Self::settle_names`]
    /// first.
    pub(super) fn detaching(
        &self,
        node: Option<&Node>,
        parent: &Node,
        name: Name<'_>,
        found: &Found,
        act: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let Some(leaf) = node.and_then(|node| node.as_leaf().ok()) else { return act() };
        let mut place = leaf.place.write();
        let going = self.going(&place, parent, name, found)?;
        if going != Going::Uncounted {
            self.settle_count(&mut place)?;
        }
        if going == Going::Left {
            act()?;
            place.remove(parent, name.bytes());
            self.count_down(&mut place, found);
            return Ok(());
        }
        let others =
            place.links().count() > usize::from(place.find(parent, name.bytes()).is_some());
        if others {
            // A name that only a lower has cannot stand for what was copied up.
            let stays = |link: &Link| link.in_upper() && !link.is(parent, name.bytes());
            let is_lower = matches!(place.real, Real::Lower { .. });
            if is_lower || place.links().any(stays) {
                act()?;
                place.remove(parent, name.bytes());
                return Ok(());
            }
            return Err(Errno::EAGAIN.into());
        }
        // What is open may be the file that has the data.
        let is_it = |fd: &Arc<Fd>| place.has_own_data() && !fd.is_read_only();
        let fd = match leaf.io.get().filter(is_it) {
            Some(fd) => fd,
            None => Arc::new(self.keep_open(parent, name, found)?.into()),
        };
        act()?;
        let key = place.real.upper_key();
        drop(place.clear_links());
        match place.take_linked() {
            Some(linked) => self.leave_index(&linked),
            None if going == Going::Last => self.count_down(&mut place, found),
            None => {}
        }
        place.real = Real::orphan(fd, key);
        leaf.io.take();
        Ok(())
    }

    /// A descriptor that keeps an object usable: of a file for its data, of anything else `O_PATH`.
    fn keep_open(&self, parent: &Node, name: Name<'_>, found: &Found) -> Result<OwnedFd> {
        if found.stat.kind() == FileType::Regular {
            match self.open_data(parent, name, found) {
                // Nobody has it open, or a descriptor would be there; and nobody can open it now.
                Err(err) if err.errno() == Errno::EACCES => {}
                other => return other,
            }
        }
        let dir = match &found.what {
            What::Lower(dir) => dir.dir().fd()?,
            _ => {
                let dir = parent.dir()?.stack.read().upper.clone().ok_or(Errno::ESTALE)?;
                dir.dir().fd()?
            }
        };
        at::open(dir.as_ref().as_fd(), name, OFlag::O_PATH, 0)
    }

    fn open_data(&self, parent: &Node, name: Name<'_>, found: &Found) -> Result<OwnedFd> {
        match &found.what {
            What::Lower(dir) => dir.dir().open_to_read(name),
            _ => {
                let dir = parent.dir()?.stack.read().upper.clone().ok_or(Errno::ESTALE)?;
                match self.upper()?.open_to_write(&dir, name) {
                    Err(err)
                        if matches!(err.errno(), Errno::EACCES | Errno::EPERM | Errno::ETXTBSY) =>
                    {
                        dir.dir().open_to_read(name)
                    }
                    other => other,
                }
            }
        }
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// EROFS; ENOENT; ENOTDIR; ENOTEMPTY; what [`remove::rmdir`] says.
    pub fn rmdir(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        let parent = self.node(parent)?;
        let name = Name::new(name)?;
        let upper = self.upper()?;
        let child = self.child(&parent, name)?;
        let victim = child.dir()?;
        self.check_names(&parent, NameChange::Gone)?;
        self.check_free(&child)?;
        {
            // Nothing is copied up for what cannot be removed.
            let inner = self.names(victim)?;
            let stack = victim.stack.read().clone();
            check_empty(&stack, inner.index.as_ref())?;
        }
        let dir = parent.dir()?;
        let upper_dir = self.dir_to_write(&parent)?;
        let mut names = self.names_mut(dir)?;
        let mut inner = victim.names.write();
        self.check_still(&child, &parent, name)?;
        ensure_index(victim, &mut inner)?;
        let victim_stack = victim.stack.read().clone();
        check_empty(&victim_stack, inner.index.as_ref())?;
        let stack = dir.stack.read().clone();
        let site = survey(&stack, &names, name)?;
        let in_upper = matches!(site.upper, InUpper::Object { .. });
        let standing = Standing { in_upper, in_lowers: site.in_lowers };
        let kept = victim_stack.top()?.fd()?;
        remove::rmdir(upper, &upper_dir, name, standing)?;
        bury(victim, &mut inner, kept);
        if let Some(index) = &mut names.index {
            index.remove(name);
        }
        Ok(())
    }

    /// Whether a name still stands for the node, now that its directory is locked.
    pub(super) fn check_still(&self, child: &Node, parent: &Node, name: Name<'_>) -> Result<()> {
        let still = match child.dir() {
            Ok(dir) => dir.link.read().as_ref().is_some_and(|link| link.is(parent, name.bytes())),
            Err(_) => child.as_leaf()?.place.read().find(parent, name.bytes()).is_some(),
        };
        if still { Ok(()) } else { Err(Errno::ENOENT.into()) }
    }
}

/// Marks a directory as removed; what still refers to it goes on by the descriptor.
pub(super) fn bury(dir: &Dir, names: &mut super::node::Names, kept: Arc<Fd>) {
    names.dead = true;
    names.index = None;
    *dir.orphan.write() = Some(kept);
    *dir.link.write() = None;
}

/// # Errors
/// ENOTEMPTY if the directory shows any name.
pub(super) fn check_empty(stack: &DirStack, known: Option<&crate::merge::Index>) -> Result<()> {
    if let Some(known) = known {
        let shows = known.iter().any(|(_, entry)| entry.kind().is_some());
        return if shows { Err(Errno::ENOTEMPTY.into()) } else { Ok(()) };
    }
    let top = stack.top()?;
    top.for_each(|entry| {
        if top.classify(entry.name) != AufsName::Plain {
            return Ok(());
        }
        if index::object(top, &entry)?.is_none() {
            return Ok(());
        }
        Err(Errno::ENOTEMPTY.into())
    })
}
