//! Options that change what the kernel asks for, and how often, seen by the server's own counts.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use crate::support::{Mount, Scratch};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it is no program";
const MIB: usize = 1 << 20;

/// How many requests of a kind came.
fn requests(m: &Mount, kind: &str) -> u64 {
    m.statistics()["requests"][kind].as_u64().unwrap_or(0)
}

/// How many requests of `kind` some `work` takes in a mount with `option`, where a lower has the
/// file `f` of one mebibyte.
fn taken(option: &str, kind: &str, work: impl FnOnce(&Mount)) -> u64 {
    let s = Scratch::new();
    s.lower(0).file("f", vec![b'x'; MIB]);
    let m = s.setup().option(option).mount();
    let before = requests(&m, kind);
    work(&m);
    requests(&m, kind) - before
}

#[test]
fn timeout_says_how_long_the_kernel_remembers() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let look = |m: &Mount| {
        for _ in 0..20 {
            m.stat("f");
            assert!(!m.exists("absent"));
        }
    };
    for option in ["rw", "timeout=1000"] {
        assert_eq!(taken(option, "LOOKUP", look), 2, "{option}");
    }
    assert!(taken("timeout=0", "LOOKUP", look) >= 40);
}

fn write_little_by_little(m: &Mount) {
    let mut file = File::create(m.path("new")).unwrap();
    for _ in 0..100 {
        file.write_all(b"0123456789").unwrap();
    }
    file.sync_all().unwrap();
    drop(file);
    assert_eq!(m.read("new"), "0123456789".repeat(100));
}

#[test]
fn writeback_gathers_small_writes() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    for option in ["rw", "writeback=0"] {
        assert_eq!(taken(option, "WRITE", write_little_by_little), 100, "{option}");
    }
    assert_eq!(taken("writeback=1", "WRITE", write_little_by_little), 1);
}

#[test]
fn max_write_is_the_largest_request() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let write = |m: &Mount| fs::write(m.path("new"), vec![b'y'; MIB]).unwrap();
    let large = taken("rw", "WRITE", write);
    assert_eq!(taken("max_write=1048576", "WRITE", write), large);
    assert_eq!(taken("max_write=65536", "WRITE", write), 16);
    assert!(large < 16, "{large}");
}

#[test]
fn max_read_is_the_largest_request() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    // Past the cache and its reading ahead.
    let read = |m: &Mount| {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(m.path("f"));
        let mut content = Vec::new();
        file.unwrap().take(MIB as u64).read_to_end(&mut content).unwrap();
        assert_eq!(content.len(), MIB);
    };
    let large = taken("rw", "READ", read);
    assert!(taken("max_read=4096", "READ", read) >= 256);
    assert!(large < 256, "{large}");
}

#[test]
fn sync_forces_out_each_write() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let write = |m: &Mount| {
        let file = File::create(m.path("new")).unwrap();
        for place in 0..5 {
            file.write_all_at(b"x", place).unwrap();
        }
    };
    for option in ["rw", "async", "sync,async"] {
        assert_eq!(taken(option, "FSYNC", write), 0, "{option}");
    }
    assert_eq!(taken("sync", "FSYNC", write), 5);
}

/// What fsync(2) costs the upper's disk, by the option and by the kernel's name for it.
#[test]
fn volatile_forces_out_nothing() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    for (option, forced) in [
        ("rw", true),
        ("fsync=1", true),
        ("fsync=auto", true),
        ("fsync=strict", true),
        ("volatile", false),
        ("fsync=0", false),
        ("fsync=volatile", false),
    ] {
        let s = Scratch::new();
        s.lower(0).file("f", "x");
        let m = s.setup().option(option).mount();
        m.mode("f", 0o600);
        File::create(m.path("new")).unwrap().sync_all().unwrap();
        let fsyncs = m.statistics()["upper"]["fsyncs"].as_u64().unwrap();
        assert_eq!(fsyncs > 0, forced, "{option}: {fsyncs}");
        assert_eq!(s.work.exists("work/incompat/volatile"), !forced, "{option}");
    }
}
