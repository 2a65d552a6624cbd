//! Failures that random cases found, as small as they get.

use crate::op::{Attr, Op, Set, What};
use crate::run::{Memory, Renames, run};
use crate::runs_here;
use crate::spec::{Dir, Item, Layers, Meta};

fn check(test: &str, layers: &Layers, ops: &[Op]) {
    if !runs_here(test) {
        return;
    }
    for memory in [Memory::Everything, Memory::Nothing] {
        for renames in Renames::ALL {
            run(layers, ops, memory, renames)
                .unwrap_or_else(|why| panic!("{memory:?}, {renames:?}: {why}"));
        }
    }
}

/// An upper root marked as delegating, with an attribute of its own, over one that is not.
fn delegating(upper: Meta, lower: Meta) -> Layers {
    let upper = Dir { meta: upper, delegate: Some(false), ..Dir::plain(Vec::new()) };
    let lower = Dir { meta: lower, ..Dir::plain(Vec::new()) };
    Layers { upper: Some(upper), lowers: vec![lower] }
}

/// When the mark went, attributes that it had hidden came to light.
#[test]
fn regression_a_delegated_directory_forgets_its_own_attributes() {
    let name = "regression_a_delegated_directory_forgets_its_own_attributes";
    let hidden = Meta { xattr: Some((1, 0)), ..Meta::PLAIN };
    let shown = Meta { xattr: Some((0, 0)), ..Meta::PLAIN };
    for op in [
        Op::SetAttr { object: 0, attr: Attr::Mode(0o600) },
        Op::SetXattr { object: 0, name: 0, value: 0, set: Set::Any },
    ] {
        check(name, &delegating(hidden.clone(), shown.clone()), &[op]);
    }
}

/// New objects got the group of the hidden directory, or not that of the one that is seen.
#[test]
fn regression_a_delegated_directory_passes_on_what_it_shows() {
    let name = "regression_a_delegated_directory_passes_on_what_it_shows";
    let setgid = Meta { mode: 3, owner: 1, ..Meta::PLAIN };
    for (upper, lower) in [(setgid.clone(), Meta::PLAIN), (Meta::PLAIN, setgid)] {
        for what in [What::File, What::Dir] {
            let make = Op::Make { dir: 0, name: 0, what, mode: 0o666, owner: 0 };
            check(name, &delegating(upper.clone(), lower.clone()), &[make]);
        }
    }
}

/// Both directories of the rename were locked, and the target is one of them: it hung.
#[test]
fn regression_a_rename_onto_the_directory_that_it_leaves() {
    let name = "regression_a_rename_onto_the_directory_that_it_leaves";
    let inner = Dir::plain(vec![(1, Item::File(0, Meta::PLAIN))]);
    let layers = Layers {
        upper: Some(Dir::plain(vec![(0, Item::Dir(inner))])),
        lowers: vec![Dir::plain(Vec::new())],
    };
    for mode in 0..3 {
        check(name, &layers, &[Op::Rename { dir: 1, name: 1, to: 0, new: 0, mode }]);
    }
}
