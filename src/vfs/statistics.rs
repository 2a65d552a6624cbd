//! What a mount knows about itself, for people and for tests.
//!
//! All of it is found out when somebody asks. Nothing here is on the way of a request.

use std::os::fd::AsFd;

use super::Vfs;
use super::nodes::node::Node;
use crate::config::RenameLower;
use crate::error::{Errno, Result};
use crate::layer::upper::Forms;
use crate::layer::{Counters, Fd, LayerDir, OwnerStorage, Upper, UpperDir};
use crate::sys::file::{self, FsKind};
use crate::sys::uuid::{self, Uuid};
use std::sync::Arc;

/// What a layer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Changes go there.
    Upper,
    /// It is merged.
    Lower,
    /// It lends data to metacopy files.
    DataOnly,
}

/// One layer.
#[derive(Clone, Copy, Debug)]
pub struct LayerFacts {
    /// 0 is the upper; lowers are numbered from 1, the topmost first, and data-only ones behind
    /// them.
    pub number: u16,
    /// What it is for.
    pub role: Role,
    /// What it lies on.
    pub file_system: FsKind,
    /// Device number of that.
    pub dev: u64,
    /// Its UUID, if it tells (`FS_IOC_GETFSUUID`, Linux 6.9).
    pub uuid: Option<Uuid>,
    /// Where it keeps owners, modes and types.
    pub owner_storage: OwnerStorage,
}

/// What is kept in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caches {
    /// Objects that the kernel knows, or that something it knows lies in.
    pub nodes: usize,
    /// Directories among them whose names are known.
    pub indexes: usize,
    /// Names in all of these.
    pub names: usize,
    /// About how many bytes nodes and names take.
    pub bytes: usize,
    /// Descriptors that can be closed and opened again.
    pub descriptors: usize,
    /// How many of them there may be.
    pub descriptors_limit: usize,
}

/// What the mount does of what was asked for: some of it needs an upper that can hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Changes of metadata leave the data below.
    pub metacopy: bool,
    /// Hard links of lowers stay together.
    pub index: bool,
    /// Redirects are followed.
    pub follows_redirects: bool,
    /// Directories of lowers are renamed by redirects.
    pub writes_redirects: bool,
    /// How they are renamed otherwise.
    pub rename_lower: RenameLower,
    /// Directories may lend their names only.
    pub delegation: bool,
    /// Nothing is forced to the disk.
    pub volatile: bool,
}

impl Vfs {
    /// The numbers of all layers.
    #[must_use]
    pub fn layers(&self) -> Vec<u16> {
        let upper = self.stack.upper.as_ref().map(|_| 0);
        let lowers = self.stack.lowers.iter().chain(&self.stack.data_only);
        upper.into_iter().chain(lowers.map(|root| root.dir().layer())).collect()
    }

    /// What was found out about a layer when it was opened: one that hangs is not asked again.
    ///
    /// # Errors
    /// ENOENT for a number that no layer has.
    pub fn layer(&self, number: u16) -> Result<LayerFacts> {
        let found = self.layer_facts.iter().find(|facts| facts.number == number);
        found.copied().ok_or_else(|| Errno::ENOENT.into())
    }

    /// Finds out about all layers.
    ///
    /// # Errors
    /// Those of fstatfs(2).
    pub(super) fn examine_layers(&mut self) -> Result<()> {
        let numbers = self.layers().into_iter();
        self.layer_facts = numbers.map(|number| self.examine(number)).collect::<Result<_>>()?;
        Ok(())
    }

    fn examine(&self, number: u16) -> Result<LayerFacts> {
        let (role, dir) = self.layer_root(number).ok_or(Errno::ENOENT)?;
        let fd = dir.fd()?;
        Ok(LayerFacts {
            number,
            role,
            file_system: file::fs_kind(fd.as_ref().as_fd())?,
            dev: dir.dev()?,
            uuid: uuid::fs_uuid(fd.as_ref().as_fd())?,
            owner_storage: dir.owner_storage(),
        })
    }

    /// The root directories of all layers, opened, with their numbers.
    #[must_use]
    pub fn layer_roots(&self) -> Vec<(u16, Arc<Fd>)> {
        let open = |number| Some((number, self.layer_root(number)?.1.fd().ok()?));
        self.layers().into_iter().filter_map(open).collect()
    }

    fn layer_root(&self, number: u16) -> Option<(Role, &Arc<LayerDir>)> {
        let Some(position) = usize::from(number).checked_sub(1) else {
            return self.stack.upper.as_ref().map(|it| (Role::Upper, UpperDir::dir(it.root())));
        };
        if let Some(lower) = self.stack.lowers.get(position) {
            return Some((Role::Lower, lower.dir()));
        }
        let behind = position - self.stack.lowers.len();
        self.stack.data_only.get(behind).map(|lower| (Role::DataOnly, lower.dir()))
    }

    /// The forms of the marks in the upper.
    #[must_use]
    pub fn forms(&self) -> Option<Forms> {
        self.stack.upper.as_ref().map(Upper::forms)
    }

    /// What was done to the upper since the mount began.
    #[must_use]
    pub fn counters(&self) -> Option<&Counters> {
        self.stack.upper.as_ref().map(Upper::counters)
    }

    /// What the mount does of what was asked for.
    #[must_use]
    pub fn features(&self) -> Features {
        Features {
            metacopy: self.metacopy,
            index: self.links().is_some(),
            follows_redirects: self.follow,
            writes_redirects: self.write_redirects,
            rename_lower: self.rename_lower,
            delegation: self.delegation,
            volatile: self.stack.upper.as_ref().is_some_and(Upper::is_volatile),
        }
    }

    /// What is kept in memory. Directories that somebody is changing just now do not count.
    #[must_use]
    pub fn caches(&self) -> Caches {
        let (descriptors, descriptors_limit) = self.cache.fill();
        let mut caches = Caches { descriptors, descriptors_limit, ..Caches::default() };
        self.table.for_each(|node| {
            caches.nodes += 1;
            caches.bytes += node.bytes();
            let Some(names) = node.dir().ok().and_then(|dir| dir.names.try_read()) else { return };
            if let Some(index) = &names.index {
                let (count, bytes) = index.size();
                caches.indexes += 1;
                caches.names += count;
                caches.bytes += bytes;
            }
        });
        caches
    }
}

impl Node {
    /// About how many bytes it takes, without its index: itself, with its name unless that is
    /// long, and its place in the table.
    fn bytes(&self) -> usize {
        /// A number, a pointer and the counts of the `Arc`.
        const PLACE: usize = 32;
        let dir = self.dir().map_or(0, |_| size_of::<super::nodes::node::Dir>());
        size_of::<Self>() + dir + PLACE
    }
}
