//! Files whose reads and writes the kernel passes through to the upper, without asking us.
//!
//! # One mode at a time
//! An inode of the kernel is either cached or passed through to one file, as long as it is open
//! anywhere. An open in the other mode fails (fs/fuse/iomode.c). So the first open decides, and the
//! others follow until the last one is released. The kernel counts an open as gone before it sends
//! RELEASE, so we count no fewer open files than the kernel.
//!
//! # Which files
//! Files are passed through that have their data in the upper, keep owner and mode in the inode,
//! and are neither immutable nor append-only. A file of a lower is cached: the kernel would keep
//! access times in it, and could not switch to the copy while it is open. It is passed through when
//! it is opened for the first time after its copy-up.
//!
//! # What the kernel does not tell
//! * Set-id bits have to go when somebody without CAP_FSETID writes. The kernel writes to the
//!   backing file with our capabilities, which keep them, and with HANDLE_KILLPRIV_V2 it leaves
//!   that to us. But it asks for `security.capability` before each write to a file with such bits,
//!   in the name of the writer (`file_remove_privs`, fs/inode.c): see
//!   [`Passthrough::is_about_to_write`].
//! * A shared mapping changes times of the file unknown to the kernel, even after the descriptor is
//!   closed. So attributes of files that were opened for that (`O_RDWR`) are not cached.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::mapref::entry::Entry as Slot;
use dashmap::{DashMap, DashSet};
use rustc_hash::FxBuildHasher;

use super::answer::Answer;
use crate::error::{Errno, best_effort};
use crate::layer::Fd;
use crate::sys::backing;
use crate::transport::abi::open;
use crate::transport::device::Device;
use crate::transport::reply::OpenedAs;
use crate::vfs::NodeId;

/// The files that are open, and how.
#[derive(Debug)]
pub struct Passthrough {
    device: Arc<Device>,
    opened: DashMap<NodeId, Opened, FxBuildHasher>,
    /// Files that may be mapped for writing, until the kernel forgets them.
    mappable: DashSet<NodeId, FxBuildHasher>,
    /// Some file has been passed through.
    in_use: AtomicBool,
    refused: AtomicBool,
}

/// One file that is open somewhere.
#[derive(Debug)]
struct Opened {
    count: u32,
    /// The number of the file of the upper in the kernel; `None` if the file is cached.
    backing: Option<Backing>,
    /// How the next open opens it, if it is cached.
    cached: OpenedAs,
    /// A caller without privilege may write to it.
    written_by_users: bool,
}

/// A number by which the kernel knows a file of the upper.
#[derive(Debug)]
struct Backing {
    device: Arc<Device>,
    number: i32,
}

impl Drop for Backing {
    fn drop(&mut self) {
        let closed = backing::close(self.device.as_fd(), self.number);
        best_effort("a file stays open for passthrough", closed);
    }
}

/// Flags and privilege of a caller that opens a file.
#[derive(Clone, Copy, Debug)]
pub struct Opener {
    /// Flags of open(2).
    pub flags: i32,
    /// The caller may not keep set-id bits of a file that it writes to.
    pub loses_set_id: bool,
}

impl Opener {
    /// Whether the file is opened for writing.
    pub fn writes(self) -> bool {
        self.flags & libc::O_ACCMODE != libc::O_RDONLY
    }

    /// Whether a shared mapping can be written to (mmap(2), EACCES).
    fn maps(self) -> bool {
        self.flags & libc::O_ACCMODE == libc::O_RDWR
    }
}

impl Passthrough {
    /// A table for the files that are open through this connection.
    pub fn new(device: &Arc<Device>) -> Self {
        Self {
            device: Arc::clone(device),
            opened: DashMap::default(),
            mappable: DashSet::default(),
            in_use: AtomicBool::new(false),
            refused: AtomicBool::new(false),
        }
    }

    /// Opens a file once more. `file` is that of the upper, or `None` if it is not to be passed
    /// through. An error in it counts only if no other way is left.
    ///
    /// # Errors
    /// Those in `file`.
    pub fn open(&self, id: NodeId, file: Answer<Option<Arc<Fd>>>, who: Opener) -> Answer<OpenedAs> {
        let mut slot = match self.opened.entry(id) {
            Slot::Occupied(slot) => {
                if slot.get().backing.is_some() && who.writes() {
                    file?;
                }
                slot.into_ref()
            }
            Slot::Vacant(slot) => {
                // Pages from before a file was passed through are older than its contents.
                let stale = self.in_use.load(Ordering::Relaxed) && !matches!(file, Ok(None));
                let file = file.ok().flatten();
                let backing = file.as_deref().and_then(|file| self.register(file));
                let cached = if stale { OpenedAs::default() } else { OpenedAs::CACHED };
                slot.insert(Opened { count: 0, backing, cached, written_by_users: false })
            }
        };
        slot.count += 1;
        // Later opens find the pages of the first.
        let cached = std::mem::replace(&mut slot.cached, OpenedAs::CACHED);
        let Some(Backing { number, .. }) = slot.backing else { return Ok(cached) };
        slot.written_by_users |= who.writes() && who.loses_set_id;
        drop(slot);
        if who.maps() && self.mappable.insert(id) {
            // The attributes that the kernel knows were to stay valid for ever.
            let told = self.device.forget_attributes(id.0);
            best_effort("telling the kernel of new attributes", told);
        }
        Ok(OpenedAs { flags: open::PASSTHROUGH, backing: number })
    }

    /// Releases a file that [`Passthrough::open`] has opened.
    pub fn release(&self, id: NodeId) {
        if let Slot::Occupied(mut slot) = self.opened.entry(id) {
            let left = slot.get().count.saturating_sub(1);
            slot.get_mut().count = left;
            if left == 0 {
                slot.remove();
            }
        }
    }

    /// Whether the times of a file may change without any request.
    pub fn is_mappable(&self, id: NodeId) -> bool {
        self.mappable.contains(&id)
    }

    /// Whether a caller without privilege who asks for `security.capability` may be about to write
    /// to the file without a request.
    pub fn is_about_to_write(&self, id: NodeId) -> bool {
        self.opened.get(&id).is_some_and(|opened| opened.written_by_users)
    }

    /// Notes that lookups of a node were taken back. `is_gone` says whether none is left.
    pub fn forget(&self, id: NodeId, is_gone: impl FnOnce() -> bool) {
        if self.is_mappable(id) && is_gone() {
            self.mappable.remove(&id);
        }
    }

    fn register(&self, file: &Fd) -> Option<Backing> {
        match backing::open(self.device.as_fd(), file.as_fd()) {
            Ok(number) => {
                self.in_use.store(true, Ordering::Relaxed);
                Some(Backing { device: Arc::clone(&self.device), number })
            }
            Err(err) => {
                if !self.refused.swap(true, Ordering::Relaxed) {
                    let advice = match err.errno() {
                        Errno::ELOOP => "; upperdir is on a stacked file system",
                        _ => "",
                    };
                    tracing::warn!("io=passthrough: not for all files: {err}{advice}");
                }
                None
            }
        }
    }
}
