//! Stores paths in little memory, however deep the tree is.

use indexmap::IndexSet;
use rustc_hash::FxBuildHasher;

/// Number of a stored path; `None` is the root. A directory has a lower number than its entries.
pub(super) type Place = Option<usize>;

/// A set of paths that stores each directory once. As a whole, the paths of a tree that is 10,000
/// levels deep would take gigabytes.
#[derive(Debug, Default)]
pub(super) struct Paths(IndexSet<(Place, Box<[u8]>), FxBuildHasher>);

impl Paths {
    /// Stores a path.
    pub fn keep(&mut self, path: &[u8]) -> Place {
        path.split(|byte| *byte == b'/').fold(None, |above, name| self.child(above, name))
    }

    /// Stores the path of an entry of a directory.
    pub fn child(&mut self, above: Place, name: &[u8]) -> Place {
        Some(self.0.insert_full((above, name.into())).0)
    }

    /// Returns the directory of a path, and its last component.
    pub fn split(&self, place: Place) -> Option<(Place, &[u8])> {
        self.0.get_index(place?).map(|(above, name)| (*above, &**name))
    }

    /// Returns a path, without slashes at its ends.
    pub fn get(&self, place: Place) -> Vec<u8> {
        let mut names = Vec::new();
        let mut here = place;
        while let Some((above, name)) = self.split(here) {
            names.push(name);
            here = above;
        }
        names.reverse();
        names.join(&b'/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let mut paths = Paths::default();
        let all = [&b"a"[..], b"a/b", b"a/b/c", b"b/a", b"a/c/b", b"a/b/d"];
        let places = all.map(|path| paths.keep(path));
        assert_eq!(places.map(|place| paths.get(place)), all.map(<[u8]>::to_vec));
        assert_eq!(paths.0.len(), 8);
        assert_eq!(paths.keep(b"a/b/c"), places[2]);
        assert_eq!(paths.split(places[2]), Some((places[1], &b"c"[..])));
        assert_eq!((paths.split(None), paths.get(None)), (None, Vec::new()));
    }
}
