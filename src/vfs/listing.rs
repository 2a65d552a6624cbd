//! The names of a directory, each at a position.
//!
//! readdir(3) shows the position of the next entry (`d_off`), which telldir(3) returns too. It is
//! below 2^31, because programs of 32 bits without large files know no larger ones: glibc then
//! fails with EOVERFLOW, and the directory looks empty. Positions only grow from entry to entry. So
//! a reader goes on with the first entry at or behind its position, even if the entry that had it
//! is gone.

use rustc_hash::FxHashMap;

use crate::error::{Errno, Result};
use crate::sys::FileType;

/// The position of a reader: its next entry is the first one there or behind. 0 is the beginning.
pub type Position = u32;

/// The largest position (a `long` of 32 bits, telldir(3)).
const LAST: Position = (1 << 31) - 1;

/// The entries of one directory at one moment, without an allocation for each.
#[derive(Debug, Default)]
pub struct Listing {
    names: Vec<u8>,
    /// Ordered by position, once the entries have one.
    items: Vec<Item>,
    /// Larger than all positions that were given out in this directory.
    end: Position,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    /// Offset of the name in `names`.
    start: usize,
    number: u64,
    position: Position,
    len: u16,
    kind: FileType,
}

/// The position takes room that would be padding without it.
const _: () = assert!(size_of::<Item>() == 24);

/// One entry as readdir(3) shows it.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The inode number that stat(2) will show.
    pub number: u64,
    /// The type.
    pub kind: FileType,
    /// The position to go on from after this entry.
    pub next: u64,
}

impl Item {
    fn name<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        names.get(self.start..).and_then(|rest| rest.get(..self.len.into())).unwrap_or_default()
    }
}

impl Listing {
    /// Adds an entry.
    ///
    /// # Errors
    /// ENAMETOOLONG for a name of more than 65,535 bytes, which no entry has.
    pub fn push(&mut self, name: &[u8], number: u64, kind: FileType) -> Result<()> {
        let len = u16::try_from(name.len()).map_err(|_| Errno::ENAMETOOLONG)?;
        let start = self.names.len();
        self.names.extend_from_slice(name);
        self.items.push(Item { start, number, position: 0, len, kind });
        Ok(())
    }

    /// Gives each entry its position: that of its name in the listing `before`, or one behind all
    /// others.
    pub fn number(&mut self, before: Option<&Self>) {
        let new = Position::try_from(self.items.len()).unwrap_or(LAST);
        // After 2^31 new names all positions begin anew, as after a listing that was dropped.
        match before.filter(|before| before.end <= LAST - new) {
            Some(before) if self.has_names_of(before) => {
                for (item, was) in self.items.iter_mut().zip(&before.items) {
                    item.position = was.position;
                }
                self.end = before.end;
            }
            Some(before) => self.number_after(before),
            None => {
                for (item, position) in self.items.iter_mut().zip(0..) {
                    item.position = position;
                }
                self.end = new;
            }
        }
    }

    /// Whether the names are those of another listing, in its order.
    fn has_names_of(&self, other: &Self) -> bool {
        let same_len = |(one, other): (&Item, &Item)| one.len == other.len;
        self.items.len() == other.items.len()
            && self.items.iter().zip(&other.items).all(same_len)
            && self.names().eq(other.names())
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.items.iter().map(|item| item.name(&self.names))
    }

    fn number_after(&mut self, before: &Self) {
        let positions = before.items.iter().map(|item| item.position);
        let known: FxHashMap<_, _> = before.names().zip(positions).collect();
        let mut end = before.end;
        for item in &mut self.items {
            item.position = known.get(item.name(&self.names)).copied().unwrap_or_else(|| {
                end += 1;
                end - 1
            });
        }
        self.end = end;
        self.items.sort_by_key(|item| item.position);
    }

    /// The entries from a position on.
    pub fn from(&self, position: Position) -> impl Iterator<Item = DirEntry<'_>> {
        let seen = self.items.partition_point(|item| item.position < position);
        self.items.iter().skip(seen).map(move |item| DirEntry {
            name: item.name(&self.names),
            number: item.number,
            kind: item.kind,
            next: u64::from(item.position) + 1,
        })
    }

    /// Whether a position is behind all that were given out in the directory.
    pub fn is_end(&self, position: Position) -> bool {
        position >= self.end
    }

    /// Memory that the listing takes, in bytes.
    pub fn bytes(&self) -> usize {
        // Estimate of the maps, counters and vectors around the listing.
        const AROUND: usize = 256;
        AROUND + self.names.capacity() + self.items.capacity() * size_of::<Item>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: &[&str], before: Option<&Listing>) -> Listing {
        let mut listing = Listing::default();
        for name in names {
            listing.push(name.as_bytes(), 1, FileType::Regular).unwrap();
        }
        listing.number(before);
        listing
    }

    fn shown(listing: &Listing, from: Position) -> Vec<(String, u64)> {
        let text = |entry: DirEntry<'_>| String::from_utf8(entry.name.to_vec()).unwrap();
        listing.from(from).map(|entry| (text(entry), entry.next)).collect()
    }

    fn names(listing: &Listing, from: Position) -> Vec<String> {
        shown(listing, from).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn names_keep_their_positions() {
        let first = listing(&["a", "b", "c", "d"], None);
        assert_eq!(names(&first, 2), ["c", "d"]);
        let second = listing(&["new", "d", "a", "c"], Some(&first));
        assert_eq!(shown(&second, 0), [("a", 1), ("c", 3), ("d", 4), ("new", 5)].map(own));
        assert_eq!(names(&second, 1), ["c", "d", "new"], "behind a name that is gone");
        let third = listing(&["a", "b", "c", "d", "new"], Some(&second));
        assert_eq!(names(&third, 0), ["a", "c", "d", "new", "b"], "no position is given out again");
        assert!(third.is_end(6) && !third.is_end(5));
    }

    fn own((name, next): (&str, u64)) -> (String, u64) {
        (name.into(), next)
    }

    #[test]
    fn the_same_names_again() {
        let first = listing(&["ab", "c"], None);
        let second = listing(&["ab", "c"], Some(&first));
        assert_eq!(shown(&first, 0), shown(&second, 0));
        let third = listing(&["a", "bc"], Some(&second));
        assert_eq!(shown(&third, 0), [("a", 3), ("bc", 4)].map(own));
    }

    #[test]
    fn positions_do_not_grow_beyond_31_bits() {
        let first = Listing { end: LAST - 1, ..listing(&["a"], None) };
        let second = listing(&["b", "c"], Some(&first));
        assert_eq!(shown(&second, 0), [("b", 1), ("c", 2)].map(own));
    }
}
