//! Whiteouts by attribute (Linux 6.7): in lower layers, where a device 0:0 could not be made.

use std::fs;

use crate::layers::{Layers, NO_INDEX};
use crate::support::Dir;

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
    for path in ["d/a", "d/c", "d/nothing", "dir", "e/b"] {
        dir.file(path, "");
        dir.xattr(path, WHITEOUT, "y");
    }
    dir.xattr("d", OPAQUE, "x");
}

#[test]
fn in_the_middle_of_the_stack() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, below);
    layers.plain(marked).plain(|dir| {
        dir.file("d/new", "").file("dir/new", "");
    });
    let tree = layers.assert_alike();
    let has = |path: &str| tree.keys().any(|key| key.as_os_str() == path);
    assert!(has("d/b") && has("d/new") && !has("d/a") && !has("d/c") && !has("d/nothing"));
    // `e` is not marked, so the file is a file.
    assert!(has("e/b") && tree[&std::path::PathBuf::from("e/b")].size == 0);
    assert!(has("dir/new") && !has("dir/x"));
}

#[test]
fn on_top_of_the_lowers() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, below);
    layers.plain(marked).plain(|_| ());
    layers.assert_alike_as_upper();
}

/// The layer's root has to say that there are some.
#[test]
fn not_without_the_mark_of_the_root() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, below);
    layers.plain(marked);
    xattr::remove(layers.top().path(""), OPAQUE).unwrap();
    layers.plain(|_| ());
    let tree = layers.assert_alike();
    assert_eq!(tree[&std::path::PathBuf::from("d/a")].size, 0);
}

/// A file with data, or of another kind, is none.
#[test]
fn only_empty_files() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, below);
    layers.plain(|dir| {
        dir.xattr("", OPAQUE, "x");
        dir.file("d/a", "data").xattr("d/a", WHITEOUT, "y").dir("d/c").xattr("d/c", WHITEOUT, "y");
        dir.file("d/b", "").xattr("d/b", WHITEOUT, "").xattr("d", OPAQUE, "x");
    });
    layers.plain(|_| ());
    let kernel = crate::layers::show(&layers.kernel_lowers());
    let ours = crate::layers::show(&layers.ours_lowers());
    // The kernel looks at the size only when it lists; a lookup takes any file with the mark.
    for (path, visible) in [("d/a", true), ("d/b", false), ("d/c", true), ("d/c/x", true)] {
        assert_eq!(ours.contains_key(std::path::Path::new(path)), visible, "{path}");
    }
    assert!(kernel.contains_key(std::path::Path::new("d/c/x")));
}

#[test]
fn a_name_comes_back_and_goes() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, below);
    layers.plain(marked);
    layers.change_both(|m| {
        m.file("d/a", "again").file("d/c/again", "");
        m.dir("dir");
        fs::remove_file(m.path("d/b")).unwrap();
        fs::remove_dir_all(m.path("e")).unwrap();
    });
}

/// The kernel does not read them in the upper, where a user's file may look like one.
#[test]
fn none_in_the_upper() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, below);
    layers.plain(marked);
    layers.assert_alike_as_upper();
}
