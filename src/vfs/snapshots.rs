//! Listings that are being read.
//!
//! Nobody tells us when a directory is opened or closed: the kernel is asked not to, which spares
//! two requests for each directory that is listed. A reader is known by the position that it goes
//! on from, which holds the number of its snapshot. A snapshot goes when its reader has seen the
//! end, or when too many were left in the middle.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::ids::NodeId;
use super::readdir::Listing;

/// Memory for listings that nobody has read to the end, in bytes. A reader that comes back after
/// this much was read by others goes on in a new listing, at the same position.
const BUDGET: usize = 64 << 20;

/// How many listings are kept at most.
const MOST: usize = 4096;

/// How many numbers of listings that are gone may wait to be cleared away.
const SLACK: usize = 1024;

/// Positions take the lower half of what readdir(3) hands back, numbers of snapshots the upper,
/// short of the sign.
const POSITION_BITS: u32 = 32;
const NUMBERS: u64 = 1 << 31;

/// Where a reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    number: u64,
    /// How many entries it has seen.
    pub position: usize,
}

impl Cookie {
    /// Reads what the kernel hands back; 0 is the beginning of a new listing.
    pub fn from_raw(raw: u64) -> Option<Self> {
        let position = usize::try_from(raw & u64::from(u32::MAX)).ok()?;
        (raw != 0).then_some(Self { number: raw >> POSITION_BITS, position })
    }

    /// The same reader elsewhere.
    pub fn at(self, position: usize) -> Self {
        Self { position, ..self }
    }

    /// What the kernel is to hand back to go on after `seen` entries.
    pub fn after(self, seen: usize) -> u64 {
        (self.number << POSITION_BITS) | seen as u64
    }
}

#[derive(Debug, Default)]
struct Kept {
    by_number: FxHashMap<u64, (NodeId, Arc<Listing>)>,
    oldest: VecDeque<u64>,
    bytes: usize,
    next: u64,
}

/// All listings that are being read.
#[derive(Debug, Default)]
pub struct Snapshots {
    kept: Mutex<Kept>,
}

impl Snapshots {
    /// Keeps a new listing and says where its reader begins.
    pub fn add(&self, node: NodeId, listing: &Arc<Listing>) -> Cookie {
        let mut kept = self.kept.lock();
        kept.next = (kept.next + 1) % NUMBERS;
        let number = kept.next.max(1);
        kept.bytes += listing.bytes();
        kept.by_number.insert(number, (node, Arc::clone(listing)));
        kept.oldest.push_back(number);
        while (kept.bytes > BUDGET || kept.by_number.len() > MOST) && kept.oldest.len() > 1 {
            let Some(oldest) = kept.oldest.pop_front() else { break };
            kept.remove(oldest);
        }
        Cookie { number, position: 0 }
    }

    /// The listing that a reader is in, if it is still there.
    pub fn get(&self, node: NodeId, cookie: Cookie) -> Option<Arc<Listing>> {
        let kept = self.kept.lock();
        let (owner, listing) = kept.by_number.get(&cookie.number)?;
        (*owner == node).then(|| Arc::clone(listing))
    }

    /// Lets the listing of a reader go that has seen its end.
    pub fn finished(&self, cookie: Cookie) {
        let mut kept = self.kept.lock();
        kept.remove(cookie.number);
        // Numbers that are gone stay in the queue until there are too many of them.
        if kept.oldest.len() > 2 * kept.by_number.len() + SLACK {
            let Kept { oldest, by_number, .. } = &mut *kept;
            oldest.retain(|number| by_number.contains_key(number));
        }
    }
}

impl Kept {
    fn remove(&mut self, number: u64) {
        if let Some((_, listing)) = self.by_number.remove(&number) {
            self.bytes -= listing.bytes();
        }
    }
}
