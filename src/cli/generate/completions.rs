//! Shell completions. clap makes them from the grammar; the mount options after `-o`, which are one
//! word to clap, are added.

use std::fmt::Write;

use clap::Command;
use clap_complete::Shell;

use super::Page;
use crate::cli::options::Takes;
use crate::cli::table::OPTIONS;

/// Finds where a word of options begins, because bash cuts words at `=` and `:`.
const BASH: &str = include_str!("options.bash");

/// The completion of `-o` in clap's script for zsh, which ours replaces.
const ZSH_OPTIONS: &str = "OPTION[,OPTION...]:_default'";

/// The scripts, by the names under which the shells look for them.
pub fn scripts(tree: Command) -> Vec<Page> {
    let of_clap = |shell: Shell| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut tree.clone(), "ovlmerge", &mut script);
        String::from_utf8_lossy(&script).into_owned()
    };
    let bash = format!("{}{}", of_clap(Shell::Bash), BASH.replace("@OPTIONS@", &bash_words()));
    let zsh = of_clap(Shell::Zsh)
        .replace(ZSH_OPTIONS, "mount option:_ovlmerge_mount_options'")
        .replacen("\n_ovlmerge() {", &format!("\n{}\n_ovlmerge() {{", zsh_function()), 1);
    let fish = format!("{}{}", of_clap(Shell::Fish), fish_lines());
    [("ovlmerge.bash", bash), ("_ovlmerge", zsh), ("ovlmerge.fish", fish)]
        .map(|(name, script)| (name.to_owned(), script.into_bytes()))
        .into()
}

/// The possible values of an option.
enum Values {
    /// No value.
    None,
    /// One of these.
    Words(Vec<&'static str>),
    /// A directory, or several.
    Directories,
    /// Something else.
    Any,
}

fn values(takes: Takes, metavar: &'static str) -> Values {
    match takes {
        Takes::Path(_) | Takes::Layers(_) | Takes::Layer(_) => Values::Directories,
        Takes::Choice(choices) => Values::Words(choices.iter().map(|&(word, _)| word).collect()),
        Takes::Fixed { value, .. } => Values::Words(vec![value]),
        Takes::Switch(_) => Values::Words(metavar.split('|').collect()),
        _ if metavar.is_empty() => Values::None,
        _ => Values::Any,
    }
}

/// Each accepted word, with its values and its help.
fn words() -> Vec<(String, Values, &'static str)> {
    let possible = OPTIONS.iter().filter(|option| !matches!(option.takes, Takes::Never(_)));
    let each = possible.flat_map(|option| {
        option
            .words()
            .map(|word| (word.to_owned(), values(option.takes, option.metavar), option.help))
    });
    each.collect()
}

/// `name`, `name=`, or `name=value` for each value.
fn spelled() -> impl Iterator<Item = (String, &'static str)> {
    words().into_iter().flat_map(|(word, values, help)| {
        let spelled = match values {
            Values::None => vec![word],
            Values::Words(values) => values.iter().map(|value| format!("{word}={value}")).collect(),
            Values::Directories | Values::Any => vec![format!("{word}=")],
        };
        spelled.into_iter().map(move |spelled| (spelled, help))
    })
}

fn bash_words() -> String {
    spelled().map(|(word, _)| word).collect::<Vec<_>>().join("\n")
}

/// The options in the form of zsh's `_values`, which knows lists with commas.
fn zsh_function() -> String {
    let mut out = String::from("_ovlmerge_mount_options() {\n    _values -s , -S = 'mount option'");
    for (word, values, help) in words() {
        let help =
            help.replace('\'', "'\\''").replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
        let value = match values {
            Values::None => String::new(),
            Values::Words(values) => format!(":value:({})", values.join(" ")),
            Values::Directories => ":directory:_files -/".to_owned(),
            Values::Any => ":value: ".to_owned(),
        };
        push(&mut out, format_args!(" \\\n        '{word}[{help}]{value}'"));
    }
    out.push_str("\n}\n");
    out
}

fn fish_lines() -> String {
    let mut out = String::from("\nfunction __ovlmerge_mount_options\n    printf '%s\\t%s\\n'");
    for (word, help) in spelled() {
        push(&mut out, format_args!(" \\\n        '{word}' '{}'", help.replace('\'', "\\'")));
    }
    out.push_str(
        "\nend\n\ncomplete -c ovlmerge -s o -x -a '(__fish_complete_list , __ovlmerge_mount_options)'\n",
    );
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    out.write_fmt(text).ok();
}
