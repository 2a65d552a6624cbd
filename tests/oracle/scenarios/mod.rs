//! The table of scenarios, by what they are about.
//!
//! Lowers are topmost first. In the names of scenarios, `links ` at the start says that a lower
//! holds a file with two names, and the kernel then runs with an index; `root: ` says that it is
//! not for user namespaces.

mod attributes;
mod content;
mod layers;
mod names;
mod regressions;
mod renames;

use super::case::Scenario;

pub fn all() -> impl Iterator<Item = &'static Scenario> {
    let tables = [
        attributes::SCENARIOS,
        content::SCENARIOS,
        layers::SCENARIOS,
        names::SCENARIOS,
        regressions::SCENARIOS,
        renames::SCENARIOS,
    ];
    tables.into_iter().flatten()
}
