//! Holes, allocation, and copies made by the kernel.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek};

use super::write::pattern;
use crate::support::raw::copy_range;
use crate::support::{LoopFs, Mount, Scratch, assert_errno};
use crate::{needs, not_the_kernels};

const MEBIBYTE: u64 = 1 << 20;

fn open(m: &Mount, name: &str) -> File {
    OpenOptions::new().read(true).write(true).open(m.path(name)).unwrap()
}

/// 1 MiB of data, 64 MiB of nothing, 1 MiB of data, 3 MiB of nothing.
fn make_sparse(path: &std::path::Path) {
    let file = File::create(path).unwrap();
    file.write_all_at(&pattern(1 << 20, 1), 0).unwrap();
    file.write_all_at(&pattern(1 << 20, 2), 65 * MEBIBYTE).unwrap();
    file.set_len(69 * MEBIBYTE).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn copy_up_keeps_holes() {
    needs!(mount);
    let s = Scratch::new();
    make_sparse(&s.lower(0).path("f"));
    let mut m = s.mount();
    m.mode("f", 0o600);
    let upper = s.upper.stat("f");
    assert_eq!(upper.len(), 69 * MEBIBYTE);
    assert!(upper.blocks() * 512 < 4 * MEBIBYTE, "{} KiB", upper.blocks() / 2);
    m.remount();
    let (merged, lower) = (open(&m, "f"), File::open(s.lower(0).path("f")).unwrap());
    let (mut one, mut other) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for part in 0..69 {
        merged.read_exact_at(&mut one, part * MEBIBYTE).unwrap();
        lower.read_exact_at(&mut other, part * MEBIBYTE).unwrap();
        assert!(one == other, "at {part} MiB");
    }
}

/// Which ways lead from one file system to the other is learned from the first file, and holds for
/// that file system alone.
#[test]
fn data_comes_from_every_file_system() {
    needs!(mount, loop_device);
    let others = Scratch::with_lowers(2);
    let sizes = [1, 4095, 4096, 4097, 65_536, 65_537, 300_000];
    let name = |origin: &str, size: usize| format!("{origin}-{size}");
    for size in sizes {
        others.lower(0).file(name("image", size), pattern(size, 1));
        others.lower(1).file(name("other", size), pattern(size, 2));
    }
    let image = LoopFs::squashfs(others.lower(0).root());
    for disk in [LoopFs::xfs(300), LoopFs::btrfs(128), LoopFs::ext4(32)] {
        let s = Scratch::in_dir(disk.path(), 1);
        for size in sizes {
            s.lower(0).file(name("same", size), pattern(size, 3));
        }
        let lowers = [image.path(), others.lower(1).root(), s.lower(0).root()];
        let mut m = s.setup().lowers(lowers.map(std::path::Path::to_owned).to_vec()).mount();
        for size in sizes {
            for (origin, seed) in [("image", 1), ("other", 2), ("same", 3)] {
                let name = name(origin, size);
                open(&m, &name).write_all_at(b"!", 0).unwrap();
                let mut expected = pattern(size, seed);
                expected[0] = b'!';
                assert!(fs::read(s.upper.path(&name)).unwrap() == expected, "{name}");
            }
        }
        m.unmount();
        drop(s);
    }
}

/// A file that cannot be shared says nothing of those on another file system.
#[test]
fn data_is_shared_where_it_can_be() {
    needs!(mount, loop_device);
    not_the_kernels!("it does not tell");
    needs!(shares_between_mounts);
    let other = Scratch::new();
    for disk in [LoopFs::xfs(300), LoopFs::btrfs(128)] {
        let s = Scratch::in_dir(disk.path(), 1);
        for number in 0..3 {
            other.lower(0).file(format!("other-{number}"), pattern(100_000, number));
            s.lower(0).file(format!("same-{number}"), pattern(100_000, number));
        }
        let lowers = [other.lower(0), s.lower(0)].map(|dir| dir.root().to_owned());
        let mut m = s.setup().lowers(lowers.to_vec()).mount();
        for number in 0..3 {
            m.mode(format!("other-{number}"), 0o600).mode(format!("same-{number}"), 0o600);
        }
        let upper = &m.statistics()["upper"];
        assert_eq!((&upper["reflinks"], &upper["copied_bytes"]), (&3.into(), &300_000.into()));
        m.unmount();
        drop(s);
    }
}

#[test]
fn holes_are_found_in_every_layer() {
    needs!(mount);
    let s = Scratch::new();
    make_sparse(&s.lower(0).path("lower"));
    make_sparse(&s.lower(0).path("copied"));
    let m = s.mount();
    make_sparse(&m.path("upper"));
    m.mode("copied", 0o600);
    let mebi = i64::try_from(MEBIBYTE).unwrap();
    for name in ["lower", "copied", "upper"] {
        let file = open(&m, name);
        let seek = |offset: i64, whence| lseek(&file, offset * mebi, whence);
        assert_eq!(seek(0, Whence::SeekHole), Ok(mebi), "{name}");
        assert_eq!(seek(1, Whence::SeekData), Ok(65 * mebi), "{name}");
        assert_eq!(seek(65, Whence::SeekHole), Ok(66 * mebi), "{name}");
        assert_eq!(seek(66, Whence::SeekData), Err(nix::Error::ENXIO), "{name}");
        assert_eq!(seek(70, Whence::SeekHole), Err(nix::Error::ENXIO), "{name}");
        assert_eq!(seek(0, Whence::SeekEnd), Ok(69 * mebi), "{name}");
    }
}

#[test]
fn allocation_enlarges_or_not() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("lower", "abc");
    let mut m = s.mount();
    m.file("upper", "abc");
    for name in ["lower", "upper"] {
        let file = open(&m, name);
        fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 100_000).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 3, "{name}");
        fallocate(&file, FallocateFlags::empty(), 0, 50_000).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 50_000, "{name}");
        assert!(file.metadata().unwrap().blocks() >= 96, "{name}");
    }
    m.remount();
    for name in ["lower", "upper"] {
        let content = fs::read(m.path(name)).unwrap();
        assert_eq!(content.len(), 50_000);
        assert!(content.starts_with(b"abc\0"));
    }
    assert_eq!(s.lower(0).read("lower"), "abc");
}

#[test]
fn punched_holes_and_zeroed_ranges() {
    needs!(mount);
    needs!(fuse_zero_range);
    let s = Scratch::new();
    let content = pattern(200_000, 9);
    s.lower(0).file("f", &content);
    let mut m = s.mount();
    let file = open(&m, "f");
    let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(&file, keep | FallocateFlags::FALLOC_FL_PUNCH_HOLE, 8_192, 65_536).unwrap();
    fallocate(&file, FallocateFlags::FALLOC_FL_ZERO_RANGE, 150_000, 100_000).unwrap();
    let mut expected = content.clone();
    expected[8_192..8_192 + 65_536].fill(0);
    expected.resize(250_000, 0);
    expected[150_000..].fill(0);
    assert!(fs::read(m.path("f")).unwrap() == expected);
    let hole = lseek(&file, 0, Whence::SeekHole).unwrap();
    assert_eq!(hole, 8_192);
    drop(file);
    m.remount();
    assert!(fs::read(m.path("f")).unwrap() == expected);
    assert!(fs::read(s.lower(0).path("f")).unwrap() == content);
}

/// Whether these can be done is up to the file system below, but if they are, they are done right.
#[test]
fn collapse_and_insert_are_right_or_refused() {
    needs!(mount);
    let s = Scratch::new();
    let content = pattern(65_536, 4);
    s.lower(0).file("f", &content);
    let m = s.mount();
    let file = open(&m, "f");
    let mut expected = content;
    match fallocate(&file, FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, 4_096, 8_192) {
        Ok(()) => drop(expected.drain(4_096..12_288)),
        Err(err) => assert_eq!(err, nix::Error::EOPNOTSUPP),
    }
    assert!(fs::read(m.path("f")).unwrap() == expected);
    assert_eq!(m.stat("f").len(), expected.len() as u64);
}

#[test]
fn wrong_ranges_are_refused() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "abc");
    let m = s.mount();
    let file = open(&m, "f");
    assert_errno(fallocate(&file, FallocateFlags::empty(), 0, 0), libc::EINVAL);
    let reader = File::open(m.path("f")).unwrap();
    assert_errno(fallocate(&reader, FallocateFlags::empty(), 0, 10), libc::EBADF);
    assert_eq!(m.read("f"), "abc");
}

#[test]
fn copy_file_range_between_every_two_origins() {
    needs!(mount);
    let s = Scratch::new();
    let content = pattern(1_000_000, 6);
    s.lower(0).file("from_lower", &content);
    for target in ["a", "b"] {
        s.lower(0).file(format!("to_lower_{target}"), "0123456789");
    }
    let mut m = s.mount();
    m.file("from_upper", &content);
    for target in ["a", "b"] {
        m.file(format!("to_upper_{target}"), "0123456789");
    }
    let pairs = [("from_lower", "a"), ("from_upper", "b")];
    let mut expected = b"01234".to_vec();
    expected.extend_from_slice(&content[777..900_777]);
    for (from, suffix) in pairs {
        for layer in ["lower", "upper"] {
            let target = open(&m, &format!("to_{layer}_{suffix}"));
            copy_range(&open(&m, from), 777, &target, 5, 900_000).unwrap();
        }
    }
    for _ in 0..2 {
        for (_, suffix) in pairs {
            for layer in ["lower", "upper"] {
                let name = format!("to_{layer}_{suffix}");
                assert!(fs::read(m.path(&name)).unwrap() == expected, "{name}");
            }
        }
        m.remount();
    }
    assert_eq!(s.lower(0).read("to_lower_a"), "0123456789");
}

#[test]
fn copying_with_tools_keeps_content() {
    needs!(mount);
    let s = Scratch::new();
    make_sparse(&s.lower(0).path("f"));
    let m = s.mount();
    crate::support::process::shell(
        m.root(),
        "cp f g && cmp f g && cp --sparse=never f h && cmp f h",
    );
    fs::copy(m.path("f"), m.path("i")).unwrap();
    crate::support::process::shell(
        m.root(),
        "cmp f i && dd if=f of=j bs=12345 status=none && cmp f j",
    );
}
