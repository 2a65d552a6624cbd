//! The check of who may ask a mount about itself.
//!
//! An answer has paths of layers, options and names that were deleted. Nobody in a container should
//! see these, not even its root. So there is one rule, and no partial answers: **the user of the
//! server and root in its user namespace may ask, from the server's mount namespace and root
//! directory**. There paths mean what they mean to the server, and its command line can be read as
//! well (proc(5)).
//!
//! The kernel names the thread that asks. The thread waits for the answer, so its number cannot
//! pass to another one meanwhile. The number is 0 if the process namespace of the mount does not
//! have the thread. A caller that made the mount itself may be in another process namespace than
//! ours, so about such a mount nobody may ask.

use crate::config::Config;
use crate::sys::creds;
use crate::sys::process::{self, Root};
use crate::transport::request::Header;

/// Decides who may ask.
#[derive(Debug)]
pub struct Askers {
    owner: u32,
    /// The place to ask from; `None` where numbers of threads mean nothing to us.
    place: Option<Root>,
}

impl Askers {
    /// The check for the mount of this process.
    pub fn new(config: &Config) -> Self {
        let place = if config.device.is_none() { Root::ours() } else { None };
        Self { owner: creds::effective().uid.number(), place }
    }

    /// Whether the sender of a request may have an answer.
    pub fn may_ask(&self, header: &Header) -> bool {
        let trusted = |user: u32| user == 0 || user == self.owner;
        // A file system on top of this one asks in the name of its own owner, so the user of the
        // thread is checked as well.
        self.place.is_some()
            && header.pid != 0
            && trusted(header.uid)
            && process::filesystem_user(header.pid).is_some_and(trusted)
            && Root::of_thread(header.pid) == self.place
    }
}
