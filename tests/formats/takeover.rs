//! The kernel goes on where ovlmerge changed what the kernel had written, and the other way round.

use std::fs;

use crate::layers::{ALL, Layers, NO_INDEX, rename};
use crate::redirect::fill;
use crate::support::Dir;

/// One round of changes in each turn, by whoever's turn it is.
fn turn(m: &Dir, number: u32) {
    let old = format!("turn{number}");
    m.file(&old, "x".repeat(9000)).mode(&old, 0o600);
    m.file("a/f", format!("turn {number}")).mode("b/g", 0o600 + number);
    m.owner("c/h", number, number).xattr("b/h", "user.turn", number.to_string());
    fs::remove_file(m.path("a/sub/x")).unwrap();
    m.file("a/sub/x", format!("again {number}"));
    if m.exists("b/deep/er") {
        fs::remove_dir_all(m.path("b/deep")).unwrap();
    }
    m.file(format!("b/deep/t{number}"), "");
    let (from, to) = (format!("c/y{}", number.wrapping_sub(1)), format!("c/y{number}"));
    rename(m, if number == 0 { "c/sub/y".into() } else { from }, to);
}

fn take_turns(options: &'static str) {
    let mut layers = Layers::new(options, fill);
    layers.generation(|m| turn(m, 0));
    for number in 1..4 {
        layers.change(|m| turn(m, 2 * number - 1));
        turn(&layers.kernel(), 2 * number);
        layers.assert_alike_as_upper();
    }
    layers.assert_alike();
}

#[test]
fn in_turns() {
    needs_both!();
    take_turns(NO_INDEX);
}

#[test]
fn in_turns_with_the_index() {
    needs_both!();
    take_turns(ALL);
}

/// Directories that the kernel renamed are changed by ovlmerge, and renamed once more by the
/// kernel.
#[test]
fn renamed_directories_in_turns() {
    needs_both!();
    let mut layers = Layers::new(ALL, fill);
    layers.generation(|m| rename(m, "a", "r0"));
    for number in 0..3 {
        let [old, new] = [number, number + 1].map(|number| format!("r{number}"));
        layers.change(|m| {
            m.file(format!("{old}/by-us{number}"), "").mode(format!("{old}/f"), 0o611);
            m.file(format!("{old}/g"), number.to_string());
        });
        rename(&layers.kernel(), &old, &new);
        layers.assert_alike();
    }
}

/// What the kernel keeps together by its index is one file here too, and the kernel goes on with
/// it.
#[test]
fn the_index_survives() {
    needs_both!();
    let mut layers = Layers::new(ALL, |dir| {
        dir.file("one", "lower").hard_link("two", "one").hard_link("d/three", "one");
        dir.file("gone", "lower").hard_link("gone2", "gone");
    });
    layers.generation(|m| {
        m.file("one", "written").mode("gone", 0o600);
    });
    let m = layers.ours_writing("index=on");
    assert_eq!([m.read("one"), m.read("two"), m.read("d/three")], ["written"; 3]);
    m.file("one", "by ovlmerge");
    fs::remove_file(m.path("gone")).unwrap();
    drop(m);
    let m = layers.kernel();
    assert_eq!([m.read("one"), m.read("d/three")], ["by ovlmerge", "by ovlmerge"]);
    assert!(!m.exists("gone"));
    assert_eq!(m.mode_of("gone2"), 0o600);
    m.file("two", "by the kernel");
    fs::remove_file(m.path("gone2")).unwrap();
    drop(m);
    assert_eq!(layers.kernel().read("one"), "by the kernel");
}
