//! "Did you mean": the known word that is nearest to a misspelt one.

use strsim::osa_distance;

/// Letters that a word needs to stand for a longer one that begins like it: `uper` for `upperdir`.
/// A shorter word is the beginning of too many.
const BEGINNING: usize = 4;

/// The nearest of the `known` words, if a typing error explains the distance. Otherwise the one
/// whose beginning is nearest.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known: Vec<_> = known.into_iter().collect();
    let length = word.chars().count();
    let allowed = match length {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    };
    let best = |distance: fn(&str, &str) -> usize| {
        known
            .iter()
            .map(|&candidate| (distance(word, candidate), candidate))
            .filter(|&(steps, _)| steps <= allowed)
            .min_by_key(|&(steps, _)| steps)
            .map(|(_, candidate)| candidate)
    };
    best(osa_distance).or_else(|| best(distance_of_beginning).filter(|_| length >= BEGINNING))
}

/// The least number of insertions, deletions, replacements and swaps of neighbours that turn `from`
/// into a beginning of `to`.
fn distance_of_beginning(from: &str, to: &str) -> usize {
    let ends = to.char_indices().map(|(end, _)| end).chain([to.len()]);
    let beginnings = ends.filter_map(|end| to.get(..end));
    beginnings.map(|beginning| osa_distance(from, beginning)).min().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["lowerdir", "upperdir", "workdir", "ro", "rw", "sync"];
        let table = [
            ("lowedir", Some("lowerdir")),
            ("workdri", Some("workdir")),
            ("synch", Some("sync")),
            ("uper", Some("upperdir")),
            ("lower", Some("lowerdir")),
            ("low", None),
            ("rx", None),
            ("metacopy", None),
        ];
        for (typed, expected) in table {
            assert_eq!(nearest(typed, known), expected, "{typed}");
        }
    }
}
