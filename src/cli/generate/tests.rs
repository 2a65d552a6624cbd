//! The pages and scripts hold every option and every subcommand.

use super::*;
use crate::cli::options;
use crate::cli::table::OPTIONS;

fn page(name: &str) -> String {
    let mut all = man::pages(tree()).unwrap().into_iter().chain(completions::scripts(tree()));
    let (_, text) = all.find(|(page, _)| page == name).expect("a page of this name");
    String::from_utf8(text).unwrap()
}

#[test]
fn the_grammar_is_sound() {
    tree().debug_assert();
}

#[test]
fn the_manual_has_every_option_and_every_subcommand() {
    let text = page("ovlmerge.1").replace("\\-", "-");
    for option in OPTIONS {
        for word in option.words() {
            let equals = if option.metavar.is_empty() { "" } else { "=" };
            assert!(text.contains(&format!("\\fB{word}{equals}\\fR")), "{word}");
        }
        assert!(text.contains(option.metavar), "{}", option.name);
        let help = option.help.replace('`', "").replace('\'', "\\*(Aq");
        assert!(text.contains(&help), "{}: {help}", option.name);
    }
    for tool in Tool::ALL {
        let command = tool.command();
        let name = command.get_name();
        assert!(text.contains(&format!("ovlmerge-{name}")), "{name}");
        let own = page(&format!("ovlmerge-{name}.1")).replace("\\-", "-");
        for long in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(own.contains(&format!("--{long}")), "{name}: {long}");
        }
    }
}

#[test]
fn every_shell_knows_every_option_and_every_subcommand() {
    for name in ["ovlmerge.bash", "_ovlmerge", "ovlmerge.fish"] {
        let script = page(name);
        for word in options::words().filter(|word| *word != "plugins") {
            assert!(script.contains(word), "{name}: {word}");
        }
        for tool in Tool::ALL {
            assert!(script.contains(tool.command().get_name()), "{name}: {tool:?}");
        }
        // Our completion has replaced clap's own.
        assert!(script.matches("_ovlmerge_mount_options").count() > 1, "{name}");
        assert!(!script.contains("OPTION[,OPTION...]:_default"), "{name}");
    }
}
