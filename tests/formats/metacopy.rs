//! Files whose data stayed below: `metacopy`, with and without `redirect`.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::layers::{ALL, Layers, NO_INDEX, blocks, rename};
use crate::support::Dir;
use crate::support::process::run;

const MARK: &str = "trusted.overlay.metacopy";

/// Larger than a block, and with a hole.
fn content(seed: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..40_000_u32).map(|i| (i % 251) as u8 ^ seed).collect();
    bytes[8192..24_576].fill(0);
    bytes
}

fn fill(dir: &Dir) {
    for (seed, name) in (1..).zip(["d/big", "d/moved", "d/chain", "d/linked", "d/other"]) {
        dir.file(name, content(seed)).times(name, 1_000_000, 7);
    }
    dir.file("d/tiny", "tiny").file("d/empty", "").file("d/plain", content(9));
}

/// One generation of changes to metadata alone.
fn chmod_all(m: &Dir) {
    for name in ["big", "moved", "chain", "linked", "other", "tiny", "empty"] {
        m.mode(format!("d/{name}"), 0o640).times(format!("d/{name}"), 2_000_000, 9);
    }
    m.xattr("d/big", "user.k", "v").owner("d/big", 5, 6);
    rename(m, "d/moved", "moved");
    m.dir("e").hard_link("e/linked", "d/linked");
    rename(m, "d/chain", "e/chain1");
}

fn metacopy_layers(options: &'static str) -> Layers {
    let mut layers = Layers::new(options, fill);
    layers.generation(chmod_all);
    for path in ["d/big", "moved", "e/chain1", "d/linked", "e/linked", "d/tiny"] {
        assert!(is_metacopy(layers.top(), path), "{path}");
    }
    layers
}

fn is_metacopy(upper: &Dir, path: &str) -> bool {
    upper.get_xattr(path, MARK).is_some()
}

#[test]
fn data_of_files_with_new_metadata() {
    needs_both!();
    metacopy_layers(ALL).assert_alike();
}

/// The space that stat(2) tells is that of the data, or tar(1) takes the file for a hole.
#[test]
fn blocks_are_those_of_the_data() {
    needs_both!();
    let layers = metacopy_layers(ALL);
    let paths = ["d/big", "moved", "e/chain1", "d/linked", "d/tiny"];
    let oracle = paths.map(|path| blocks(&layers.kernel(), path));
    assert!(oracle[0] > 0);
    assert_eq!(paths.map(|path| blocks(&layers.ours(), path)), oracle);
    assert_eq!(paths.map(|path| blocks(&layers.ours_lowers(), path)), oracle);
}

/// Renamed and changed again and again, so that the data is several layers further down.
#[test]
fn chains_over_four_layers() {
    needs_both!();
    let mut layers = metacopy_layers(NO_INDEX);
    layers.generation(|m| {
        rename(m, "e/chain1", "d/chain2");
        m.mode("d/big", 0o600).mode("moved", 0o600);
        rename(m, "e", "e2");
        m.owner("e2/linked", 1, 1);
    });
    layers.assert_alike();
    layers.generation(|m| {
        rename(m, "d/chain2", "chain");
        rename(m, "d", "d3");
        m.mode("d3/big", 0o611);
        rename(m, "moved", "d3/moved");
    });
    let tree = layers.assert_alike();
    assert!(tree.keys().any(|path| path.as_os_str() == "d3/moved"));
    assert!(is_metacopy(layers.top(), "d3/big"));
}

/// The data ends up where it belongs, the mark goes, and the kernel sees the same.
#[test]
fn writing_completes_the_data() {
    needs_both!();
    let mut layers = metacopy_layers(ALL);
    layers.change(|m| {
        for path in ["d/big", "moved", "e/chain1", "d/linked", "d/tiny"] {
            let file = File::options().write(true).open(m.path(path)).unwrap();
            file.write_all_at(b"WRITTEN", 3).unwrap();
        }
        let mut expected = content(1);
        expected[3..10].copy_from_slice(b"WRITTEN");
        assert!(fs::read(m.path("d/big")).unwrap() == expected);
        assert_eq!(m.read("d/tiny"), "tinWRITTEN");
        assert!(fs::read(m.path("d/other")).unwrap() == content(5));
    });
    for path in ["d/big", "moved", "e/chain1", "d/linked", "e/linked", "d/tiny"] {
        assert!(!is_metacopy(layers.top(), path), "{path}");
    }
    assert!(is_metacopy(layers.top(), "d/other"));
    assert_eq!(layers.layer(0).stat("d/big").size(), 40_000);
    layers.assert_alike_as_upper();
    layers.generation(chmod_what_is_left);
    layers.assert_alike();
}

fn chmod_what_is_left(m: &Dir) {
    for path in ["d/big", "moved", "e/chain1"] {
        m.mode(path, 0o604);
    }
}

/// Every way to change the data, on one file each.
#[test]
fn each_way_to_change_the_data() {
    needs_both!();
    let layers = metacopy_layers(ALL);
    let open = |m: &Dir, path: &str| File::options().read(true).write(true).open(m.path(path));
    layers.change(|m| {
        open(m, "d/big").unwrap().set_len(20_000).unwrap();
        File::options().append(true).open(m.path("moved")).unwrap().write_at(b"end", 0).unwrap();
        File::create(m.path("e/chain1")).unwrap();
        open(m, "d/linked").unwrap().set_len(90_000).unwrap();
        let map = open(m, "d/other").unwrap();
        let map = crate::support::raw::Mapping::new(map.as_fd(), 100, true).unwrap();
        map.write(50, b"mapped");
        map.sync().unwrap();
        drop(map);
        run("fallocate", &["-p", "-o", "0", "-l", "4096", m.path("d/tiny").to_str().unwrap()]);
        assert!(fs::read(m.path("d/big")).unwrap() == content(1)[..20_000]);
        assert!(fs::read(m.path("d/linked")).unwrap()[..40_000] == content(4)[..]);
        assert_eq!(m.read("d/tiny"), "\0\0\0\0");
        assert_eq!(fs::read(m.path("moved")).unwrap().len(), 40_003);
    });
    for path in ["d/big", "moved", "e/chain1", "d/linked", "d/other", "d/tiny"] {
        assert!(!is_metacopy(layers.top(), path), "{path}");
    }
}

#[test]
fn reading_completes_nothing() {
    needs_both!();
    let layers = metacopy_layers(ALL);
    layers.assert_alike();
    layers.ours().read("d/big");
    assert!(is_metacopy(layers.top(), "d/big"));
    // A block for its attributes at most.
    assert!(blocks(layers.top(), "d/other") <= 8);
}

#[test]
fn changes_of_metadata() {
    needs_both!();
    let mut layers = metacopy_layers(ALL);
    layers.change(|m| {
        m.mode("d/big", 0o4711).owner("moved", 9, 9).times("e/chain1", 5, 5);
        m.xattr("d/linked", "user.more", "x");
        xattr::remove(m.path("d/big"), "user.k").unwrap();
    });
    layers.assert_alike();
    layers.generation(|m| {
        m.mode("d/big", 0o700);
    });
    layers.assert_alike();
}

#[test]
fn names_come_and_go() {
    needs_both!();
    let mut layers = metacopy_layers(ALL);
    layers.change(|m| {
        fs::remove_file(m.path("d/big")).unwrap();
        rename(m, "moved", "e/moved-again");
        rename(m, "e/chain1", "d/chain");
        fs::remove_file(m.path("d/linked")).unwrap();
        m.hard_link("other-link", "d/other");
        rename(m, "d/tiny", "tiny");
        m.file("moved", "another");
        assert!(fs::read(m.path("e/moved-again")).unwrap() == content(2));
        assert!(fs::read(m.path("e/linked")).unwrap() == content(4));
        assert!(fs::read(m.path("other-link")).unwrap() == content(5));
    });
    layers.assert_alike_as_upper();
    layers.generation(|m| {
        m.mode("e/moved-again", 0o600);
        rename(m, "e", "e3");
    });
    layers.assert_alike();
}

#[test]
fn exchanged_with_another() {
    needs_both!();
    let layers = metacopy_layers(ALL);
    layers.change(|m| {
        const EXCHANGE: u32 = 2;
        let swap = |a, b| crate::support::raw::rename(&m.path(a), &m.path(b), EXCHANGE).unwrap();
        swap("d/big", "d/plain");
        swap("moved", "e/chain1");
        assert!(fs::read(m.path("d/plain")).unwrap() == content(1));
        assert!(fs::read(m.path("d/big")).unwrap() == content(9));
        assert!(fs::read(m.path("moved")).unwrap() == content(3));
    });
    layers.assert_alike();
}

/// A file that is open to be read while its data is put in place.
#[test]
fn open_while_it_is_completed() {
    needs_both!();
    let layers = metacopy_layers(ALL);
    layers.change(|m| {
        let reader = File::open(m.path("d/big")).unwrap();
        let mut byte = [0];
        reader.read_exact_at(&mut byte, 5).unwrap();
        let writer = File::options().write(true).open(m.path("d/big")).unwrap();
        writer.write_all_at(b"new", 4).unwrap();
        reader.read_exact_at(&mut byte, 5).unwrap();
        assert_eq!(byte, *b"e");
        fs::remove_file(m.path("d/big")).unwrap();
        reader.read_exact_at(&mut byte, 30_000).unwrap();
        assert_eq!(byte[0], content(1)[30_000]);
        // Removed while open, and with its data still elsewhere.
        let orphan = File::options().read(true).write(true).open(m.path("d/other")).unwrap();
        fs::remove_file(m.path("d/other")).unwrap();
        orphan.read_exact_at(&mut byte, 30_000).unwrap();
        assert_eq!(byte[0], content(5)[30_000]);
        orphan.write_all_at(b"x", 0).unwrap();
        orphan.read_exact_at(&mut byte, 30_000).unwrap();
        assert_eq!(byte[0], content(5)[30_000]);
    });
}

/// The same changes as the kernel's, above lowers that are metacopies themselves.
#[test]
fn changes_above_metacopies_in_lowers() {
    needs_both!();
    let mut layers = metacopy_layers(NO_INDEX);
    layers.change_both(|m| {
        m.mode("d/big", 0o700).owner("e/chain1", 1, 2);
        let file = File::options().write(true).open(m.path("moved")).unwrap();
        file.write_all_at(b"WRITTEN", 3).unwrap();
        File::options().write(true).open(m.path("d/other")).unwrap().set_len(100).unwrap();
        rename(m, "d/tiny", "e/tiny");
        fs::remove_file(m.path("d/linked")).unwrap();
        File::create(m.path("e/linked")).unwrap();
    });
}

/// Copied by tools that know attributes but not holes: the mark counts, not the zeros that stand
/// in the place of the data.
#[test]
fn zeros_in_the_place_of_the_data() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, fill);
    layers.plain(|dir| {
        for name in ["d/big", "d/tiny"] {
            let size = if name == "d/big" { 40_000 } else { 4 };
            dir.file(name, vec![0; size]).xattr(name, MARK, "");
        }
    });
    layers.assert_alike();
    layers.change(|m| {
        let file = File::options().write(true).open(m.path("d/big")).unwrap();
        file.write_all_at(b"x", 39_000).unwrap();
        assert!(fs::read(m.path("d/big")).unwrap()[..39_000] == content(1)[..39_000]);
    });
}
