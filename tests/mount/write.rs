//! Data: write, append, truncate, through descriptors of every kind.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use crate::needs;
use crate::support::{Scratch, assert_errno};

/// Bytes that tell where they stand.
pub fn pattern(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let step = |state: &mut u32| {
        *state ^= *state << 13;
        *state ^= *state >> 17;
        *state ^= *state << 5;
        state.to_le_bytes()[1]
    };
    (0..length).map(|_| step(&mut state)).collect()
}

#[test]
fn a_change_in_the_middle_of_a_lower_file_keeps_the_rest() {
    needs!(mount);
    let s = Scratch::new();
    let mut expected = pattern(3_000_000, 1);
    s.lower(0).file("f", &expected);
    let mut m = s.mount();
    let file = OpenOptions::new().write(true).open(m.path("f")).unwrap();
    file.write_all_at(b"CHANGED", 1_234_567).unwrap();
    drop(file);
    expected[1_234_567..1_234_574].copy_from_slice(b"CHANGED");
    assert!(fs::read(m.path("f")).unwrap() == expected);
    m.remount();
    assert!(fs::read(m.path("f")).unwrap() == expected);
    assert!(fs::read(s.lower(0).path("f")).unwrap() == pattern(3_000_000, 1));
}

#[test]
fn appending_to_a_lower_file() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "one\n");
    let mut m = s.mount();
    let append = |text: &str| {
        let mut file = OpenOptions::new().append(true).open(m.path("f")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    append("two\n");
    append("three\n");
    assert_eq!(m.read("f"), "one\ntwo\nthree\n");
    m.remount();
    assert_eq!(m.read("f"), "one\ntwo\nthree\n");
}

/// O_APPEND places each write at the end of the file, wherever another descriptor has moved it.
#[test]
fn two_appenders_do_not_overwrite_each_other() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "");
    let m = s.mount();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let path = m.path("f");
            scope.spawn(move || {
                let mut file = OpenOptions::new().append(true).open(path).unwrap();
                for line in 0..250 {
                    file.write_all(format!("{thread}:{line:04}\n").as_bytes()).unwrap();
                }
            });
        }
    });
    let text = m.read("f");
    let mut lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 1_000);
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 1_000);
}

#[test]
fn a_descriptor_opened_before_copy_up_sees_the_new_data() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "old content");
    let m = s.mount();
    let mut reader = File::open(m.path("f")).unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "old content");
    let mut writer = OpenOptions::new().read(true).write(true).open(m.path("f")).unwrap();
    writer.write_all(b"NEW").unwrap();
    reader.seek(SeekFrom::Start(0)).unwrap();
    text.clear();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "NEW content");
    writer.set_len(5).unwrap();
    assert_eq!(reader.metadata().unwrap().len(), 5);
    assert_eq!(s.lower(0).read("f"), "old content");
}

#[test]
fn truncation_of_lower_files_by_path_and_by_descriptor() {
    needs!(mount);
    for length in [0, 1, 4096, 5000, 9999, 10_000, 10_001, 200_000] {
        let s = Scratch::new();
        let content = pattern(10_000, 3);
        s.lower(0).file("path", &content).file("fd", &content);
        let mut m = s.mount();
        nix::unistd::truncate(&m.path("path"), i64::try_from(length).unwrap()).unwrap();
        let file = OpenOptions::new().write(true).open(m.path("fd")).unwrap();
        file.set_len(length as u64).unwrap();
        let mut expected = content.clone();
        expected.resize(length, 0);
        for round in 0..2 {
            for name in ["path", "fd"] {
                let found = fs::read(m.path(name)).unwrap();
                assert!(found == expected, "{name} to {length}, round {round}");
            }
            if round == 0 {
                drop(file.try_clone());
                fs::read(m.path("fd")).unwrap();
            }
        }
        drop(file);
        m.remount();
        for name in ["path", "fd"] {
            assert!(fs::read(m.path(name)).unwrap() == expected, "{name} to {length}");
        }
        assert!(fs::read(s.lower(0).path("path")).unwrap() == content);
    }
}

#[test]
fn writing_past_the_end_leaves_zeros() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "abc");
    let mut m = s.mount();
    let file = OpenOptions::new().write(true).open(m.path("f")).unwrap();
    file.write_all_at(b"end", 100_000).unwrap();
    drop(file);
    m.remount();
    let content = fs::read(m.path("f")).unwrap();
    assert_eq!(content.len(), 100_003);
    assert!(content.starts_with(b"abc\0") && content.ends_with(b"\0end"));
    assert!(content[3..100_000].iter().all(|&byte| byte == 0));
}

#[test]
fn large_writes_of_odd_sizes_come_back() {
    needs!(mount);
    let s = Scratch::new();
    let mut m = s.mount();
    let content = pattern(20_000_000, 7);
    let mut file = File::create(m.path("f")).unwrap();
    let mut rest = content.as_slice();
    let mut size = 1;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(size.min(rest.len()));
        file.write_all(now).unwrap();
        rest = later;
        size = (size * 3 + 1) % 3_000_000 + 1;
    }
    drop(file);
    assert!(fs::read(m.path("f")).unwrap() == content);
    m.remount();
    assert!(fs::read(m.path("f")).unwrap() == content);
}

#[test]
fn reading_at_and_past_the_end() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "0123456789");
    let m = s.mount();
    let file = File::open(m.path("f")).unwrap();
    let mut buffer = [0; 8];
    assert_eq!(file.read_at(&mut buffer, 5).unwrap(), 5);
    assert_eq!(file.read_at(&mut buffer, 10).unwrap(), 0);
    assert_eq!(file.read_at(&mut buffer, 1_000_000).unwrap(), 0);
    assert_errno(file.write_at(b"x", 0), libc::EBADF);
    let dir = File::open(m.root()).unwrap();
    assert_errno(dir.read_at(&mut buffer, 0), libc::EISDIR);
}

/// O_DIRECT bypasses caches, so each side must still see what the other wrote.
#[test]
fn direct_and_cached_access_agree() {
    needs!(mount);
    let s = Scratch::new();
    let content = pattern(64 << 10, 11);
    s.lower(0).file("f", &content);
    let m = s.mount();
    let mut buffer = vec![0_u8; 12 << 10];
    let aligned = buffer.as_ptr().align_offset(4096);
    let buffer = &mut buffer[aligned..aligned + 8192];
    let direct = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(m.path("f"))
        .unwrap();
    assert_eq!(direct.read_at(buffer, 4096).unwrap(), 8192);
    assert!(buffer == &content[4096..12_288]);
    buffer.fill(b'd');
    assert_eq!(direct.write_at(buffer, 8192).unwrap(), 8192);
    let cached = fs::read(m.path("f")).unwrap();
    assert!(cached[8192..16_384].iter().all(|&byte| byte == b'd'));
    assert!(cached[..8192] == content[..8192] && cached[16_384..] == content[16_384..]);
    OpenOptions::new()
        .write(true)
        .open(m.path("f"))
        .unwrap()
        .write_all_at(b"cached", 8192)
        .unwrap();
    assert_eq!(direct.read_at(buffer, 8192).unwrap(), 8192);
    assert!(buffer.starts_with(b"cachedd"));
}

#[test]
fn a_file_of_no_bytes_is_copied_up_too() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("empty", "").owner("empty", 5, 6);
    let mut m = s.mount();
    m.mode("empty", 0o604);
    m.remount();
    assert_eq!(m.read("empty"), "");
    assert_eq!(m.mode_of("empty"), 0o604);
    assert_eq!(s.upper.stat("empty").len(), 0);
}
