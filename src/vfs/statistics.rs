//! Facts about a mount, for people and for tests.
//!
//! Facts about layers are read when these are opened, and all others when somebody asks.

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

/// The role of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Changes go to it.
    Upper,
    /// It is merged.
    Lower,
    /// It only holds data of metacopy files.
    DataOnly,
}

/// Facts about one layer.
#[derive(Clone, Copy, Debug)]
pub struct LayerFacts {
    /// The upper is 0. Lowers are numbered from 1, the topmost first, and data-only ones follow
    /// them.
    pub number: u16,
    /// The role of the layer.
    pub role: Role,
    /// The kind of its file system.
    pub file_system: FsKind,
    /// The device number of its file system.
    pub dev: u64,
    /// The UUID of its file system, if the kernel tells it (`FS_IOC_GETFSUUID`, Linux 6.9).
    pub uuid: Option<Uuid>,
    /// Where it stores owners, modes and types.
    pub owner_storage: OwnerStorage,
}

/// The contents of the caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caches {
    /// Nodes: objects that the kernel knows or the server uses, and the directories above them.
    pub nodes: usize,
    /// Directories that have an index.
    pub indexes: usize,
    /// Names in these indexes.
    pub names: usize,
    /// Estimate of the bytes that nodes and indexes take.
    pub bytes: usize,
    /// Open descriptors that can be closed and opened again.
    pub descriptors: usize,
    /// The most descriptors that the cache keeps.
    pub descriptors_limit: usize,
}

/// The options that are in effect. Some of them need an upper that can hold their marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Changes of metadata leave the data below.
    pub metacopy: bool,
    /// Hard links of lowers stay together.
    pub index: bool,
    /// Redirects are followed.
    pub follows_redirects: bool,
    /// Directories of lowers can be renamed with redirects.
    pub writes_redirects: bool,
    /// How directories of lowers are renamed otherwise.
    pub rename_lower: RenameLower,
    /// Directories may delegate their metadata to a lower.
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

    /// Facts about a layer from when it was opened: a layer that hangs is not asked again.
    ///
    /// # Errors
    /// ENOENT for a number that no layer has.
    pub fn layer(&self, number: u16) -> Result<LayerFacts> {
        let found = self.layer_facts.iter().find(|facts| facts.number == number);
        found.copied().ok_or_else(|| Errno::ENOENT.into())
    }

    /// Reads the facts about all layers.
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

    /// The opened root directories of layers, with their numbers.
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

    /// Counters of changes to the upper since the mount began.
    #[must_use]
    pub fn counters(&self) -> Option<&Counters> {
        self.stack.upper.as_ref().map(Upper::counters)
    }

    /// The options that are in effect.
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

    /// The contents of the caches. Indexes of directories that are being changed do not count.
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
    /// Estimate of the bytes that the node takes, without its index: itself, its name unless that
    /// is long, and its entry in the table.
    fn bytes(&self) -> usize {
        /// A pointer, the counts of the `Arc`, and a word for the allocator.
        const PLACE: usize = 32;
        let dir = self.dir().map_or(0, |_| size_of::<super::nodes::node::Dir>());
        size_of::<Self>() + dir + PLACE
    }
}
