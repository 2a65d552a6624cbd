//! Files that are read ahead, and files that are not.

use std::fs::{self, File};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use serde_json::json;

use crate::support::{LoopFs, Mount, Scratch};
use crate::{needs, not_the_kernels};

const DIRS: usize = 4;
/// So many that one directory tells that attributes are wanted with the names.
const FILES: usize = 20;

fn names(dir: usize) -> impl Iterator<Item = String> {
    (0..FILES).map(move |file| format!("d{dir}/f{file}"))
}

fn content(name: &str) -> String {
    name.repeat(1000)
}

/// A tree on a disk, and a place for a mount beside it.
fn tree() -> (LoopFs, Scratch) {
    let disk = LoopFs::ext4(16);
    let scratch = Scratch::in_dir(disk.path(), 1);
    for name in (0..DIRS).flat_map(names) {
        scratch.lower(0).file(&name, content(&name));
    }
    (disk, scratch)
}

fn drop_from_memory(scratch: &Scratch) {
    for name in (0..DIRS).flat_map(names) {
        let file = File::open(scratch.lower(0).path(name)).unwrap();
        file.sync_all().unwrap();
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
    }
}

fn look_at(m: &Mount, dir: usize) {
    for entry in fs::read_dir(m.path(format!("d{dir}"))).unwrap() {
        assert!(entry.unwrap().metadata().unwrap().is_file());
    }
}

fn read(m: &Mount, dir: usize) {
    names(dir).for_each(|name| assert_eq!(m.read(&name), content(&name), "{name}"));
}

/// Who lists a directory and reads the files in it, as tar and grep do, waits for the disk at each
/// of the first ones. From then on they are asked for as soon as they are listed.
#[test]
fn files_on_a_disk_are_read_ahead_of_who_reads_all_that_is_listed() {
    needs!(mount, loop_device);
    not_the_kernels!("it has no statistics");
    let (_disk, s) = tree();
    drop_from_memory(&s);
    let m = s.mount();
    for dir in 0..DIRS {
        look_at(&m, dir);
        let expected = dir * FILES;
        let files = || m.statistics()["read_ahead"]["files"].as_u64().unwrap();
        let done = crate::support::process::wait_for(std::time::Duration::from_secs(10), || {
            files() == expected as u64
        });
        assert!(done, "{} files instead of {expected} after directory {dir}", files());
        read(&m, dir);
    }
    let all = (DIRS - 1) * FILES;
    assert_eq!(m.statistics()["read_ahead"], json!({ "files": all, "wanted": all }));
}

#[test]
fn files_in_memory_are_not_read_ahead() {
    needs!(mount, loop_device);
    not_the_kernels!("it has no statistics");
    let (_disk, s) = tree();
    let m = s.mount();
    for dir in 0..DIRS {
        look_at(&m, dir);
        read(&m, dir);
    }
    assert_eq!(m.statistics()["read_ahead"], json!({ "files": 0, "wanted": 0 }));
}
