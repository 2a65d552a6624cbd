//! Files whose reads and writes the kernel passes through to the upper, without asking us.
//!
//! # One mode at a time
//! An inode of the kernel is either cached or passed through, and the latter to one file, as long
//! as it is open anywhere; an open in the other mode fails (fs/fuse/iomode.c). So the first open
//! decides, and the others follow until the last one is released. The kernel counts an open as gone
//! before it sends RELEASE, so what we take for open is never less than what it does.
//!
//! # Which files
//! Those that have their data in the upper, keep owner and mode in the inode, and are neither
//! immutable nor append-only. A file of a lower
//! is cached: the kernel would keep access times in it, and could not go over to the copy while it
//! is open. It is passed through when it is opened for the first time after its copy-up.
//!
//! # What the kernel does not tell
//! * Set-id bits have to go when somebody without CAP_FSETID writes. The backing file is written
//!   with our capabilities, which keep them, and with HANDLE_KILLPRIV_V2 the kernel leaves it to
//!   us. But it asks for `security.capability` before each write to a file with such bits, in the
//!   name of the writer (`file_remove_privs`, fs/inode.c): see [`Passthrough::is_about_to_write`].
//! * A shared mapping changes times of the file behind the kernel's back, even after the descriptor
//!   is closed. So attributes of what was opened for that (`O_RDWR`) are not kept.

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

/// What is open, and how.
#[derive(Debug)]
pub struct Passthrough {
    device: Arc<Device>,
    opened: DashMap<NodeId, Opened, FxBuildHasher>,
    /// What may be mapped to write, until the kernel forgets it.
    mappable: DashSet<NodeId, FxBuildHasher>,
    /// Some file was passed through once.
    in_use: AtomicBool,
    refused: AtomicBool,
}

/// One file that is open somewhere.
#[derive(Debug)]
struct Opened {
    count: u32,
    /// The number that the kernel knows the file of the upper by; none: cached.
    backing: Option<Backing>,
    /// How the next one opens it, if cached.
    cached: OpenedAs,
    /// Somebody without privilege may write to it.
    written_by_users: bool,
}

/// A number that stands for a file of the upper.
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

/// Who opens a file for what.
#[derive(Clone, Copy, Debug)]
pub struct Opener {
    /// Flags of open(2).
    pub flags: i32,
    /// May not keep set-id bits of what is written.
    pub loses_set_id: bool,
}

impl Opener {
    /// Whether it is opened to write.
    pub fn writes(self) -> bool {
        self.flags & libc::O_ACCMODE != libc::O_RDONLY
    }

    /// Whether a shared mapping can be written to (mmap(2), EACCES).
    fn maps(self) -> bool {
        self.flags & libc::O_ACCMODE == libc::O_RDWR
    }
}

impl Passthrough {
    /// For files that are open through this connection.
    pub fn new(device: &Arc<Device>) -> Self {
        Self {
            device: Arc::clone(device),
            opened: DashMap::default(),
            mappable: DashSet::default(),
            in_use: AtomicBool::new(false),
            refused: AtomicBool::new(false),
        }
    }

    /// Opens a file once more. `file` is the one of the upper, none if it is not one to be passed
    /// through, or why it cannot be opened: that counts only where no other way is left.
    ///
    /// # Errors
    /// The error in `file`.
    pub fn open(&self, id: NodeId, file: Answer<Option<Arc<Fd>>>, who: Opener) -> Answer<OpenedAs> {
        let mut slot = match self.opened.entry(id) {
            Slot::Occupied(slot) => {
                if slot.get().backing.is_some() && who.writes() {
                    file?;
                }
                slot.into_ref()
            }
            Slot::Vacant(slot) => {
                // The pages of a file that was passed through before are older than what it holds.
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
            // What it knows already it was told for ever.
            let told = self.device.forget_attributes(id.0);
            best_effort("telling the kernel of new attributes", told);
        }
        Ok(OpenedAs { flags: open::PASSTHROUGH, backing: number })
    }

    /// The opposite of [`Passthrough::open`].
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
    /// past us.
    pub fn is_about_to_write(&self, id: NodeId) -> bool {
        self.opened.get(&id).is_some_and(|opened| opened.written_by_users)
    }

    /// To be called after lookups of a node were taken back; `is_gone` says whether that were all.
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
