//! Opening the layers.

use ovlmerge::config::{Config, Durability, IndexChoice};
use ovlmerge::error::Errno;
use ovlmerge::vfs::{Body, NodeId};

use crate::client::{Client, assert_errno};
use crate::layers::Layers;
use crate::needs_root;

#[test]
fn what_a_crash_left_in_work_is_swept() {
    needs_root!();
    let layers = Layers::new(1);
    layers.file("work/work/#1", "").file("work/work/#2/deep/er", "").whiteout("work/work/#3");
    layers.file("work/mine", "");
    let client = layers.open();
    assert_eq!(layers.names("work/work"), Vec::<String>::new());
    assert!(layers.exists("work/mine"), "not ours");
    client.tree().unwrap();
}

#[test]
fn an_upper_that_needs_another_feature_is_refused() {
    needs_root!();
    let layers = Layers::new(1);
    layers.dir("work/work/incompat/volatile");
    let refused = Client::with(&layers.config()).unwrap_err();
    assert_eq!(refused.errno(), Errno::EINVAL);
    assert!(refused.to_string().contains("volatile"), "{refused}");
    assert!(layers.exists("work/work/incompat/volatile"), "it is still there");
}

#[test]
fn a_volatile_mount_leaves_nothing_when_it_ends() {
    needs_root!();
    let layers = Layers::new(1);
    let mut config = layers.config();
    config.durability = Durability::Volatile;
    let client = Client::with(&config).unwrap();
    assert!(layers.exists("work/work/incompat/volatile"));
    client.make(NodeId::ROOT, b"f", Body::File).unwrap();
    drop(client);
    assert!(!layers.exists("work/work/incompat"));
    layers.open().walk(b"f").unwrap();
}

/// What is forced out before it gets its name, as the kernel's `fsync=` has it: copied data, with
/// `strict` copied directories and metadata too, with `volatile` nothing.
#[test]
fn each_durability_forces_out_what_it_says() {
    needs_root!();
    for (durability, of_dir, of_metadata, of_data) in [
        (Durability::Normal, 0, 0, 1),
        (Durability::Strict, 1, 1, 1),
        (Durability::Volatile, 0, 0, 0),
    ] {
        let layers = Layers::new(1);
        layers.file("lower0/d/f", "1").file("lower0/g", "2").file("lower0/h", "3");
        let config = Config { durability, metacopy: true, ..layers.config() };
        let client = Client::with(&config).unwrap();
        let syncs = || client.vfs.counters().unwrap().syncs.get();
        let mut before = syncs();
        let mut more = || {
            let now = syncs();
            now - std::mem::replace(&mut before, now)
        };
        client.change(client.walk(b"d").unwrap(), crate::MODE).unwrap();
        assert_eq!(more(), of_dir, "a directory, {durability:?}");
        client.change(client.walk(b"g").unwrap(), crate::MODE).unwrap();
        assert_eq!(more(), of_metadata, "metadata, {durability:?}");
        client.write(client.walk(b"h").unwrap(), 0, b"x").unwrap();
        assert_eq!(more(), of_data, "data, {durability:?}");
        assert_eq!(
            layers.exists("work/work/incompat/volatile"),
            durability == Durability::Volatile
        );
    }
}

#[test]
fn an_upper_belongs_to_one_mount_if_it_is_asked_for() {
    needs_root!();
    let layers = Layers::new(1);
    layers.dir("other");
    let client = layers.open();
    let mut config = Config { strict: true, ..layers.config() };
    assert_errno(Client::with(&config), Errno::EBUSY);
    let Some(upper) = &mut config.upper else { panic!("no upper") };
    upper.work = layers.path("other");
    assert_errno(Client::with(&config), Errno::EBUSY);
    let mut config = Config { index: IndexChoice::On, ..layers.config() };
    assert_errno(Client::with(&config), Errno::EBUSY);
    // Others go on beside it, without the index that only one can keep.
    config.index = IndexChoice::Auto;
    let beside = Client::with(&config).unwrap();
    assert!(!beside.vfs.features().index);
    drop(beside);
    drop(client);
    layers.open();
}

#[test]
fn without_an_upper_nothing_changes() {
    needs_root!();
    let layers = Layers::new(2);
    layers.file("lower0/f", "1").file("lower1/d/g", "2");
    let mut config = layers.config();
    config.upper = None;
    let client = Client::with(&config).unwrap();
    assert_eq!(client.tree().unwrap().len(), 4);
    let f = client.walk(b"f").unwrap();
    assert_errno(client.write(f, 0, b"x"), Errno::EROFS);
    assert_errno(client.change(f, crate::MODE), Errno::EROFS);
    assert_errno(client.vfs.unlink(NodeId::ROOT, b"f"), Errno::EROFS);
    assert_errno(client.vfs.rmdir(NodeId::ROOT, b"d"), Errno::EROFS);
    assert_errno(client.make(NodeId::ROOT, b"new", Body::File), Errno::EROFS);
    assert_errno(client.vfs.link(f, NodeId::ROOT, b"new"), Errno::EROFS);
    assert_errno(client.vfs.pin(f, true), Errno::EROFS);
    client.vfs.pin(f, false).unwrap();
}
