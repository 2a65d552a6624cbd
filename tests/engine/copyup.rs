//! Getting things into the upper.

use nix::sys::stat::{SFlag, makedev};
use ovlmerge::error::Errno;
use ovlmerge::id::Id;
use ovlmerge::sys::at::SetTime;
use ovlmerge::sys::xattr::SetMode;
use ovlmerge::vfs::{Body, Change, NodeId, Privilege, Write};

use crate::client::{Client, Seen, assert_errno};
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

/// What a copy has already when it is made is not given to it again: owner and mode, as far as
/// nothing takes them away afterwards.
#[test]
fn owners_and_modes_of_all_sorts_come_along() {
    needs_root!();
    let modes = [0, 0o444, 0o600, 0o644, 0o666, 0o755, 0o777, 0o1644, 0o2644, 0o2755, 0o4755];
    let owners = [(0, 0), (0, 5), (7, 0), (7, 8)];
    let layers = Layers::new(1);
    let mut paths = Vec::new();
    for (mode, (uid, gid)) in modes.iter().flat_map(|mode| owners.map(|owner| (*mode, owner))) {
        let base = format!("lower0/{mode:o}-{uid}-{gid}");
        for kind in ["file", "acl", "capability", "dir", "fifo"] {
            let path = format!("{base}/{kind}");
            match kind {
                "dir" => layers.dir(&path),
                "fifo" => layers.dir(&base).node(&path, SFlag::S_IFIFO, 0),
                _ => layers.file(&path, "content"),
            };
            layers.owner(&path, uid, gid);
            match kind {
                "acl" => layers.set(&path, "system.posix_acl_access", acl()),
                "capability" => layers.set(&path, "security.capability", capability()),
                _ => &layers,
            };
            layers.mode(&path, mode);
            paths.push(path);
        }
    }
    let client = layers.open();
    for path in &paths {
        let path = path.strip_prefix("lower0/").unwrap();
        let node = client.walk(path.as_bytes()).unwrap();
        client.change(node, Change { atime: SetTime::Now, ..Change::NONE }).unwrap();
        let seen = |layer: &str| {
            use std::os::unix::fs::MetadataExt;
            let path = format!("{layer}/{path}");
            let stat = layers.metadata(&path);
            let names = ["system.posix_acl_access", "security.capability"];
            let attributes = names.map(|name| layers.xattr(&path, name));
            (stat.mode(), stat.uid(), stat.gid(), attributes)
        };
        assert_eq!(seen("upper"), seen("lower0"), "{path}");
    }
}

/// CAP_CHOWN, permitted and effective (`struct vfs_cap_data`, linux/capability.h).
fn capability() -> Vec<u8> {
    [0x0200_0001_u32, 1, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A change of a file of a lower is made before the copy is seen. It leaves the file as the same
/// change of a file of the upper does.
#[test]
fn a_change_with_a_copy_up_is_the_change_of_a_copy() {
    needs_root!();
    let mut changes = Vec::new();
    let time = |sec| SetTime::At(ovlmerge::sys::Time { sec, nsec: 7 });
    for mode in [None, Some(0o600), Some(0o640), Some(0o6755)] {
        for (uid, gid) in
            [(None, None), (Id::new(0), None), (None, Id::new(9)), (Id::new(8), Id::new(9))]
        {
            for (atime, mtime) in [(SetTime::Omit, SetTime::Omit), (SetTime::Omit, time(5))] {
                changes.push(Change { mode, uid, gid, atime, mtime, ..Change::NONE });
            }
        }
    }
    let layers = Layers::new(1);
    let files = ["plain", "setid", "acl", "capability", "twin"];
    for layer in ["lower0", "upper"] {
        for number in 0..changes.len() {
            for file in files {
                let path = format!("{layer}/{number}/{file}");
                layers.file(&path, "content").owner(&path, 3, 4);
                match file {
                    "setid" => layers.mode(&path, 0o6755),
                    "acl" => layers.set(&path, "system.posix_acl_access", acl()),
                    "capability" => layers.set(&path, "security.capability", capability()),
                    "twin" => layers.link(&path, &format!("{layer}/{number}/other-twin")),
                    _ => &layers,
                };
                layers.time(&path, 1000);
            }
            if layer == "upper" {
                std::fs::rename(
                    layers.path(&format!("upper/{number}")),
                    layers.path(&format!("upper/own-{number}")),
                )
                .unwrap();
            }
        }
    }
    let client = layers.open();
    for (number, change) in changes.iter().enumerate() {
        for file in files {
            let changed = |dir: String| {
                let node = client.walk(format!("{dir}/{file}").as_bytes()).unwrap();
                client.change(node, *change).unwrap();
                let stat = client.vfs.getattr(node).unwrap();
                let mut names = client.vfs.listxattr(node).unwrap();
                names.sort_unstable();
                assert!(layers.exists(&format!("upper/{dir}/{file}")));
                (stat.mode, stat.uid, stat.gid, stat.mtime, names)
            };
            let (copy, own) = (changed(number.to_string()), changed(format!("own-{number}")));
            assert_eq!(copy, own, "{file}: {change:?}");
        }
    }
}

/// A new size is that of the copy when it is published, as it would be that of a file of the upper.
#[test]
fn a_new_size_comes_with_the_copy() {
    needs_root!();
    let layers = Layers::new(1);
    let contents = ["", "x", "content"];
    let sizes = [0, 1, 7, 8, 100_000];
    let name = |content: &str, size: u64| format!("{}-{size}", content.len());
    for (content, size) in contents.iter().flat_map(|content| sizes.map(|size| (content, size))) {
        for path in ["lower0/lower", "upper/upper"] {
            let path = format!("{path}-{}", name(content, size));
            layers.file(&path, content).owner(&path, 3, 4).mode(&path, 0o6755).time(&path, 1000);
            layers.set(&path, "security.capability", capability());
        }
    }
    let client = layers.open();
    for (content, size) in contents.iter().flat_map(|content| sizes.map(|size| (content, size))) {
        for privilege in [Privilege::KeepsSetId, Privilege::LosesSetId] {
            let cut = |layer: &str| {
                let path = format!("{layer}-{}", name(content, size));
                let node = client.walk(path.as_bytes()).unwrap();
                let change = Change { size: Some(size), ..Change::NONE };
                let stat = client.vfs.setattr(node, &change, privilege).unwrap();
                let capability = client.vfs.getxattr(node, b"security.capability").is_ok();
                assert!(stat.mtime.sec > 1000, "{path}: it has changed now");
                (stat.mode, stat.size, capability, client.content(node).unwrap())
            };
            assert_eq!(cut("lower"), cut("upper"), "{content:?} to {size}, {privilege:?}");
        }
    }
}

/// A copy without data has nothing that could be lost.
#[test]
fn an_empty_copy_waits_for_no_disk() {
    needs_root!();
    let layers = Layers::new(1);
    layers.file("lower0/empty", "").file("lower0/cut", "content").file("lower0/full", "content");
    let client = layers.open();
    let syncs = || client.vfs.counters().unwrap().syncs.get();
    client.change(client.walk(b"empty").unwrap(), MODE).unwrap();
    let cut = Change { size: Some(0), ..Change::NONE };
    client.change(client.walk(b"cut").unwrap(), cut).unwrap();
    assert_eq!(syncs(), 0);
    client.change(client.walk(b"full").unwrap(), MODE).unwrap();
    assert_eq!(syncs(), 1);
    drop(client);
    let mut config = layers.config();
    config.durability = ovlmerge::config::Durability::Strict;
    layers.file("lower0/strict", "");
    let client = crate::client::Client::with(&config).unwrap();
    client.change(client.walk(b"strict").unwrap(), MODE).unwrap();
    assert!(client.vfs.counters().unwrap().syncs.get() > 0, "with fsync=strict all is forced out");
}

/// It was copied up, and stayed as it was.
#[test]
fn a_change_that_cannot_be_copies_nothing_up() {
    needs_root!();
    let layers = Layers::new(1);
    layers.symlink("lower0/link", "nowhere");
    let client = layers.open();
    let link = client.walk(b"link").unwrap();
    assert_errno(client.change(link, MODE), Errno::EOPNOTSUPP);
    assert_eq!(layers.names("upper"), Vec::<String>::new());
    assert_eq!(layers.names("work/work"), Vec::<String>::new());
}

/// What a write by an ordinary user takes away is known from the copy-up.
#[test]
fn the_first_write_takes_set_id_bits_all_the_same() {
    needs_root!();
    let layers = Layers::new(1);
    let write = Write { offset: 0, data: b"x", privilege: Privilege::LosesSetId, whole: false };
    for (name, before) in [("plain", 0o755), ("setid", 0o4755), ("later", 0o755)] {
        layers.file(&format!("lower0/{name}"), "content").mode(&format!("lower0/{name}"), before);
    }
    let client = layers.open();
    for name in ["plain", "setid", "later"] {
        let node = client.walk(name.as_bytes()).unwrap();
        if name == "later" {
            client.change(node, Change { mode: Some(0o4755), ..Change::NONE }).unwrap();
            assert_eq!(client.vfs.getattr(node).unwrap().permissions(), 0o4755);
        }
        client.vfs.write(node, &write).unwrap();
        assert_eq!(client.vfs.getattr(node).unwrap().permissions(), 0o755, "{name}");
    }
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
    let mut config = layers.config();
    config.index = ovlmerge::config::IndexChoice::On;
    let client = Client::with(&config).unwrap();
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
    let client = Client::with(&config).unwrap();
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
        ovlmerge::sys::at::mkdir(ovlmerge::sys::WritableFd::vouch(here.as_fd()), name, 0o755)
            .unwrap();
        let flags = nix::fcntl::OFlag::O_DIRECTORY;
        here = ovlmerge::sys::at::open(here.as_fd(), name, flags).unwrap();
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
