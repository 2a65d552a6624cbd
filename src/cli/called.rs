//! The name by which the program was called, and its meaning.
//!
//! Callers of fuse-overlayfs find it by name, ask it for its version under that name, and look for
//! the name in the type column of /proc/mounts. mount(8) calls a helper by the name of a file
//! system type.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::Command;

/// Our own name.
const OWN: &str = "ovlmerge";

/// The name that callers of fuse-overlayfs know.
const PEER: &str = "fuse-overlayfs";

/// The version under the name [`PEER`]. Callers compare the first line: benchexec asks for 1.10 or
/// newer, and apptainer passes `noacl`, which came with 1.8. It is the release of fuse-overlayfs
/// whose command line and options are understood. The second line is for people.
const PEER_VERSION: &str = concat!("version 1.16\novlmerge ", env!("CARGO_PKG_VERSION"));

/// A name that the program was called by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// The type that /proc/mounts shows after `fuse.`, unless `subtype=` gives another.
    pub file_system: String,
    /// The name is `mount.TYPE`, so the command line is that of a mount helper.
    pub is_helper: bool,
}

impl Called {
    /// Reads the first word of a command line.
    #[must_use]
    pub fn by(program: Option<&OsStr>) -> Self {
        let name = program.map(Path::new).and_then(Path::file_name).unwrap_or_default();
        if let Some(kind) = name.as_bytes().strip_prefix(b"mount.") {
            let kind = String::from_utf8_lossy(kind);
            return Self { file_system: of_type(&kind).to_owned(), is_helper: true };
        }
        let peer = name.as_bytes() == PEER.as_bytes();
        let file_system = if peer { PEER } else { OWN }.to_owned();
        Self { file_system, is_helper: false }
    }

    /// Gives the grammar the name and the version that the caller expects.
    #[must_use]
    pub fn name(&self, command: Command) -> Command {
        if self.is_helper || self.file_system != PEER {
            return command;
        }
        command.display_name(format!("{PEER}:")).version(PEER_VERSION)
    }
}

/// The part of a file system type that names the program: mount(8) writes `fuse.NAME`.
#[must_use]
pub fn of_type(kind: &str) -> &str {
    let name = kind.strip_prefix("fuse.").unwrap_or(kind);
    // `mount.fuse` says nothing about the program.
    if name.is_empty() || name == "fuse" { OWN } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("ovlmerge", "ovlmerge", false)]
    #[case("/usr/bin/fuse-overlayfs", "fuse-overlayfs", false)]
    #[case("./anything-else", "ovlmerge", false)]
    #[case("/sbin/mount.fuse.ovlmerge", "ovlmerge", true)]
    #[case("mount.ovlmerge", "ovlmerge", true)]
    #[case("/sbin/mount.fuse.fuse-overlayfs", "fuse-overlayfs", true)]
    #[case("mount.fuse", "ovlmerge", true)]
    fn names(#[case] program: &str, #[case] file_system: &str, #[case] is_helper: bool) {
        let expected = Called { file_system: file_system.into(), is_helper };
        assert_eq!(Called::by(Some(OsStr::new(program))), expected);
    }

    #[test]
    fn the_version_is_the_one_that_callers_compare() {
        let called = Called::by(Some(OsStr::new("fuse-overlayfs")));
        let text = called.name(Command::new("ovlmerge").version("0")).render_version();
        assert_eq!(text.trim_end(), format!("fuse-overlayfs: {PEER_VERSION}"));
    }
}
