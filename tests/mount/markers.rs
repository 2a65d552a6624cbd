//! Every form in which a layer can say that something is gone.

use std::fs;

use crate::support::{Mount, Scratch};
use crate::{needs, not_the_kernels};

const FOREIGN: &str = "it knows neither AUFS markers nor other namespaces";

#[test]
fn a_character_device_0_0_hides_a_name() {
    needs!(mount);
    let s = Scratch::with_lowers(3);
    s.lower(2).file("a", "").file("dir/x", "").file("kept", "").file("back", "old");
    s.lower(1).whiteout("a").whiteout("dir").whiteout("back");
    s.lower(0).file("back", "new");
    let m = s.mount();
    assert_eq!(m.names(""), ["back", "kept"]);
    assert!(!m.exists("a") && !m.exists("dir"));
    assert_eq!(m.read("back"), "new");
}

#[test]
fn a_whiteout_in_the_upper_hides_a_name() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("a", "").file("d/b", "").file("d/c", "");
    s.upper.whiteout("a").whiteout("d/b");
    let m = s.mount();
    assert_eq!(m.names(""), ["d"]);
    assert_eq!(m.names("d"), ["c"]);
    assert!(!m.exists("a") && !m.exists("d/b"));
}

#[test]
fn another_character_device_hides_nothing_of_others() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).node("null", nix::sys::stat::SFlag::S_IFCHR, 1, 3);
    let m = s.mount();
    assert_eq!(m.names(""), ["null"]);
}

#[test]
fn an_aufs_whiteout_hides_a_name_and_itself() {
    needs!(mount);
    not_the_kernels!(FOREIGN);
    let s = Scratch::with_lowers(2);
    s.lower(1).file("a", "").file("dir/x", "").file("dir/y", "").file("kept", "");
    s.lower(0).file(".wh.a", "").file("dir/.wh.x", "").file(".wh.never", "");
    let m = s.mount();
    assert_eq!(m.names(""), ["dir", "kept"]);
    assert_eq!(m.names("dir"), ["y"]);
    for hidden in ["a", "dir/x", ".wh.a", "dir/.wh.x", "never"] {
        assert!(!m.exists(hidden), "{hidden}");
    }
}

/// As AUFS and the image specification have it, the marker is about the layers below its own.
#[test]
fn an_aufs_whiteout_spares_its_own_layer() {
    needs!(mount);
    not_the_kernels!(FOREIGN);
    let s = Scratch::with_lowers(2);
    s.lower(1).file("a", "below").file("d/below", "");
    s.lower(0).file("a", "beside").file(".wh.a", "").file("d/beside", "").file(".wh.d", "");
    let m = s.mount();
    assert_eq!(m.read("a"), "beside");
    assert_eq!(m.names("d"), ["beside"]);
}

fn two_layers_of_d(mark: impl FnOnce(&Scratch)) -> (Scratch, Mount) {
    let s = Scratch::with_lowers(3);
    s.lower(2).file("d/below", "").file("d/sub/below", "");
    s.lower(1).file("d/own", "").file("d/sub/own", "");
    s.lower(0).file("d/above", "");
    mark(&s);
    let m = s.mount();
    (s, m)
}

#[track_caller]
fn assert_opaque(m: &Mount) {
    assert_eq!(m.names("d"), ["above", "own", "sub"]);
    assert_eq!(m.names("d/sub"), ["own"]);
    assert!(!m.exists("d/below") && !m.exists("d/sub/below"));
    assert!(m.xattr_names("d").is_empty());
}

#[test]
fn opaque_in_the_trusted_namespace() {
    needs!(mount);
    let (_s, m) = two_layers_of_d(|s| {
        s.lower(1).xattr("d", "trusted.overlay.opaque", "y");
    });
    assert_opaque(&m);
}

#[test]
fn opaque_in_the_user_namespace() {
    needs!(mount);
    not_the_kernels!(FOREIGN);
    let (_s, m) = two_layers_of_d(|s| {
        s.lower(1).xattr("d", "user.overlay.opaque", "y");
    });
    assert_opaque(&m);
}

#[test]
fn opaque_as_fuse_overlayfs_writes_it() {
    needs!(mount);
    not_the_kernels!(FOREIGN);
    let (_s, m) = two_layers_of_d(|s| {
        s.lower(1).xattr("d", "user.fuseoverlayfs.opaque", "y");
    });
    assert_opaque(&m);
}

/// fuse-overlayfs issue 425: the content of subdirectories came through.
#[test]
fn opaque_by_an_aufs_file() {
    needs!(mount);
    not_the_kernels!(FOREIGN);
    let (_s, m) = two_layers_of_d(|s| {
        s.lower(1).file("d/.wh..wh..opq", "");
    });
    assert_opaque(&m);
    assert!(!m.exists("d/.wh..wh..opq"));
}

#[test]
fn an_opaque_value_other_than_y_is_none() {
    needs!(mount);
    for value in ["n", "", "yes", "Y"] {
        let (_s, m) = two_layers_of_d(|s| {
            s.lower(1).xattr("d", "trusted.overlay.opaque", value);
        });
        assert_eq!(m.names("d"), ["above", "below", "own", "sub"], "{value}");
    }
}

/// AUFS's own files are no whiteouts and no files of the image.
#[test]
fn aufs_housekeeping_is_not_shown() {
    needs!(mount);
    not_the_kernels!(FOREIGN);
    let s = Scratch::new();
    s.lower(0).dir(".wh..wh.plnk").dir(".wh..wh.orph").file(".wh..wh.aufs", "").file("a", "");
    let m = s.mount();
    assert_eq!(m.names(""), ["a"]);
}

#[test]
fn an_opaque_upper_is_respected() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("d/below", "").file("e/below", "");
    s.upper.opaque_dir("d").file("d/own", "");
    let m = s.mount();
    assert_eq!(m.names("d"), ["own"]);
    assert_eq!(m.names("e"), ["below"]);
}

#[test]
fn a_name_can_come_back_over_each_form() {
    needs!(mount);
    not_the_kernels!(FOREIGN);
    let s = Scratch::with_lowers(2);
    s.lower(1).file("a/old", "").file("b/old", "").file("c/old", "");
    s.lower(0).whiteout("a").file(".wh.b", "");
    s.upper.whiteout("c");
    let mut m = s.mount();
    for name in ["a", "b", "c"] {
        fs::create_dir(m.path(name)).unwrap();
        m.file(format!("{name}/new"), "");
    }
    m.remount();
    for name in ["a", "b", "c"] {
        assert_eq!(m.names(name), ["new"], "{name}");
    }
}

/// A program may make a file whose name begins as AUFS's whiteouts do. It may be refused, but what
/// it is called after must not vanish.
#[test]
fn making_a_name_that_looks_like_a_whiteout_hides_nothing() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("a", "lower");
    let mut m = s.mount();
    m.file("b", "upper");
    for name in [".wh.a", ".wh.b", ".wh..wh..opq"] {
        let made = fs::write(m.path(name), "x").is_ok();
        assert_eq!(m.exists(name), made, "{name}");
    }
    let before = m.names("");
    m.remount();
    assert_eq!(m.names(""), before);
    assert_eq!(m.read("a"), "lower");
    assert_eq!(m.read("b"), "upper");
}
