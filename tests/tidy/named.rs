//! Tests that the documents name as `target::module::test`: each has to exist.

use crate::checks::Violation;
use crate::source::{Source, line_of};

/// Names in backticks with at least three parts, and where they stand.
fn names(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut parts = text.split('`');
    let mut at = 0;
    std::iter::from_fn(move || {
        let outside = parts.next()?;
        let inside = parts.next()?;
        let begin = at + outside.len() + 1;
        at = begin + inside.len() + 1;
        Some((begin, inside))
    })
    .filter(|(_, name)| {
        let word = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        name.split("::").count() >= 3 && name.split("::").all(word)
    })
}

/// The file that has the test with such a name.
pub fn file_of<'a>(name: &str, sources: &'a [Source]) -> Option<&'a Source> {
    let (module, test) = name.rsplit_once("::")?;
    let module = module.replace("::", "/");
    let heads = ["tests", "src"].map(|head| format!("{head}/{module}"));
    let paths: Vec<String> = heads
        .iter()
        .flat_map(|head| ["", "/mod", "/tests"].map(|tail| format!("{head}{tail}.rs")))
        .collect();
    let head = format!("fn {test}(");
    sources.iter().find(|source| {
        paths.contains(&source.path)
            && source.code.match_indices(&head).any(|(at, _)| {
                let before = &source.code[..at];
                // What stands between the end of the item before and this one.
                let from = before.rfind(['}', ';', '{']).map_or(0, |end| end + 1);
                before[from..].contains("#[test]") || before[from..].contains("#[rstest]")
            })
    })
}

pub fn missing_tests(path: &str, text: &str, sources: &[Source]) -> Vec<Violation> {
    names(text)
        .filter(|(_, name)| file_of(name, sources).is_none())
        .map(|(at, name)| Violation {
            path: path.to_owned(),
            line: line_of(text, at),
            what: format!("there is no test {name}"),
        })
        .collect()
}

#[test]
fn a_test_that_is_not_there_is_found() {
    let sources = [
        Source::new("tests/mount/marks.rs", "#[test]\nfn seen() {}\nfn helper() {}\n"),
        Source::new("src/format/mark.rs", "mod tests {\n    #[test]\n    fn values() {}\n}\n"),
    ];
    let found = |text: &str| missing_tests("doc", text, &sources).len();
    assert_eq!(found("`mount::marks::seen`, `format::mark::values`; `oracle::marks`"), 0);
    assert_eq!(found("`mount::marks::gone`"), 1);
    assert_eq!(found("`mount::marks::helper` is no test"), 1);
    assert_eq!(found("`x` and\n`engine::marks::seen`"), 1);
}
