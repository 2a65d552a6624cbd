//! A map from the names in one directory, in the order in which they were added.
//!
//! A mount may hold millions of names. So a name has no allocation of its own, and takes only its
//! bytes, three words and a share of the hash table.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Found;
use rustc_hash::FxBuildHasher;

/// A map from names.
#[derive(Clone, Debug)]
pub struct NameMap<T> {
    /// All names, one after the other.
    text: Vec<u8>,
    /// The number of bytes of names that were removed.
    unused: usize,
    items: Vec<(Span, T)>,
    /// Positions in `items`, by the hash of the name.
    table: HashTable<Position>,
}

/// A position in `items`. It takes half as much as a `usize`.
type Position = u32;

/// The most names that a listing may have. As many again have a position, so that nobody can add
/// too many later.
pub const MOST: usize = 1 << 31;

/// The place of a name in the text: its start, and its length in the lowest bits.
#[derive(Clone, Copy, Debug)]
struct Span(u64);

impl Span {
    /// Enough for PATH_MAX, and no name is longer. 48 bits reach all memory of a process.
    const LENGTH_BITS: u32 = 16;

    fn new(start: usize, length: usize) -> Self {
        Self((start as u64) << Self::LENGTH_BITS | length as u64)
    }

    fn of(self, text: &[u8]) -> &[u8] {
        let start = usize::try_from(self.0 >> Self::LENGTH_BITS).unwrap_or(usize::MAX);
        text.get(start..).and_then(|from| from.get(..self.length())).unwrap_or_default()
    }

    fn length(self) -> usize {
        usize::from(self.0 as u16)
    }
}

impl<T> Default for NameMap<T> {
    fn default() -> Self {
        Self { text: Vec::new(), unused: 0, items: Vec::new(), table: HashTable::new() }
    }
}

impl<T> NameMap<T> {
    /// The number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The number of bytes of memory that the map takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let items = self.items.capacity() * size_of::<(Span, T)>();
        self.text.capacity() + items + self.table.allocation_size()
    }

    /// All names with their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &T)> {
        self.items.iter().map(|(span, value)| (span.of(&self.text), value))
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&T> {
        let position = self.position(name)?;
        self.items.get(position).map(|(_, value)| value)
    }

    /// The value of a name, to change it.
    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut T> {
        let position = self.position(name)?;
        self.items.get_mut(position).map(|(_, value)| value)
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        let is_it = |at: &Position| name_at(&self.text, &self.items, *at) == name;
        self.table.find(hash(name), is_it).map(|at| index(*at))
    }

    /// Adds a name, or replaces its value.
    pub fn insert(&mut self, name: &[u8], value: T) {
        let Self { text, items, table, .. } = self;
        let is_it = |at: &Position| name_at(text, items, *at) == name;
        match table.entry(hash(name), is_it, |at| hash(name_at(text, items, *at))) {
            Found::Occupied(known) => {
                if let Some((_, old)) = items.get_mut(index(*known.get())) {
                    *old = value;
                }
            }
            Found::Vacant(free) => {
                free.insert(position(items.len()));
                items.push((Span::new(text.len(), name.len()), value));
                text.extend_from_slice(name);
            }
        }
    }

    /// Removes a name. The last name takes its place in the order.
    pub fn remove(&mut self, name: &[u8]) {
        let Self { text, items, table, .. } = self;
        let is_it = |at: &Position| name_at(text, items, *at) == name;
        let Ok(known) = table.find_entry(hash(name), is_it) else { return };
        let (at, _) = known.remove();
        let last = position(items.len().saturating_sub(1));
        if let Some(moved) = table.find_mut(hash(name_at(text, items, last)), |at| *at == last) {
            *moved = at;
        }
        items.swap_remove(index(at));
        self.unused += name.len();
        if self.unused > self.text.len() / 2 {
            self.compact();
        }
    }

    /// Copies the names that are left to a new text.
    fn compact(&mut self) {
        let mut text = Vec::with_capacity(self.text.len() - self.unused);
        for (span, _) in &mut self.items {
            let name = span.of(&self.text);
            *span = Span::new(text.len(), name.len());
            text.extend_from_slice(name);
        }
        (self.text, self.unused) = (text, 0);
    }

    /// Frees memory that was reserved for more names.
    pub fn shrink(&mut self) {
        let Self { text, items, table, .. } = self;
        items.shrink_to_fit();
        table.shrink_to_fit(|at| hash(name_at(text, items, *at)));
        text.shrink_to_fit();
    }
}

fn position(index: usize) -> Position {
    Position::try_from(index).unwrap_or(Position::MAX)
}

fn index(position: Position) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

fn name_at<'a, T>(text: &'a [u8], items: &[(Span, T)], at: Position) -> &'a [u8] {
    items.get(index(at)).map(|(span, _)| span.of(text)).unwrap_or_default()
}

fn hash(name: &[u8]) -> u64 {
    FxBuildHasher.hash_one(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Few names are used, so that each is removed and added again.
        #[test]
        fn holds_what_was_put_in(
            steps in proptest::collection::vec((0u8..24, any::<bool>()), 0..400),
        ) {
            let mut map = NameMap::default();
            let mut model: Vec<(Vec<u8>, usize)> = Vec::new();
            for (value, (name, put)) in steps.into_iter().enumerate() {
                let name = vec![b'n'; usize::from(name) + 1];
                let known = model.iter().position(|(other, _)| *other == name);
                match (put, known) {
                    (true, Some(at)) => model[at].1 = value,
                    (true, None) => model.push((name.clone(), value)),
                    (false, Some(at)) => drop(model.swap_remove(at)),
                    (false, None) => {}
                }
                if put { map.insert(&name, value) } else { map.remove(&name) }
                let held: usize = model.iter().map(|(name, _)| name.len()).sum();
                prop_assert!(map.text.len() <= 2 * held, "{} for {held}", map.text.len());
            }
            map.shrink();
            let all: Vec<_> = map.iter().map(|(name, value)| (name.to_vec(), *value)).collect();
            prop_assert_eq!(&all, &model);
            for (name, value) in &model {
                prop_assert_eq!(map.get(name), Some(value));
            }
            prop_assert_eq!(map.len(), model.len());
        }
    }
}
