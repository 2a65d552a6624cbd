//! fsx on the mount. Each test does its share of `OVLMERGE_FSX_OPS` operations in runs of a few
//! thousand: each run has a new seed and, where the file begins in a lower layer, a new copy-up.
//!
//! After each run the mount goes and comes again, the file must still have its content, and the
//! lower layer its own.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Scratch, process};
use crate::{needs, test_name, tool};

/// Operations of all tests together, unless `OVLMERGE_FSX_OPS` says otherwise.
const OPERATIONS: u64 = 240_000;
const TESTS: u64 = 5;
/// Few enough that fsx, which does not unmap what it reads through mmap(2), stays below the
/// kernel's limit of mappings.
const LONGEST_RUN: u64 = 20_000;
const LOWER: u8 = b'L';
/// Longer than any file length in the configurations.
const LOWER_LEN: usize = 400_000;
/// `flen` in fsx-inplace.toml.
const IN_PLACE_LEN: usize = 262_144;

#[test]
fn fsx_on_a_new_file() {
    needs!(mount);
    let Some(fsx) = tool::find(test_name!(), "fsx") else { return };
    let config = include_str!("fsx.toml");
    let file = Begins::New;
    Exercise { fsx, config, seed: 1_000, run: LONGEST_RUN, file }.run_all();
}

#[test]
fn fsx_with_small_operations() {
    needs!(mount);
    let Some(fsx) = tool::find(test_name!(), "fsx") else { return };
    let config = include_str!("fsx-small.toml");
    let file = Begins::New;
    Exercise { fsx, config, seed: 2_000, run: LONGEST_RUN, file }.run_all();
}

/// fsx truncates the file when it opens it.
#[test]
fn fsx_on_a_file_from_a_lower_layer() {
    needs!(mount);
    let Some(fsx) = tool::find(test_name!(), "fsx") else { return };
    let config = include_str!("fsx.toml");
    let file = Begins::Lower;
    Exercise { fsx, config, seed: 3_000, run: 4_000, file }.run_all();
}

/// fsx overwrites the file's begin. What follows must stay, and who had the file open before must
/// see the new content too.
#[test]
fn fsx_inside_a_file_from_a_lower_layer() {
    needs!(mount);
    let Some(fsx) = tool::find(test_name!(), "fsx") else { return };
    let config = include_str!("fsx-inplace.toml");
    let file = Begins::LowerInPlace;
    Exercise { fsx, config, seed: 4_000, run: 4_000, file }.run_all();
}

/// On one mount, each copied up while the others are at work. Here it is one long run.
#[test]
fn fsx_on_several_files_at_once() {
    needs!(mount);
    let Some(fsx) = tool::find(test_name!(), "fsx") else { return };
    let (config, file) = (include_str!("fsx.toml"), Begins::Lower);
    let exercise = Exercise { fsx, config, seed: 5_000, run: LONGEST_RUN, file };
    let names: Vec<_> = (0..4).map(|number| format!("dir/file{number}")).collect();
    let scratch = Scratch::with_lowers(2);
    for name in &names {
        scratch.lower(1).file(name, [LOWER; LOWER_LEN]);
    }
    let mut mount = scratch.mount();
    let mut left = share().div_ceil(names.len() as u64);
    let mut seed = exercise.seed;
    while left > 0 {
        let count = left.min(exercise.run);
        std::thread::scope(|scope| {
            for name in &names {
                let (exercise, file) = (&exercise, mount.path(name));
                let artifacts = scratch.base().sub(format!("artifacts.{seed}"));
                scope.spawn(move || call(exercise, seed, count, artifacts.dir("").root(), &file));
                seed += 1;
            }
        });
        left -= count;
    }
    let read = |name| fs::read(mount.path(name)).unwrap();
    let contents: Vec<_> = names.iter().map(read).collect();
    mount.remount();
    for (name, content) in names.iter().zip(&contents) {
        assert!(fs::read(mount.path(name)).unwrap() == *content, "{name} after a new mount");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Begins {
    New,
    Lower,
    LowerInPlace,
}

/// The operations that one test does.
fn share() -> u64 {
    let all = std::env::var("OVLMERGE_FSX_OPS");
    let all: u64 = all.map_or(OPERATIONS, |text| text.parse().expect("a number"));
    all.div_ceil(TESTS)
}

struct Exercise {
    fsx: PathBuf,
    config: &'static str,
    /// Of the first run; each further one has the next.
    seed: u64,
    /// Operations in one run.
    run: u64,
    file: Begins,
}

impl Exercise {
    fn run_all(&self) {
        let mut left = share();
        let mut seed = self.seed;
        while left > 0 {
            let count = left.min(self.run);
            self.run_once(seed, count);
            left -= count;
            seed += 1;
        }
        println!("{} operations in {} runs", share(), seed - self.seed);
    }

    fn run_once(&self, seed: u64, count: u64) {
        let scratch = Scratch::with_lowers(2);
        let lower = scratch.lower(1);
        lower.dir("dir");
        if self.file != Begins::New {
            lower.file("dir/file", [LOWER; LOWER_LEN]);
        }
        let mut mount = scratch.mount();
        let file = mount.path("dir/file");
        let in_place = self.file == Begins::LowerInPlace;
        let opened_before = in_place.then(|| File::open(&file).unwrap());

        call(self, seed, count, scratch.base().root(), &file);

        let content = fs::read(&file).unwrap();
        if let Some(mut reader) = opened_before {
            let rest = &content[IN_PLACE_LEN..];
            assert!(rest == [LOWER; LOWER_LEN - IN_PLACE_LEN], "seed {seed}: the file's rest");
            let mut seen = Vec::new();
            reader.read_to_end(&mut seen).unwrap();
            assert!(seen == content, "seed {seed}: who opened it before copy-up sees another file");
        }
        mount.remount();
        assert!(fs::read(&file).unwrap() == content, "seed {seed}: the content after a new mount");
        mount.unmount();
        if self.file != Begins::New {
            let original = fs::read(lower.path("dir/file")).unwrap();
            assert!(original == [LOWER; LOWER_LEN], "seed {seed}: the lower layer was written");
        }
    }
}

fn call(exercise: &Exercise, seed: u64, count: u64, scratch: &Path, file: &Path) {
    let config = scratch.join("fsx.toml");
    fs::write(&config, exercise.config).unwrap();
    let mut command = Command::new(&exercise.fsx);
    command.arg("-f").arg(&config).arg("-P").arg(scratch);
    command.args(["-N", &count.to_string(), "-S", &seed.to_string()]).arg(file);
    let output = process::output(&mut command);
    let complete = process::text(&output.stdout).contains("All operations completed");
    let complaint = process::text(&output.stderr);
    let complaint: Vec<_> = complaint.lines().collect();
    let head = complaint.len().min(12);
    let tail = complaint.len().saturating_sub(12).max(head);
    assert!(
        output.status.success() && complete,
        "fsx with seed {seed}: {}\n{}\n...\n{}",
        output.status,
        complaint[..head].join("\n"),
        complaint[tail..].join("\n")
    );
}
