//! `ovlmerge check`.

use std::io;

use clap::{ArgMatches, Command};
use serde_json::json;

use super::{
    Exit, PATHS, Stop, base, flag, json_arg, layers, options_arg, print, progress, request,
    show_path, usage,
};
use crate::tools::check::{Finding, Place, Task};
use crate::tools::oci::printable;
use crate::tools::views::Layers;

pub(super) fn command() -> Command {
    base("check", "Finds what is wrong with an upper that is not mounted")
        .override_usage(
            "ovlmerge check [--repair] [--json] \
             -o lowerdir=DIR[:DIR...],upperdir=DIR,workdir=DIR[,OPTION...]",
        )
        .arg(options_arg("The layers, with the options of a mount; workdir is needed for --repair"))
        .arg(flag("repair", "Mend what can be mended without changing what a mount shows"))
        .arg(json_arg())
        .after_help(
            "Exit status: 0 nothing is wrong, 1 it could not be checked, 2 the command line makes \
             no sense, 3 something is wrong (with --repair: something is left).",
        )
}

pub(super) fn run(matches: &ArgMatches) -> Result<Exit, Stop> {
    let mut request = request(matches)?;
    let work = request.work.take();
    let repair = matches.get_flag("repair");
    if repair && work.is_none() {
        return Err(usage("--repair needs workdir in -o, as a mount does"));
    }
    let (upper, config) = layers(request)?;
    let task = Task { layers: Layers { upper, config }, work };
    let bar = progress(PATHS);
    let mut advance = |path: &[u8]| show_path(&bar, path);
    let (findings, mended) =
        if repair { task.repair(&mut advance)? } else { (task.check(&mut advance)?, 0) };
    bar.finish_and_clear();
    let text = if matches.get_flag("json") {
        let list: Vec<_> = findings.iter().map(as_json).collect();
        json!({ "findings": list, "repaired": mended }).to_string()
    } else {
        let mut lines: Vec<_> = findings.iter().map(as_text).collect();
        lines.push(summary(findings.len(), mended, repair));
        lines.join("\n")
    };
    print(&mut io::stdout(), &text)?;
    Ok(if findings.is_empty() { Exit::Done } else { Exit::Findings })
}

fn path(finding: &Finding) -> String {
    let place = match finding.place {
        Place::Upper => "/",
        Place::Work => "workdir:/",
        Place::Beside => "upperdir/../",
    };
    format!("{place}{}", printable(&finding.path))
}

fn as_text(finding: &Finding) -> String {
    format!("{} {}: {}", finding.problem.id(), path(finding), finding.problem.text())
}

fn as_json(finding: &Finding) -> serde_json::Value {
    json!({
        "id": finding.problem.id(),
        "path": path(finding),
        "text": finding.problem.text(),
        "repairable": finding.problem.is_repairable(),
    })
}

fn summary(left: usize, mended: usize, repair: bool) -> String {
    match (left, repair) {
        (0, false) => "nothing is wrong".to_owned(),
        (left, false) => format!("{left} found"),
        (left, true) => format!("{mended} repaired, {left} left"),
    }
}
