//! Calls on a directory and its entries that the modes of an upper may refuse to an unprivileged
//! server ([`Grants`]).

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::{LayerDir, UpperDir};
use crate::error::Result;
use crate::layer::Fd;
use crate::layer::grants::{Grants, Need};
use crate::sys::at::Replace;
use crate::sys::{Name, Stat, Target, Writable, WritableFd, at, stat};

impl LayerDir {
    pub(super) fn grants(&self) -> Option<&Grants> {
        self.layer.grants.as_deref()
    }

    /// The rights needed to reach the entry `name` by `here`, a descriptor of this directory.
    fn needs_of<'a>(self: &'a Arc<Self>, here: BorrowedFd<'a>, name: Name<'a>) -> [Need<'a>; 2] {
        let entry =
            Need { target: Target::At(here, name), place: (self, Some(name)), if_dir: false };
        [Need::of(self, here), entry]
    }

    /// Runs a call on the directory itself, or on names in it. A refused call on an upper is tried
    /// again with rights to the directory.
    ///
    /// # Errors
    /// Those of [`Self::fd`] and of `act`.
    pub fn reach<T>(
        self: &Arc<Self>,
        mut act: impl FnMut(BorrowedFd<'_>) -> Result<T>,
    ) -> Result<T> {
        let fd = self.fd()?;
        let fd = fd.as_ref().as_fd();
        Grants::retry(self.grants(), &[Need::of(self, fd)], || act(fd))
    }

    /// Runs a call on an entry, if need be with rights to the directory and to the entry.
    ///
    /// # Errors
    /// As for [`Self::reach`].
    pub fn reach_entry<T>(
        self: &Arc<Self>,
        name: Name<'_>,
        mut act: impl FnMut(Target<'_>) -> Result<T>,
    ) -> Result<T> {
        let fd = self.fd()?;
        let fd = fd.as_ref().as_fd();
        let needs = self.needs_of(fd, name);
        Grants::retry(self.grants(), &needs, || act(Target::At(fd, name)))
    }

    /// Opens the directory to list it, in place of a descriptor that only looks up names.
    pub(super) fn open_to_list(self: &Arc<Self>) -> Result<Arc<Fd>> {
        let fd = Arc::new(Fd::from(self.reach(at::reopen_dir)?));
        self.slot.put(Arc::clone(&fd));
        Ok(fd)
    }

    /// Attributes of an object's inode, without rights that we gave ourselves.
    pub(super) fn look(&self, target: Target<'_>) -> Result<Option<Stat>> {
        Grants::as_shown(self.grants(), || stat::stat_if_exists(target))
    }
}

impl UpperDir {
    /// Runs a call that may change the directory; see [`LayerDir::reach`].
    ///
    /// # Errors
    /// Those of opening the directory and of `act`.
    pub fn reach<T>(&self, mut act: impl FnMut(WritableFd<'_>) -> Result<T>) -> Result<T> {
        self.0.reach(|fd| act(WritableFd::vouch(fd)))
    }

    /// The right to change the directory by a descriptor of it, which may outlive its name.
    #[must_use]
    pub fn by_descriptor<'a>(&self, descriptor: &'a Fd) -> WritableFd<'a> {
        WritableFd::vouch(descriptor.as_fd())
    }

    /// Runs a call that may change an entry; see [`LayerDir::reach_entry`].
    ///
    /// # Errors
    /// As [`Self::reach`].
    pub fn reach_entry<T>(
        &self,
        name: Name<'_>,
        mut act: impl FnMut(Writable<'_>) -> Result<T>,
    ) -> Result<T> {
        let fd = self.fd()?;
        let fd = WritableFd::vouch(fd.as_ref().as_fd());
        let needs = self.0.needs_of(fd.borrowed(), name);
        Grants::retry(self.0.grants(), &needs, || act(fd.entry(name)))
    }

    /// Moves the entry `name` to a new name in the work directory.
    pub(in crate::layer) fn move_out(
        &self,
        name: Name<'_>,
        work: WritableFd<'_>,
        to: Name<'_>,
    ) -> Result<()> {
        let fd = self.fd()?;
        let here = WritableFd::vouch(fd.as_ref().as_fd());
        let needs = self.0.needs_of(here.borrowed(), name);
        let call = || at::rename(here, name, work, to, Replace::No);
        Grants::retry(self.0.grants(), &needs, call)
    }

    /// Moves an object of the work directory to `name`, or exchanges it with the object there. A
    /// directory without `w` needs rights, because the move changes its `..`.
    pub(in crate::layer) fn move_in(
        &self,
        work: WritableFd<'_>,
        staged: Name<'_>,
        name: Name<'_>,
        replace: Replace,
    ) -> Result<()> {
        let fd = self.fd()?;
        let here = WritableFd::vouch(fd.as_ref().as_fd());
        let needs = [
            Need::of(&self.0, here.borrowed()),
            Need::moving(work.entry(staged).target(), (&self.0, name)),
            Need::moving(here.entry(name).target(), (&self.0, name)),
        ];
        let call = || at::rename(work, staged, here, name, replace);
        Grants::retry(self.0.grants(), &needs, call)
    }
}
