//! Nodes that outlive their names, and nodes that go.

use std::path::Path;

use ovlmerge::config::IndexChoice;
use ovlmerge::error::Errno;
use ovlmerge::id::Id;
use ovlmerge::sys::xattr::SetMode;
use ovlmerge::vfs::{Body, Change, NodeId, RenameMode};

use crate::client::{Client, assert_errno};
use crate::layers::Layers;
use crate::{MODE, needs_root};

const ROOT: NodeId = NodeId::ROOT;

#[test]
fn an_unlinked_file_stays_usable() {
    needs_root!();
    for (place, copied_up) in [("upper/f", false), ("lower0/f", false), ("lower0/f", true)] {
        let layers = Layers::new(1);
        layers.file(place, "content").set(place, "user.x", "1");
        let client = layers.open();
        let f = client.walk(b"f").unwrap();
        if copied_up {
            client.change(f, MODE).unwrap();
        }
        client.vfs.unlink(ROOT, b"f").unwrap();
        let what = format!("{place}, copied up: {copied_up}");
        assert_eq!(client.vfs.getattr(f).unwrap().nlink, 0, "{what}");
        assert_eq!(client.content(f).unwrap(), b"content", "{what}");
        assert_eq!(client.vfs.getxattr(f, b"user.x").unwrap(), b"1", "{what}");
        client.write(f, 7, b" and more").unwrap();
        assert_eq!(client.content(f).unwrap(), b"content and more", "{what}");
        client.change(f, Change { size: Some(3), ..Change::NONE }).unwrap();
        client.change(f, Change { mode: Some(0o400), uid: Id::new(5), ..Change::NONE }).unwrap();
        client.vfs.setxattr(f, b"user.y", b"2", SetMode::Create).unwrap();
        client.vfs.removexattr(f, b"user.x").unwrap();
        client.vfs.fsync(f, false).unwrap();
        let seen = client.see(f).unwrap();
        assert_eq!((seen.mode, seen.uid, seen.nlink), (0o400, 5, 0), "{what}");
        assert_eq!(seen.content, b"con", "{what}");
        assert_eq!(seen.xattrs.keys().collect::<Vec<_>>(), [b"user.y"], "{what}");
        assert_errno(client.vfs.link(f, ROOT, b"again"), Errno::ENOENT);
        assert_eq!(client.names(b""), Vec::<String>::new());
        if place.starts_with("lower") {
            assert_eq!(layers.read(place), "content", "the lower is as it was");
        }
    }
}

/// The kernel asks for an object by its number once it has let it go. A handle of what was removed
/// opened it for as long as the FORGET was on its way.
#[test]
fn what_was_removed_is_not_found_by_its_number() {
    needs_root!();
    let layers = Layers::new(1);
    layers.file("lower0/f", "").file("upper/g", "").dir("lower0/d").dir("upper/e");
    let mut config = layers.config();
    config.nfs_export = true;
    let client = crate::client::Client::with(&config).unwrap();
    for (name, is_dir) in [("f", false), ("g", false), ("d", true), ("e", true)] {
        let node = client.walk(name.as_bytes()).unwrap();
        assert_eq!(client.vfs.lookup(node, b".").unwrap().node, node);
        match is_dir {
            true => client.vfs.rmdir(ROOT, name.as_bytes()).unwrap(),
            false => client.vfs.unlink(ROOT, name.as_bytes()).unwrap(),
        }
        assert_errno(client.vfs.lookup(node, b"."), Errno::ESTALE);
        client.vfs.getattr(node).unwrap();
    }
    assert_eq!(client.vfs.lookup(ROOT, b".").unwrap().node, ROOT);
}

/// How many descriptors of this process lead to what is below a path.
fn descriptors(below: &Path) -> usize {
    let all = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    all.filter(|fd| std::fs::read_link(fd).is_ok_and(|path| path.starts_with(below))).count()
}

/// A lower goes on to have what is removed from the mount, so nothing has to be kept open.
#[test]
fn an_unlinked_file_of_a_lower_needs_no_descriptor() {
    needs_root!();
    let layers = Layers::new(2);
    for nth in 0..20 {
        layers.file(&format!("lower0/d/{nth}"), "content");
    }
    layers.dir("lower1/d").symlink("lower0/d/link", "target");
    let client = layers.open();
    let file = |nth: i32| client.walk(format!("d/{nth}").as_bytes()).unwrap();
    let (dir, link) = (client.walk(b"d").unwrap(), client.walk(b"d/link").unwrap());
    let files: Vec<_> = (0..20).map(file).collect();
    client.vfs.unlink(dir, b"link").unwrap();
    let before = descriptors(&layers.path(""));
    for nth in 0..20 {
        client.vfs.unlink(dir, nth.to_string().as_bytes()).unwrap();
    }
    assert_eq!(descriptors(&layers.path("")), before);
    assert_eq!(client.vfs.readlink(link).unwrap(), b"target");
    assert_eq!(client.content(files[7]).unwrap(), b"content");
    client.write(files[8], 0, b"C").unwrap();
    assert_eq!(client.content(files[8]).unwrap(), b"Content");
    assert_eq!(client.vfs.getattr(files[9]).unwrap().nlink, 0);
    assert_errno(client.change(link, MODE), Errno::EOPNOTSUPP);
    assert_eq!(layers.read("lower0/d/8"), "content");
}

/// An unlinked file whose data is in another gets it with the first write.
#[test]
fn an_unlinked_file_without_data_stays_usable() {
    needs_root!();
    let layers = Layers::new(2);
    layers.file("lower0/f", "\0\0\0\0\0\0\0").file("lower1/f", "content");
    layers.set("lower0/f", "trusted.overlay.metacopy", "").set("lower0/f", "user.x", "1");
    let client = layers.open();
    let f = client.walk(b"f").unwrap();
    client.vfs.unlink(ROOT, b"f").unwrap();
    assert_eq!(client.content(f).unwrap(), b"content");
    client.write(f, 7, b" and more").unwrap();
    assert_eq!(client.content(f).unwrap(), b"content and more");
    assert_eq!(client.vfs.getxattr(f, b"user.x").unwrap(), b"1");
}

/// Names, numbers and what merges are those of the directory that has the name now, whatever was
/// known of another that had it.
#[test]
fn a_directory_that_is_made_again_is_another() {
    needs_root!();
    let layers = Layers::new(2);
    layers.file("lower0/d/x/f", "0").file("lower1/d/x/g", "1").dir("lower0/e").dir("lower1/e");
    let client = layers.open();
    let (d, old) = (client.walk(b"d").unwrap(), client.walk(b"d/x").unwrap());
    client.make(old, b"own", Body::File).unwrap();
    assert_eq!(client.walk(b"d/x").unwrap(), old, "it was copied up");
    for name in [b"f".as_slice(), b"g", b"own"] {
        client.vfs.unlink(old, name).unwrap();
    }
    client.vfs.rmdir(d, b"x").unwrap();
    assert_errno(client.walk(b"d/x"), Errno::ENOENT);
    let new = client.make(d, b"x", Body::Dir).unwrap().node;
    assert_ne!(new, old);
    assert_eq!(client.walk(b"d/x").unwrap(), new);
    assert_eq!(client.names(b"d/x"), Vec::<String>::new());
    client.make(new, b"other", Body::File).unwrap();
    client.vfs.rename(d, b"x", ROOT, b"e", RenameMode::Replace).unwrap();
    assert_eq!(client.walk(b"e").unwrap(), new);
    assert_eq!(client.names(b"e"), ["other"]);
    assert_errno(client.vfs.rmdir(ROOT, b"e"), Errno::ENOTEMPTY);
    assert_eq!(client.list(old).unwrap(), []);
}

#[test]
fn a_file_that_was_replaced_stays_usable() {
    needs_root!();
    let layers = Layers::new(1);
    layers.file("lower0/old", "old").file("lower0/new", "new");
    let client = layers.open();
    let (old, new) = (client.walk(b"old").unwrap(), client.walk(b"new").unwrap());
    client.vfs.rename(ROOT, b"new", ROOT, b"old", RenameMode::Replace).unwrap();
    client.write(old, 3, b"!").unwrap();
    assert_eq!(client.content(old).unwrap(), b"old!");
    assert_eq!(client.content(new).unwrap(), b"new");
    assert_eq!(client.walk(b"old").unwrap(), new);
}

#[test]
fn the_name_that_is_left_keeps_the_file() {
    needs_root!();
    let choices = [IndexChoice::Off, IndexChoice::Auto, IndexChoice::On];
    for (index, touch) in choices.into_iter().flat_map(|index| [(index, false), (index, true)]) {
        let layers = Layers::new(1);
        layers.file("lower0/a", "one").link("lower0/a", "lower0/b");
        let mut config = layers.config();
        config.index = index;
        let client = Client::with(&config).unwrap();
        let a = client.walk(b"a").unwrap();
        let apart = index == IndexChoice::Off;
        assert_eq!(client.walk(b"b").unwrap() != a, apart);
        if touch {
            client.write(a, 0, b"O").unwrap();
        }
        client.vfs.unlink(ROOT, b"a").unwrap();
        client.write(a, 3, b"!").unwrap();
        let written: &[u8] = if touch { b"One!" } else { b"one!" };
        assert_eq!(client.content(a).unwrap(), written);
        let wanted: &[u8] = if apart { b"one" } else { written };
        assert_eq!(client.content(client.walk(b"b").unwrap()).unwrap(), wanted);
        drop(client);
        let client = Client::with(&config).unwrap();
        assert_eq!(client.content(client.walk(b"b").unwrap()).unwrap(), wanted);
        assert_errno(client.walk(b"a"), Errno::ENOENT);
    }
}

#[test]
fn a_removed_directory_is_empty_and_takes_nothing() {
    needs_root!();
    let layers = Layers::new(1);
    layers.dir("lower0/d").dir("upper/e").file("upper/f", "");
    let client = layers.open();
    for name in [b"d", b"e"] {
        let dir = client.walk(name).unwrap();
        client.vfs.rmdir(ROOT, name).unwrap();
        assert_eq!(client.list(dir).unwrap(), []);
        assert_errno(client.make(dir, b"x", Body::File), Errno::ENOENT);
        assert_errno(client.lookup(dir, b"x"), Errno::ENOENT);
        let f = client.walk(b"f").unwrap();
        assert_errno(client.vfs.link(f, dir, b"x"), Errno::ENOENT);
        assert_errno(client.vfs.rename(ROOT, b"f", dir, b"x", RenameMode::Replace), Errno::ENOENT);
        assert_eq!(client.vfs.getattr(dir).unwrap().nlink, 0);
    }
    assert_eq!(client.names(b""), ["f"]);
}

#[test]
fn what_is_forgotten_goes() {
    needs_root!();
    let layers = Layers::new(1);
    for dir in 0..20 {
        for file in 0..20 {
            layers.file(&format!("lower0/{dir}/sub/{file}"), "");
        }
    }
    let client = layers.open();
    for _ in 0..3 {
        client.tree().unwrap();
        assert_eq!(client.vfs.node_count(), 1 + 20 + 20 + 400);
        client.forget_all();
        assert_eq!(client.vfs.node_count(), 1);
    }
    let entry = client.vfs.lookup(ROOT, b"0").unwrap();
    client.vfs.lookup(ROOT, b"0").unwrap();
    client.vfs.forget(entry.node, 1);
    client.vfs.getattr(entry.node).unwrap();
    client.vfs.forget(entry.node, 1);
    assert_errno(client.vfs.getattr(entry.node), Errno::ESTALE);
}

/// A kernel forgets in any order, parents before their children too.
#[test]
fn the_order_of_forgetting_does_not_matter_for_long() {
    needs_root!();
    let layers = Layers::new(1);
    for dir in 0..200 {
        layers.file(&format!("lower0/{dir}/file"), "");
    }
    let client = layers.open();
    let mut nodes = Vec::new();
    for dir in 0..200 {
        let parent = client.vfs.lookup(ROOT, dir.to_string().as_bytes()).unwrap().node;
        nodes.push(parent);
        nodes.push(client.vfs.lookup(parent, b"file").unwrap().node);
    }
    for node in nodes {
        client.vfs.forget(node, 1);
    }
    let left = client.vfs.node_count();
    assert!(left <= 65, "{left} of 401 nodes are left");
}
