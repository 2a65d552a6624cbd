//! Directories that were renamed: `redirect`, absolute, relative, and over several layers.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::layers::{ALL, Layers, NO_INDEX, rename};
use crate::support::Dir;

/// A tree with something of everything.
pub fn fill(dir: &Dir) {
    for top in ["a", "b", "c"] {
        for name in ["f", "g", "h", "sub/x", "sub/y", "deep/er/z"] {
            let path = format!("{top}/{name}");
            dir.file(&path, path.repeat(700)).times(&path, 1_000_000, 42);
        }
        dir.symlink(format!("{top}/link"), "f").mode(format!("{top}/sub"), 0o2751);
        dir.owner(format!("{top}/g"), 7, 8).xattr(format!("{top}/h"), "user.k", "v");
        dir.xattr(format!("{top}/deep"), "user.dir", "v");
        dir.node(format!("{top}/fifo"), nix::sys::stat::SFlag::S_IFIFO, 0, 0);
    }
    dir.file("empty", "").file("small", "s").hard_link("c/hard", "small");
}

fn value(dir: &Dir, path: &str) -> String {
    let value = dir.get_xattr(path, "trusted.overlay.redirect");
    String::from_utf8(value.unwrap_or_default()).unwrap()
}

#[test]
fn a_relative_redirect() {
    needs_both!();
    let mut layers = Layers::new(ALL, fill);
    layers.generation(|m| {
        rename(m, "a", "a1");
        rename(m, "b/sub", "b/sub1");
        m.file("a1/new", "new").file("b/sub1/x", "changed");
        fs::remove_file(m.path("a1/g")).unwrap();
    });
    assert_eq!([value(layers.top(), "a1"), value(layers.top(), "b/sub1")], ["a", "sub"]);
    let tree = layers.assert_alike();
    assert!(tree.contains_key(&PathBuf::from("a1/deep/er/z")));
}

#[test]
fn an_absolute_redirect() {
    needs_both!();
    let mut layers = Layers::new(ALL, fill);
    layers.generation(|m| {
        m.dir("new");
        rename(m, "a", "new/a");
        rename(m, "b/deep/er", "c/sub/er");
    });
    assert_eq!(value(layers.top(), "new/a"), "/a");
    assert_eq!(value(layers.top(), "c/sub/er"), "/b/deep/er");
    let tree = layers.assert_alike();
    assert!(tree.contains_key(&PathBuf::from("c/sub/er/z")));
}

/// `redirect_dir=nofollow`: what was renamed is refused (the kernel answers EPERM too), the rest
/// shows.
#[test]
fn redirects_are_not_followed_if_not_wanted() {
    needs_both!();
    let mut layers = Layers::new(ALL, fill);
    layers.generation(|m| {
        rename(m, "a", "a1");
        rename(m, "b/f", "b/f1");
    });
    let m = layers.ours_with("redirect_dir=nofollow");
    assert_eq!(m.names(""), ["a1", "b", "c", "empty", "small"]);
    let refused = fs::metadata(m.path("a1")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    let refused = fs::read(m.path("b/f1")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EIO), "its data is behind a redirect");
    assert_eq!(m.read("b/g"), "b/g".repeat(700));
}

/// An absolute redirect leads out of what an opaque directory above hides.
#[test]
fn a_redirect_in_an_opaque_directory() {
    needs_both!();
    let mut layers = Layers::new(ALL, fill);
    layers.generation(|m| {
        fs::remove_dir_all(m.path("c")).unwrap();
        m.dir("c");
        rename(m, "a", "c/a");
    });
    assert!(layers.top().get_xattr("c", "trusted.overlay.opaque").is_some());
    let tree = layers.assert_alike();
    assert!(tree.contains_key(&PathBuf::from("c/a/sub/x")));
    assert!(!tree.contains_key(&PathBuf::from("c/f")));
}

/// What the old name shows after a rename: nothing, a new directory, another renamed one.
#[test]
fn the_old_name_is_used_again() {
    needs_both!();
    let mut layers = Layers::new(ALL, fill);
    layers.generation(|m| {
        rename(m, "a", "t");
        rename(m, "b", "a");
        rename(m, "t", "b");
        rename(m, "c", "d");
        m.file("c/own", "");
    });
    layers.assert_alike();
    layers.generation(|m| {
        rename(m, "a", "t");
        rename(m, "d/deep", "d/deeper");
        rename(m, "d", "a");
        m.file("c/sub/own", "");
    });
    layers.assert_alike();
}

/// Renames of what was renamed, in every generation.
fn renamed_in_every_generation(options: &'static str) -> Layers {
    let mut layers = Layers::new(options, fill);
    layers.generation(|m| {
        rename(m, "a", "a1");
        rename(m, "b/sub", "b/sub1");
        m.dir("n");
        rename(m, "c", "n/c");
        m.file("a1/deep/er/z", "one").file("n/c/sub/new", "one");
    });
    layers.generation(|m| {
        rename(m, "a1", "n/a2");
        rename(m, "n", "m");
        rename(m, "m/c/sub", "m/c/sub2");
        m.file("m/a2/deep/er/two", "two").mode("m/a2/deep", 0o700);
        fs::remove_file(m.path("m/c/sub2/new")).unwrap();
    });
    layers.generation(|m| {
        rename(m, "m/a2/deep", "deep");
        rename(m, "m/a2", "a");
        fs::remove_dir_all(m.path("b/sub1")).unwrap();
        m.file("b/sub1/three", "three");
        m.file("deep/er/three", "three");
        rename(m, "m/c/sub2", "a/sub2");
    });
    layers
}

#[test]
fn chains_over_four_layers() {
    needs_both!();
    let layers = renamed_in_every_generation(NO_INDEX);
    let tree = layers.assert_alike();
    for path in ["a/sub2/x", "deep/er/two", "deep/er/three", "b/sub1/three", "m/c/deep/er/z"] {
        assert!(tree.contains_key(&PathBuf::from(path)), "{path}");
    }
}

/// With the upper of each generation in turn, while the layers above are not there yet.
#[test]
fn chains_generation_by_generation() {
    needs_both!();
    let mut layers = Layers::new(ALL, fill);
    layers.generation(|m| rename(m, "a", "a1"));
    for number in 1..4 {
        layers.assert_alike();
        layers.generation(|m| {
            rename(m, format!("a{number}"), format!("a{}", number + 1));
            rename(m, format!("a{}/sub", number + 1), format!("b/sub{number}"));
            m.file(format!("a{}/sub/new", number + 1), "");
        });
    }
    layers.assert_alike();
}

#[test]
fn changes_below_a_redirect() {
    needs_both!();
    let layers = renamed_in_every_generation(NO_INDEX);
    layers.change(|m| {
        m.file("a/sub2/x", "changed").mode("deep/er/two", 0o600).file("deep/er/new/f", "");
        fs::remove_dir_all(m.path("m/c/deep")).unwrap();
        fs::remove_file(m.path("a/f")).unwrap();
        rename(m, "a/g", "deep/g");
    });
    layers.assert_alike();
}

#[test]
fn changes_above_redirects_in_lowers() {
    needs_both!();
    let mut layers = renamed_in_every_generation(NO_INDEX);
    layers.change_both(|m| {
        m.file("a/sub2/x", "changed").mode("deep/er/two", 0o600).file("deep/er/new/f", "");
        fs::remove_dir_all(m.path("m/c/deep")).unwrap();
        m.dir("m/c/deep");
        fs::remove_file(m.path("a/f")).unwrap();
        rename(m, "a/g", "deep/g");
        m.owner("a/sub2", 3, 4);
    });
}

#[test]
fn a_renamed_directory_is_removed() {
    needs_both!();
    let mut layers = Layers::new(ALL, fill);
    layers.generation(|m| {
        rename(m, "a", "a1");
        rename(m, "b", "c/b");
    });
    layers.change(|m| {
        fs::remove_dir_all(m.path("a1")).unwrap();
        fs::remove_dir_all(m.path("c/b")).unwrap();
        m.file("a1/again", "");
        m.file("a/again", "");
    });
    layers.assert_alike_as_upper();
}

/// The longest names there are, of bytes that are not text.
#[test]
fn names_of_255_bytes() {
    needs_both!();
    let name = |seed: u32| {
        let bytes = (0..255_u32).map(|i| u8::try_from((i * 7 + seed) % 255 + 1).unwrap());
        let bytes: Vec<u8> = bytes.map(|byte| if byte == b'/' { b'\n' } else { byte }).collect();
        PathBuf::from(OsStr::from_bytes(&bytes))
    };
    let mut layers = Layers::new(ALL, |dir| {
        dir.file(name(0).join("f"), "f".repeat(5000)).file(name(0).join(name(5)), "long");
        dir.file(name(1), "").file(name(2), "x");
    });
    layers.generation(|m| {
        rename(m, name(0), name(10));
        rename(m, name(1), name(11));
        fs::remove_file(m.path(name(2))).unwrap();
        m.mode(name(10).join("f"), 0o600);
    });
    layers.assert_alike();
    layers.generation(|m| {
        rename(m, name(10), name(20));
        // With its data: a metacopy file could not say where that is, in 256 bytes.
        m.file(name(20).join(name(5)), "new");
        rename(m, name(20).join(name(5)), name(21));
    });
    layers.assert_alike();
    layers.change(|m| {
        fs::remove_file(m.path(name(11))).unwrap();
        fs::remove_dir_all(m.path(name(20))).unwrap();
        rename(m, name(21), name(0));
    });
}
