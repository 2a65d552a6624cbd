//! Whiteouts by attribute (Linux 6.7): in lower layers, where a device 0:0 could not be made.

use std::fs;
use std::path::Path;

use crate::layers::{Kernel, Layers, NO_INDEX, show};
use crate::needs;
use crate::support::tree::{Compare, Tree, assert_same_tree};
use crate::support::{Dir, Scratch};

const WHITEOUT: &str = "trusted.overlay.whiteout";
const OPAQUE: &str = "trusted.overlay.opaque";

fn below(dir: &Dir) {
    for path in ["a", "b", "d/a", "d/b", "d/c/x", "e/a", "e/b", "dir/x", "dir/sub/y"] {
        dir.file(path, path);
    }
}

/// A layer that says what it should: root and directory marked.
fn marked(dir: &Dir) {
    dir.xattr("", OPAQUE, "x");
    for path in ["d/a", "d/c", "d/nothing", "dir"] {
        dir.file(path, "").xattr(path, WHITEOUT, "y");
    }
    dir.xattr("d", OPAQUE, "x");
}

fn has(tree: &Tree, path: &str) -> bool {
    tree.contains_key(Path::new(path))
}

#[test]
fn in_the_middle_of_the_stack() {
    needs_both!();
    needs!(overlay_xattr_whiteouts);
    let mut layers = Layers::new(NO_INDEX, below);
    layers.plain(marked).plain(|dir| {
        dir.file("d/new", "").file("dir/new", "");
    });
    let tree = layers.assert_alike();
    assert!(has(&tree, "d/b") && has(&tree, "d/new") && has(&tree, "dir/new"));
    for path in ["d/a", "d/c", "d/nothing", "dir/x"] {
        assert!(!has(&tree, path), "{path}");
    }
}

#[test]
fn on_top_of_the_lowers() {
    needs_both!();
    needs!(overlay_xattr_whiteouts);
    let mut layers = Layers::new(NO_INDEX, below);
    layers.plain(marked).plain(|_| ());
    let tree = layers.assert_alike();
    assert!(has(&tree, "d/b") && !has(&tree, "d/a") && !has(&tree, "dir"));
}

/// Without the mark of the directory, or of the root, the kernel lists a name and denies that it is
/// there. Whichever way such a file is read, listing and lookup have to agree.
#[test]
fn listed_if_and_only_if_there() {
    needs_both!();
    for unmarked in ["", "d"] {
        let mut layers = Layers::new(NO_INDEX, below);
        layers.plain(marked);
        xattr::remove(layers.top().path(unmarked), OPAQUE).unwrap();
        layers.plain(|_| ());
        let m = layers.ours_lowers();
        let listed = show(&m);
        for path in ["d/a", "d/c", "d/nothing", "dir"] {
            assert_eq!(m.exists(path), has(&listed, path), "{path}");
        }
    }
}

/// A file with data, or of another kind, is none.
#[test]
fn only_empty_files() {
    needs_both!();
    needs!(overlay_xattr_whiteouts);
    let mut layers = Layers::new(NO_INDEX, below);
    layers.plain(|dir| {
        dir.xattr("", OPAQUE, "x");
        dir.file("d/a", "data").xattr("d/a", WHITEOUT, "y").dir("d/c").xattr("d/c", WHITEOUT, "y");
        dir.file("d/b", "").xattr("d/b", WHITEOUT, "").xattr("d", OPAQUE, "x");
    });
    let tree = show(&layers.ours_lowers());
    for (path, visible) in [("d/a", true), ("d/b", false), ("d/c", true), ("d/c/x", true)] {
        assert_eq!(has(&tree, path), visible, "{path}");
    }
    let kernel = layers.kernel_lowers();
    assert!(!kernel.exists("d/b") && kernel.exists("d/c/x"));
}

#[test]
fn a_name_comes_back_and_goes() {
    needs_both!();
    needs!(overlay_xattr_whiteouts);
    let mut layers = Layers::new(NO_INDEX, below);
    layers.plain(marked);
    layers.change_both(|m| {
        m.file("d/a", "again").file("d/c/again", "");
        m.dir("dir");
        fs::remove_file(m.path("d/b")).unwrap();
        fs::remove_dir_all(m.path("e")).unwrap();
    });
}

/// An upper that another tool has made: they are not there, and their names can be used.
#[test]
fn in_the_upper() {
    needs_both!();
    needs!(overlay_xattr_whiteouts);
    let mut layers = Layers::new(NO_INDEX, below);
    layers.plain(marked);
    let oracle = layers.kernel();
    assert!(!oracle.exists("d/a") && !oracle.exists("dir"));
    drop(oracle);
    let mut m = layers.ours();
    for _ in 0..2 {
        assert_eq!([m.names(""), m.names("d")], [vec!["a", "b", "d", "e"], vec!["b"]]);
        assert!(!m.exists("d/a") && !m.exists("dir"));
        m.file("d/a", "again").dir("dir");
        assert_eq!(m.read("d/a"), "again");
        assert!(m.names("dir").is_empty());
        m.remount();
        assert_eq!(m.read("d/a"), "again");
        assert!(m.names("dir").is_empty());
        fs::remove_file(m.path("d/a")).unwrap();
        fs::remove_dir(m.path("dir")).unwrap();
    }
}

/// Written where the upper lies on an overlay, in which no device 0:0 can be made; the kernel reads
/// such an upper as a lower.
#[test]
fn written_where_there_are_no_devices() {
    needs_both!();
    needs!(overlay_xattr_whiteouts);
    let s = Scratch::new();
    below(s.lower(0));
    let dir = |name: &str| s.base().sub(name).dir("").clone();
    let (outer_upper, outer_work) = (dir("outer-upper"), dir("outer-work"));
    let options = "redirect_dir=off,metacopy=off,index=off";
    let outer =
        Kernel::overlay(&[dir("empty")], Some((&outer_upper, &outer_work)), &dir("outer"), options);
    let (upper, work) = (outer.sub("upper"), outer.sub("work"));
    upper.dir("");
    work.dir("");
    let mut m = s.setup().upper(upper.root()).work(work.root()).mount();
    fs::remove_file(m.path("a")).unwrap();
    fs::remove_file(m.path("d/a")).unwrap();
    fs::remove_dir_all(m.path("dir")).unwrap();
    m.file("e/new", "");
    let left = show(&m);
    assert!(!has(&left, "a") && !has(&left, "d/a") && !has(&left, "dir"));
    m.remount();
    assert_same_tree(&left, &show(&m), Compare::STRICT);
    drop(m);
    assert!(upper.get_xattr("d/a", WHITEOUT).is_some());
    assert_eq!(upper.get_xattr("d", OPAQUE).as_deref(), Some(&b"x"[..]));
    let kernel = Kernel::overlay(&[upper, s.lower(0).clone()], None, &s.mnt, options);
    assert_same_tree(&left, &show(&kernel), Compare::STRICT);
}
