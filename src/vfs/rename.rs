//! Renaming.

use std::sync::Arc;

use super::dir_for_change::{DirForChange, DirToRemove};
use super::nodes::locks::lock_two;
use super::nodes::node::{Dir, Leaf, Node};
use super::nodes::place::{Link, Place, Real};
use super::protection::NameChange;
use super::remove::Going;
use super::{NodeId, Vfs};
use crate::error::{Errno, Result};
use crate::layer::UpperDir;
use crate::merge::index::InUpper;
use crate::merge::remove::Victim;
use crate::merge::rename::{self, End, Moving, Occupied};
use crate::sys::{FileType, Name};

/// What to do if the new name exists (renameat2(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace the object that is there.
    Replace,
    /// `RENAME_NOREPLACE`: fail with EEXIST.
    NoReplace,
    /// `RENAME_EXCHANGE`: exchange the two objects.
    Exchange,
}

/// How often a rename is tried, as others may change the names meanwhile.
const TRIES: u32 = 1000;

/// One side of a rename.
struct Side<'a> {
    parent: Arc<Node>,
    name: Name<'a>,
    /// The part of the parent in the upper.
    upper: UpperDir,
}

/// Both directories, locked; `to` is `None` if they are one.
struct Locked<'a> {
    from: DirForChange<'a>,
    to: Option<DirForChange<'a>>,
}

impl<'a> Locked<'a> {
    /// Locks both in the order of [`Lock3Names`](super::nodes::locks::Lock3Names): a directory
    /// before one below it, else by number.
    fn both(from: &'a Side<'_>, to: &'a Side<'_>) -> Result<Self> {
        let first = |side: &'a Side<'_>| DirForChange::lock(&side.parent, side.upper.clone());
        let second =
            |side: &'a Side<'_>| DirForChange::lock_another(&side.parent, side.upper.clone());
        if from.parent.id == to.parent.id {
            return Ok(Self { from: first(from)?, to: None });
        }
        if is_first(&from.parent, &to.parent)? {
            let from = first(from)?;
            return Ok(Self { from, to: Some(second(to)?) });
        }
        let to = Some(first(to)?);
        Ok(Self { from: second(from)?, to })
    }

    fn to(&self) -> &DirForChange<'a> {
        self.to.as_ref().unwrap_or(&self.from)
    }

    fn to_mut(&mut self) -> &mut DirForChange<'a> {
        self.to.as_mut().unwrap_or(&mut self.from)
    }
}

/// Whether `a` is locked before `b`.
fn is_first(a: &Arc<Node>, b: &Arc<Node>) -> Result<bool> {
    Ok(is_within(b, a)? || (!is_within(a, b)? && a.id < b.id))
}

/// Whether `above` is a directory, and `node` is that directory or lies below it.
fn is_dir_within(node: &Arc<Node>, above: &Node) -> Result<bool> {
    Ok(above.kind().is_dir() && is_within(node, above)?)
}

/// Whether `node` is `above` or lies below it.
fn is_within(node: &Arc<Node>, above: &Node) -> Result<bool> {
    let mut here = Arc::clone(node);
    loop {
        if here.id == above.id {
            return Ok(true);
        }
        let up = here.dir()?.link.read().as_ref().map(|link| Arc::clone(&link.parent));
        match up {
            Some(up) => here = up,
            None => return Ok(false),
        }
    }
}

impl Vfs {
    /// Renames an object.
    ///
    /// # Errors
    /// EROFS; ENOENT; EPERM for immutable and append-only objects, on either side; EEXIST, ENOTDIR,
    /// EISDIR, ENOTEMPTY and EINVAL as of renameat2(2); EINVAL for a reserved name; EXDEV for a
    /// directory of a lower that can neither get a redirect nor be copied up whole (programs then
    /// copy it, as rename(2) allows this error); EBUSY if others change the names all the time;
    /// errors of copy-up and of [`rename::rename`].
    pub fn rename(
        &self,
        parent: NodeId,
        name: &[u8],
        new_parent: NodeId,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        let (from, to) = ((parent, name), (new_parent, new_name));
        self.changing_names(&[from, to], || self.rename_if(from, to, mode))
    }

    fn rename_if(
        &self,
        (parent, name): (NodeId, &[u8]),
        (new_parent, new_name): (NodeId, &[u8]),
        mode: RenameMode,
    ) -> Result<()> {
        self.upper()?;
        let (from, to) = (self.node(parent)?, self.node(new_parent)?);
        let (name, new_name) = (Name::new(name)?, self.new_name(new_name)?);
        let stays = from.id == to.id;
        // Another thread may have replaced the source while it was copied up without a lock.
        for _ in 0..TRIES {
            let source = self.child(&from, name)?;
            let partner = match mode {
                RenameMode::Exchange => Some(self.child(&to, new_name)?),
                _ => None,
            };
            let moving = || [Some(&source), partner.as_ref()].into_iter().flatten();
            let copies = moving().any(|node| self.copies_to_move(node));
            self.check_names(&from, NameChange::Gone)?;
            self.check_free(&source)?;
            if let Some(partner) = &partner {
                self.check_taken(&to, Some(partner))?;
            }
            // Nothing is copied up for a move that cannot be done.
            if copies || !is_in_upper(&from)? || !is_in_upper(&to)? {
                self.foresee(&source, partner.as_deref(), (&to, new_name), mode, stays)?;
            }
            self.check_movable(&source, stays)?;
            if let Some(partner) = &partner {
                if is_dir_within(&from, partner)? {
                    return Err(Errno::EINVAL.into());
                }
                self.check_movable(partner, stays)?;
                self.make_movable(partner, &to, new_name, stays)?;
            }
            self.make_movable(&source, &from, name, stays)?;
            if partner.is_none() {
                self.prepare_to_count(&to, new_name)?;
            }
            let from = Side { upper: self.dir_to_write(&from)?, parent: Arc::clone(&from), name };
            let to =
                Side { upper: self.dir_to_write(&to)?, parent: Arc::clone(&to), name: new_name };
            let _met = self.meet(&to.parent, to.name)?;
            let moves_dir = moving().any(|node| node.kind().is_dir());
            let one_at_a_time = (moves_dir || !stays).then(|| self.renames.lock());
            let done = match &partner {
                Some(partner) => self.exchange(&source, partner, &from, &to),
                None => self.replace(&source, &from, &to, mode),
            };
            drop(one_at_a_time);
            match done {
                Err(err) if err.errno() == Errno::EAGAIN => {}
                other => return other,
            }
        }
        Err(Errno::EBUSY.into())
    }

    /// Whether moving a node copies data, or may copy everything in a directory.
    fn copies_to_move(&self, node: &Node) -> bool {
        match node.dir() {
            Ok(dir) => !dir.stack.read().lowers.is_empty(),
            Err(_) => self.needs_copy_up(node) && !self.is_copied_ahead(node),
        }
    }

    /// Finds the errors of a move before anything is copied up for it. All of it is checked again
    /// with both directories locked.
    fn foresee(
        &self,
        source: &Arc<Node>,
        partner: Option<&Arc<Node>>,
        (to, name): (&Arc<Node>, Name<'_>),
        mode: RenameMode,
        stays: bool,
    ) -> Result<()> {
        let there = match partner {
            Some(_) => None,
            None => {
                let hold = |found| Ok(self.table.hold(found, to, name.bytes()));
                self.with_found(to, name, hold)?
            }
        };
        if partner.is_none() {
            self.check_taken(to, there.as_deref())?;
        }
        // The kernel's overlayfs checks the target last.
        for node in [Some(source), partner].into_iter().flatten() {
            self.to_be_copied(node, stays)?;
        }
        if !source.kind().is_dir() {
            return Ok(());
        }
        if is_within(to, source)? {
            return Err(Errno::EINVAL.into());
        }
        let Some(victim) = there else { return Ok(()) };
        if mode == RenameMode::NoReplace {
            return Err(Errno::EEXIST.into());
        }
        check_kinds(source.kind(), victim.kind())?;
        let dir = victim.dir()?;
        let names = self.names(dir)?;
        let stack = dir.stack.read().clone();
        Victim { stack: &stack, index: names.index.as_ref() }.check_empty()
    }

    /// Gets an object that is about to move into the upper.
    pub(super) fn make_movable(
        &self,
        node: &Arc<Node>,
        parent: &Arc<Node>,
        name: Name<'_>,
        stays: bool,
    ) -> Result<()> {
        if node.kind().is_dir() {
            return self.make_dir_movable(node, stays);
        }
        self.copy_up_name(node, parent, name)?;
        self.complete(node)
    }

    /// Checks that the name is still that of the node, and in the upper. Both directories are
    /// locked.
    fn check_source(&self, source: &Node, side: &Side<'_>) -> Result<()> {
        let gone = self.check_still(source, &side.parent, side.name).is_err();
        let moved_down = match source.as_leaf() {
            Ok(leaf) => leaf.place.read().real.upper_key().is_none(),
            Err(_) => false,
        };
        if gone || moved_down { Err(Errno::EAGAIN.into()) } else { Ok(()) }
    }

    fn replace(
        &self,
        source: &Arc<Node>,
        from: &Side<'_>,
        to: &Side<'_>,
        mode: RenameMode,
    ) -> Result<()> {
        let mut locked = Locked::both(from, to)?;
        self.check_source(source, from)?;
        locked.to().check_alive()?;
        if source.kind().is_dir() && is_within(&to.parent, source)? {
            return Err(Errno::EINVAL.into());
        }
        let there = self.going_from(&to.parent, locked.to(), to.name)?;
        self.check_taken(&to.parent, there.as_ref().map(|there| &*there.node))?;
        if let Some(there) = &there {
            if mode == RenameMode::NoReplace {
                return Err(Errno::EEXIST.into());
            }
            check_kinds(source.kind(), there.node.kind())?;
            // Two names of one file: nothing has to be done (rename(2)).
            if there.node.id == source.id {
                return Ok(());
            }
        }
        let what = self.mark_for_move(source, from.parent.id == to.parent.id)?;
        self.carry_impure(source, what, from, to)?;
        let occupied = match (&there, locked.to().index()) {
            // A whiteout that hides nothing may be there. A file can replace that all the same.
            (None, None) if !what.is_dir => Occupied::Free,
            _ => occupied(locked.to(), to.name, there.as_ref())?,
        };
        let (from_end, to_end) = (end(from, &locked.from), end(to, locked.to()));
        let act = || rename::rename(self.upper()?, what, &from_end, &to_end, occupied);
        match (source.as_leaf(), &there) {
            (Ok(leaf), Some(there)) => self.displace(leaf, there, from, to, act)?,
            (Ok(leaf), None) => {
                let mut place = leaf.place.write();
                act()?;
                move_name(&mut place, from, to);
            }
            (Err(_), _) => {
                let victim = there.as_ref().map(|there| &*there.node);
                self.displace_dir(source, victim, from, to, act)?;
            }
        }
        let ino = upper_ino(source)?;
        locked.from.has_removed(from.name);
        locked.to_mut().has_put(to.name, source.kind(), ino);
        Ok(())
    }

    fn exchange(
        &self,
        source: &Arc<Node>,
        partner: &Arc<Node>,
        from: &Side<'_>,
        to: &Side<'_>,
    ) -> Result<()> {
        let mut locked = Locked::both(from, to)?;
        self.check_source(source, from)?;
        self.check_source(partner, to)?;
        if source.id == partner.id {
            return Ok(());
        }
        for (node, other) in [(source, to), (partner, from)] {
            if node.kind().is_dir() && is_within(&other.parent, node)? {
                return Err(Errno::EINVAL.into());
            }
        }
        let (a, b) = (end(from, &locked.from), end(to, locked.to()));
        let stays = from.parent.id == to.parent.id;
        let what = (self.mark_for_move(source, stays)?, self.mark_for_move(partner, stays)?);
        self.carry_impure(source, what.0, from, to)?;
        self.carry_impure(partner, what.1, to, from)?;
        let act = || rename::exchange(self.upper()?, what, &a, &b);
        match (source.as_leaf(), partner.as_leaf()) {
            (Ok(one), Ok(other)) => {
                let (mut one, mut other) = lock_two(&one.place, &other.place)?;
                act()?;
                move_name(&mut one, from, to);
                move_name(&mut other, to, from);
            }
            (Ok(leaf), Err(_)) => exchange_with_dir(leaf, (from, to), (partner.dir()?, from), act)?,
            (Err(_), Ok(leaf)) => exchange_with_dir(leaf, (to, from), (source.dir()?, to), act)?,
            (Err(_), Err(_)) => {
                let (one, other) = (source.dir()?, partner.dir()?);
                let mut links = lock_two(&one.link, &other.link)?;
                act()?;
                move_dir(one, &mut links.0, to);
                move_dir(other, &mut links.1, from);
            }
        }
        let (one, other) = (upper_ino(source)?, upper_ino(partner)?);
        locked.from.has_put(from.name, partner.kind(), other);
        locked.to_mut().has_put(to.name, source.kind(), one);
        Ok(())
    }

    /// Marks the new directory as impure for an object that has its number from a lower: a copy, or
    /// a directory that merges by a redirect.
    fn carry_impure(
        &self,
        source: &Node,
        what: Moving,
        from: &Side<'_>,
        to: &Side<'_>,
    ) -> Result<()> {
        let moves = source.as_leaf().is_ok() && from.parent.id != to.parent.id;
        if what.redirected || (moves && from.upper.dir().is_impure()?) {
            self.upper()?.set_impure(&to.upper)?;
        }
        Ok(())
    }

    /// Runs a rename of a non-directory over another one, which stays usable by its descriptor.
    /// Both places are locked meanwhile.
    fn displace(
        &self,
        source: &Leaf,
        there: &Going<'_>,
        from: &Side<'_>,
        to: &Side<'_>,
        act: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut place = if there.is_concerned {
            let victim = there.node.as_leaf()?;
            let (place, mut other) = lock_two(&source.place, &victim.place)?;
            self.detach(victim, &mut other, &to.parent, to.name, act)?;
            place
        } else {
            let place = source.place.write();
            act()?;
            place
        };
        move_name(&mut place, from, to);
        Ok(())
    }

    /// Runs a rename of a directory, which may replace an empty one.
    fn displace_dir(
        &self,
        source: &Arc<Node>,
        victim: Option<&Arc<Node>>,
        from: &Side<'_>,
        to: &Side<'_>,
        act: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let dir = source.dir()?;
        let Some(victim) = victim else {
            let mut link = dir.link.write();
            act()?;
            move_dir(dir, &mut link, to);
            return Ok(());
        };
        if self.check_still(victim, &to.parent, to.name).is_err() {
            return Err(Errno::EAGAIN.into());
        }
        if is_within(&from.parent, victim)? {
            return Err(Errno::ENOTEMPTY.into());
        }
        let goes = DirToRemove::lock(victim)?;
        goes.victim().check_empty()?;
        {
            let mut link = dir.link.write();
            act()?;
            move_dir(dir, &mut link, to);
        }
        goes.bury();
        self.removals.note();
        Ok(())
    }
}

fn end<'a>(side: &'a Side<'a>, dir: &DirForChange<'_>) -> End<'a> {
    End { dir: &side.upper, name: side.name, in_lowers: dir.in_lowers(side.name) }
}

/// What the upper has at the new name.
fn occupied(dir: &DirForChange<'_>, name: Name<'_>, there: Option<&Going<'_>>) -> Result<Occupied> {
    let site = match there {
        Some(there) => there.site,
        None => dir.survey(name)?,
    };
    Ok(match site.upper {
        InUpper::Absent => Occupied::Free,
        InUpper::Whiteout if dir.is_whiteout_object(name)? => Occupied::WhiteoutDevice,
        InUpper::Whiteout => Occupied::WhiteoutFile,
        InUpper::Object { .. } => match there.map(|there| there.node.dir()) {
            Some(Ok(there)) => Occupied::EmptyDir { merges: !there.stack.read().lowers.is_empty() },
            _ => Occupied::Object,
        },
    })
}

/// Exchanges a non-directory and a directory, whose new place is `dir_to`.
fn exchange_with_dir(
    leaf: &Leaf,
    (from, to): (&Side<'_>, &Side<'_>),
    (dir, dir_to): (&Dir, &Side<'_>),
    act: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mut place = leaf.place.write();
    let mut link = dir.link.write();
    act()?;
    move_name(&mut place, from, to);
    move_dir(dir, &mut link, dir_to);
    Ok(())
}

fn move_name(place: &mut Place, from: &Side<'_>, to: &Side<'_>) {
    place.remove(&from.parent, from.name.bytes());
    place.add(Link::new(&to.parent, to.name.bytes(), true));
}

fn move_dir(dir: &Dir, link: &mut Option<Link>, to: &Side<'_>) {
    *link = Some(Link::new(&to.parent, to.name.bytes(), true));
    if let Some(upper) = &dir.stack.read().upper {
        upper.moved(&to.upper, to.name);
    }
}

fn is_in_upper(dir: &Node) -> Result<bool> {
    Ok(dir.dir()?.stack.read().upper.is_some())
}

fn check_kinds(source: FileType, target: FileType) -> Result<()> {
    match (source.is_dir(), target.is_dir()) {
        (true, false) => Err(Errno::ENOTDIR.into()),
        (false, true) => Err(Errno::EISDIR.into()),
        _ => Ok(()),
    }
}

/// The inode number in the upper of an object that was just moved there.
fn upper_ino(node: &Node) -> Result<u64> {
    match node.as_leaf() {
        Ok(leaf) => match &leaf.place.read().real {
            Real::Upper { ino, .. } => Ok(*ino),
            _ => Err(Errno::ESTALE.into()),
        },
        Err(_) => {
            let upper = node.dir()?.stack.read().upper.clone();
            upper.ok_or(Errno::ESTALE)?.dir().ino()
        }
    }
}
