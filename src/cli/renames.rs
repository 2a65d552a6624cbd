//! Options about renaming directories of lower layers.

use super::options::{Group, MountOption, Takes, Word};
use super::request::Request;
use crate::config::{CopyLimit, RenameLower};

/// The option `rename_lower`.
pub const RENAME_LOWER: MountOption = MountOption {
    name: "rename_lower",
    metavar: "copy[:ENTRIES:BYTES]|off",
    group: Group::Layers,
    takes: Takes::Form { set: set_rename_lower, wanted: "off, copy, or copy:ENTRIES:BYTES" },
    help: "How a directory of a lower layer is renamed without a redirect. Default: copy",
    doc: "`copy` copies up all that the directory shows, then renames it in one step; what has \
              more than ENTRIES names or takes more than BYTES of disk (default: 100000 and \
              4294967296) gives EXDEV, and mv(1) then copies. With `off` it is always EXDEV, as in \
              the kernel without redirects.",
};

/// The values of `redirect_dir`.
pub const REDIRECT_DIR: &[Word] = &[
    ("off", |request| set_redirects(request, true, false)),
    ("follow", |request| set_redirects(request, true, false)),
    ("nofollow", |request| set_redirects(request, false, false)),
    ("on", |request| set_redirects(request, true, true)),
];

fn set_redirects(request: &mut Request, follow: bool, write: bool) {
    request.config.follow_redirects = follow;
    request.config.write_redirects = write;
}

/// Stores `rename_lower`, or returns `None` if the value is not valid.
fn set_rename_lower(request: &mut Request, text: &str) -> Option<()> {
    let limit = |text: &str| {
        let (entries, bytes) = text.split_once(':')?;
        Some(CopyLimit { entries: entries.parse().ok()?, bytes: bytes.parse().ok()? })
    };
    request.config.rename_lower = match text.split_once(':') {
        None if text == "off" => RenameLower::Off,
        None if text == "copy" => RenameLower::Copy(CopyLimit::DEFAULT),
        Some(("copy", numbers)) => RenameLower::Copy(limit(numbers)?),
        _ => return None,
    };
    Some(())
}
