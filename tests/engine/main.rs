//! The engine without a mount, verb by verb: what a mount cannot reach, or only slowly.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unreachable,
    missing_docs,
    unsafe_code
)]

mod ahead;
#[allow(dead_code)]
mod client;
mod copyup;
mod delegation;
mod hardlinks;
mod layers;
mod markers;
mod nodes;
mod opening;
mod parallel;
mod which;

use ovlmerge::error::Result;
use ovlmerge::id::Id;
use ovlmerge::vfs::{Body, Change, Entry, NodeId, Privilege, Request, Write};

use client::Client;

/// Owners, devices and trusted attributes take root. Returns from the test where it is not.
#[macro_export]
macro_rules! needs_root {
    () => {
        if !nix::unistd::geteuid().is_root() {
            fn here() {}
            let test = std::any::type_name_of_val(&here);
            let strict = std::env::var_os("OVLMERGE_NO_SKIP").is_some_and(|value| value == "1");
            assert!(!strict, "{test} needs root");
            println!("SKIPPED {test}: needs root");
            return;
        }
    };
}

pub const REQUEST: Request = Request { uid: Id::ROOT, gid: Id::ROOT, mode: 0o777, umask: 0o022 };

impl Client {
    pub fn make(&self, dir: NodeId, name: &[u8], body: Body<'_>) -> Result<Entry> {
        Ok(self.note(self.vfs.create(dir, name, body, &REQUEST)?))
    }

    pub fn write(&self, node: NodeId, offset: u64, data: &[u8]) -> Result<usize> {
        self.vfs
            .write(node, &Write { offset, data, privilege: Privilege::KeepsSetId, whole: false })
    }

    pub fn change(&self, node: NodeId, change: Change) -> Result<()> {
        self.vfs.setattr(node, &change, Privilege::KeepsSetId).map(drop)
    }

    /// Names in a directory, sorted.
    pub fn names(&self, path: &[u8]) -> Vec<String> {
        let list = self.list(self.walk(path).unwrap()).unwrap();
        let mut names: Vec<_> =
            list.iter().map(|(name, ..)| name.escape_ascii().to_string()).collect();
        names.sort();
        names
    }
}

pub const MODE: Change = Change { mode: Some(0o711), ..Change::NONE };
