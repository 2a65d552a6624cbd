//! Who may ask a mount about itself.
//!
//! The answer has paths of layers, options and names that were deleted. In a container that is
//! nobody's business, not even its root's. So there is one rule, and no half answers: **the user
//! of the server, and root in its user namespace, from where the server's paths mean the same**,
//! which is its mount namespace and its root directory. Whoever is there sees the mount as its
//! owner does, and the server's command line as well (proc(5)).
//!
//! The kernel names the thread that asks, and waits with it for the answer: the number cannot come
//! to stand for somebody else meanwhile. It is 0 for a thread that the process namespace of the
//! mount does not know. A mount that our caller has made may have been made in another process
//! namespace than ours, so there nobody may ask.

use crate::config::Config;
use crate::sys::creds;
use crate::sys::process::{self, Root};
use crate::transport::request::Header;

/// Decides who may ask.
#[derive(Debug)]
pub struct Askers {
    owner: u32,
    /// Where to ask from; `None` where numbers of threads mean nothing to us.
    place: Option<Root>,
}

impl Askers {
    /// For the mount of this process.
    pub fn new(config: &Config) -> Self {
        let place = if config.device.is_none() { Root::ours() } else { None };
        Self { owner: creds::effective().uid.number(), place }
    }

    /// Whether the one who sent this request may have an answer.
    pub fn may_ask(&self, header: &Header) -> bool {
        let trusted = |user: u32| user == 0 || user == self.owner;
        // A file system on top of this one asks in the name of its own owner, so the thread has to
        // be the user that it asks for.
        self.place.is_some()
            && header.pid != 0
            && trusted(header.uid)
            && process::filesystem_user(header.pid).is_some_and(trusted)
            && Root::of_thread(header.pid) == self.place
    }
}
