//! The table of mount options as text: for `--help` and for the manual.

use std::fmt::Write;

use super::options::{Group, MountOption};
use super::table::OPTIONS;

/// The first column of the explanations, and the width of a line.
const COLUMN: usize = 29;
const WIDTH: usize = 80;

fn in_group(group: Group) -> impl Iterator<Item = &'static MountOption> {
    OPTIONS.iter().filter(move |option| option.group == group)
}

/// The mount options as `--help` shows them.
#[must_use]
pub fn terminal() -> String {
    let mut out = String::new();
    for group in Group::ALL {
        push(&mut out, format_args!("\n{}:\n", group.title()));
        for option in in_group(group) {
            push_option(&mut out, option);
        }
    }
    out
}

fn push_option(out: &mut String, option: &MountOption) {
    let usage = option.usage();
    let (mut left, own_line) = (usage.as_str(), usage.len() + 2 >= COLUMN);
    if own_line {
        for line in wrap(&usage, WIDTH - 2) {
            push(out, format_args!("  {line}\n"));
        }
        left = "";
    }
    for line in wrap(option.help, WIDTH - COLUMN) {
        push(out, format_args!("  {left:<gap$}{line}\n", gap = COLUMN - 2));
        left = "";
    }
}

/// Lines of at most `width` characters, broken at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The mount options as the manual shows them.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from("| Option | Meaning |\n|---|---|\n");
    for group in Group::ALL {
        push(&mut out, format_args!("| **{}** | |\n", group.title()));
        for option in in_group(group) {
            let usage = option.usage().replace(", ", "`, `").replace('|', "\\|");
            let gap = if option.doc.is_empty() { "" } else { " " };
            push(&mut out, format_args!("| `{usage}` | {}.{gap}{} |\n", option.help, option.doc));
        }
    }
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    out.write_fmt(text).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "<!-- mount options: begin (generated) -->\n";
    const END: &str = "<!-- mount options: end -->";

    /// `OVLMERGE_BLESS=1 cargo test the_manual` writes the table into the manual.
    #[test]
    fn the_manual_has_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/manual.md");
        let manual = std::fs::read_to_string(path).unwrap();
        let (head, rest) = manual.split_once(BEGIN).expect("the marker for the begin");
        let (table, tail) = rest.split_once(END).expect("the marker for the end");
        if table != markdown() && std::env::var_os("OVLMERGE_BLESS").is_some() {
            std::fs::write(path, format!("{head}{BEGIN}{}{END}{tail}", markdown())).unwrap();
            return;
        }
        assert_eq!(table, markdown(), "see OVLMERGE_BLESS above");
    }

    #[test]
    fn every_line_of_the_help_fits_a_terminal() {
        for line in terminal().lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }
}
