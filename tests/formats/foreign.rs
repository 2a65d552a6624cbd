//! Layers of programs that are not the kernel: fuse-overlayfs and AUFS.

use crate::support::tree::{Compare, assert_same_tree, differences, dump};
use crate::support::{Dir, FuseFs, Kernel, Mount, Scratch};
use crate::{needs, not_the_kernels};

const FOREIGN: &str = "it does not read these forms";

fn below(dir: &Dir) {
    for path in ["f", "g", "gone", "d/a", "d/b", "d/sub/x", "kept/k"] {
        dir.file(path, path);
    }
    dir.file("again/old", "").file("again/sub/old", "");
    dir.symlink("l", "f").file(".opq", "a name that a marker may be about");
    dir.file("again/.opq", "").file("d/.opq", "");
}

fn change(m: &Dir) {
    m.file("f", "written").mode("g", 0o600).file("d/new", "new").owner("d/b", 3, 4);
    std::fs::remove_file(m.path("gone")).unwrap();
    std::fs::remove_file(m.path("d/a")).unwrap();
    std::fs::remove_dir_all(m.path("again")).unwrap();
    m.file("again/new", "new");
    std::fs::remove_dir_all(m.path("d/sub")).unwrap();
    std::fs::rename(m.path("kept/k"), m.path("k")).unwrap();
    m.file("only/upper", "").hard_link("only/link", "only/upper");
}

/// Its upper is taken over, and serves as a lower too. What it leaves beside its marks (`.wh..opq`,
/// `.wh..wh..opq`) shows nowhere and hides nothing more. Times are left out: fuse-overlayfs
/// shows those of its cache.
#[test]
fn an_upper_of_fuse_overlayfs() {
    needs!(mount);
    not_the_kernels!(FOREIGN);
    if !crate::support::need::program(crate::test_name!(), "fuse-overlayfs") {
        return;
    }
    let s = Scratch::new();
    below(s.lower(0));
    let oracle = {
        let m = FuseFs::overlay(&s);
        change(&m);
        dump(m.root())
    };
    assert!(oracle.keys().any(|path| path.as_os_str() == "again/new"));
    let m = s.mount();
    assert_same_tree(&oracle, &dump(m.root()), Compare::TIMELESS);
    drop(m);
    let lowers = vec![s.upper.root().to_owned(), s.lower(0).root().to_owned()];
    let m = s.setup().lowers(lowers).read_only().mount();
    assert_same_tree(&oracle, &dump(m.root()), Compare::TIMELESS);
}

/// fuse-overlayfs began, ovlmerge changes something in each directory, and the kernel goes on:
/// marks and names of fuse-overlayfs that it could not read are gone by then.
#[test]
fn from_fuse_overlayfs_to_ovlmerge_to_the_kernel() {
    needs!(mount, kernel_overlay);
    not_the_kernels!(FOREIGN);
    if !crate::support::need::program(crate::test_name!(), "fuse-overlayfs") {
        return;
    }
    let s = Scratch::new();
    below(s.lower(0));
    change(&FuseFs::overlay(&s));
    let m = s.mount();
    for dir in ["", "again", "d", "kept", "only"] {
        m.file(format!("{dir}/by-ovlmerge").trim_start_matches('/'), "");
    }
    let left = dump(m.root());
    drop(m);
    let options = "redirect_dir=off,metacopy=off,index=off";
    let upper = Some((&s.upper, &s.work));
    let kernel = Kernel::overlay(s.lowers(), upper, &s.mnt, options);
    // It shows an attribute that it does not know.
    let mut found = differences(&left, &dump(kernel.root()), Compare::TIMELESS);
    found.retain(|difference| !difference.contains("user.fuseoverlayfs.origin="));
    assert_eq!(found, Vec::<String>::new());
    kernel.file("again/by-the-kernel", "");
    drop(kernel);
    assert_eq!(s.mount().names("again"), ["by-ovlmerge", "by-the-kernel", "new"]);
}

/// The other way: fuse-overlayfs shows, and changes, what ovlmerge left.
#[test]
fn from_ovlmerge_to_fuse_overlayfs() {
    needs!(mount);
    not_the_kernels!(FOREIGN);
    if !crate::support::need::program(crate::test_name!(), "fuse-overlayfs") {
        return;
    }
    let s = Scratch::new();
    below(s.lower(0));
    let m = s.mount();
    change(&m);
    let left = dump(m.root());
    drop(m);
    let theirs = FuseFs::overlay(&s);
    assert_same_tree(&left, &dump(theirs.root()), Compare::TIMELESS);
    theirs.file("again/by-them", "");
    std::fs::remove_file(theirs.path("d/b")).unwrap();
    drop(theirs);
    let m = s.mount();
    assert_eq!((m.names("again"), m.exists("d/b")), (vec!["by-them".into(), "new".into()], false));
}

/// The same with the markers written out, as release 1.10 leaves them on file systems of each kind.
#[test]
fn what_fuse_overlayfs_leaves_beside_its_marks() {
    needs!(mount);
    not_the_kernels!(FOREIGN);
    let s = Scratch::with_lowers(2);
    below(s.lower(1));
    s.lower(0).file("again/new", "").file("again/.wh..wh..opq", "").file("again/.wh..opq", "");
    s.lower(0).xattr("again", "user.fuseoverlayfs.opaque", "y");
    s.lower(0).file("d/new", "").file("d/.wh.a", "").whiteout("gone");
    s.upper.file("d/sub/new", "").file("d/sub/.wh..wh..opq", "");
    s.upper.xattr("d/sub", "trusted.overlay.opaque", "y");
    s.upper.xattr("d/sub", "user.fuseoverlayfs.opaque", "y");
    let m = s.mount();
    assert_eq!(m.names(""), [".opq", "again", "d", "f", "g", "kept", "l"]);
    assert_eq!(m.names("again"), ["new"]);
    assert_eq!(m.names("d"), [".opq", "b", "new", "sub"]);
    assert_eq!(m.names("d/sub"), ["new"]);
    assert!(m.xattr_names("again").is_empty() && m.xattr_names("d/sub").is_empty());
}

fn crfs() -> (Scratch, Mount) {
    let s = Scratch::with_lowers(2);
    s.lower(1).file("etc/localtime", "zone").file("etc/passwd", "root");
    s.lower(1).file("etc/network/interfaces", "lo").file("etc/network/if-up.d/x", "");
    s.lower(0).file("etc/.wh.localtime", "").file("etc/hostname", "h");
    s.lower(0).file("etc/network/.wh..wh..opq", "").file("etc/network/own", "");
    let m = s.mount();
    (s, m)
}

/// The layer that the documentation of CRFS shows, unpacked as it is.
#[test]
fn a_layer_in_the_form_of_aufs() {
    needs!(mount);
    not_the_kernels!(FOREIGN);
    let (_s, m) = crfs();
    assert_eq!(m.names("etc"), ["hostname", "network", "passwd"]);
    assert_eq!(m.names("etc/network"), ["own"]);
    for hidden in ["etc/localtime", "etc/.wh.localtime", "etc/network/.wh..wh..opq"] {
        assert!(!m.exists(hidden), "{hidden}");
    }
    assert!(!m.exists("etc/network/interfaces") && !m.exists("etc/network/if-up.d"));
}

/// The upper over such a layer has the kernel's form, and the names can come back.
#[test]
fn changes_above_a_layer_in_the_form_of_aufs() {
    needs!(mount);
    not_the_kernels!(FOREIGN);
    let (s, mut m) = crfs();
    m.file("etc/localtime", "new").file("etc/network/interfaces", "new");
    std::fs::remove_file(m.path("etc/passwd")).unwrap();
    m.remount();
    assert_eq!(m.names("etc"), ["hostname", "localtime", "network"]);
    assert_eq!(m.names("etc/network"), ["interfaces", "own"]);
    assert_eq!(m.read("etc/localtime"), "new");
    assert!(s.upper.is_whiteout("etc/passwd"));
    assert_eq!(s.upper.names("etc"), ["localtime", "network", "passwd"]);
    assert_eq!(s.upper.names("etc/network"), ["interfaces"]);
}

/// A redirect leads to a name that a layer between has taken away the AUFS way.
#[test]
fn a_redirect_ends_at_a_whiteout_of_aufs() {
    needs!(mount);
    not_the_kernels!(FOREIGN);
    let s = Scratch::with_lowers(3);
    s.lower(2).file("old/lowest", "").file("shut/lowest", "");
    s.lower(1).file(".wh.old", "").file("shut/.wh..wh..opq", "").file("shut/middle", "");
    s.lower(0).dir("new").xattr("new", "trusted.overlay.redirect", "old");
    s.lower(0).dir("open").xattr("open", "trusted.overlay.redirect", "/shut");
    let m = s.mount();
    assert!(m.names("new").is_empty());
    assert_eq!(m.names("open"), ["middle"]);
}

/// The kernel with `userxattr` neither writes nor follows these; other tools do.
#[test]
fn marks_in_the_user_namespace() {
    needs!(mount);
    not_the_kernels!(FOREIGN);
    let s = Scratch::with_lowers(2);
    s.lower(1).file("old/x", "x").file("data", "contents").file("gone", "").file("d/gone", "");
    s.lower(0).dir("new").xattr("new", "user.overlay.redirect", "old").whiteout("old");
    s.lower(0).file("copy", "").xattr("copy", "user.overlay.metacopy", "");
    let copy = std::fs::File::options().write(true).open(s.lower(0).path("copy")).unwrap();
    copy.set_len(8).unwrap();
    s.lower(0).xattr("copy", "user.overlay.redirect", "/data");
    s.lower(0).file("d/gone", "").xattr("d/gone", "user.overlay.whiteout", "y");
    s.lower(0).xattr("d", "user.overlay.opaque", "x").xattr("", "user.overlay.opaque", "x");
    let m = s.mount();
    assert_eq!(m.names(""), ["copy", "d", "data", "gone", "new"]);
    assert_eq!(m.names("new"), ["x"]);
    assert_eq!(m.read("copy"), "contents");
    assert!(m.names("d").is_empty() && !m.exists("d/gone"));
}

/// However often it was said that a directory is opaque, one mark says so once something in the
/// directory has changed; and what is below never shows.
#[test]
fn touching_a_directory_leaves_one_mark() {
    needs!(mount);
    not_the_kernels!(FOREIGN);
    let ours = "trusted.overlay.opaque";
    let theirs = [ours, "user.overlay.opaque", "user.fuseoverlayfs.opaque"];
    let s = Scratch::new();
    let uppers = ["all", "none", "attribute", "other", "namespace", "clear"];
    for path in uppers {
        s.lower(0).file(format!("{path}/old"), "");
        s.upper.file(format!("{path}/new"), "");
    }
    for path in ["all", "none"] {
        s.upper.whiteout(format!("{path}/.wh..opq")).file(format!("{path}/.wh..wh..opq"), "");
    }
    for name in theirs {
        s.upper.xattr("all", name, "y");
    }
    s.upper.xattr("attribute", theirs[2], "y").xattr("namespace", theirs[1], "y");
    s.upper.file("other/.wh..wh..opq", "").xattr("clear", ours, "x");
    let opaque = ["all", "none", "attribute", "other", "namespace"];
    let m = s.mount();
    for path in opaque {
        assert_eq!(m.names(path), ["new"], "{path}");
        m.file(format!("{path}/added"), "");
        assert_eq!(m.names(path), ["added", "new"], "{path}");
    }
    m.file("clear/added", "");
    drop(m);
    for path in opaque {
        assert_eq!(s.upper.names(path), ["added", "new"], "{path}");
        let marks = theirs.map(|name| s.upper.get_xattr(path, name));
        assert_eq!(marks, [Some(b"y".to_vec()), None, None], "{path}");
    }
    assert_eq!(s.upper.get_xattr("clear", ours), Some(b"x".to_vec()), "it is not opaque");
    let m = s.mount();
    assert_eq!(m.names("clear"), ["added", "new", "old"]);
    assert_eq!(m.names("all"), ["added", "new"]);
}

/// An object may have a whiteout beside it, which hides what is below it. When the object goes one
/// whiteout is left.
#[test]
fn an_object_with_a_whiteout_beside_it_leaves_one() {
    needs!(mount);
    not_the_kernels!(FOREIGN);
    let s = Scratch::new();
    s.lower(0).file("f", "old");
    s.upper.file("f", "new").file(".wh.f", "").file("alone", "").file(".wh.alone", "");
    let m = s.mount();
    assert_eq!(m.read("f"), "new");
    std::fs::remove_file(m.path("f")).unwrap();
    std::fs::remove_file(m.path("alone")).unwrap();
    assert!(m.names("").is_empty());
    drop(m);
    assert_eq!(s.upper.names(""), ["f"]);
    assert!(s.upper.is_whiteout("f"));
}
