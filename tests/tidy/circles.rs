//! Circles of imports between the files of one folder.

use std::collections::{BTreeMap, BTreeSet};

use crate::checks::Violation;
use crate::source::{Source, is_word_byte};

/// Files of one folder that use one another, in the order of the alphabet, and why.
pub struct Circle {
    pub folder: &'static str,
    pub files: &'static [&'static str],
    #[allow(dead_code)] // For people.
    pub reason: &'static str,
}

/// Which files of its folder each file uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// Circles that are not in `known`, and known ones that are there no more.
pub fn unknown(sources: &[Source], known: &[Circle]) -> Vec<Violation> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for (folder, uses) in folders(sources) {
        found.extend(circles(&uses).into_iter().map(|circle| (folder.clone(), circle)));
    }
    let is_known = |(folder, files): &(String, Vec<String>)| {
        known.iter().any(|circle| circle.folder == folder && circle.files == files.as_slice())
    };
    let new = found.iter().filter(|circle| !is_known(circle)).map(|(folder, files)| {
        violation(folder, format!("these use one another: {}", files.join(", ")))
    });
    let gone = known.iter().filter(|circle| {
        !found.iter().any(|(folder, files)| circle.folder == folder && circle.files == files)
    });
    let gone = gone.map(|circle| {
        let files = circle.files.join(", ");
        violation(circle.folder, format!("no circle any more, take it off the list: {files}"))
    });
    new.chain(gone).collect()
}

fn violation(folder: &str, what: String) -> Violation {
    Violation { path: folder.to_owned(), line: 1, what }
}

fn folders(sources: &[Source]) -> BTreeMap<String, Uses> {
    let mut folders: BTreeMap<String, Vec<&Source>> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.is_product()) {
        if let Some((folder, file)) = source.path.rsplit_once('/')
            && folder != "src"
            && file != "mod.rs"
        {
            folders.entry(folder.to_owned()).or_default().push(source);
        }
    }
    let uses = |files: Vec<&Source>| {
        let names: BTreeSet<String> = files.iter().map(|source| name(source)).collect();
        files.into_iter().map(|source| (name(source), used(source, &names))).collect()
    };
    folders.into_iter().map(|(folder, files)| (folder, uses(files))).collect()
}

fn name(source: &Source) -> String {
    let file = source.path.rsplit('/').next().unwrap_or_default();
    file.strip_suffix(".rs").unwrap_or(file).to_owned()
}

/// The neighbours that a file names behind `super::` or the path of its folder.
fn used(source: &Source, names: &BTreeSet<String>) -> BTreeSet<String> {
    let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = folder.replacen("src", "crate", 1).replace('/', "::") + "::";
    let own = name(source);
    let mut used = BTreeSet::new();
    for root in ["super::", path.as_str()] {
        for (at, _) in source.shipped.match_indices(root) {
            let before = at.checked_sub(1).map(|i| source.shipped.as_bytes()[i]);
            if before.is_some_and(|b| is_word_byte(b) || b == b':') {
                continue;
            }
            let rest = &source.shipped[at + root.len()..];
            used.extend(first_words(rest).into_iter().filter(|word| *word != own));
        }
    }
    used.retain(|word| names.contains(word));
    used
}

/// The word at the beginning, or those of a list in braces.
fn first_words(text: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().bytes().take_while(|b| is_word_byte(*b)).map(char::from).collect()
    };
    match text.strip_prefix('{').and_then(|list| list.split_once('}')) {
        Some((list, _)) => list.split(',').map(word).collect(),
        None => vec![word(text)],
    }
}

/// All that lead back to themselves, each with those that it leads back by.
fn circles(uses: &Uses) -> Vec<Vec<String>> {
    let from: BTreeMap<&String, BTreeSet<String>> =
        uses.keys().map(|file| (file, reached(uses, file))).collect();
    let mut found: BTreeSet<Vec<String>> = BTreeSet::new();
    for (file, reaches) in &from {
        if reaches.contains(*file) {
            let back = |other: &&String| from.get(other).is_some_and(|its| its.contains(*file));
            found.insert(reaches.iter().filter(back).cloned().collect());
        }
    }
    found.into_iter().collect()
}

fn reached(uses: &Uses, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&String> = uses.get(from).into_iter().flatten().collect();
    while let Some(next) = open.pop() {
        if reached.insert(next.clone()) {
            open.extend(uses.get(next).into_iter().flatten());
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(texts: &[(&str, &str)]) -> Vec<Source> {
        texts.iter().map(|(path, text)| Source::new(path, text)).collect()
    }

    #[test]
    fn a_circle_is_found_and_a_known_one_must_be_there() {
        let known = [Circle { folder: "src/a", files: &["x", "y"], reason: "a test" }];
        let circle = sources(&[
            ("src/a/x.rs", "use super::y::Y;"),
            ("src/a/y.rs", "use crate::a::x::X;"),
            ("src/a/z.rs", "use super::{A, x};"),
        ]);
        assert_eq!(unknown(&circle, &[]).len(), 1);
        assert_eq!(unknown(&circle, &known).len(), 0);
        let none = sources(&[("src/a/x.rs", "use super::y::Y;"), ("src/a/y.rs", "")]);
        assert_eq!(unknown(&none, &[]).len(), 0);
        assert_eq!(unknown(&none, &known).len(), 1);
        let by_three = sources(&[
            ("src/a/x.rs", "use super::y::Y;"),
            ("src/a/y.rs", "use super::z::Z;"),
            ("src/a/z.rs", "use super::x::X;"),
        ]);
        assert_eq!(unknown(&by_three, &known).len(), 2, "another one");
        let elsewhere = sources(&[
            ("src/a/x.rs", "use super::super::y::Y;"),
            ("src/a/y.rs", "//! [`super::x`]\n#[cfg(test)]\nmod t { use super::x::X; }"),
        ]);
        assert_eq!(unknown(&elsewhere, &[]).len(), 0);
    }
}
