//! The contents of files.
//!
//! A file has one descriptor, however often it is open. Each call brings its position, and the
//! kernel handles flags such as `O_APPEND`. So every open file sees a copy-up at once.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::attr::Privilege;
use super::nodes::node::Node;
use super::{Change, NodeId, Vfs};
use crate::error::{Errno, Result};
use crate::layer::{Fd, OwnerStorage, Upper};
use crate::merge::copyup::Data;
use crate::merge::found::Contents;
use crate::sys::{FileType, Name, WritableFd, at, file, stat};

/// One write to a file.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// The offset in bytes.
    pub offset: u64,
    /// The bytes to write.
    pub data: &'a [u8],
    /// Whether the caller may keep set-id bits.
    pub privilege: Privilege,
    /// Write all data or fail, because nobody looks at the length (a delayed write).
    pub whole: bool,
}

/// Opens the file that holds the data of another one.
fn open_source(data: &Contents) -> Result<OwnedFd> {
    match data {
        Contents::Elsewhere(source) => source.open(),
        _ => Err(Errno::EIO.into()),
    }
}

impl Vfs {
    /// A descriptor to read a file.
    pub(super) fn file(&self, node: &Arc<Node>) -> Result<Arc<Fd>> {
        let leaf = node.as_leaf()?;
        if let Some(fd) = leaf.io.get() {
            return Ok(fd);
        }
        // FIFOs, sockets and devices are never opened as files.
        if node.kind() != FileType::Regular {
            return Err(Errno::EINVAL.into());
        }
        // Held until the descriptor is in its slot: if a copy-up ended before that, the descriptor
        // of the lower would stay there.
        let place = leaf.place.read();
        let fd = match (place.in_lower()?, place.real.orphaned()) {
            _ if !place.has_own_data() => open_source(place.data())?.into(),
            (Some((dir, name)), _) => {
                let fd = dir.dir().open_to_read(Name::new(name)?)?;
                if self.lowers_settle.is_some() {
                    self.check_is_still(node, &stat::fstat(fd.as_fd())?, dir.dir().layer())?;
                    fd.into()
                } else {
                    Fd::ending(fd, place.real.size())
                }
            }
            (None, Some(fd)) => return Ok(Arc::clone(fd)),
            (None, None) => {
                let (dir, name) = self.upper_path(&place)?;
                self.upper()?.open_to_read(&dir, Name::new(name)?)?
            }
        };
        let fd = Arc::new(fd);
        leaf.io.put(Arc::clone(&fd));
        drop(place);
        let weak: std::sync::Weak<Node> = Arc::downgrade(node);
        self.cache.opened(weak);
        Ok(fd)
    }

    /// A descriptor to write a file, which is copied up if need be.
    pub(super) fn file_to_write(&self, node: &Arc<Node>) -> Result<Arc<Fd>> {
        self.copy_up(node, Data::All)?;
        self.complete(node)?;
        let fd = self.file(node)?;
        if fd.is_open_to_write() {
            return Ok(fd);
        }
        let leaf = node.as_leaf()?;
        let place = leaf.place.read();
        let upper = self.upper()?;
        let opened = match place.real.orphaned() {
            // The file has just lost its last name.
            Some(kept) if kept.is_open_to_write() => return Ok(Arc::clone(kept)),
            // The file was being run when it lost its last name, so it was opened to read.
            Some(kept) => upper.open_again_to_write(kept)?,
            None => {
                let (dir, name) = self.upper_path(&place)?;
                upper.open_to_write(&dir, Name::new(name)?)?
            }
        };
        let fd = Arc::new(Fd::from(opened));
        leaf.io.put(Arc::clone(&fd));
        Ok(fd)
    }

    /// The file that the kernel may read and write by itself from now on. `None` for a file that is
    /// not in the upper, has its data elsewhere, or gets more than data with a write.
    ///
    /// # Errors
    /// Those of opening it. EPERM for an immutable or append-only file: the file in the upper may
    /// lack the flags, so only the server can refuse writes.
    pub fn direct_file(&self, id: NodeId, to_write: bool) -> Result<Option<Arc<Fd>>> {
        let node = self.node(id)?;
        let leaf = node.as_leaf()?;
        let keeps_all = |upper: &Upper| upper.owner_storage() == OwnerStorage::Inode;
        let in_upper = {
            let place = leaf.place.read();
            place.real.upper_key().is_some() && place.has_own_data()
        };
        if !in_upper || !self.stack.upper.as_ref().is_some_and(keeps_all) {
            return Ok(None);
        }
        if self.protection(&node)?.is_any() {
            return Err(Errno::EPERM.into());
        }
        let file = if to_write { self.file_to_write(&node) } else { self.file(&node) };
        file.map(Some)
    }

    /// Clears set-id bits of a file, before the kernel writes to it by itself for a caller that may
    /// not keep them.
    pub fn before_direct_write(&self, id: NodeId) -> Result<()> {
        let node = self.node(id)?;
        let fd = self.file_to_write(&node)?;
        self.drop_set_id(&node, fd.writable()?, Privilege::LosesSetId)
    }

    /// Copies up a file that is opened to write.
    ///
    /// # Errors
    /// EROFS; errors of copy-up.
    pub fn copy_up_to_write(&self, id: NodeId) -> Result<()> {
        let node = self.node(id)?;
        let needs = self.needs_copy_up(&node);
        self.copy_up(&node, Data::All)?;
        self.complete(&node)?;
        // To the kernel an open changes nothing.
        if needs {
            self.tell_changed(id);
        }
        Ok(())
    }

    /// Empties a file that is opened with `O_TRUNC`. No data is copied up.
    ///
    /// # Errors
    /// Those of [`Vfs::setattr`].
    pub fn empty(&self, id: NodeId, privilege: Privilege) -> Result<()> {
        self.setattr(id, &Change { size: Some(0), ..Change::NONE }, privilege)?;
        self.tell_changed(id);
        Ok(())
    }

    /// Keeps a file's descriptor open until [`Vfs::unpin`], for a server that could not open it
    /// again because its mode forbids it.
    ///
    /// # Errors
    /// Those of opening it; EROFS to write in a mount without an upper.
    pub fn pin(&self, id: NodeId, to_write: bool) -> Result<()> {
        let node = self.node(id)?;
        let leaf = node.as_leaf()?;
        leaf.pins.fetch_add(1, Ordering::Relaxed);
        // The first write copies a lower file up, not the open. An error that can be known now is
        // returned now.
        let opened = self.file(&node);
        if opened.is_err() || (to_write && self.upper().is_err()) {
            leaf.pins.fetch_sub(1, Ordering::Relaxed);
        }
        opened?;
        if to_write {
            self.upper()?;
        }
        Ok(())
    }

    /// Reverses one [`Vfs::pin`].
    pub fn unpin(&self, id: NodeId) {
        if let Some(node) = self.table.get(id)
            && let Ok(leaf) = node.as_leaf()
        {
            // An unpin without a pin has no effect.
            let down = |pins: u32| pins.checked_sub(1);
            leaf.pins.fetch_update(Ordering::Relaxed, Ordering::Relaxed, down).ok();
        }
    }

    /// Pins the file of a node that was just created.
    pub fn pin_created(&self, id: NodeId) {
        if let Some(node) = self.table.get(id)
            && let Ok(leaf) = node.as_leaf()
        {
            leaf.pins.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The descriptor to read a file from now, at any offset.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn file_to_read(&self, id: NodeId) -> Result<Arc<Fd>> {
        self.file(&self.node(id)?)
    }

    /// Reads into `buf`. The length is less than that of `buf` only at the end of the file.
    pub fn read(&self, id: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let fd = self.file_to_read(id)?;
        let beginning = |buf: &mut [u8]| self.read_ahead.read_beginning(id, fd.as_fd(), buf);
        let there = if offset == 0 { beginning(buf)? } else { 0 };
        if there > 0 && fd.end() == Some(there as u64) {
            return Ok(there);
        }
        let rest = buf.get_mut(there..).unwrap_or_default();
        Ok(there + file::read_at(fd.as_fd(), rest, offset + there as u64, fd.end())?)
    }

    /// Writes all data, or as much as fits, and returns the length.
    ///
    /// # Errors
    /// EROFS; EPERM for an immutable file, and before the end of an append-only one; ENOSPC,
    /// EDQUOT, EFBIG; errors of copy-up, after which the old contents are still there.
    pub fn write(&self, id: NodeId, write: &Write<'_>) -> Result<usize> {
        self.with_room(|| self.write_once(id, write))
    }

    fn write_once(&self, id: NodeId, write: &Write<'_>) -> Result<usize> {
        let node = self.node(id)?;
        self.check_write(&node, write.offset)?;
        let fd = self.file_to_write(&node)?;
        let fd = fd.writable()?;
        // Before the contents change, as in the kernel (`file_remove_privs`, fs/inode.c).
        self.drop_set_id(&node, fd, write.privilege)?;
        let written = file::write_at(fd, write.data, write.offset)?;
        let rest = write.data.get(written..).unwrap_or_default();
        if write.whole && !rest.is_empty() {
            let offset = write.offset.saturating_add(written as u64);
            let more = file::write_at(fd, rest, offset)?;
            if more < rest.len() {
                return Err(Errno::ENOSPC.into());
            }
            return Ok(write.data.len());
        }
        Ok(written)
    }

    /// Clears set-id bits and capabilities of a file whose contents are about to change. Tells the
    /// kernel if set-id bits went, as it would not ask for the mode again.
    pub(super) fn drop_set_id(
        &self,
        node: &Node,
        file: WritableFd<'_>,
        privilege: Privilege,
    ) -> Result<()> {
        let leaf = node.as_leaf()?;
        let upper = self.upper()?;
        if upper.owner_storage() != OwnerStorage::Inode
            && !node.no_capability.load(Ordering::Relaxed)
        {
            upper.drop_capability(file.object())?;
            node.no_capability.store(true, Ordering::Relaxed);
        }
        if privilege == Privilege::KeepsSetId || node.no_set_id.load(Ordering::Relaxed) {
            return Ok(());
        }
        let dropped = match upper.owner_storage() {
            OwnerStorage::Inode => upper.drop_set_id(file.object())?,
            OwnerStorage::Xattr(_) => {
                self.with_attributes(leaf, |_| upper.drop_set_id(file.object()))?
            }
        };
        if dropped {
            self.tell_changed(node.id);
        }
        node.no_set_id.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Runs fallocate(2), whose flags are in `mode`.
    pub fn fallocate(
        &self,
        id: NodeId,
        mode: i32,
        offset: u64,
        len: u64,
        privilege: Privilege,
    ) -> Result<()> {
        let node = self.node(id)?;
        self.check_allocate(&node, mode)?;
        self.with_room(|| {
            let fd = self.file_to_write(&node)?;
            let fd = fd.writable()?;
            self.drop_set_id(&node, fd, privilege)?;
            self.will_wait();
            file::allocate(fd, mode, offset, len)
        })
    }

    /// Runs lseek(2) with `SEEK_DATA` or `SEEK_HOLE`.
    pub fn seek(&self, id: NodeId, offset: i64, whence: i32) -> Result<u64> {
        let fd = self.file(&self.node(id)?)?;
        file::seek(fd.as_ref().as_fd(), offset, whence)
    }

    /// Runs copy_file_range(2) between two files.
    pub fn copy_range(
        &self,
        from: (NodeId, u64),
        to: (NodeId, u64),
        len: u64,
        privilege: Privilege,
    ) -> Result<usize> {
        let target = self.node(to.0)?;
        self.check_write(&target, to.1)?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.with_room(|| {
            let out = self.file_to_write(&target)?;
            // Opened after the copy-up: source and target may be one file.
            let input = self.file(&self.node(from.0)?)?;
            let (input, out) = (input.as_ref().as_fd(), out.writable()?);
            self.drop_set_id(&target, out, privilege)?;
            self.will_wait();
            file::copy_range(input, from.1, out, to.1, len)
        })
    }

    /// Forces a file, or the entries of a directory, to the disk. Lowers are there already.
    pub fn fsync(&self, id: NodeId, data_only: bool) -> Result<()> {
        let node = self.node(id)?;
        let Some(upper) = self.stack.upper.as_ref().filter(|upper| !upper.is_volatile()) else {
            return Ok(());
        };
        self.will_wait();
        if let Ok(dir) = node.dir() {
            let orphan = dir.orphan.read().is_some();
            let own = dir.stack.read().upper.clone();
            let Some(own) = own.filter(|_| !orphan) else { return Ok(()) };
            let fd = own.dir().reach(at::reopen_dir)?;
            return upper.sync(fd.as_fd(), data_only);
        }
        if node.as_leaf()?.place.read().real.upper_key().is_none() {
            return Ok(());
        }
        if let Some(done) = self.sync_without_data(&node, upper) {
            return done;
        }
        upper.sync(self.file(&node)?.as_ref().as_fd(), data_only)
    }
}
