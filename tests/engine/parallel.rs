//! Many threads on one mount.

use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use ovlmerge::config::{Config, Permissions};
use ovlmerge::error::Errno;
use ovlmerge::id::Id;
use ovlmerge::vfs::{Body, Change, NodeId, Privilege, RenameMode, Vfs, Write};

use crate::layers::Layers;
use crate::{MODE, REQUEST, needs_root};

const ROOT: NodeId = NodeId::ROOT;
/// What has not ended by then hangs, also on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs `work` in so many threads at once; fails if they have not all ended in time.
pub fn at_once(vfs: &Arc<Vfs>, threads: usize, work: impl Fn(&Vfs, usize) + Send + Sync + 'static) {
    let (work, barrier) = (Arc::new(work), Arc::new(Barrier::new(threads)));
    let (send, receive) = mpsc::channel();
    for number in 0..threads {
        let (vfs, work, barrier) = (Arc::clone(vfs), Arc::clone(&work), Arc::clone(&barrier));
        let send = send.clone();
        std::thread::spawn(move || {
            barrier.wait();
            work(&vfs, number);
            // Whoever waits may want to be the last to use the mount.
            drop(vfs);
            send.send(()).unwrap();
        });
    }
    drop(send);
    for _ in 0..threads {
        match receive.recv_timeout(PATIENCE) {
            Ok(()) => {}
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("threads hang: a deadlock"),
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("a thread has panicked"),
        }
    }
}

/// The mount for threads, and a look at it when they are done.
fn shared(layers: &Layers) -> Arc<Vfs> {
    Arc::new(Vfs::open(&layers.config()).unwrap())
}

fn write(vfs: &Vfs, node: NodeId, offset: u64, data: &[u8]) -> ovlmerge::error::Result<usize> {
    vfs.write(node, &Write { offset, data, privilege: Privilege::KeepsSetId, whole: false })
}

#[test]
fn one_file_is_copied_up_once() {
    needs_root!();
    for _ in 0..20 {
        let layers = Layers::new(1);
        layers.file("lower0/d/e/f", &"x".repeat(200_000));
        let vfs = shared(&layers);
        let d = vfs.lookup(ROOT, b"d").unwrap().node;
        let e = vfs.lookup(d, b"e").unwrap().node;
        let f = vfs.lookup(e, b"f").unwrap().node;
        at_once(&vfs, 16, move |vfs, number| {
            write(vfs, f, number as u64, &[b'A' + u8::try_from(number).unwrap()]).unwrap();
        });
        let content = layers.read("upper/d/e/f");
        assert!(content.starts_with("ABCDEFGHIJKLMNOPxxx"), "a write was lost");
        assert_eq!(content.len(), 200_000);
        assert_eq!(layers.names("work/work"), Vec::<String>::new());
    }
}

/// Whether the copy-up had cut the file was asked before it, and answered for a copy that somebody
/// else made meanwhile, whole: the file kept its size.
#[test]
fn a_truncation_and_another_copy_up_meet() {
    needs_root!();
    const FILES: usize = 200;
    let layers = Layers::new(1);
    for number in 0..FILES {
        layers.file(&format!("lower0/d/{number}"), &"x".repeat(20_000));
    }
    let vfs = shared(&layers);
    let d = vfs.lookup(ROOT, b"d").unwrap().node;
    for number in 0..FILES {
        let f = vfs.lookup(d, number.to_string().as_bytes()).unwrap().node;
        at_once(&vfs, 2, move |vfs, number| {
            let cut = Change { size: Some(5), ..Change::NONE };
            let change = if number == 0 { &MODE } else { &cut };
            vfs.setattr(f, change, Privilege::KeepsSetId).unwrap();
        });
        assert_eq!(vfs.getattr(f).unwrap().size, 5, "file {number}");
        assert_eq!(layers.read(&format!("upper/d/{number}")), "xxxxx");
    }
}

#[test]
fn a_copy_up_and_an_unlink_meet() {
    needs_root!();
    for round in 0..100 {
        let layers = Layers::new(1);
        layers.file("lower0/d/f", &"x".repeat(20_000));
        let vfs = shared(&layers);
        let d = vfs.lookup(ROOT, b"d").unwrap().node;
        let f = vfs.lookup(d, b"f").unwrap().node;
        at_once(&vfs, 2, move |vfs, number| {
            if number == 0 {
                write(vfs, f, 0, b"new").unwrap();
            } else {
                vfs.unlink(d, b"f").unwrap();
            }
        });
        let mut start = [0; 4];
        vfs.read(f, 0, &mut start).unwrap();
        assert_eq!(&start, b"newx", "round {round}");
        assert_eq!(vfs.lookup(d, b"f").unwrap_err().errno(), Errno::ENOENT);
        assert!(layers.is_whiteout("upper/d/f"), "round {round}");
        vfs.forget(f, 1);
        drop(vfs);
        assert_eq!(layers.open().names(b"d"), Vec::<String>::new());
    }
}

#[test]
fn directories_are_copied_up_from_all_sides() {
    needs_root!();
    for _ in 0..10 {
        let layers = Layers::new(2);
        for number in 0..16 {
            layers.file(&format!("lower{}/a/b/c/{number}/f", number % 2), "");
        }
        let vfs = shared(&layers);
        at_once(&vfs, 16, |vfs, number| {
            let mut here = ROOT;
            for name in ["a", "b", "c", &number.to_string(), "f"] {
                here = vfs.lookup(here, name.as_bytes()).unwrap().node;
            }
            vfs.setattr(here, &MODE, Privilege::KeepsSetId).unwrap();
        });
        assert_eq!(layers.names("upper/a/b/c").len(), 16);
    }
}

/// Each thread leaves files of its own, and all fight over one name, in two directories.
#[test]
fn nothing_is_lost_in_the_crowd() {
    needs_root!();
    const THREADS: usize = 8;
    const ROUNDS: usize = 150;
    let layers = Layers::new(2);
    layers.dir("lower0/one").dir("lower1/one").dir("lower1/two");
    for number in 0..THREADS {
        layers.file(&format!("lower1/one/lower{number}"), "lower");
    }
    let vfs = shared(&layers);
    let dirs = [b"one", b"two"].map(|name| vfs.lookup(ROOT, name).unwrap().node);
    at_once(&vfs, THREADS, move |vfs, number| {
        for round in 0..ROUNDS {
            let dirs = (dirs[(number + round) % 2], dirs[(number + round + 1) % 2]);
            leave_a_file(vfs, dirs, format!("file{number}-{round}").as_bytes());
            fight(vfs, dirs, format!("scratch{number}").as_bytes());
            list(vfs, dirs);
            let sub = format!("sub{number}").into_bytes();
            let made = vfs.create(dirs.0, &sub, Body::Dir, &REQUEST).unwrap();
            vfs.rename(dirs.0, &sub, dirs.1, &sub, RenameMode::Replace).unwrap();
            vfs.rmdir(dirs.1, &sub).unwrap();
            vfs.forget(made.node, 1);
        }
        let lower = format!("lower{number}").into_bytes();
        let node = vfs.lookup(dirs[0], &lower).unwrap().node;
        write(vfs, node, 0, b"L").unwrap();
        vfs.rename(dirs[0], &lower, dirs[1], &lower, RenameMode::Replace).unwrap();
    });
    drop(vfs);
    let left = layers.names("work/work");
    assert!(left.iter().all(|name| layers.is_whiteout(&format!("work/work/{name}"))), "{left:?}");
    check_crowd(&layers, THREADS, ROUNDS);
}

type Dirs = (NodeId, NodeId);

fn leave_a_file(vfs: &Vfs, (here, there): Dirs, name: &[u8]) {
    let entry = vfs.create(here, name, Body::File, &REQUEST).unwrap();
    write(vfs, entry.node, 0, name).unwrap();
    vfs.rename(here, name, there, name, RenameMode::NoReplace).unwrap();
    vfs.forget(entry.node, 1);
}

/// Whatever others do with the name meanwhile, the answers are those that rename(2) and its like
/// have.
fn fight(vfs: &Vfs, (here, there): Dirs, mine: &[u8]) {
    let name = b"everybodys";
    let entry = vfs.create(here, mine, Body::File, &REQUEST).unwrap();
    let allow = |result: ovlmerge::error::Result<()>, errnos: &[Errno]| {
        if let Err(err) = result {
            assert!(errnos.contains(&err.errno()), "{err:?}");
        }
    };
    allow(vfs.link(entry.node, there, name).map(|_| vfs.forget(entry.node, 1)), &[Errno::EEXIST]);
    allow(vfs.rename(here, mine, there, name, RenameMode::Exchange), &[Errno::ENOENT]);
    allow(vfs.unlink(there, name), &[Errno::ENOENT]);
    vfs.rename(here, mine, there, name, RenameMode::Replace).unwrap();
    // Where both were names of one file nothing has happened.
    allow(vfs.unlink(here, mine), &[Errno::ENOENT]);
    vfs.forget(entry.node, 1);
}

fn list(vfs: &Vfs, (here, there): Dirs) {
    vfs.readdir(here, 0, |_| true).unwrap();
    vfs.readdir_plus(there, 0, ovlmerge::vfs::Attributes::All, |_, given| {
        if let ovlmerge::vfs::Plus::Known(given) = given {
            vfs.forget(given.node, 1);
        }
        true
    })
    .unwrap();
}

fn check_crowd(layers: &Layers, threads: usize, rounds: usize) {
    let client = layers.open();
    let mut tree = client.tree().unwrap();
    for number in 0..threads {
        let lower = tree.remove(format!("two/lower{number}").as_bytes()).unwrap();
        assert_eq!(lower.content, b"Lower");
        for round in 0..rounds {
            let dir = ["two", "one"][(number + round) % 2];
            let name = format!("file{number}-{round}");
            let seen = tree.remove(format!("{dir}/{name}").as_bytes());
            assert_eq!(seen.expect("a file is lost").content, name.into_bytes());
        }
    }
    for name in ["", "one", "two", "one/everybodys", "two/everybodys"] {
        tree.remove(name.as_bytes());
    }
    assert!(tree.is_empty(), "too much is there: {tree:?}");
}

/// Owner and mode may be in one attribute, which is read and written as a whole.
#[test]
fn owner_and_mode_change_at_once() {
    needs_root!();
    const ROUNDS: u32 = 300;
    let layers = Layers::new(1);
    layers.file("lower0/f", "x").dir("lower0/d");
    let config = Config { permissions: Permissions::UserXattr, ..layers.config() };
    let vfs = Arc::new(Vfs::open(&config).unwrap());
    for name in [&b"f"[..], b"d"] {
        let node = vfs.lookup(ROOT, name).unwrap().node;
        at_once(&vfs, 3, move |vfs, number| {
            for round in 0..=ROUNDS {
                let change = match number {
                    0 => Change { mode: Some(round % 0o777), ..Change::NONE },
                    1 => Change { uid: Id::new(round), ..Change::NONE },
                    _ => Change { gid: Id::new(round), ..Change::NONE },
                };
                vfs.setattr(node, &change, Privilege::KeepsSetId).unwrap();
            }
        });
        let stat = vfs.getattr(node).unwrap();
        let found = (stat.permissions(), stat.uid, stat.gid);
        assert_eq!(found, (ROUNDS % 0o777, ROUNDS, ROUNDS), "{}", name.escape_ascii());
    }
}
