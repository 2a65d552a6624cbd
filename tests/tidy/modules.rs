//! Which module may use which: those to its right in the order of `src/lib.rs`.

use crate::checks::Violation;
use crate::source::{Source, is_word_byte, line_of};

/// Each may use those behind it.
const ORDER: [&str; 10] =
    ["main", "cli", "fuse", "control", "vfs", "merge", "layer", "format", "sys", "error"];

/// What stands beside another in that order: neither may use the other, nor what is between.
const BESIDE: (&str, &str) = ("tools", "vfs");

/// What stands outside of that order, what it may use, and who may use it.
const OUTSIDE: (&str, &[&str], &str) = ("transport", &["sys", "error", "id"], "fuse");

/// Folders that use nothing of the module they stand in but themselves.
const ROOMS: [&str; 1] = ["src/vfs/nodes/"];

/// Plain data that all may use. Each may use those behind it.
const DATA: [&str; 2] = ["config", "id"];

/// The module at the top that a file belongs to.
fn module_of(path: &str) -> &str {
    let below = path.strip_prefix("src/").unwrap_or(path);
    let first = below.split('/').next().unwrap_or(below);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn may_use(user: &str, used: &str) -> bool {
    let (outside, uses, used_by) = OUTSIDE;
    if user == outside {
        return used == outside || uses.contains(&used);
    }
    if used == outside {
        return user == used_by;
    }
    let (beside, place_of) = BESIDE;
    if user == beside {
        return used == beside || (used != place_of && may_use(place_of, used));
    }
    if used == beside {
        return user == "cli";
    }
    let place = |module: &str| ORDER.iter().chain(&DATA).position(|known| *known == module);
    match (place(user), place(used)) {
        _ if user == used => true,
        (Some(user), Some(used)) => user < used,
        _ => false,
    }
}

/// Uses of a module that stands to the left, or of the root of the crate.
pub fn upward_uses(source: &Source) -> Vec<Violation> {
    let module = module_of(&source.path);
    let mut found = Vec::new();
    let mut wrong = |at, what| {
        found.push(Violation { path: source.path.clone(), line: line_of(&source.code, at), what });
    };
    for root in ["crate::", "ovlmerge::"] {
        for (at, _) in source.shipped.match_indices(root) {
            let before = at.checked_sub(1).map(|i| source.shipped.as_bytes()[i]);
            if before.is_some_and(|b| is_word_byte(b) || b == b'$') {
                continue;
            }
            let rest = &source.shipped[at + root.len()..];
            let used: String =
                rest.bytes().take_while(|b| is_word_byte(*b)).map(char::from).collect();
            if !may_use(module, &used) {
                wrong(at, format!("{module} uses {root}{used}, which is not below it"));
            }
        }
    }
    let to_the_root = "super::".repeat(source.path.split('/').count() - 1 - depth_of_mod(source));
    for (at, _) in source.shipped.match_indices(&to_the_root) {
        wrong(at, format!("{to_the_root} reaches the root of the crate; write crate::MODULE"));
    }
    found
}

/// Uses of what stands around a room.
pub fn uses_around_rooms(source: &Source) -> Vec<Violation> {
    let Some(room) = ROOMS.iter().find(|room| source.path.starts_with(*room)) else {
        return Vec::new();
    };
    let above = room.trim_start_matches("src/").trim_end_matches('/').split('/');
    let around: Vec<&str> = above.collect();
    let around = format!("crate::{}::", around[..around.len() - 1].join("::"));
    let to_around = "super::".repeat(2 - depth_of_mod(source));
    let mut found = Vec::new();
    for way in [around, to_around] {
        for (at, _) in source.shipped.match_indices(&way) {
            let what = format!("{way} leads out of {room}, which uses nothing around it");
            let line = line_of(&source.code, at);
            found.push(Violation { path: source.path.clone(), line, what });
        }
    }
    found
}

/// `mod.rs` stands one level higher than the files beside it.
fn depth_of_mod(source: &Source) -> usize {
    usize::from(source.path.ends_with("/mod.rs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_uses_nothing_around_it() {
        let found = |path, text| uses_around_rooms(&Source::new(path, text)).len();
        assert_eq!(found("src/vfs/nodes/node.rs", "use super::place::Place;"), 0);
        assert_eq!(found("src/vfs/nodes/node.rs", "use crate::merge::Index;"), 0);
        assert_eq!(found("src/vfs/nodes/node.rs", "use super::super::Vfs;"), 1);
        assert_eq!(found("src/vfs/nodes/node.rs", "use crate::vfs::Vfs;"), 1);
        assert_eq!(found("src/vfs/nodes/mod.rs", "use super::Vfs;"), 1);
        assert_eq!(found("src/vfs/attr.rs", "use super::Vfs;"), 0);
    }

    fn violations(path: &str, text: &str) -> usize {
        upward_uses(&Source::new(path, text)).len()
    }

    #[test]
    fn uses_go_one_way() {
        assert_eq!(violations("src/vfs/node.rs", "use crate::merge::Index;"), 0);
        assert_eq!(violations("src/vfs/node.rs", "use crate::vfs::Vfs;"), 0);
        assert_eq!(violations("src/layer/open.rs", "use crate::config::Config;"), 0);
        assert_eq!(violations("src/cli/x.rs", "use crate::tools::diff;"), 0);
        assert_eq!(violations("src/tools/x.rs", "use crate::merge::Index;"), 0);
        assert_eq!(violations("src/tools/diff/x.rs", "use crate::tools::oci;"), 0);
        assert_eq!(violations("src/tools/x.rs", "use crate::vfs::Vfs;"), 1);
        assert_eq!(violations("src/vfs/x.rs", "use crate::tools::oci;"), 1);
        assert_eq!(violations("src/fuse/x.rs", "use crate::tools::oci;"), 1);
        assert_eq!(violations("src/fuse/x.rs", "use crate::transport::abi;"), 0);
        assert_eq!(violations("src/vfs/x.rs", "use crate::transport::abi;"), 1);
        assert_eq!(violations("src/transport/x.rs", "use crate::vfs::Vfs;"), 1);
        assert_eq!(violations("src/transport/x.rs", "use crate::config::Config;"), 1);
        assert_eq!(violations("src/main.rs", "fn main() { ovlmerge::cli::run() }"), 0);
        assert_eq!(violations("src/merge/lookup.rs", "use crate::vfs::Vfs;"), 1);
        assert_eq!(violations("src/sys/at.rs", "fn f() -> crate::format::Mark {}"), 1);
        assert_eq!(violations("src/config.rs", "use crate::error::Error;"), 1);
        assert_eq!(violations("src/config.rs", "use crate::id::Id;"), 0);
        assert_eq!(violations("src/error.rs", "use crate::config::Config;"), 0);
        assert_eq!(violations("src/vfs/x.rs", "use crate::{merge, fuse};"), 1, "named one by one");
        assert_eq!(violations("src/new/x.rs", "use crate::sys::Name;"), 1, "not in the order yet");
        assert_eq!(violations("src/sys/at.rs", "//! See [`crate::vfs`].\n"), 0, "a link");
        assert_eq!(violations("src/sys/a.rs", "#[cfg(test)]\nmod t { use crate::vfs::V; }"), 0);
    }

    #[test]
    fn nobody_climbs_to_the_root() {
        assert_eq!(violations("src/sys/at.rs", "use super::stat::Time;"), 0);
        assert_eq!(violations("src/sys/at.rs", "use super::super::vfs::Vfs;"), 1);
        assert_eq!(violations("src/sys/mod.rs", "use super::vfs::Vfs;"), 1);
        assert_eq!(violations("src/error.rs", "use super::vfs::Vfs;"), 1);
        assert_eq!(violations("src/cli/demo/steps.rs", "use super::super::complain;"), 0);
        assert_eq!(violations("src/cli/demo/mod.rs", "use super::complain;"), 0);
    }
}
