//! Files with several names.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ovlmerge::config::IndexChoice;
use ovlmerge::error::Errno;
use ovlmerge::id::Id;
use ovlmerge::vfs::{Change, NodeId, Privilege, RenameMode, Vfs};

use crate::client::Client;
use crate::layers::Layers;
use crate::parallel::at_once;
use crate::{MODE, needs_root};

const ROOT: NodeId = NodeId::ROOT;

fn chmod(vfs: &Vfs, node: NodeId) {
    vfs.setattr(node, &MODE, Privilege::KeepsSetId).unwrap();
}

/// Two threads renamed hard links of two files over one another, and each waited for what the other
/// held. How many rounds is `OVLMERGE_ROUNDS`.
#[test]
fn renames_of_hard_links_do_not_wait_for_one_another() {
    needs_root!();
    const NAMES: usize = 8;
    let rounds: u64 = std::env::var("OVLMERGE_ROUNDS").map_or(8_000, |text| text.parse().unwrap());
    let layers = Layers::new(1);
    for file in 0..4 {
        layers.file(&format!("lower0/{file}-0"), "x");
        for name in 1..NAMES {
            layers.link(&format!("lower0/{file}-0"), &format!("lower0/{file}-{name}"));
        }
    }
    for index in [IndexChoice::Off, IndexChoice::On] {
        let mut config = layers.config();
        config.index = index;
        let vfs = Arc::new(Vfs::open(&config).unwrap());
        let done = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&done);
        at_once(&vfs, 4, move |vfs, number| {
            let mut state = number as u64 + 1;
            let mut random = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % below
            };
            for _ in 0..rounds / 4 {
                let mut name = || format!("{}-{}", random(4), random(NAMES as u64));
                let (from, to) = (name(), name());
                let mode = [RenameMode::Replace, RenameMode::Exchange, RenameMode::Replace];
                let done = match random(8) {
                    0 => vfs.unlink(ROOT, from.as_bytes()),
                    1..3 => vfs.lookup(ROOT, from.as_bytes()).and_then(|entry| {
                        let made = vfs.link(entry.node, ROOT, to.as_bytes());
                        vfs.forget(entry.node, 1);
                        made.map(|made| vfs.forget(made.node, 1))
                    }),
                    kind => {
                        let mode = mode[usize::try_from(kind % 3).unwrap()];
                        vfs.rename(ROOT, from.as_bytes(), ROOT, to.as_bytes(), mode)
                    }
                };
                if let Err(err) = done {
                    let known = [Errno::ENOENT, Errno::EEXIST];
                    assert!(known.contains(&err.errno()), "{from} {to}: {err}");
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!(done.load(Ordering::Relaxed), rounds / 4 * 4);
        // Each name of the upper is that of a file which has as many as it says.
        let names = layers.names("upper");
        let is_of = |name: &String, ino| layers.metadata(format!("upper/{name}")).ino() == ino;
        let counted = |ino| names.iter().filter(|name| is_of(name, ino)).count() as u64;
        for name in &names {
            let stat = layers.metadata(format!("upper/{name}"));
            if stat.is_file() && index == IndexChoice::Off {
                assert_eq!(stat.nlink(), counted(stat.ino()), "{name}");
            }
        }
        drop(vfs);
        for dir in ["upper", "work"] {
            fs::remove_dir_all(layers.path(dir)).unwrap();
            fs::create_dir(layers.path(dir)).unwrap();
        }
    }
}

/// Names that are files of their own show one number, and have a node each.
#[test]
fn names_apart_have_nodes_of_their_own() {
    needs_root!();
    let layers = Layers::new(1);
    layers.file("lower0/a", "x");
    layers.link("lower0/a", "lower0/b");
    let lower = layers.metadata("lower0/a").ino();
    let client = layers.open();
    let [a, b] = [b"a", b"b"].map(|name| client.lookup(ROOT, name).unwrap());
    assert_eq!((a.stat.ino, b.stat.ino, a.stat.nlink), (lower, lower, 2));
    assert_ne!(a.node, b.node);
    assert_eq!(client.lookup(ROOT, b"a").unwrap().node, a.node);
    chmod(&client.vfs, a.node);
    let copy = layers.metadata("upper/a").ino();
    let now = |node| client.vfs.getattr(node).map(|stat| (stat.ino, stat.nlink)).unwrap();
    assert_eq!((now(a.node), now(b.node)), ((copy, 1), (lower, 2)));
    let listed: BTreeSet<_> =
        client.list(ROOT).unwrap().into_iter().map(|(name, _, number)| (name, number)).collect();
    assert_eq!(listed, BTreeSet::from([(b"a".to_vec(), copy), (b"b".to_vec(), lower)]));
    // Forgotten and looked up again, it is an object of the upper like any other.
    client.forget_all();
    let again = client.lookup(ROOT, b"a").unwrap();
    assert_eq!((again.node, again.stat.ino), (NodeId(copy), copy));
}

/// An object of the upper was found by where it came from, and not where it stood already if it had
/// been met without the mark that says so.
#[test]
fn an_object_is_met_in_any_order() {
    needs_root!();
    for order in [["f", "d/g"], ["d/g", "f"]] {
        let layers = Layers::new(1);
        layers.file("lower0/f", "abc");
        let client = layers.open();
        chmod(&client.vfs, client.lookup(ROOT, b"f").unwrap().node);
        drop(client);
        layers.link("upper/f", "upper/d/g");
        let client = layers.open();
        let [one, other] = order.map(|path| client.walk(path.as_bytes()).unwrap());
        assert_eq!(one, other, "{order:?}");
        assert_eq!(client.vfs.getattr(one).unwrap().nlink, 2);
    }
}

/// The way to a name of a file with many names was through all of them.
#[test]
fn many_names_cost_no_more_than_many_files() {
    needs_root!();
    const MANY: usize = 10_000;
    let took = |names: bool| {
        let layers = Layers::new(1);
        layers.file("upper/0", "x");
        for number in 1..MANY {
            match names {
                true => layers.link("upper/0", &format!("upper/{number}")),
                false => layers.file(&format!("upper/{number}"), "x"),
            };
        }
        let client = layers.open();
        let begun = Instant::now();
        for _ in 0..2 {
            for number in 0..MANY {
                let entry = client.lookup(ROOT, number.to_string().as_bytes()).unwrap();
                client.vfs.getattr(entry.node).unwrap();
            }
        }
        for number in 0..MANY {
            client.vfs.unlink(ROOT, number.to_string().as_bytes()).unwrap();
        }
        begun.elapsed()
    };
    let (files, names) = (took(false), took(true));
    // It was ten times as much and more. A loaded machine may be slow, but not for that long.
    assert!(names < files * 5 + Duration::from_secs(2), "{files:?} for files, {names:?} for names");
}

/// One change of a file with as many names as ext4 allows: nothing is linked but the entry of the
/// index and one name.
#[test]
fn as_many_names_as_there_can_be() {
    needs_root!();
    let layers = Layers::new(1);
    layers.file("lower0/0", "x");
    let mut names = 1_u32;
    while names < 65_000
        && fs::hard_link(layers.path("lower0/0"), layers.path(&format!("lower0/{names}"))).is_ok()
    {
        names += 1;
    }
    let mut config = layers.config();
    config.index = IndexChoice::On;
    let client = Client::with(&config).unwrap();
    let nodes: BTreeSet<_> = (0..names)
        .map(|number| client.lookup(ROOT, number.to_string().as_bytes()).unwrap().node)
        .collect();
    assert_eq!(nodes.len(), 1);
    let node = *nodes.first().unwrap();
    let owner = Change { uid: Id::new(7), ..Change::NONE };
    client.vfs.setattr(node, &owner, Privilege::KeepsSetId).unwrap();
    assert_eq!(client.vfs.getattr(node).unwrap().nlink, names);
    assert_eq!(layers.names("upper").len(), 1);
    for number in [5_u32, 7, names - 1] {
        client.vfs.unlink(ROOT, number.to_string().as_bytes()).unwrap();
    }
    assert_eq!(client.vfs.getattr(node).unwrap().nlink, names - 3);
}

/// An upper with an index goes with the lower that it was written over, as the kernel has it.
#[test]
fn an_index_over_another_lower() {
    needs_root!();
    let layers = Layers::new(2);
    layers.file("lower0/a", "x");
    layers.link("lower0/a", "lower0/b");
    let mut config = layers.config();
    config.index = IndexChoice::On;
    let client = Client::with(&config).unwrap();
    chmod(&client.vfs, client.lookup(ROOT, b"a").unwrap().node);
    drop(client);
    config.lowers.reverse();
    let refused = Client::with(&config).unwrap_err();
    assert_eq!(refused.errno(), Errno::ESTALE);
    assert!(refused.to_string().contains("index=off"), "{refused}");
    // Without an index, and where it is used if it can be, it goes on.
    for index in [IndexChoice::Off, IndexChoice::Auto] {
        config.index = index;
        drop(Client::with(&config).unwrap());
    }
    config.lowers.reverse();
    config.index = IndexChoice::On;
    drop(Client::with(&config).unwrap());
    // Whatever else stands there is no handle.
    layers.set("upper", "trusted.overlay.origin", b"");
    drop(Client::with(&config).unwrap());
}
