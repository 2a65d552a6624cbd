//! What layers say about names, in every spelling.

use ovlmerge::error::Errno;
use ovlmerge::vfs::{Body, NodeId, RenameMode};

use crate::client::assert_errno;
use crate::layers::Layers;
use crate::needs_root;

/// `lower1/d/below` under a `lower0/d` that `mark` marks.
fn opaque_by(mark: fn(&Layers, &str), dir: &str) -> Vec<String> {
    let layers = Layers::new(2);
    layers.file("lower1/d/below", "").file(&format!("{dir}/beside"), "");
    mark(&layers, dir);
    let client = layers.open();
    client.tree().unwrap();
    client.names(b"d")
}

#[test]
fn every_spelling_of_opaque_hides_what_is_below() {
    needs_root!();
    type Mark = fn(&Layers, &str);
    let marks: [(&str, Mark); 4] = [
        ("trusted", |l, d| drop(l.set(d, "trusted.overlay.opaque", "y").names(d))),
        ("user", |l, d| drop(l.set(d, "user.overlay.opaque", "y").names(d))),
        ("fuse-overlayfs", |l, d| drop(l.set(d, "user.fuseoverlayfs.opaque", "y").names(d))),
        ("aufs", |l, d| drop(l.file(&format!("{d}/.wh..wh..opq"), "").names(d))),
    ];
    for (name, mark) in marks {
        for dir in ["lower0/d", "upper/d"] {
            assert_eq!(opaque_by(mark, dir), ["beside"], "{name} in {dir}");
        }
    }
}

#[test]
fn what_only_looks_like_an_opaque_mark_hides_nothing() {
    needs_root!();
    for (name, value) in [
        ("trusted.overlay.opaque", "n"),
        ("trusted.overlay.opaque", ""),
        ("user.overlay.overlay.opaque", "y"),
        ("user.opaque", "y"),
    ] {
        let layers = Layers::new(2);
        layers.file("lower1/d/below", "").file("lower0/d/beside", "");
        layers.set("lower0/d", name, value);
        assert_eq!(
            layers.open().names(b"d"),
            ["below", "beside"].map(String::from),
            "{name}={value}"
        );
    }
}

#[test]
fn a_whiteout_by_name_hides_what_is_below_and_not_what_is_beside() {
    needs_root!();
    let layers = Layers::new(3);
    layers.file("lower2/d/f", "bottom").file("lower1/d/f", "middle").file("lower1/d/.wh.f", "");
    layers.file("lower2/e/below", "").file("lower1/e/beside", "").file("lower1/.wh.e", "");
    layers.file("lower2/gone", "").file("lower0/.wh.gone", "");
    let client = layers.open();
    assert_eq!(client.content(client.walk(b"d/f").unwrap()).unwrap(), b"middle");
    assert_eq!(client.names(b"e"), ["beside"]);
    assert_eq!(client.names(b""), ["d", "e"]);
    assert_errno(client.walk(b"gone"), Errno::ENOENT);
    assert_errno(client.walk(b".wh.gone"), Errno::ENOENT);
}

#[test]
fn a_file_between_two_directories_cuts_them_apart() {
    needs_root!();
    let layers = Layers::new(3);
    layers.file("lower2/x/bottom", "").file("lower1/x", "file").file("lower0/x/top", "");
    let client = layers.open();
    assert_eq!(client.names(b"x"), ["top"]);
    assert_eq!(client.tree().unwrap().len(), 3);
}

#[test]
fn an_upper_from_elsewhere_is_read_in_its_own_forms() {
    needs_root!();
    let layers = Layers::new(1);
    layers.file("lower0/a", "").file("lower0/b/c", "").file("lower0/opq/x", "");
    layers.file("upper/.wh.a", "").file("upper/.wh.b", "").file("upper/opq/.wh..wh..opq", "");
    // What old releases leave beside the real marker.
    layers.node("upper/opq/.wh..opq", nix::sys::stat::SFlag::S_IFCHR, 0);
    let client = layers.open();
    assert_eq!(client.names(b""), ["opq"]);
    assert_eq!(client.names(b"opq"), Vec::<String>::new());

    client.make(NodeId::ROOT, b"a", Body::File).unwrap();
    client.make(NodeId::ROOT, b"b", Body::Dir).unwrap();
    assert!(!layers.exists("upper/.wh.a"), "the whiteout of a name that is back");
    assert!(!layers.exists("upper/.wh.b"));
    assert_eq!(client.names(b"b"), Vec::<String>::new());
    client.vfs.rmdir(NodeId::ROOT, b"opq").unwrap();
    client.vfs.unlink(NodeId::ROOT, b"a").unwrap();
    assert!(layers.is_whiteout("upper/a"), "the canonical form");
    let seen = client.tree().unwrap();
    drop(client);
    assert_eq!(
        layers.open().tree().unwrap().keys().collect::<Vec<_>>(),
        seen.keys().collect::<Vec<_>>()
    );
}

#[test]
fn no_whiteout_where_nothing_is_below() {
    needs_root!();
    let layers = Layers::new(1);
    layers.file("lower0/d/f", "");
    let client = layers.open();
    let d = client.walk(b"d").unwrap();
    client.vfs.unlink(d, b"f").unwrap();
    client.vfs.rmdir(NodeId::ROOT, b"d").unwrap();
    assert!(layers.is_whiteout("upper/d"));
    let d = client.make(NodeId::ROOT, b"d", Body::Dir).unwrap().node;
    assert_eq!(layers.xattr("upper/d", "trusted.overlay.opaque").unwrap(), b"y");
    client.make(d, b"f", Body::File).unwrap();
    client.vfs.unlink(d, b"f").unwrap();
    assert_eq!(layers.names("upper/d"), Vec::<String>::new());
    client.make(NodeId::ROOT, b"new", Body::Dir).unwrap();
    assert_eq!(layers.xattr("upper/new", "trusted.overlay.opaque"), None);
    client.vfs.rmdir(NodeId::ROOT, b"new").unwrap();
    assert_eq!(layers.names("upper"), ["d"]);
}

#[test]
fn users_can_make_no_marker() {
    needs_root!();
    let layers = Layers::new(1);
    layers.file("lower0/f", "");
    let client = layers.open();
    for name in [&b".wh.f"[..], b".wh.", b".wh..wh..opq", b".wh..wh.plnk"] {
        assert_errno(client.make(NodeId::ROOT, name, Body::File), Errno::EINVAL);
        assert_errno(client.make(NodeId::ROOT, name, Body::Dir), Errno::EINVAL);
        let f = client.walk(b"f").unwrap();
        assert_errno(client.vfs.link(f, NodeId::ROOT, name), Errno::EINVAL);
        let renamed =
            client.vfs.rename(NodeId::ROOT, b"f", NodeId::ROOT, name, RenameMode::Replace);
        assert_errno(renamed, Errno::EINVAL);
    }
    // ovl_mknod in fs/overlayfs/dir.c.
    let whiteout = Body::Node { kind: libc::S_IFCHR, rdev: 0 };
    assert_errno(client.make(NodeId::ROOT, b"w", whiteout), Errno::EPERM);
    assert_eq!(layers.names("upper"), Vec::<String>::new());
}
