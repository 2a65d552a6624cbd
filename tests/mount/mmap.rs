//! Shared mappings.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use super::write::pattern;
use crate::support::Scratch;
use crate::support::raw::Mapping;
use crate::{needs, not_the_kernels};

fn open(path: std::path::PathBuf) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

#[test]
fn writes_through_a_mapping_of_a_lower_file_are_kept() {
    needs!(mount);
    let s = Scratch::new();
    let mut expected = pattern(100_000, 5);
    s.lower(0).file("f", &expected);
    let mut m = s.mount();
    let file = open(m.path("f"));
    let map = Mapping::new(file.as_fd(), 100_000, true).unwrap();
    assert!(map.read() == expected);
    map.write(50_000, b"mapped");
    expected[50_000..50_006].copy_from_slice(b"mapped");
    assert!(fs::read(m.path("f")).unwrap() == expected);
    map.sync().unwrap();
    drop((map, file));
    m.remount();
    assert!(fs::read(m.path("f")).unwrap() == expected);
    assert!(fs::read(s.lower(0).path("f")).unwrap() == pattern(100_000, 5));
}

#[test]
fn a_mapping_outlives_its_descriptor() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", vec![b'.'; 8192]);
    let mut m = s.mount();
    let file = open(m.path("f"));
    let map = Mapping::new(file.as_fd(), 8192, true).unwrap();
    drop(file);
    let before = m.writes_taken();
    map.write(0, b"first");
    map.write(8000, b"last");
    drop(map);
    m.wait_for_writes_of_mapping(before + 1);
    m.remount();
    let content = m.read("f");
    assert!(content.starts_with("first..") && content[8000..].starts_with("last."));
}

#[test]
fn a_mapping_and_write_see_each_other() {
    needs!(mount);
    let s = Scratch::new();
    let m = s.mount();
    m.file("f", vec![b'.'; 8192]);
    let file = open(m.path("f"));
    let map = Mapping::new(file.as_fd(), 8192, true).unwrap();
    file.write_all_at(b"written", 100).unwrap();
    assert!(map.read()[100..].starts_with(b"written."));
    map.write(200, b"mapped");
    let mut buffer = [0; 6];
    file.read_exact_at(&mut buffer, 200).unwrap();
    assert_eq!(&buffer, b"mapped");
}

/// A program that maps a file for reading, such as a database, must see what others write to it
/// afterwards, also when the file came from a lower layer and was copied up between.
#[test]
fn a_reading_mapping_follows_the_copy_up() {
    needs!(mount);
    not_the_kernels!(
        "its documentation lists this as not standard: the mapping stays on the lower"
    );
    let s = Scratch::new();
    s.lower(0).file("f", vec![b'.'; 8192]);
    let m = s.mount();
    let reader = File::open(m.path("f")).unwrap();
    let map = Mapping::new(reader.as_fd(), 8192, false).unwrap();
    assert!(map.read().iter().all(|&byte| byte == b'.'));
    open(m.path("f")).write_all_at(b"changed", 4096).unwrap();
    assert!(map.read()[4096..].starts_with(b"changed."));
}

#[test]
fn a_mapping_grows_with_its_file() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", vec![b'a'; 1000]);
    let mut m = s.mount();
    let file = open(m.path("f"));
    let map = Mapping::new(file.as_fd(), 16_384, true).unwrap();
    file.set_len(16_384).unwrap();
    map.write(16_000, b"grown");
    drop((map, file));
    m.remount();
    let content = fs::read(m.path("f")).unwrap();
    assert_eq!(content.len(), 16_384);
    assert!(content[16_000..].starts_with(b"grown\0"));
    assert!(content[1000..16_000].iter().all(|&byte| byte == 0));
}

#[test]
fn a_mapping_of_a_deleted_file_stays_usable() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("lower", vec![b'l'; 4096]);
    let m = s.mount();
    m.file("upper", vec![b'u'; 4096]);
    for (name, byte) in [("lower", b'l'), ("upper", b'u')] {
        let file = open(m.path(name));
        let map = Mapping::new(file.as_fd(), 4096, true).unwrap();
        fs::remove_file(m.path(name)).unwrap();
        assert_eq!(map.read()[7], byte);
        map.write(0, b"still");
        map.sync().unwrap();
        let mut buffer = [0; 6];
        file.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(buffer, [b's', b't', b'i', b'l', b'l', byte]);
    }
}
