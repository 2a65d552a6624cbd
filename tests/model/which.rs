//! What the engine says about where things come from, against what it shows.

use ovlmerge::merge::which::{Part, Which};
use ovlmerge::vfs::NodeId;

use crate::client::{Client, Tree};
use crate::spec::NAMES;

/// Asks about every path of a tree, and about names that are not there.
pub fn agrees(client: &Client, tree: &Tree) -> Result<(), String> {
    for (path, seen) in tree {
        let names: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|it| !it.is_empty()).collect();
        let wrong = |what: &str, which: &Which| {
            Err(format!("which /{}: {what}: {which:?}", path.escape_ascii()))
        };
        let (which, number) = ask(client, &names)?;
        let Ok(Some(shown)) = which.shown() else { return wrong("it is there", &which) };
        if (shown.kind, number) != (seen.kind, Some(seen.ino)) {
            return wrong(&format!("{number:?} and {seen:?}"), &which);
        }
        // A name in a lower of what is in the index shows a file that is nowhere beside it.
        let elsewhere = shown.layer == 0 && which.levels.iter().all(|level| level.layer > 0);
        let first = which.levels.iter().find(|level| !matches!(level.part, Part::Hidden(_)));
        if !first.is_some_and(|it| it.part == Part::Shown && (elsewhere || it.layer == shown.layer))
        {
            return wrong("what shows is the first that is not hidden", &which);
        }
        for level in &which.levels {
            if let Part::Hidden(cause) = &level.part
                && cause.layer > level.layer
            {
                return wrong("hidden from below", &which);
            }
        }
        for name in NAMES.iter().filter(|_| seen.kind.is_dir()) {
            let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
            if tree.contains_key(&[path, slash, *name].concat()) {
                continue;
            }
            let below: Vec<&[u8]> = names.iter().copied().chain([*name]).collect();
            let (which, _) = ask(client, &below)?;
            let shows = |part: &Part| matches!(part, Part::Shown | Part::Merged | Part::Data);
            let absent = matches!(which.found, Ok(None));
            if !absent || which.levels.iter().any(|level| shows(&level.part)) {
                return wrong(&format!("{} is not there", name.escape_ascii()), &which);
            }
        }
    }
    Ok(())
}

fn ask(client: &Client, names: &[&[u8]]) -> Result<(Which, Option<u64>), String> {
    client.vfs.which(NodeId::ROOT, names).map_err(|err| format!("which {names:?}: {err}"))
}
