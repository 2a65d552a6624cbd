//! Parsers of what nobody vouches for, and bytes that they once were, or might be, wrong about.
//!
//! * [`marks`], [`options`], [`layer`]: what must hold of any bytes, one function each;
//! * `fuzz_targets`: the same for cargo-fuzz, which makes up bytes by what they make the program
//!   do. It has a package of its own, as it is built with other flags;
//! * `corpus`: what it begins with. Every file is tried here as well, in every run of the tests.
//!
//! More is looked for, with a stable compiler, by
//!
//! ```text
//! cargo fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz --sanitizer none layer NEW OLD
//! ```
//!
//! It begins with what is in the directory OLD, such as `tests/fuzz/corpus/layer`. What it finds
//! interesting goes to NEW, what fails to `tests/fuzz/artifacts`. A failure that was mended gets a
//! file in the corpus, with a name that says what it was.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unreachable,
    missing_docs
)]

#[path = "targets/layer.rs"]
mod layer;
#[path = "targets/marks.rs"]
mod marks;
#[path = "targets/options.rs"]
mod options;

use std::path::Path;

/// Tries each file of a corpus, and its beginnings.
fn replay(name: &str, check: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut count = 0;
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        let bytes = std::fs::read(&path).unwrap();
        check(&bytes);
        check(&bytes[..bytes.len() / 2]);
        count += 1;
    }
    assert!(count >= 10, "only {count} files in {}", dir.display());
}

#[test]
fn corpus_of_marks() {
    replay("marks", marks::check);
}

#[test]
fn corpus_of_options() {
    replay("options", options::check);
}

#[test]
fn corpus_of_layers() {
    replay("layer", layer::check);
}

/// Fuzzing is worth little if its archives are thrown away at the first header.
#[test]
fn archives_are_mended() {
    let mut header = tar::Header::new_ustar();
    header.set_path("a").unwrap();
    header.set_size(3);
    let mut bytes = [header.as_bytes().as_slice(), &[b'x'; 512], header.as_bytes()].concat();
    layer::mend(&mut bytes);
    let mut tar = ovlmerge::tools::oci::archive::Archive::new(&*bytes);
    for _ in 0..2 {
        assert_eq!(tar.next_entry().unwrap().unwrap().path, b"a");
    }
}
