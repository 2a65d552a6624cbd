//! The locks of the engine and their order.
//!
//! A thread that holds a lock takes only locks with a higher number, so that no threads wait in a
//! circle:
//!
//! | lock | what it covers | how long it is held |
//! |---|---|---|
//! | [`Lock1Renames`] | the places of directories: one rename of a directory, or between directories, at a time | over the rename; never while data is copied |
//! | [`Lock2Gate`] | one copy-up of a node at a time; the gate of a file before those of the directories above it | while data is copied |
//! | [`Lock3Names`] | the names of a directory; a directory before one below it, else by number | to read, over lookups and listings; to write, while its index is built and over the calls that change a name |
//! | [`Lock4Meeting`] | the one node of an object of the upper | while the node is found or made |
//! | [`Lock5Nodes`] | a part of the table of nodes | over memory alone |
//! | [`Lock6Place`] | where a file is, and its names | to read, over calls on the file; to write, over the one call that changes its name |
//! | [`Lock7Link`] | the name of a directory | over the one call that changes its name |
//! | [`Lock8Orphan`] | the descriptor of a removed directory | over memory alone, or one call on that descriptor |
//! | [`Lock9Stack`] | the directories of the layers | over memory alone |
//!
//! A second lock of a kind is taken by `lock_another`, `write_another` or [`lock_two`]. A thread
//! that holds [`Lock1Renames`] may lock the names of a whole subtree, parents first: a thread
//! without it never holds two directories of which neither lies in the other. No lock covers the
//! whole tree.
//!
//! In a build with debug assertions each thread keeps a list of what it holds, and a lock out of
//! order is a panic. A lock that is only tried (`try_read`) never waits, and may come in any order.

use std::cmp::Ordering;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::node::Names;
use super::place::{Link, Place};
use crate::error::{Errno, Error, Result};
use crate::layer::Fd;
use crate::merge::DirStack;

/// Serialises renames of directories, and renames between directories.
pub type Lock1Renames = OrderedMutex<1>;
/// Serialises copy-ups of one node.
pub type Lock2Gate = OrderedMutex<2>;
/// The names of a directory.
pub type Lock3Names = Ordered<Names, 3>;
/// Serialises the search for the node of an object of the upper.
pub type Lock4Meeting = OrderedMutex<4>;
/// A part of the table of nodes.
pub type Lock5Nodes<T> = Ordered<T, 5>;
/// The names of a non-directory, and the object behind them.
pub type Lock6Place = Ordered<Place, 6>;
/// The name of a directory; `None` for the root and for a removed one.
pub type Lock7Link = Ordered<Option<Link>, 7>;
/// The descriptor of a removed directory.
pub type Lock8Orphan = Ordered<Option<Arc<Fd>>, 8>;
/// The directories of the layers.
pub type Lock9Stack = Ordered<DirStack, 9>;

/// The names of a directory, locked to read them.
pub type ReadNames<'a> = Read<'a, Names, 3>;
/// The names of a directory, locked to change them.
pub type WriteNames<'a> = Write<'a, Names, 3>;
/// A part of the table of nodes, locked to change it.
pub type WriteNodes<'a, T> = Write<'a, T, 5>;

/// A lock that is held to read, with its place in the order.
pub type Read<'a, T, const PLACE: u8> = Held<RwLockReadGuard<'a, T>, PLACE>;
/// A lock that is held to write, with its place in the order.
pub type Write<'a, T, const PLACE: u8> = Held<RwLockWriteGuard<'a, T>, PLACE>;
/// A mutex that is held, with its place in the order.
pub type Alone<'a, const PLACE: u8> = Held<MutexGuard<'a, ()>, PLACE>;

/// A lock for readers and writers, at a place in the order.
#[derive(Debug, Default)]
pub struct Ordered<T, const PLACE: u8>(RwLock<T>);

impl<T, const PLACE: u8> Ordered<T, PLACE> {
    /// A lock that nobody holds.
    pub fn new(inner: T) -> Self {
        Self(RwLock::new(inner))
    }

    /// Locks to read, and waits while another thread writes.
    pub fn read(&self) -> Read<'_, T, PLACE> {
        let note = Note::take(Others::Lower);
        Held { guard: self.0.read(), note }
    }

    /// Locks to read, ahead of threads that wait to write. These may wait for a reader whose layer
    /// hangs, and a new reader does not wait with them.
    pub fn read_recursive(&self) -> Read<'_, T, PLACE> {
        let note = Note::take(Others::Same);
        Held { guard: self.0.read_recursive(), note }
    }

    /// Locks to write, and waits while any other thread reads or writes.
    pub fn write(&self) -> Write<'_, T, PLACE> {
        let note = Note::take(Others::Lower);
        Held { guard: self.0.write(), note }
    }

    /// Locks to write, after another lock of the kind that comes before this one.
    pub fn write_another(&self) -> Write<'_, T, PLACE> {
        let note = Note::take(Others::Same);
        Held { guard: self.0.write(), note }
    }

    /// Locks to read, unless that would wait.
    pub fn try_read(&self) -> Option<Read<'_, T, PLACE>> {
        let guard = self.0.try_read()?;
        Some(Held { guard, note: Note::take(Others::Any) })
    }

    /// Whether any thread holds the lock.
    pub fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    /// The value, for the owner of the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

/// Locks two of a kind to write. It takes them in the order of their addresses, so that no two
/// threads wait for each other.
///
/// # Errors
/// EIO if they are one lock.
pub fn lock_two<'a, T, const PLACE: u8>(
    a: &'a Ordered<T, PLACE>,
    b: &'a Ordered<T, PLACE>,
) -> Result<(Write<'a, T, PLACE>, Write<'a, T, PLACE>)> {
    match std::ptr::from_ref(a).cmp(&std::ptr::from_ref(b)) {
        Ordering::Less => {
            let first = a.write();
            Ok((first, b.write_another()))
        }
        Ordering::Greater => {
            let first = b.write();
            Ok((a.write_another(), first))
        }
        Ordering::Equal => Err(Error::new(Errno::EIO, "a lock that would be taken twice")),
    }
}

/// A mutex at a place in the order.
#[derive(Debug, Default)]
pub struct OrderedMutex<const PLACE: u8>(Mutex<()>);

impl<const PLACE: u8> OrderedMutex<PLACE> {
    /// Locks, and waits while another thread holds it.
    pub fn lock(&self) -> Alone<'_, PLACE> {
        let note = Note::take(Others::Lower);
        Held { guard: self.0.lock(), note }
    }

    /// Locks, after another lock of the kind that comes before this one.
    pub fn lock_another(&self) -> Alone<'_, PLACE> {
        let note = Note::take(Others::Same);
        Held { guard: self.0.lock(), note }
    }
}

/// A lock that is held. A drop releases the lock first, then removes the note on it.
pub struct Held<G, const PLACE: u8> {
    guard: G,
    note: Note<PLACE>,
}

impl<'a, T, const PLACE: u8> Write<'a, T, PLACE> {
    /// Lets others read, without releasing the lock in between.
    pub fn downgrade(self) -> Read<'a, T, PLACE> {
        Held { guard: RwLockWriteGuard::downgrade(self.guard), note: self.note }
    }
}

impl<G: Deref, const PLACE: u8> Deref for Held<G, PLACE> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut, const PLACE: u8> DerefMut for Held<G, PLACE> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

/// The locks that a thread may hold when it takes another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    /// Locks with a lower number.
    Lower,
    /// Locks with a lower number, and others of the kind.
    Same,
    /// All locks, because this one does not wait.
    Any,
}

/// A note that this thread holds a lock at a place. It is not `Send`: guards stay with the thread.
#[derive(Debug)]
struct Note<const PLACE: u8>(PhantomData<*const ()>);

#[cfg(debug_assertions)]
thread_local! {
    /// How many locks this thread holds at each place.
    static HELD: std::cell::RefCell<[u16; 10]> = const { std::cell::RefCell::new([0; 10]) };
}

impl<const PLACE: u8> Note<PLACE> {
    #[cfg(debug_assertions)]
    fn take(others: Others) -> Self {
        HELD.with_borrow_mut(|held| {
            let highest = (0u8..).zip(held.iter()).filter(|(_, count)| **count > 0).last();
            let fits = match (others, highest) {
                (Others::Any, _) | (_, None) => true,
                (Others::Same, Some((highest, _))) => highest <= PLACE,
                (Others::Lower, Some((highest, _))) => highest < PLACE,
            };
            assert!(fits, "lock {PLACE} is taken by a thread that holds {highest:?} ({others:?})");
            if let Some(count) = held.get_mut(usize::from(PLACE)) {
                *count += 1;
            }
        });
        Self(PhantomData)
    }

    #[cfg(not(debug_assertions))]
    fn take(_: Others) -> Self {
        Self(PhantomData)
    }
}

#[cfg(debug_assertions)]
impl<const PLACE: u8> Drop for Note<PLACE> {
    fn drop(&mut self) {
        HELD.with_borrow_mut(|held| {
            if let Some(count) = held.get_mut(usize::from(PLACE)) {
                *count = count.saturating_sub(1);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Low = Ordered<u8, 2>;
    type High = Ordered<u8, 5>;

    #[test]
    fn in_order() {
        let (low, other, high) = (Low::new(1), Low::new(2), High::new(3));
        let _first = low.write();
        let _second = other.write_another();
        assert_eq!(*high.read(), 3);
        assert_eq!(*high.read(), 3, "it was given back");
    }

    #[test]
    #[should_panic(expected = "lock 2 is taken by a thread that holds")]
    #[cfg(debug_assertions)]
    fn out_of_order() {
        let (low, high) = (Low::new(1), High::new(3));
        let _first = high.read();
        let _second = low.read();
    }

    #[test]
    #[should_panic(expected = "lock 5 is taken by a thread that holds")]
    #[cfg(debug_assertions)]
    fn two_of_a_kind() {
        let (one, other) = (High::new(1), High::new(3));
        let _first = one.read();
        let _second = other.read();
    }

    #[test]
    fn a_try_waits_for_nobody() {
        let (low, high) = (Low::new(1), High::new(3));
        let _first = high.read();
        assert_eq!(low.try_read().map(|read| *read), Some(1));
    }

    #[test]
    fn two_by_their_address() {
        let (one, other) = (High::new(1), High::new(3));
        assert_eq!(lock_two(&one, &other).map(|(a, b)| (*a, *b)).unwrap(), (1, 3));
        assert_eq!(lock_two(&other, &one).map(|(a, b)| (*a, *b)).unwrap(), (3, 1));
        assert_eq!(lock_two(&one, &one).err().map(|err| err.errno()), Some(Errno::EIO));
    }
}
