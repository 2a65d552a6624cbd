//! Layers that are identical or lie in one another.
//!
//! The rules are those of the kernel's overlayfs (`ovl_setup_trap`, `ovl_check_overlapping_layers`,
//! fs/overlayfs/super.c). No directory can be two layers, and no lower can lie in another layer. An
//! upper or a work directory may lie in a lower; its name in the mount is ELOOP.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::error::{Errno, Error, Result};
use crate::sys::locks::Locks;
use crate::sys::{Stat, at, stat};

/// An open layer or work directory, with the option that names it.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    pub option: &'static str,
    pub path: &'a Path,
    pub fd: OwnedFd,
}

impl Opened<'_> {
    /// The option that names it, with its path.
    pub fn named(&self) -> String {
        format!("{}={}", self.option, self.path.display())
    }

    /// Opens the directory above it.
    ///
    /// # Errors
    /// EACCES, with advice, if we may not search it.
    pub fn above(&self) -> Result<OwnedFd> {
        at::open_parent(self.fd.as_fd()).map_err(|err| match err.errno() {
            Errno::EACCES => {
                let advice = "it cannot be searched; check its owner and mode";
                err.context(format!("{}: {advice}", self.named()))
            }
            _ => err.context(self.named()),
        })
    }

    fn object(&self) -> Result<Object> {
        Ok(object(&stat::fstat(self.fd.as_fd())?))
    }
}

/// Device and inode number.
type Object = (u64, u64);

fn object(stat: &Stat) -> Object {
    (stat.dev, stat.ino)
}

/// Directories of lowers that no name may lead to: the upper and the work directory.
#[derive(Clone, Debug, Default)]
pub struct Traps(Vec<Object>);

impl Traps {
    /// Whether no lower holds the upper or the work directory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that a directory is not one of them.
    ///
    /// # Errors
    /// ELOOP if it is one.
    pub fn check(&self, found: &Stat) -> Result<()> {
        if self.0.contains(&object(found)) {
            let text = "it is the upper or the work directory of this mount";
            return Err(Error::new(Errno::ELOOP, text));
        }
        Ok(())
    }
}

/// The result of comparing the layers.
#[derive(Debug, Default)]
pub(super) struct Overlaps {
    pub traps: Traps,
    /// Lowers in the upper or work directory of another mount: their positions, and its process.
    pub held: Vec<(usize, u32)>,
}

/// Compares all layers. `writable` are the upper and the work directory.
///
/// # Errors
/// ELOOP, with advice, where the kernel's overlayfs gives it.
pub(super) fn check<'a>(writable: &'a [Opened<'a>], lowers: &'a [Opened<'a>]) -> Result<Overlaps> {
    let mut walk = Walk::default();
    for layer in writable.iter().chain(lowers) {
        if let Some(other) = walk.layers.insert(layer.object()?, layer) {
            return Err(overlap(layer, "is the same directory as", other));
        }
    }
    let locks = Locks::read();
    if !locks.none_is_shared() {
        walk.locks = Some(locks);
    }
    let mut found = Overlaps::default();
    for (position, lower) in lowers.iter().enumerate() {
        if let Some(other) = walk.up(lower)? {
            return Err(overlap(lower, "lies inside", other));
        }
        found.held.extend(walk.holder.take().map(|pid| (position, pid)));
    }
    for dir in writable {
        if walk.up(dir)?.is_some() {
            found.traps.0.push(dir.object()?);
        }
    }
    Ok(found)
}

fn overlap(one: &Opened<'_>, relation: &str, other: &Opened<'_>) -> Error {
    let text = format!(
        "{} {relation} {}; what changes there would be seen twice, so use another directory",
        one.named(),
        other.named()
    );
    Error::new(Errno::ELOOP, text)
}

/// Walks from directories up to the root of their mount.
#[derive(Default)]
struct Walk<'a> {
    layers: FxHashMap<Object, &'a Opened<'a>>,
    /// Directories with no layer above them. The layers of one image share them.
    clear: FxHashSet<Object>,
    /// Set if some process holds a shared lock, as mounts do.
    locks: Option<Locks>,
    /// A process that holds a lock on a directory of the last walk.
    holder: Option<u32>,
}

impl<'a> Walk<'a> {
    /// The layer that a directory lies in. The walk ends with the mount, because a layer does not
    /// show what other mounts cover.
    fn up(&mut self, dir: &Opened<'_>) -> Result<Option<&'a Opened<'a>>> {
        self.holder = None;
        self.look_for_holder(&dir.fd)?;
        let mount = stat::mount_id(dir.fd.as_fd())?;
        let mut below = dir.object()?;
        let mut here = dir.above()?;
        let mut passed = Vec::new();
        loop {
            let found = object(&stat::fstat(here.as_fd())?);
            let is_end = found == below || stat::mount_id(here.as_fd())? != mount;
            if is_end || (self.clear.contains(&found) && self.locks.is_none()) {
                break;
            }
            if let Some(layer) = self.layers.get(&found) {
                return Ok(Some(*layer));
            }
            self.look_for_holder(&here)?;
            passed.push(found);
            below = found;
            here = at::open_parent(here.as_fd())?;
        }
        self.clear.extend(passed);
        Ok(None)
    }

    fn look_for_holder(&mut self, dir: &OwnedFd) -> Result<()> {
        if let (None, Some(locks)) = (self.holder, &self.locks) {
            self.holder = locks.sharer(dir.as_fd())?;
        }
        Ok(())
    }
}
