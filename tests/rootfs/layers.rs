//! The root filesystem as three layers: what debootstrap made, some of it moved into a second
//! layer, and a third with what only an overlay has.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use crate::support::{Dir, Scratch, process};

/// Directories that go up into the middle layer: whole ones, and files that leave their directory
/// to be merged from both.
const MOVED: [&str; 6] = [
    "usr/share/perl5",
    "usr/share/zoneinfo",
    "etc/apt",
    "etc/profile",
    "usr/bin/perl",
    "var/lib/dpkg/info",
];

/// What the topmost layer hides of the base.
pub const HIDDEN: [&str; 3] =
    ["usr/share/doc/bash/copyright", "usr/share/locale/de/LC_MESSAGES/apt.mo", "etc/issue"];

/// Fills the three lower layers of `scratch`; 2 is the lowest.
pub fn fill(image: &Path, scratch: &Scratch) {
    let [marks, middle, base] = scratch.lowers() else { panic!("three lower layers") };
    super::image::unpack(image, base.root());
    for path in HIDDEN {
        assert!(base.exists(path), "{path} is not in the image");
    }
    for path in MOVED {
        copy_parents(base, middle, path);
        let (from, to) = (base.path(path), middle.path(path));
        process::run("mv", &[from.to_str().unwrap(), to.to_str().unwrap()]);
    }
    // The layer's root is the root of the whole.
    for layer in [middle, marks] {
        copy_metadata(&base.stat(""), layer, "");
    }
    for path in ["usr/share/locale", "usr/share/doc", "etc/default"] {
        copy_parents(base, marks, path);
    }
    marks.whiteout("usr/share/doc/bash").whiteout("etc/issue");
    marks.opaque_dir("usr/share/locale").file("usr/share/locale/README", "no locales here\n");
    marks.file("etc/issue.net", "from the topmost lower layer\n");
    marks.symlink("etc/default/link-in-top", "../issue.net");
    for dir in ["usr/share/doc", "etc/default", "etc", "usr/share"] {
        copy_metadata(&base.stat(dir), marks, dir);
    }
}

/// Makes the directories that lead to `path` in `to`, as they are in `from`.
fn copy_parents(from: &Dir, to: &Dir, path: &str) {
    let mut parents: Vec<_> = Path::new(path).ancestors().skip(1).collect();
    parents.reverse();
    for dir in parents {
        if !to.exists(dir) {
            fs::create_dir(to.path(dir)).unwrap();
            copy_metadata(&from.stat(dir), to, dir);
        }
    }
}

fn copy_metadata(stat: &Metadata, to: &Dir, path: impl AsRef<Path>) {
    let full = to.path(&path);
    lchown(&full, Some(stat.uid()), Some(stat.gid())).unwrap();
    fs::set_permissions(full, fs::Permissions::from_mode(stat.mode() & 0o7777)).unwrap();
    to.times(path, stat.mtime(), stat.mtime_nsec());
}
