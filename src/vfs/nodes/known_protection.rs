//! Immutable and append-only objects, as far as their inode flags are known.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::sys::Protection;

const APPEND_ONLY: u8 = 1;
const IMMUTABLE: u8 = 2;
const IS_KNOWN: u8 = 4;
/// The bits above count changes, so that a look which a change has overtaken sets nothing. The
/// count starts anew after 32 changes, which no look outlives.
const CHANGE: u8 = 8;

/// The flags of an object, once they are known.
#[derive(Debug, Default)]
pub struct KnownProtection(AtomicU8);

/// The state of a [`KnownProtection`] when somebody began to look.
#[derive(Clone, Copy, Debug)]
pub struct Look(u8);

impl KnownProtection {
    /// The flags, if they are known.
    pub fn get(&self) -> Option<Protection> {
        let bits = self.0.load(Ordering::Relaxed);
        (bits & IS_KNOWN != 0).then_some(Protection {
            append_only: bits & APPEND_ONLY != 0,
            immutable: bits & IMMUTABLE != 0,
        })
    }

    /// To be called before the flags are read.
    pub fn begin(&self) -> Look {
        Look(self.0.load(Ordering::Acquire))
    }

    /// Notes the flags that were read since `look`, unless they have changed meanwhile.
    pub fn found(&self, Look(then): Look, protection: Protection) {
        let bits = then & !(CHANGE - 1) | bits_of(protection);
        self.0.compare_exchange(then, bits, Ordering::AcqRel, Ordering::Acquire).ok();
    }

    /// Sets the flags, after a change.
    pub fn set(&self, protection: Protection) {
        self.change(bits_of(protection));
    }

    /// Forgets the flags, so that they are read again.
    pub fn forget(&self) {
        self.change(0);
    }

    fn change(&self, bits: u8) {
        let next = |now: u8| Some(now.wrapping_add(CHANGE) & !(CHANGE - 1) | bits);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok();
    }
}

fn bits_of(protection: Protection) -> u8 {
    let append_only = if protection.append_only { APPEND_ONLY } else { 0 };
    let immutable = if protection.immutable { IMMUTABLE } else { 0 };
    IS_KNOWN | append_only | immutable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_a_change_has_overtaken_sets_nothing() {
        let (known, none) = (KnownProtection::default(), Protection::default());
        let immutable = Protection { immutable: true, ..none };
        let look = known.begin();
        known.set(immutable);
        known.found(look, none);
        assert_eq!(known.get(), Some(immutable));
        known.forget();
        assert_eq!(known.get(), None);
        let look = known.begin();
        known.forget();
        known.found(look, none);
        assert_eq!(known.get(), None);
        known.found(known.begin(), none);
        assert_eq!(known.get(), Some(none));
    }
}
