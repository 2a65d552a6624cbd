//! What pjdfstest printed, as data.

use std::collections::BTreeMap;

/// How one case of the suite ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// With what the suite says of it.
    Failed(String),
    Skipped(String),
}

/// The outcome of each case, by name.
pub type Report = BTreeMap<String, Outcome>;

/// Reads the output of one run, and panics if it is not whole: a suite that died half way has not
/// passed.
pub fn parse(output: &str) -> Report {
    let mut report = Report::new();
    let mut lines = output.lines().peekable();
    while let Some(line) = lines.next() {
        let words: Vec<_> = line.split_whitespace().collect();
        let &[name, word] = words.as_slice() else { continue };
        let mut reason = || lines.peek().map_or_else(String::new, |line| line.trim().to_owned());
        let outcome = match word {
            "ok" => Outcome::Passed,
            "FAILED" => Outcome::Failed(reason()),
            "skipped" => Outcome::Skipped(reason()),
            _ => continue,
        };
        let twice = report.insert(name.to_owned(), outcome);
        assert!(twice.is_none(), "pjdfstest reports {name} twice");
    }
    let summary = output.lines().find(|line| line.starts_with("Summary: "));
    let summary = summary.unwrap_or_else(|| panic!("pjdfstest did not come to its end:\n{output}"));
    let total = summary.rsplit(", ").next().and_then(|last| last.strip_suffix(" total"));
    let total: usize =
        total.and_then(|number| number.parse().ok()).expect("a total in the summary");
    assert_eq!(report.len(), total, "cases read, and cases in \"{summary}\"");
    report
}

/// Names of the cases that failed.
pub fn failed(report: &Report) -> impl Iterator<Item = &str> {
    report
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_)))
        .map(|(name, _)| name.as_str())
}

/// The known failures, name to reason. In the file a reason is a comment before the names that it
/// is the reason of, and an empty line ends both.
pub fn known_failures(file: &str) -> BTreeMap<String, String> {
    let mut known = BTreeMap::new();
    for group in file.split("\n\n") {
        let (reason, names): (Vec<_>, Vec<_>) =
            group.lines().filter(|line| !line.is_empty()).partition(|line| line.starts_with('#'));
        assert!(
            !reason.is_empty() || names.is_empty(),
            "known failures without a reason: {names:?}"
        );
        let reason = reason
            .iter()
            .map(|line| line.trim_start_matches(['#', ' ']))
            .collect::<Vec<_>>()
            .join(" ");
        for name in names {
            let twice = known.insert(name.trim().to_owned(), reason.clone());
            assert!(twice.is_none(), "{name} is listed twice");
        }
    }
    known
}

#[test]
fn a_report_has_every_outcome() {
    let output = "a::b    ok\nc::d::char   FAILED\n\tthe assertion\n\
                  e    skipped\n\tno such feature\n\
                  \nSummary: 1 failed, 1 skipped, 1 passed, 0 expected failures, 3 total\n";
    let report = parse(output);
    assert_eq!(report["a::b"], Outcome::Passed);
    assert_eq!(report["c::d::char"], Outcome::Failed("the assertion".into()));
    assert_eq!(report["e"], Outcome::Skipped("no such feature".into()));
}

#[test]
#[should_panic(expected = "did not come to its end")]
fn a_suite_that_died_has_no_report() {
    parse("a::b    ok\n");
}

#[test]
#[should_panic(expected = "cases read")]
fn a_case_that_was_not_read_is_missed() {
    parse("a::b    ok\n\nSummary: 0 failed, 0 skipped, 2 passed, 0 expected failures, 2 total\n");
}

#[test]
fn a_known_failure_has_the_reason_before_it() {
    let known = known_failures("# one\n# reason\na::b\nc::d\n\n# another\ne\n");
    assert_eq!(known["a::b"], "one reason");
    assert_eq!(known["c::d"], "one reason");
    assert_eq!(known["e"], "another");
}
