//! Immutable and append-only objects, as far as their inode flags are known.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::sys::Protection;

const APPEND_ONLY: u8 = 1;
const IMMUTABLE: u8 = 2;
const IS_KNOWN: u8 = 4;

/// The flags of an object, once they are known.
#[derive(Debug, Default)]
pub struct KnownProtection(AtomicU8);

impl KnownProtection {
    /// Sets the flags.
    pub fn set(&self, protection: Protection) {
        let append_only = if protection.append_only { APPEND_ONLY } else { 0 };
        let immutable = if protection.immutable { IMMUTABLE } else { 0 };
        self.0.store(IS_KNOWN | append_only | immutable, Ordering::Relaxed);
    }

    /// Forgets the flags, so that they are read again.
    pub fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// The flags, if they are known.
    pub fn get(&self) -> Option<Protection> {
        let bits = self.0.load(Ordering::Relaxed);
        (bits & IS_KNOWN != 0).then_some(Protection {
            append_only: bits & APPEND_ONLY != 0,
            immutable: bits & IMMUTABLE != 0,
        })
    }
}
