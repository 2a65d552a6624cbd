//! Whether the oracle itself can be believed: it must find the kernel equal to itself, and must
//! find the defects of a program that has them.

use super::case::Links;
use super::pair::can_run;
use super::random;
use super::scripted::differing;
use super::session::{Engine, Place};

const KERNEL_TWICE: [Engine; 2] = [Engine::Kernel, Engine::Kernel];

fn kernel_equals_itself(test: &str, place: Place) {
    if !can_run(test, place, &[Engine::Kernel]) {
        return;
    }
    let differing = differing(place, KERNEL_TWICE);
    assert!(differing.is_empty(), "{differing:#?}");
    random::compare(test, place, KERNEL_TWICE, Links::None, 30);
    if place == Place::Root {
        random::compare(test, place, KERNEL_TWICE, Links::InLower, 30);
    }
}

#[test]
fn kernel_equals_itself_as_root() {
    kernel_equals_itself("calibration::kernel_equals_itself_as_root", Place::Root);
}

#[test]
fn kernel_equals_itself_in_a_user_namespace() {
    kernel_equals_itself("calibration::kernel_equals_itself_in_a_user_namespace", Place::Userns);
}

/// Scenarios in which a program that has been used for years goes wrong, in what its user sees:
/// lost times, names that come back, errors instead of results.
const KNOWN_DEFECTS: [&str; 8] = [
    "a removed directory comes back empty",
    "create with O_TRUNC of a lower file",
    "deep paths over three layers",
    "exchange with whiteout flags and unknown mixes",
    "rename over a lower file needs no new whiteout",
    "setgid directories give their group",
    "special files of a lower",
    "unlink of open files leaves them usable",
];

#[test]
fn defects_of_fuse_overlayfs_are_found() {
    let test = "calibration::defects_of_fuse_overlayfs_are_found";
    let engines = [Engine::Kernel, Engine::FuseOverlayfs];
    if !can_run(test, Place::Root, &engines) {
        return;
    }
    // That it writes other markers is no defect by itself.
    let differing = differing(Place::Root, engines);
    let seen = |(name, difference): &(&'static str, String)| {
        println!("{name}: {difference}");
        (!difference.starts_with("upper")).then_some(*name)
    };
    let seen: Vec<&str> = differing.iter().filter_map(seen).collect();
    for name in KNOWN_DEFECTS {
        assert!(seen.contains(&name), "not seen: {name}");
    }
}
