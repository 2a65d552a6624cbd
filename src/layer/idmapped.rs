//! Lowers whose mounts already map owners.
//!
//! podman 4.3 gives a mount program lowers behind id-mapped mounts, and the same map again as an
//! option; later releases do one of the two. The options map the owners that a file system stores.
//! So a lower whose mount maps the owner of its root as the options do is opened through another
//! mount of the file system. Any other id-mapped mount counts as the lower itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::config::{IdView, Owners};
use crate::error::{Errno, Error, Result};
use crate::format::idmap::IdMap;
use crate::id::Id;
use crate::sys::mountinfo::{self, Mount};
use crate::sys::{at, handle, overflow, stat};

/// The mounts of this process; none if the options do not map owners.
#[derive(Debug)]
pub struct Mounts<'a> {
    owners: &'a Owners,
    all: Vec<Mount>,
}

impl<'a> Mounts<'a> {
    /// Reads the present mounts. Without procfs none is known, and no lower counts as mapped.
    pub fn for_owners(owners: &'a Owners) -> Self {
        let all = if *owners == Owners::default() { Ok(Vec::new()) } else { mountinfo::mounts() };
        let all = all.unwrap_or_else(|err| {
            tracing::debug!("id-mapped mounts are not looked for: {err}");
            Vec::new()
        });
        Self { owners, all }
    }

    /// The root of a lower through a mount that maps no owners, if its own mount maps them as the
    /// options do; otherwise `lower` itself.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn unmapped(&self, path: &Path, lower: OwnedFd) -> Result<OwnedFd> {
        if self.all.is_empty() {
            return Ok(lower);
        }
        let id = stat::mount_id(lower.as_fd())?;
        let Some(mount) = self.all.iter().find(|mount| mount.id == id && mount.is_idmapped) else {
            return Ok(lower);
        };
        let mut others = self.all.iter().filter(|it| it.device == mount.device && !it.is_idmapped);
        let Some(plain) = others.find_map(|it| through(it, lower.as_fd()).ok()) else {
            let path = path.display();
            tracing::warn!("{path} lies on a mount that maps owners; they may be mapped twice");
            return Ok(lower);
        };
        let agree = self.agree(plain.as_fd(), lower.as_fd())?;
        tracing::debug!("{}: mapped by its mount, as asked for: {agree}", path.display());
        Ok(if agree { plain } else { lower })
    }

    /// Whether the options map the owner of a directory as the mount of `mapped` does.
    fn agree(&self, plain: BorrowedFd<'_>, mapped: BorrowedFd<'_>) -> Result<bool> {
        let (stored, seen) = (stat::fstat(plain)?, stat::fstat(mapped)?);
        let nobody = overflow::ids();
        let same = |view, stored, seen, nobody: Option<Id>| {
            shown(view, stored).or(nobody).map(Id::number) == Some(seen)
        };
        let (uid, gid) = (nobody.map(|ids| ids.uid), nobody.map(|ids| ids.gid));
        Ok(same(&self.owners.uids, stored.uid, seen.uid, uid)
            && same(&self.owners.gids, stored.gid, seen.gid, gid))
    }
}

fn shown(view: &IdView, number: u32) -> Option<Id> {
    let id = Id::new(number)?;
    match view {
        IdView::Same => Some(id),
        IdView::Mapped(ranges) => IdMap::new(ranges).shown(id),
        IdView::All(all) => Some(*all),
    }
}

/// Opens a directory through another mount of its file system.
fn through(mount: &Mount, dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    let stale = || Error::from(Errno::ESTALE);
    let point = at::open_root(&mount.point)?;
    if stat::mount_id(point.as_fd())? != mount.id {
        // Something else is mounted on top of it.
        return Err(stale());
    }
    let own = handle::of_open(dir)?.ok_or(Errno::EOPNOTSUPP)?;
    let found = handle::open(point.as_fd(), &own)?;
    let found = at::reopen_dir(found.as_fd())?;
    let same = stat::fstat(found.as_fd())?.same_object(&stat::fstat(dir)?);
    if same { Ok(found) } else { Err(stale()) }
}
