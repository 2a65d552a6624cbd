//! "Did you mean": the known word that is nearest to a misspelt one.

/// From how many letters on a word may stand for a longer one that begins like it: `uper` for
/// `upperdir`. Fewer are the beginning of too many.
const BEGINNING: usize = 4;

/// The best of `known` within a distance that a slip of the fingers explains; else the first that
/// begins like it.
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
    best(distance).or_else(|| best(distance_of_beginning).filter(|_| length >= BEGINNING))
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `from` into `to`.
fn distance(from: &str, to: &str) -> usize {
    distances(from, to).last().copied().unwrap_or(usize::MAX)
}

/// Such steps from `from` to the nearest of the beginnings of `to`.
fn distance_of_beginning(from: &str, to: &str) -> usize {
    distances(from, to).into_iter().min().unwrap_or(usize::MAX)
}

/// The distances of a word to each beginning of another, the shortest first.
fn distances(from: &str, to: &str) -> Vec<usize> {
    let to: Vec<char> = to.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut previous: Option<char> = None;
    for (row, a) in from.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, &b) in to.iter().enumerate() {
            let at =
                |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&last, column) + usize::from(a != b))
                .min(at(&last, column + 1) + 1)
                .min(at(&current, column) + 1);
            let left = column.checked_sub(1).and_then(|index| to.get(index));
            if previous == Some(b) && left == Some(&a) {
                best = best.min(at(&before_last, column - 1) + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
        previous = Some(a);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let table = [
            ("", "", 0),
            ("abc", "", 3),
            ("", "abc", 3),
            ("upperdir", "upperdir", 0),
            ("uperdir", "upperdir", 1),
            ("upperdri", "upperdir", 1),
            ("lowerdirs", "lowerdir", 1),
            ("kitten", "sitting", 3),
        ];
        for (from, to, steps) in table {
            assert_eq!(distance(from, to), steps, "{from} -> {to}");
        }
    }

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
