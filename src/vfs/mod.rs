//! What a kernel client needs: nodes with numbers and lookup counts, open files and directories,
//! locks; and every operation as a typed function that returns a [`Result`].
//!
//! There is no FUSE here. Tests call these functions directly.
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

/// A mounted overlay, whatever it is mounted through.
#[derive(Debug)]
pub struct Vfs {
    stack: Stack,
    /// What is told of the layers.
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
    /// Changes of metadata leave the data below.
    metacopy: bool,
    owners: Owners,
    xattrs: Xattrs,
    write_redirects: bool,
    rename_lower: RenameLower,
    /// Called when attributes change that the client did not ask to change.
    listener: OnceLock<Listener>,
    begun: Instant,
    /// How long what is known of the lowers may be believed, if they change.
    lowers_settle: Option<Duration>,
}

/// Is told of a name in a directory.
type OfName = dyn Fn(NodeId, &[u8]) + Send + Sync;

/// Told of what the client has to ask for again, and of operations that take long.
#[derive(Clone)]
pub struct Listener {
    changed: Arc<dyn Fn(NodeId) + Send + Sync>,
    doubted: Arc<OfName>,
    waits: Arc<dyn Fn() + Send + Sync>,
}

impl Listener {
    /// A listener that calls `changed` with a node whose attributes are others, and `doubted` with
    /// a name of which nobody knows whether it is there. Both are called before the operation
    /// returns. `waits` is called by the thread of an operation that is about to copy a file or to
    /// wait for the disk.
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
    /// Its number.
    pub node: NodeId,
    /// What tells it from another that had the number before; 0 where handles are not to last.
    pub generation: u32,
    /// Its attributes; `stat.ino` is what users see.
    pub stat: Stat,
}

impl Vfs {
    /// Opens the layers of a mount.
    ///
    /// # Errors
    /// What is wrong with a layer, in a sentence that names it.
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

    /// Says whom to tell of attributes that change without being asked to. The first one stays.
    pub fn listen(&self, listener: Listener) {
        self.listener.get_or_init(|| listener);
    }

    fn tell_changed(&self, id: NodeId) {
        if let Some(listener) = self.listener.get() {
            (listener.changed)(id);
        }
    }

    /// To be called before a file is copied, or the disk is waited for. Nothing but the operation
    /// knows that beforehand.
    fn will_wait(&self) {
        if let Some(listener) = self.listener.get() {
            (listener.waits)();
        }
    }

    /// To be called when a change of something else has moved attributes of a directory: it was
    /// copied up itself, or got a copy (times of change, size). The client takes none of that for a
    /// change of the directory.
    fn dir_moved(&self, node: &Node) {
        if node.dir().is_ok_and(|dir| dir.told.is_due(self.begun)) {
            self.tell_changed(node.id);
        }
    }

    /// How long attributes of a node are good for at most; `None`: until the client is told.
    #[must_use]
    pub fn settles_in(&self, id: NodeId) -> Option<Duration> {
        let node = self.table.get(id)?;
        node.dir().ok()?.told.settles_in(self.begun)
    }

    /// Whether changes are possible at all.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.stack.upper.is_some()
    }

    /// Whether [`Vfs::fsync`] may ever do something.
    ///
    /// # Errors
    /// Those of fstatfs(2).
    pub fn can_sync(&self) -> Result<bool> {
        self.stack.upper.as_ref().map_or(Ok(false), Upper::can_sync)
    }

    /// Says that the end has begun: who wants the upper next may wait for it.
    pub fn announce_end(&self) {
        if let Some(upper) = &self.stack.upper {
            upper.announce_end();
        }
    }

    /// Forces all that was written to the disk, as the kernel does when an overlay is unmounted.
    ///
    /// # Errors
    /// Those of syncfs(2): something could not be written.
    pub fn sync(&self) -> Result<()> {
        match &self.stack.upper {
            Some(upper) if upper.can_sync()? => upper.sync_all(),
            _ => Ok(()),
        }
    }

    /// To be called where the process ends without dropping this: an orderly end, after which the
    /// upper of a volatile mount can be used again. Nothing may be asked of this any more.
    pub fn leave(&self) {
        self.ahead.drop_all();
        if let Some(upper) = &self.stack.upper {
            upper.leave();
        }
    }

    /// What lookups go by.
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

    /// The upper.
    ///
    /// # Errors
    /// EROFS for a mount without one.
    fn upper(&self) -> Result<&Upper> {
        self.stack.upper.as_ref().ok_or_else(|| Errno::EROFS.into())
    }

    /// The node of a number that was given out.
    ///
    /// # Errors
    /// ESTALE for a number that was not.
    fn node(&self, id: NodeId) -> Result<Arc<Node>> {
        self.table.get(id).ok_or_else(|| Errno::ESTALE.into())
    }

    /// Takes `count` lookups of a node back.
    pub fn forget(&self, id: NodeId, count: u64) {
        self.table.forget(id, count);
    }

    /// Whether so much was forgotten that [`Self::give_back`] is worth its time now.
    pub fn has_slack(&self) -> bool {
        self.table.has_slack()
    }

    /// Gives memory back that nobody uses any more. Others may have to wait for memory meanwhile.
    pub fn give_back(&self) {
        self.cache.tidy();
        memory::give_back();
    }

    /// Whether a number stands for a node.
    #[must_use]
    pub fn knows(&self, id: NodeId) -> bool {
        self.table.get(id).is_some()
    }

    /// How many nodes are known, the root included.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.table.len()
    }
}
