//! Calling a tool, and what it answers.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::layer::Layer;
use crate::support::process::{output, text};
use crate::support::{Scratch, binary};

/// Calls the program.
pub fn call<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Output {
    output(Command::new(binary()).args(args).env_remove("SOURCE_DATE_EPOCH"))
}

/// Calls it, and fails the test if it fails.
#[track_caller]
pub fn done<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Output {
    let output = call(args);
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    output
}

/// The lowers and the upper as `-o` has them.
pub fn layers(scratch: &Scratch) -> OsString {
    let mut options = OsString::from("lowerdir=");
    for (number, lower) in scratch.lowers().iter().enumerate() {
        if number > 0 {
            options.push(":");
        }
        options.push(lower.root());
    }
    options.push(",upperdir=");
    options.push(scratch.upper.root());
    options
}

fn words(scratch: &Scratch, more: &[&str]) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["diff".into(), "-o".into(), layers(scratch)];
    words.extend(more.iter().map(OsString::from));
    words
}

/// `ovlmerge diff`, to standard output; the bytes.
#[track_caller]
pub fn pack(scratch: &Scratch, more: &[&str]) -> Vec<u8> {
    done(words(scratch, more)).stdout
}

/// `ovlmerge diff`, the layer read.
#[track_caller]
pub fn diff(scratch: &Scratch, more: &[&str]) -> Layer {
    Layer::read(&pack(scratch, more))
}

/// `ovlmerge diff` with unchanged parents left out, one line for each entry but the root.
#[track_caller]
pub fn changed(scratch: &Scratch) -> Vec<String> {
    let layer = diff(scratch, &["--parents=changed"]);
    layer.lines().into_iter().filter(|line| !line.ends_with(" ./")).map(str::to_owned).collect()
}

/// `ovlmerge diff` has to fail; what it says.
#[track_caller]
pub fn refused(scratch: &Scratch, more: &[&str], status: i32) -> String {
    let output = call(words(scratch, more));
    assert_eq!(output.status.code(), Some(status), "{}", text(&output.stderr));
    text(&output.stderr)
}

/// What `ovlmerge diff` says besides the layer.
#[track_caller]
pub fn warned(scratch: &Scratch) -> String {
    text(&done(words(scratch, &[])).stderr)
}

/// Standard output as text.
#[track_caller]
pub fn printed(scratch: &Scratch, more: &[&str]) -> String {
    text(&done(words(scratch, more)).stdout)
}

/// A path in the scratch directory.
pub fn beside(scratch: &Scratch, name: &str) -> PathBuf {
    scratch.base().path(name)
}

/// What `ovlmerge check`, called with these words, finds, without the explanations: `OVL001 /a`.
#[track_caller]
pub fn findings(args: Vec<OsString>) -> Vec<String> {
    let output = call(args);
    let (said, status) = (text(&output.stdout), output.status.code());
    let lines = said.lines().filter(|line| line.starts_with("OVL"));
    let found: Vec<_> = lines.map(|line| line.split_once(": ").unwrap().0.to_owned()).collect();
    let wanted = if found.is_empty() { 0 } else { 3 };
    assert_eq!(status, Some(wanted), "{said}{}", text(&output.stderr));
    found
}
