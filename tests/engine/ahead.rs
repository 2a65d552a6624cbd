//! Files that are copied up together, as changes of many come one after the other.

use ovlmerge::sys::at::SetTime;
use ovlmerge::vfs::{Change, NodeId, RenameMode};

use crate::client::Client;
use crate::layers::Layers;
use crate::{MODE, needs_root};

const FILES: usize = 400;

fn name(number: usize) -> String {
    format!("f{number:03}")
}

/// Files in directories of ten each, as a walk meets them.
fn tree() -> Layers {
    let layers = Layers::new(2);
    for number in 0..FILES {
        let path = path(number);
        layers.file(&format!("lower0/{path}"), &format!("content of {path}"));
    }
    layers
}

/// The same number of files in one directory.
fn flat() -> Layers {
    let layers = Layers::new(2);
    for number in 0..FILES {
        layers.file(&format!("lower0/d/{}", name(number)), "content");
    }
    layers
}

fn path(number: usize) -> String {
    format!("d{:02}/{}", number / 10, name(number))
}

fn change(client: &Client, path: &str) {
    let node = client.walk(path.as_bytes()).unwrap();
    client.change(node, MODE).unwrap();
}

fn syncs(client: &Client) -> u64 {
    client.vfs.counters().unwrap().syncs.get()
}

/// The paths of all files, in the order in which listings have them.
fn in_order(client: &Client) -> Vec<String> {
    let mut paths = Vec::new();
    let text = |name: Vec<u8>| String::from_utf8(name).unwrap();
    for (dir, _, _) in client.list(NodeId::ROOT).unwrap() {
        if dir.starts_with(b".") {
            continue;
        }
        let node = client.walk(&dir).unwrap();
        for (file, _, _) in client.list(node).unwrap() {
            if !file.starts_with(b".") {
                paths.push(format!("{}/{}", text(dir.clone()), text(file)));
            }
        }
    }
    paths
}

/// Each copy waited for the disk by itself, which made `chmod -R` over an image as slow as that
/// many fsync(2).
#[test]
fn many_changes_wait_for_the_disk_a_few_times() {
    needs_root!();
    let layers = tree();
    let client = layers.open();
    let paths = in_order(&client);
    assert_eq!(paths.len(), FILES);
    paths.iter().for_each(|path| change(&client, path));
    assert!(syncs(&client) <= 10, "{} syncs", syncs(&client));
    assert_eq!(client.vfs.counters().unwrap().copy_ups.get(), FILES as u64, "none in vain");
    for path in &paths {
        assert_eq!(layers.read(&format!("upper/{path}")), format!("content of {path}"));
        let mode = std::os::unix::fs::MetadataExt::mode(&layers.metadata(format!("upper/{path}")));
        assert_eq!(Some(mode & 0o7777), MODE.mode);
    }
}

/// A shell expands `*` to sorted names. Each was copied three times, as the guesses were
/// those for the order of a listing.
#[test]
fn changes_in_sorted_order_wait_together_too() {
    needs_root!();
    let layers = flat();
    let client = layers.open();
    (0..FILES).for_each(|number| change(&client, &format!("d/{}", name(number))));
    assert!(syncs(&client) <= 20, "{} syncs", syncs(&client));
    let copied = client.vfs.counters().unwrap().copy_ups.get();
    assert!(copied <= FILES as u64 + 8, "{copied} copies");
}

/// In no order at all the guesses become rare.
#[test]
fn changes_in_no_order_copy_little_in_vain() {
    needs_root!();
    let layers = flat();
    let client = layers.open();
    // 173 and 400 have no common divisor.
    (0..FILES).for_each(|step| change(&client, &format!("d/{}", name(step * 173 % FILES))));
    let copied = client.vfs.counters().unwrap().copy_ups.get();
    assert!(copied <= FILES as u64 + 100, "{copied} copies");
}

#[test]
fn changes_here_and_there_copy_nothing_else() {
    needs_root!();
    let layers = tree();
    let client = layers.open();
    for number in (0..FILES).step_by(37) {
        change(&client, &path(number));
    }
    let changed = (0..FILES).step_by(37).count() as u64;
    assert_eq!(client.vfs.counters().unwrap().copy_ups.get(), changed);
}

/// What was copied for nothing goes, and is never more than what was copied for good and the first
/// guess.
#[test]
fn a_wrong_guess_leaves_nothing() {
    needs_root!();
    let layers = tree();
    let client = layers.open();
    let paths = in_order(&client);
    for dir in paths.chunks(10).step_by(2) {
        dir.iter().take(4).for_each(|path| change(&client, path));
    }
    let changed = paths.chunks(10).step_by(2).count() as u64 * 4;
    let copied = client.vfs.counters().unwrap().copy_ups.get();
    assert!(copied <= 2 * changed, "{copied} copies for {changed} changes");
    drop(client);
    assert_eq!(layers.names("work/work"), Vec::<String>::new());
    let upper: usize =
        layers.names("upper").iter().map(|d| layers.names(&format!("upper/{d}")).len()).sum();
    assert_eq!(upper as u64, changed);
}

/// A copy that waits is no part of the tree: what happens to the name meanwhile counts.
#[test]
fn what_is_copied_ahead_can_be_removed_renamed_and_written() {
    needs_root!();
    let layers = tree();
    let client = layers.open();
    let paths = in_order(&client);
    paths.iter().take(4).for_each(|path| change(&client, path));
    let root = NodeId::ROOT;
    let dir = client.walk(paths[4].split('/').next().unwrap().as_bytes()).unwrap();
    let file = |at: usize| paths[at].split('/').nth(1).unwrap().as_bytes().to_vec();
    client.vfs.unlink(dir, &file(4)).unwrap();
    client.vfs.rename(dir, &file(5), root, b"moved", RenameMode::Replace).unwrap();
    let node = client.walk(paths[6].as_bytes()).unwrap();
    client.change(node, Change { size: Some(3), ..Change::NONE }).unwrap();
    let node = client.walk(paths[7].as_bytes()).unwrap();
    client.change(node, Change { mtime: SetTime::Now, ..Change::NONE }).unwrap();
    let check = |client: &Client| {
        assert!(client.walk(paths[4].as_bytes()).is_err());
        assert!(client.walk(paths[5].as_bytes()).is_err());
        let moved = client.walk(b"moved").unwrap();
        assert_eq!(client.content(moved).unwrap(), format!("content of {}", paths[5]).as_bytes());
        assert_eq!(client.content(client.walk(paths[6].as_bytes()).unwrap()).unwrap(), b"con");
        let kept = client.content(client.walk(paths[7].as_bytes()).unwrap()).unwrap();
        assert_eq!(kept, format!("content of {}", paths[7]).as_bytes());
    };
    check(&client);
    drop(client);
    check(&layers.open());
}

/// With `fsync=strict` a copy is on the disk with its metadata before its name is. Copies that were
/// made ahead had been forced out before they got the change.
#[test]
fn strict_copies_are_forced_out_one_by_one() {
    needs_root!();
    let layers = flat();
    let mut config = layers.config();
    config.durability = ovlmerge::config::Durability::Strict;
    let client = Client::with(&config).unwrap();
    for changed in 1..=40 {
        change(&client, &format!("d/{}", name(changed)));
        // The directory is one of its own.
        assert_eq!(syncs(&client), changed as u64 + 1);
    }
    assert_eq!(client.vfs.counters().unwrap().copy_ups.get(), 40, "none is copied ahead");
}
