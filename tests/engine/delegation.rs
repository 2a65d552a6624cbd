//! Directories marked `dirmeta_delegate`: names from all layers, metadata from the first that is
//! not marked.

use ovlmerge::id::Id;
use ovlmerge::vfs::{Body, Change, NodeId};

use crate::MODE;
use crate::client::{Client, Seen};
use crate::layers::Layers;
use crate::needs_root;

const TRUSTED: &str = "trusted.overlay.dirmeta_delegate";
const USER: &str = "user.overlay.dirmeta_delegate";

/// `lower1/d` is the real one, `lower0/d` was made by an unpacker.
fn implied() -> Layers {
    let layers = Layers::new(2);
    layers.file("lower1/d/base", "").mode("lower1/d", 0o1777).owner("lower1/d", 7, 8);
    layers.set("lower1/d", "user.real", "1").time("lower1/d", 1000);
    layers.file("lower0/d/added", "").mode("lower0/d", 0o755);
    layers.set("lower0/d", "user.implied", "1").time("lower0/d", 2000);
    layers
}

fn see(client: &Client, path: &[u8]) -> Seen {
    client.see(client.walk(path).unwrap()).unwrap()
}

fn names(seen: &Seen) -> Vec<&[u8]> {
    seen.xattrs.keys().map(Vec::as_slice).collect()
}

#[test]
fn the_first_directory_that_is_not_marked_lends() {
    needs_root!();
    for mark in [TRUSTED, USER] {
        let layers = implied();
        layers.set("lower0/d", mark, "y");
        let client = layers.open();
        let seen = see(&client, b"d");
        assert_eq!(
            (seen.mode, seen.uid, seen.gid, seen.mtime),
            (0o1777, 7, 8, (1000, 5)),
            "{mark}"
        );
        assert_eq!(names(&seen), [b"user.real"], "{mark}");
        assert_eq!(client.names(b"d"), ["added", "base"]);
        client.tree().unwrap();
    }
}

#[test]
fn another_value_is_no_mark() {
    needs_root!();
    let layers = implied();
    layers.set("lower0/d", TRUSTED, "n");
    assert_eq!(see(&layers.open(), b"d").mode, 0o755);
}

#[test]
fn where_all_are_marked_the_topmost_lends() {
    needs_root!();
    let layers = implied();
    layers.set("lower0/d", TRUSTED, "y").set("lower1/d", USER, "y");
    let seen = see(&layers.open(), b"d");
    assert_eq!((seen.mode, seen.mtime), (0o755, (2000, 5)));
    assert_eq!(names(&seen), [b"user.implied"]);
}

#[test]
fn an_opaque_directory_ends_the_walk() {
    needs_root!();
    let layers = implied();
    layers.set("lower0/d", TRUSTED, "y").set("lower0/d", "trusted.overlay.opaque", "y");
    let client = layers.open();
    assert_eq!(see(&client, b"d").mode, 0o755);
    assert_eq!(client.names(b"d"), ["added"]);
}

#[test]
fn the_option_turns_it_off() {
    needs_root!();
    let layers = implied();
    layers.set("lower0/d", TRUSTED, "y");
    let mut config = layers.config();
    config.dirmeta_delegate = false;
    assert_eq!(see(&Client::with(&config).unwrap(), b"d").mode, 0o755);
}

#[test]
fn a_copy_up_has_the_effective_metadata_and_no_mark() {
    needs_root!();
    let layers = implied();
    layers.set("lower0/d", TRUSTED, "y");
    let client = layers.open();
    let before = see(&client, b"d");
    client.change(client.walk(b"d/base").unwrap(), MODE).unwrap();
    assert_eq!(see(&client, b"d"), before, "a copy-up shows nowhere");
    assert_eq!(layers.xattr("upper/d", TRUSTED), None);
    assert_eq!(layers.xattr("upper/d", "user.real").unwrap(), b"1");
    assert_eq!(layers.xattr("upper/d", "user.implied"), None);
    drop(client);
    assert_eq!(see(&layers.open(), b"d"), before);
}

#[test]
fn a_change_of_a_marked_upper_takes_all_over_and_drops_the_mark() {
    needs_root!();
    for mark in [TRUSTED, USER] {
        let layers = implied();
        layers.file("upper/d/own", "").mode("upper/d", 0o700).set("upper/d", mark, "y");
        layers.set("upper/d", "user.stale", "1").set("lower0/d", USER, "y");
        let client = layers.open();
        let before = see(&client, b"d");
        assert_eq!(names(&before), [b"user.real"]);
        let change = Change { uid: Id::new(99), ..Change::NONE };
        client.change(client.walk(b"d").unwrap(), change).unwrap();
        let wanted = Seen { uid: 99, ..before };
        assert_eq!(see(&client, b"d"), wanted, "{mark}");
        assert_eq!(layers.xattr("upper/d", mark), None);
        drop(client);
        assert_eq!(see(&layers.open(), b"d"), wanted, "{mark}: after a remount");
    }
}

#[test]
fn what_is_made_in_a_marked_upper_inherits_from_what_is_shown() {
    needs_root!();
    let layers = implied();
    layers.mode("lower1/d", 0o2775).set("lower0/d", TRUSTED, "y");
    layers.dir("upper/d").mode("upper/d", 0o755).set("upper/d", TRUSTED, "y");
    let client = layers.open();
    let d = client.walk(b"d").unwrap();
    client.make(d, b"file", Body::File).unwrap();
    client.make(d, b"dir", Body::Dir).unwrap();
    assert_eq!(see(&client, b"d/file").gid, 8);
    assert_eq!((see(&client, b"d/dir").gid, see(&client, b"d/dir").mode), (8, 0o2755));
    assert!(see(&client, b"d").mtime.0 > 1_000_000, "it was changed");
}

#[test]
fn the_root_delegates_too() {
    needs_root!();
    let layers = Layers::new(2);
    layers.mode("lower1", 0o751).set("lower0", TRUSTED, "y").set("upper", USER, "y");
    let client = layers.open();
    assert_eq!(client.vfs.getattr(NodeId::ROOT).unwrap().permissions(), 0o751);
    client.change(NodeId::ROOT, Change { gid: Id::new(5), ..Change::NONE }).unwrap();
    let stat = client.vfs.getattr(NodeId::ROOT).unwrap();
    assert_eq!((stat.permissions(), stat.gid), (0o751, 5));
}
