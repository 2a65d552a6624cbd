//! Paths that are kept, with little memory however deep the tree is.

use indexmap::IndexSet;
use rustc_hash::FxBuildHasher;

/// The directory above, of which the root is none, and the name in it.
type Part = (Option<usize>, Box<[u8]>);

/// Paths of which no two have a directory in memory twice: whole, those of a tree that is 10,000
/// levels deep would take gigabytes.
#[derive(Debug, Default)]
pub(super) struct Paths(IndexSet<Part, FxBuildHasher>);

impl Paths {
    /// Keeps a path; its number.
    pub fn keep(&mut self, path: &[u8]) -> Option<usize> {
        path.split(|byte| *byte == b'/')
            .fold(None, |above, name| Some(self.0.insert_full((above, name.into())).0))
    }

    /// The path of this number.
    pub fn get(&self, mut place: Option<usize>) -> Vec<u8> {
        let mut names = Vec::new();
        while let Some((above, name)) = place.and_then(|place| self.0.get_index(place)) {
            names.push(&**name);
            place = *above;
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
    }
}
