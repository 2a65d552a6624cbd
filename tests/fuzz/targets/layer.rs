//! Archives, compressed or not: unpacked or refused, and nothing happens outside of the directory.

use std::fs;
use std::path::{Path, PathBuf};

use ovlmerge::config::Config;
use ovlmerge::tools::apply::{Limits, Options, apply};
use ovlmerge::tools::oci::archive::Archive;
use ovlmerge::tools::oci::source::Source;

/// The most that is unpacked, in entries and in bytes: small, so that one try takes milliseconds.
const MOST: u64 = 1 << 20;

/// The file beside the layer that no archive may touch.
const SENTINEL: &str = "outside";

/// What must hold of any bytes.
pub fn check(bytes: &[u8]) {
    listed(bytes);
    unpacked(bytes);
}

/// Every entry is read or refused without a file system.
fn listed(bytes: &[u8]) {
    use std::io::Read;
    let Ok(source) = Source::new(bytes) else { return };
    // A kilobyte may stand for a gigabyte of zeros.
    let mut archive = Archive::new(source.take(16 * MOST));
    while let Ok(Some(entry)) = archive.next_entry() {
        assert!(entry.path.len() <= 4096 && entry.link.len() <= 4096);
        assert_eq!(entry.mode & !0o7777, 0);
        assert!(entry.mtime.nsec < 1_000_000_000);
    }
}

fn unpacked(bytes: &[u8]) {
    let home = tempfile::tempdir().unwrap();
    let (out, sentinel) = (home.path().join("out"), home.path().join(SENTINEL));
    fs::write(&sentinel, SENTINEL).unwrap();
    let options = Options {
        config: Config::new(Vec::new(), None, PathBuf::new()),
        limits: Limits { entries: Some(1000), bytes: Some(MOST), ratio: None },
    };
    let done = apply(bytes, &out, &options, &mut |_, _| {});
    let mut expected = vec![SENTINEL];
    if done.is_ok() {
        expected.insert(0, "out");
    }
    assert_eq!(names(home.path()), expected, "{done:?}");
    assert_eq!(fs::read(&sentinel).unwrap(), SENTINEL.as_bytes());
    if let Err(err) = done {
        assert!(!err.to_string().is_empty());
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Gives the headers of a plain archive their check sums, as far as it can be followed.
#[allow(dead_code, reason = "for mutations")]
pub fn mend(bytes: &mut [u8]) {
    // ustar interchange format of pax(1): blocks, and the fields for the size and the check sum.
    const BLOCK: usize = 512;
    const SIZE: std::ops::Range<usize> = 124..136;
    const SUM: std::ops::Range<usize> = 148..156;
    let compressed = [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd"];
    if compressed.iter().any(|mark| bytes.starts_with(mark)) {
        return;
    }
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + BLOCK).filter(|it| it.iter().any(|b| *b != 0)) {
        header[SUM].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[SUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let digits = String::from_utf8_lossy(&header[SIZE]).into_owned();
        let size = usize::from_str_radix(digits.trim_matches(['\0', ' ']), 8).unwrap_or(0);
        at = at.saturating_add(BLOCK).saturating_add(size.next_multiple_of(BLOCK)).min(bytes.len());
    }
}
