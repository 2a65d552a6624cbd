//! The table of `src/docs/performance.md`, which is the only place where the limits are.

use std::collections::BTreeMap;

/// What stands before the table.
const HEAD: &str = "| Operation | Requests | System calls of the server |";

/// Less than that for each object is nothing that grows with the objects: the program that walks
/// looks at its own directory, a descriptor is opened once.
const NOISE: f64 = 0.025;

/// Counts for each object, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Costs(BTreeMap<String, f64>);

#[derive(Clone, Debug)]
pub struct Row {
    pub operation: String,
    pub requests: Costs,
    pub calls: Costs,
}

impl Costs {
    pub fn per(counts: &BTreeMap<String, u64>, objects: f64) -> Self {
        let each = counts.iter().map(|(name, count)| {
            let count = f64::from(u32::try_from(*count).unwrap()) / objects;
            (name.clone(), count)
        });
        Self(each.collect())
    }

    /// Reads what [`Costs::text`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::default());
        }
        let each = text.split(", ").map(|part| {
            let (name, count) = part.split_once(' ')?;
            Some((name.to_owned(), count.parse().ok()?))
        });
        each.collect::<Option<_>>().map(Self)
    }

    pub fn text(&self) -> String {
        let shown = self.0.iter().filter(|(_, count)| **count >= NOISE);
        let parts: Vec<_> = shown.map(|(name, count)| format!("{name} {count:.2}")).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    }

    /// Zero if it is not there.
    pub fn of(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    /// What is more than in `limit`.
    pub fn above(&self, limit: &Self) -> Vec<(&str, f64)> {
        let found = self.0.iter().map(|(name, count)| (name.as_str(), *count));
        found.filter(|(name, count)| *count > limit.of(name) + NOISE).collect()
    }
}

/// The limits.
pub fn documented() -> Vec<Row> {
    let text = include_str!("../../src/docs/performance.md");
    let (_, table) = text.split_once(HEAD).expect("the table of counts");
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    lines.map(|line| parse(line).unwrap_or_else(|| panic!("not a row of counts: {line}"))).collect()
}

fn parse(line: &str) -> Option<Row> {
    let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [operation, requests, calls] = cells[..] else { return None };
    Some(Row {
        operation: operation.to_owned(),
        requests: Costs::parse(requests)?,
        calls: Costs::parse(calls)?,
    })
}

/// The table as it has to stand there.
pub fn render(rows: &[Row]) -> String {
    let mut text = format!("{HEAD}\n|---|---|---|\n");
    for row in rows {
        let line = [&*row.operation, &row.requests.text(), &row.calls.text()].join(" | ");
        text += &format!("| {line} |\n");
    }
    text
}
