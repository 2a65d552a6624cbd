//! The engine: nodes with numbers and lookup counts, open files, locks, and every operation as a
//! typed function that returns a [`Result`].
//!
//! It knows no FUSE, and tests call its functions directly.
//!
//! Locks and their order are in [`nodes::locks`].

mod attr;
mod copyup;
mod copyup_ahead;
mod create;
mod data;
mod dir_for_change;
mod doubt;
mod expiry;
mod flags;
mod handles;
mod hardlinks;
mod link;
mod listing;
mod lookup;
mod metacopy;
mod nodes;
mod protection;
mod readahead;
mod readdir;
mod redirect;
mod remove;
mod rename;
mod room;
mod snapshots;
mod statfs;
pub mod statistics;
mod subtree;
mod which;
mod xattr;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::config::{Config, RenameLower, Xattrs};
use crate::error::{Errno, Result};
use crate::layer::{FdCache, Stack, Upper, open};
use crate::merge::{DirStack, LookupContext, Owners};
use crate::sys::{Stat, creds, memory};

pub use crate::merge::attr::Change;
pub use crate::merge::create::{Body, Request};
pub use attr::Privilege;
pub use data::Write;
pub use listing::DirEntry;
pub use nodes::ids::NodeId;
pub use readdir::{Attributes, Plus};
pub use rename::RenameMode;

use copyup_ahead::CopyUpAhead;
use nodes::exports::Exports;
use nodes::ids::Ids;
use nodes::locks::Lock1Renames;
use nodes::node::Node;
use nodes::table::Table;
use readahead::ReadAhead;
use room::Removals;
use snapshots::Snapshots;

/// A mounted overlay, independent of FUSE.
#[derive(Debug)]
pub struct Vfs {
    stack: Stack,
    /// Facts about each layer, shown by `ovlmerge stat`.
    layer_facts: Vec<statistics::LayerFacts>,
    table: Table,
    cache: Arc<FdCache>,
    snapshots: Snapshots,
    renames: Lock1Renames,
    ahead: CopyUpAhead,
    removals: Removals,
    read_ahead: ReadAhead,
    delegation: bool,
    follow: bool,
    /// Whether changes of metadata leave the data below.
    metacopy: bool,
    owners: Owners,
    xattrs: Xattrs,
    write_redirects: bool,
    rename_lower: RenameLower,
    /// Gets what the kernel has to ask for again, once [`Vfs::listen`] has set it.
    listener: OnceLock<Listener>,
    begun: Instant,
    /// How long facts about the lowers stay valid; `None` for ever.
    lowers_settle: Option<Duration>,
}

/// A callback for a name in a directory.
type OfName = dyn Fn(NodeId, &[u8]) + Send + Sync;

/// Callbacks for what the kernel has to ask for again, and for operations that take long.
#[derive(Clone)]
pub struct Listener {
    changed: Arc<dyn Fn(NodeId) + Send + Sync>,
    doubted: Arc<OfName>,
    waits: Arc<dyn Fn() + Send + Sync>,
}

impl Listener {
    /// Creates a listener. `changed` gets a node whose attributes have changed, and `doubted` a
    /// name that may or may not be there. Both are called before the operation returns. `waits` is
    /// called by the thread of an operation that is about to copy a file or to wait for the disk.
    pub fn new(
        changed: impl Fn(NodeId) + Send + Sync + 'static,
        doubted: impl Fn(NodeId, &[u8]) + Send + Sync + 'static,
        waits: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self { changed: Arc::new(changed), doubted: Arc::new(doubted), waits: Arc::new(waits) }
    }

    fn doubted(&self, parent: NodeId, name: &[u8]) {
        (self.doubted)(parent, name);
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

/// A node that was given out, with its attributes.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The number of the node.
    pub node: NodeId,
    /// Differs from that of an earlier node of this number; 0 unless file handles have to last.
    pub generation: u32,
    /// Attributes as users see them, with their number in `stat.ino`.
    pub stat: Stat,
}

impl Vfs {
    /// Opens the layers of a mount.
    ///
    /// # Errors
    /// An error whose context names the layer and says what is wrong with it.
    pub fn open(config: &Config) -> Result<Self> {
        let cache = FdCache::for_open_files(creds::raise_open_files()?);
        let stack = open::open(config, &cache)?;
        redirect::check_option(config, &stack)?;
        let delegation = config.dirmeta_delegate;
        let root = DirStack::root(&stack, delegation)?;
        let (snapshots, renames) = (Snapshots::default(), Lock1Renames::default());
        let ids = Ids::new(stack.filesystems.clone(), config.numbers);
        let metacopy = metacopy::is_wanted(config, &stack);
        let mut vfs = Self {
            stack,
            layer_facts: Vec::new(),
            table: Table::new(root, ids, config.nfs_export.then(Exports::new)),
            cache,
            snapshots,
            renames,
            ahead: CopyUpAhead::default(),
            removals: Removals::default(),
            read_ahead: ReadAhead::default(),
            delegation,
            follow: config.follow_redirects,
            metacopy,
            owners: Owners::new(&config.owners),
            xattrs: config.xattrs,
            write_redirects: config.write_redirects,
            rename_lower: config.rename_lower,
            listener: OnceLock::new(),
            begun: Instant::now(),
            lowers_settle: config.lowers_settle(),
        };
        vfs.examine_layers()?;
        Ok(vfs)
    }

    /// Sets the listener. The first one stays.
    pub fn listen(&self, listener: Listener) {
        self.listener.get_or_init(|| listener);
    }

    fn tell_changed(&self, id: NodeId) {
        if let Some(listener) = self.listener.get() {
            (listener.changed)(id);
        }
    }

    /// Tells the listener that the operation is about to copy a file or to wait for the disk. Only
    /// the operation knows that beforehand.
    fn will_wait(&self) {
        if let Some(listener) = self.listener.get() {
            (listener.waits)();
        }
    }

    /// Tells the kernel, once in a while, that attributes of a directory changed as a side effect:
    /// it was copied up, or received a copy (times, size). The kernel expects no change of the
    /// directory then.
    fn dir_moved(&self, node: &Node) {
        if node.dir().is_ok_and(|dir| dir.told.is_due(self.begun)) {
            self.tell_changed(node.id);
        }
    }

    /// How long attributes of a node may be kept; `None`: until the kernel is told of a change.
    #[must_use]
    pub fn settles_in(&self, id: NodeId) -> Option<Duration> {
        let node = self.table.get(id)?;
        node.dir().ok()?.told.settles_in(self.begun)
    }

    /// Whether the mount can be changed, because it has an upper.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.stack.upper.is_some()
    }

    /// Whether [`Vfs::fsync`] may have an effect.
    ///
    /// # Errors
    /// Those of fstatfs(2).
    pub fn can_sync(&self) -> Result<bool> {
        self.stack.upper.as_ref().map_or(Ok(false), Upper::can_sync)
    }

    /// Announces the end of the mount: another mount that wants the upper then waits for it.
    pub fn announce_end(&self) {
        if let Some(upper) = &self.stack.upper {
            upper.announce_end();
        }
    }

    /// Forces all data of the upper to the disk, as the kernel does when an overlay is unmounted.
    ///
    /// # Errors
    /// Those of syncfs(2), if something could not be written.
    pub fn sync(&self) -> Result<()> {
        match &self.stack.upper {
            Some(upper) if upper.can_sync()? => upper.sync_all(),
            _ => Ok(()),
        }
    }

    /// Ends the mount in order, for a process that exits without dropping this: the upper of a
    /// volatile mount can then be used again. No operation may follow.
    pub fn leave(&self) {
        self.ahead.drop_all();
        if let Some(upper) = &self.stack.upper {
            upper.leave();
        }
    }

    /// The parts of the mount that lookups depend on.
    fn lookup_context(&self) -> LookupContext<'_> {
        LookupContext {
            roots: &self.stack.lowers,
            data_only: &self.stack.data_only,
            delegation: self.delegation,
            follow: self.follow,
            filesystems: &self.stack.filesystems,
            links: self.links(),
            traps: &self.stack.traps,
            has_upper: self.is_writable(),
        }
    }

    /// The upper of the mount.
    ///
    /// # Errors
    /// EROFS for a mount without one.
    fn upper(&self) -> Result<&Upper> {
        self.stack.upper.as_ref().ok_or_else(|| Errno::EROFS.into())
    }

    /// The node of a number that was given out.
    ///
    /// # Errors
    /// ESTALE for any other number.
    fn node(&self, id: NodeId) -> Result<Arc<Node>> {
        self.table.get(id).ok_or_else(|| Errno::ESTALE.into())
    }

    /// Takes back `count` lookups of a node.
    pub fn forget(&self, id: NodeId, count: u64) {
        self.table.forget(id, count);
    }

    /// Whether so many nodes were dropped that [`Self::give_back`] is worth its time now.
    pub fn has_slack(&self) -> bool {
        self.table.has_slack()
    }

    /// Gives unused memory back to the system. Other threads may wait for memory meanwhile.
    pub fn give_back(&self) {
        self.cache.tidy();
        memory::give_back();
    }

    /// Whether a number has a node.
    #[must_use]
    pub fn knows(&self, id: NodeId) -> bool {
        self.table.get(id).is_some()
    }

    /// The number of nodes, including the root.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.table.len()
    }
}
