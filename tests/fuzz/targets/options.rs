//! Option strings of a mount: read or refused, and paths that were read can be written.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ovlmerge::cli::escape::{self, escape_path, escape_paths};
use ovlmerge::cli::request::Request;
use ovlmerge::cli::{args, helper};

/// What must hold of any bytes.
pub fn check(text: &[u8]) {
    for strict in [false, true] {
        let mut request = Request { strict, ..Request::default() };
        match request.add(text) {
            Ok(()) => finish(request),
            Err(said) => assert!(!said.to_string().is_empty()),
        }
    }
    paths(text);
    command_line(text);
}

fn finish(request: Request) {
    match request.finish(Path::new("/mnt")) {
        Ok(config) => {
            assert!(!config.lowers.is_empty());
            let upper = config.upper.iter().flat_map(|dirs| [&dirs.upper, &dirs.work]);
            for path in config.lowers.iter().chain(&config.data_only).chain(upper) {
                assert!(path.is_absolute());
            }
        }
        Err(said) => assert!(!said.to_string().is_empty()),
    }
}

/// Any path has a spelling, in a list and alone, and it is one option.
fn paths(text: &[u8]) {
    for option in escape::split_options(text) {
        assert!(!option.is_empty());
        let (name, _) = escape::name_and_value(option);
        assert!(option.starts_with(name) && !name.contains(&b'='));
    }
    let read = escape::split_paths(text);
    let written = [OsStr::new("lowerdir="), &escape_paths(&read)].map(OsStr::as_bytes).concat();
    let options = escape::split_options(&written);
    assert_eq!(options.len(), 1, "{}", written.escape_ascii());
    let (_, value) = escape::name_and_value(options[0]);
    assert_eq!(escape::split_paths(value.unwrap()), read, "{}", written.escape_ascii());
    let whole = Path::new(OsStr::from_bytes(text));
    assert_eq!(escape::unescape(escape_path(whole).as_bytes()), whole);
}

/// The same as words, one on each line: of an ordinary call, and of mount(8).
fn command_line(text: &[u8]) {
    let words: Vec<_> = text.split(|byte| *byte == b'\n').map(OsStr::from_bytes).collect();
    let words: Vec<_> = words.into_iter().map(OsStr::to_owned).collect();
    if let Some((_, rest)) = args::subcommand(&words) {
        assert_eq!(rest.len(), words.len() - 1);
    }
    helper::read(&words).ok();
}
