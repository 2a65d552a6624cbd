//! One experiment: layers, and what is done to them.

use std::fmt;

use super::op::{Op, script};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Links {
    /// No lower has a file with two names.
    #[default]
    None,
    /// A lower has, and an index keeps them together: the upper is each side's own affair.
    InLower,
    /// A lower has, without an index: each name is a file of its own.
    Apart,
}

#[derive(Debug, Clone, Default)]
pub struct Case {
    /// How each layer is built, topmost first.
    pub lowers: Vec<Vec<Op>>,
    pub ops: Vec<Op>,
    pub links: Links,
}

/// A case as it stands in a table.
pub struct Scenario {
    pub name: &'static str,
    pub lowers: &'static [&'static str],
    pub ops: &'static str,
}

impl From<&Scenario> for Case {
    fn from(scenario: &Scenario) -> Self {
        Self {
            lowers: scenario.lowers.iter().map(|text| script(text)).collect(),
            ops: script(scenario.ops),
            links: match scenario.name.split(' ').next() {
                Some("links") => Links::InLower,
                Some("apart") => Links::Apart,
                _ => Links::None,
            },
        }
    }
}

impl Case {
    /// The layers as the lines that build them.
    pub fn layers(&self) -> Vec<Vec<String>> {
        self.lowers.iter().map(|ops| ops.iter().map(Op::to_string).collect()).collect()
    }
}

/// As an element of the table of scenarios.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let block = |f: &mut fmt::Formatter<'_>, ops: &[Op], indent: &str| {
            writeln!(f, "\"")?;
            for op in ops {
                writeln!(f, "{indent}    {op}")?;
            }
            write!(f, "{indent}\"")
        };
        let links = match self.links {
            Links::None => "",
            Links::InLower => "links ",
            Links::Apart => "apart ",
        };
        writeln!(f, "Scenario {{\n    name: \"{links}FOUND BY RANDOM\",\n    lowers: &[")?;
        for layer in &self.lowers {
            write!(f, "        ")?;
            block(f, layer, "        ")?;
            writeln!(f, ",")?;
        }
        write!(f, "    ],\n    ops: ")?;
        block(f, &self.ops, "    ")?;
        write!(f, ",\n}},")
    }
}
