//! Direct I/O (`O_DIRECT`) beside readers that go through the kernel's pages.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::needs;
use crate::support::raw::{Aio, Aligned, Mapping};
use crate::support::{Scratch, mount::Setup};

/// Bytes of one write, and how many of them are under way together.
const PART: usize = 4096;
const PARTS: usize = 16;
const LENGTH: usize = PART * PARTS;

/// Rounds of writing all parts. A kernel that lets go of its pages before a write, but not after
/// it, leaves old ones behind in every second round or so.
const ROUNDS: u8 = 200;

fn direct(path: &std::path::Path, append: bool) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).append(append).custom_flags(libc::O_DIRECT);
    options.open(path).unwrap()
}

/// Reads all of the file again and again until told to stop.
fn read_on(file: &File, stop: &AtomicBool) {
    let mut buffer = vec![0; LENGTH];
    while !stop.load(Ordering::Relaxed) {
        file.read_at(&mut buffer, 0).unwrap();
    }
}

/// Runs `round` for each generation while two others read the file; after each, what a new reader
/// sees has to be of this generation.
fn no_reader_sees_old_data(setup: &Setup, round: impl Fn(&File, &mut Aligned)) {
    let m = setup.mount();
    let path = m.path("f");
    let (writer, reader) = (direct(&path, false), File::open(&path).unwrap());
    let map = Mapping::new(reader.as_fd(), LENGTH, false).unwrap();
    let mut data = Aligned::new(LENGTH);
    let stop = AtomicBool::new(false);
    let stale: Vec<_> = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| read_on(&reader, &stop));
        }
        let mut stale = Vec::new();
        for generation in 1..=ROUNDS {
            data.fill(generation);
            round(&writer, &mut data);
            let mut read = vec![0; LENGTH];
            reader.read_exact_at(&mut read, 0).unwrap();
            let is_old = |bytes: &[u8]| bytes.iter().any(|&byte| byte != generation);
            if is_old(&read) || is_old(&map.read()) {
                stale.push(generation);
            }
        }
        stop.store(true, Ordering::Relaxed);
        stale
    });
    assert!(stale.is_empty(), "old data after {} of {ROUNDS} writes", stale.len());
}

/// xfstests generic/451: a database writes asynchronously past the kernel's pages while a backup
/// reads through them. The pages that the backup had filled with the old data stayed, and were what
/// everybody read from then on.
#[test]
fn asynchronous_direct_writes_are_seen_by_other_readers() {
    needs!(mount);
    for option in ["writeback=0", "writeback=1"] {
        if option == "writeback=1" && crate::support::passthrough_everywhere() {
            continue;
        }
        for is_lower in [true, false] {
            let s = Scratch::new();
            let place = if is_lower { s.lower(0) } else { &s.upper };
            place.file("f", vec![0; LENGTH]);
            let aio = Aio::new(PARTS).unwrap();
            let setup = match crate::support::Engine::current() {
                crate::support::Engine::Kernel => s.setup(),
                crate::support::Engine::Program => s.setup().option(option),
            };
            no_reader_sees_old_data(&setup, |file, data| aio.write(file, data, PART).unwrap());
        }
    }
}

#[test]
fn direct_writes_one_by_one_are_seen_by_other_readers() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", vec![0; LENGTH]);
    no_reader_sees_old_data(&s.setup(), |file, data| {
        for (at, chunk) in data.bytes().chunks(PART).enumerate() {
            assert_eq!(file.write_at(chunk, (at * PART) as u64).unwrap(), PART);
        }
    });
}

/// Bytes that are appended past the kernel's pages are seen through them at once, and so is the new
/// size.
#[test]
fn direct_appends_are_seen_by_other_readers() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", vec![0; PART]);
    let m = s.mount();
    let path = m.path("f");
    let (writer, reader) = (direct(&path, true), File::open(&path).unwrap());
    let mut data = Aligned::new(PART);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| read_on(&reader, &stop));
        for generation in 1..=50_u8 {
            data.fill(generation);
            assert_eq!((&writer).write(data.bytes()).unwrap(), PART);
            let size = (PART * (1 + usize::from(generation))) as u64;
            assert_eq!(reader.metadata().unwrap().len(), size);
            let mut last = vec![0; PART];
            reader.read_exact_at(&mut last, size - PART as u64).unwrap();
            assert!(last.iter().all(|&byte| byte == generation), "append {generation}");
        }
        stop.store(true, Ordering::Relaxed);
    });
}
