//! Getting things into the upper.

use nix::sys::stat::{SFlag, makedev};
use ovlmerge::error::Errno;
use ovlmerge::sys::at::SetTime;
use ovlmerge::sys::xattr::SetMode;
use ovlmerge::vfs::{Body, Change, NodeId};

use crate::client::{Seen, assert_errno};
use crate::layers::Layers;
use crate::{MODE, needs_root};

/// user::rw-, user:1000:r--, group::r--, mask::r--, other::---
fn acl() -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, perm, id) in
        [(1, 6, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        bytes.extend_from_slice(&u16::to_le_bytes(tag));
        bytes.extend_from_slice(&u16::to_le_bytes(perm));
        bytes.extend_from_slice(&u32::to_le_bytes(id));
    }
    bytes
}

#[test]
fn everything_of_every_type_comes_along() {
    needs_root!();
    let layers = Layers::new(1);
    layers.file("lower0/d/file", "content").mode("lower0/d/file", 0o4751);
    layers.set("lower0/d/file", "user.x", "1").set("lower0/d/file", "trusted.y", [0, 255]);
    layers.file("lower0/d/acl", "").set("lower0/d/acl", "system.posix_acl_access", acl());
    layers.symlink("lower0/d/link", "no/where").set("lower0/d/link", "trusted.z", "2");
    layers.node("lower0/d/fifo", SFlag::S_IFIFO, 0);
    layers.node("lower0/d/null", SFlag::S_IFCHR, makedev(1, 3));
    layers.node("lower0/d/loop", SFlag::S_IFBLK, makedev(7, 0));
    layers.node("lower0/d/sock", SFlag::S_IFSOCK, 0);
    layers.dir("lower0/d/sub").set("lower0/d/sub", "system.posix_acl_default", acl());
    layers.mode("lower0/d/sub", 0o2770);
    for (number, name) in layers.names("lower0/d").into_iter().enumerate() {
        let (path, number) = (format!("lower0/d/{name}"), u32::try_from(number).unwrap());
        let mode = layers.metadata(&path);
        layers.owner(&path, 100 + number, 200 + number);
        if !mode.is_symlink() {
            // chown(2) took set-id bits.
            layers.mode(&path, std::os::unix::fs::MetadataExt::mode(&mode) & 0o7777);
        }
        layers.time(&path, -1_000_000 * i64::from(number + 1));
    }
    layers.time("lower0/d", 1234);

    let client = layers.open();
    let before = client.tree().unwrap();
    for name in layers.names("lower0/d") {
        let node = client.walk(format!("d/{name}").as_bytes()).unwrap();
        // Changes nothing that is compared, but has to copy up.
        client.change(node, Change { atime: SetTime::Now, ..Change::NONE }).unwrap();
        assert!(layers.exists(&format!("upper/d/{name}")), "{name}");
    }
    let plain = |seen: &Seen| Seen { nlink: 0, ..seen.clone() };
    let compare = |after: &crate::client::Tree| {
        for (path, seen) in &before {
            if !path.is_empty() {
                assert_eq!(plain(&after[path]), plain(seen), "/{}", path.escape_ascii());
            }
        }
        assert_eq!(after.len(), before.len());
    };
    compare(&client.tree().unwrap());
    drop(client);
    let mut after = layers.open().tree().unwrap();
    for (path, seen) in &mut after {
        // Of another inode after a remount, but for what merges.
        if let Some(was) = before.get(path) {
            seen.ino = was.ino;
        }
    }
    compare(&after);
}

#[test]
fn reading_and_taking_away_copies_nothing() {
    needs_root!();
    let layers = Layers::new(1);
    layers.file("lower0/d/f", "1").file("lower0/d/g", "2").dir("lower0/d/sub");
    let client = layers.open();
    client.tree().unwrap();
    let f = client.walk(b"d/f").unwrap();
    client.vfs.pin(f, true).unwrap();
    client.vfs.unpin(f);
    assert_errno(client.vfs.removexattr(f, b"user.none"), Errno::ENODATA);
    assert_eq!(layers.names("upper"), Vec::<String>::new());
    let d = client.walk(b"d").unwrap();
    client.vfs.unlink(d, b"f").unwrap();
    client.vfs.rmdir(d, b"sub").unwrap();
    assert!(layers.is_whiteout("upper/d/f") && layers.is_whiteout("upper/d/sub"));
}

#[test]
fn a_hard_link_found_after_the_copy_up_shows_the_new_file() {
    needs_root!();
    let layers = Layers::new(1);
    layers.file("lower0/a", "old").link("lower0/a", "lower0/b");
    let client = layers.open();
    let a = client.walk(b"a").unwrap();
    client.write(a, 0, b"longer than before").unwrap();
    let b = client.lookup(NodeId::ROOT, b"b").unwrap();
    assert_eq!(b.node, a, "one file");
    assert_eq!(b.stat.size, 18, "attributes that come with the lookup");
    for (_, entry) in client.list_plus(NodeId::ROOT).unwrap() {
        assert_eq!((entry.node, entry.stat.size), (a, 18), "and with readdirplus");
    }
    client.write(b.node, 0, b"B").unwrap();
    assert_eq!(client.content(a).unwrap(), b"Bonger than before");
    drop(client);
    let client = layers.open();
    assert_eq!(client.content(client.walk(b"a").unwrap()).unwrap(), b"Bonger than before");
}

#[test]
fn hostile_attributes_are_data() {
    needs_root!();
    let layers = Layers::new(1);
    let big = vec![b'y'; 2000];
    layers.file("lower0/d/f", "").set("lower0/d", "trusted.overlay.opaque", &big[1..]);
    layers.set("lower0/d", "trusted.overlay.redirect", "/../../etc");
    layers.set("lower0/d", "user.overlay.dirmeta_delegate", "");
    layers.set("lower0/d/f", "trusted.overlay.origin", [0xfb; 40]);
    layers.set("lower0/d/f", "user.containers.override_stat", "0:0:0755");
    layers.set("lower0/d/f", "user.kept", &big);
    let client = layers.open();
    let f = client.walk(b"d/f").unwrap();
    assert_eq!(client.vfs.listxattr(f).unwrap(), b"user.kept\0");
    client.change(f, MODE).unwrap();
    assert_eq!(layers.xattr("upper/d/f", "user.kept").unwrap(), big);
    assert_eq!(layers.xattr("upper/d/f", "user.containers.override_stat"), None);
    assert_eq!(layers.xattr("upper/d", "trusted.overlay.redirect"), None);
    let hidden = client.vfs.setxattr(f, b"user.fuseoverlayfs.opaque", b"y", SetMode::Any);
    assert_errno(hidden, Errno::EPERM);
    let mut bad = acl();
    bad.truncate(9);
    assert!(client.vfs.setxattr(f, b"system.posix_acl_access", &bad, SetMode::Any).is_err());
}

#[test]
fn three_thousand_directories_deep() {
    needs_root!();
    const DEPTH: usize = 3000;
    let layers = Layers::new(1);
    // A path that long has no name: made step by step.
    let name = ovlmerge::sys::Name::new(b"d").unwrap();
    let mut here: std::os::fd::OwnedFd = std::fs::File::open(layers.path("lower0")).unwrap().into();
    for _ in 0..DEPTH {
        use std::os::fd::AsFd;
        ovlmerge::sys::at::mkdir(here.as_fd(), name, 0o755).unwrap();
        let flags = nix::fcntl::OFlag::O_DIRECTORY;
        here = ovlmerge::sys::at::open(here.as_fd(), name, flags, 0).unwrap();
    }
    let [lower, upper] = ["lower0", "upper"].map(|name| layers.path(name));
    let open = layers.config();
    // A small stack: recursion would not fit.
    let small = std::thread::Builder::new().stack_size(256 * 1024);
    small
        .spawn(move || {
            let client = crate::client::Client::with(&open).unwrap();
            let mut here = NodeId::ROOT;
            for _ in 0..DEPTH {
                here = client.lookup(here, b"d").unwrap().node;
            }
            client.make(here, b"bottom", Body::File).unwrap();
            assert_eq!(client.list(here).unwrap().len(), 1);
            client.forget_all();
        })
        .unwrap()
        .join()
        .unwrap();
    // What removes a temporary directory is recursive itself.
    let removed = std::process::Command::new("rm").arg("-rf").args([lower, upper]).status();
    assert!(removed.unwrap().success());
}

/// What nothing is copied for costs the same at every level: looked up, made, listed and removed,
/// with less memory for the stack than a call a level would take, and with more directories than
/// descriptors.
#[test]
fn ten_thousand_directories_deep() {
    needs_root!();
    const DEPTH: usize = 10_000;
    let layers = Layers::new(1);
    let open = layers.config();
    let small = std::thread::Builder::new().stack_size(256 * 1024);
    let run = move || {
        let client = crate::client::Client::with(&open).unwrap();
        let mut way = vec![NodeId::ROOT];
        for _ in 0..DEPTH {
            let here = *way.last().unwrap();
            way.push(client.make(here, b"d", Body::Dir).unwrap().node);
        }
        client.forget_all();
        way.truncate(1);
        for _ in 0..DEPTH {
            let here = *way.last().unwrap();
            way.push(client.lookup(here, b"d").unwrap().node);
        }
        client.make(*way.last().unwrap(), b"bottom", Body::File).unwrap();
        assert_eq!(client.list(*way.last().unwrap()).unwrap().len(), 1);
        client.vfs.unlink(*way.last().unwrap(), b"bottom").unwrap();
        let mut below = way.pop().unwrap();
        while let Some(here) = way.pop() {
            client.vfs.rmdir(here, b"d").unwrap();
            // As the kernel does. A removed directory that is still known stays open.
            client.vfs.forget(below, 1);
            below = here;
        }
        client.forget_all();
        assert_eq!(client.vfs.node_count(), 1);
    };
    small.spawn(run).unwrap().join().unwrap();
    assert!(layers.names("upper").is_empty());
}
