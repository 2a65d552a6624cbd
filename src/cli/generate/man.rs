//! Man pages, in section 1: one for the mount with all its options, one for each subcommand.

use std::io::{self, Write};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::Page;
use crate::cli::options::{Group, MountOption};
use crate::cli::table::OPTIONS;

/// Program and version, in the foot of a page.
const SOURCE: &str = concat!("ovlmerge ", env!("CARGO_PKG_VERSION"));

/// The last sections of the main page.
const LAST_SECTIONS: &[(&str, &str)] = &[
    (
        "UNMOUNTING",
        "ovlmerge umount MOUNTPOINT, which waits until all that was written is on the disk. umount(8), \
         and fusermount3 -u for an ordinary user, do not wait; the process in the background then \
         writes it, and ends. SIGTERM, SIGINT and SIGHUP unmount. A mount that is in use is served until its \
         last user leaves; a second signal ends it at once. Requests that hang for 30 seconds after \
         the first signal, or 5 after the second, are given up, with exit status 1.",
    ),
    (
        "EXIT STATUS",
        "0 if all was done, 1 if it did not work, 2 if the command line makes no sense. The command \
         returns when the mount can be used.",
    ),
];

/// The pages, by the names of their files.
pub fn pages(mut tree: Command) -> io::Result<Vec<Page>> {
    tree.build();
    let mut pages = vec![("ovlmerge.1".to_owned(), main_page(&tree)?)];
    for subcommand in tree.get_subcommands() {
        let name = format!("ovlmerge-{}", subcommand.get_name());
        pages.push((format!("{name}.1"), page_of(subcommand, name)?));
    }
    Ok(pages)
}

fn main_page(tree: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = start(tree.clone(), "ovlmerge", &mut page)?;
    man.render_options_section(&mut page)?;
    mount_options(&mut page)?;
    let mut roff = Roff::new();
    roff.control("SH", ["SUBCOMMANDS"]);
    for subcommand in tree.get_subcommands() {
        let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
        roff.control("TP", []);
        roff.text([bold(format!("ovlmerge-{}", subcommand.get_name())), roman("(1)")]);
        roff.text([roman(about)]);
    }
    for (title, text) in LAST_SECTIONS {
        roff.control("SH", [*title]);
        roff.text([roman(*text)]);
    }
    see_also(&mut roff, &[("mount", "8"), ("fusermount3", "1"), ("fuse", "4")]);
    roff.to_writer(&mut page)?;
    Ok(page)
}

fn page_of(subcommand: &Command, name: String) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = start(subcommand.clone().display_name(&name), &name, &mut page)?;
    man.render_options_section(&mut page)?;
    if subcommand.get_after_help().is_some() {
        man.render_extra_section(&mut page)?;
    }
    let mut roff = Roff::new();
    see_also(&mut roff, &[("ovlmerge", "1")]);
    roff.to_writer(&mut page)?;
    Ok(page)
}

/// The head of a page, up to its description. The synopsis is the usage that `--help` shows.
fn start(command: Command, name: &str, page: &mut Vec<u8>) -> io::Result<Man> {
    let usage = command.clone().render_usage().to_string();
    let man = Man::new(command);
    // No date: the pages of one version are the same whenever they are made. clap_mangen would
    // leave the empty argument out, and the version would be taken for the date.
    writeln!(page, ".TH {name} 1 \"\" \"{SOURCE}\" \"User Commands\"")?;
    man.render_name_section(page)?;
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    for (at, line) in usage.trim_start_matches("Usage:").lines().enumerate() {
        if at > 0 {
            roff.control("br", []);
        }
        roff.text([roman(line.trim())]);
    }
    roff.to_writer(page)?;
    man.render_description_section(page)?;
    Ok(man)
}

fn mount_options(page: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["MOUNT OPTIONS"]);
    for group in Group::ALL {
        roff.control("SS", [group.title()]);
        for option in OPTIONS.iter().filter(|option| option.group == group) {
            roff.control("TP", []);
            roff.text(usage(option));
            let gap = if option.doc.is_empty() { "" } else { " " };
            let text = format!("{}.{gap}{}", option.help, option.doc);
            roff.text([roman(text.replace('`', ""))]);
        }
    }
    roff.to_writer(page)
}

fn usage(option: &MountOption) -> Vec<Inline> {
    if !option.metavar.is_empty() {
        return vec![bold(format!("{}=", option.name)), italic(option.metavar)];
    }
    let mut line = Vec::new();
    for word in option.words() {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.push(bold(word));
    }
    line
}

fn see_also(roff: &mut Roff, pages: &[(&str, &str)]) {
    roff.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    for (page, section) in pages {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend([bold(*page), roman(format!("({section})"))]);
    }
    roff.text(line);
}
