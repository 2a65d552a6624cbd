//! Inode numbers: `origin` and `impure`, written by the kernel or by ovlmerge.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::layers::{Layers, NO_INDEX, rename, show};
use crate::redirect::fill;
use crate::support::Dir;
use crate::support::raw::list_dir;

type Numbers = BTreeMap<PathBuf, u64>;

/// The number of each object, by its path; that of the root is an engine's own affair.
fn numbers(mount: &Dir) -> Numbers {
    let paths = show(mount).into_keys().filter(|path| path.as_os_str() != "");
    paths.map(|path| (path.clone(), mount.stat(&path).ino())).collect()
}

/// Forgets all that the kernel has cached of file systems, and so does the server.
fn drop_caches() {
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
}

/// What a listing says is what stat(2) says, for every entry of every directory.
#[track_caller]
fn assert_listed_as_shown(mount: &Dir) {
    drop_caches();
    for (path, entry) in show(mount) {
        if entry.kind != 'd' {
            continue;
        }
        drop_caches();
        let listed = list_dir(&mount.path(&path));
        for found in listed {
            let name = String::from_utf8(found.name).unwrap();
            // The directory above a mountpoint is not in the mount.
            if name == ".." || (name == "." && path.as_os_str() == "") {
                continue;
            }
            let full = path.join(&name);
            assert_eq!(found.ino, mount.stat(&full).ino(), "{}", full.display());
        }
    }
}

fn copy_all_up(m: &Dir) {
    m.file("a/f", "changed").mode("a/h", 0o600).owner("a/sub/x", 1, 1).owner("a/link", 2, 2);
    m.mode("a/fifo", 0o600).mode("b/deep", 0o700).file("b/deep/er/z", "changed");
    m.file("new", "").file("b/deep/new", "");
    rename(m, "b/g", "c/sub/moved");
    rename(m, "new", "c/new");
}

#[test]
fn constant_over_copy_up_forget_and_remount() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, fill);
    layers.plain(|_| ());
    let mut m = layers.ours();
    let before = numbers(&m);
    copy_all_up(&m);
    let after = numbers(&m);
    for (path, number) in &after {
        let old = match path.to_str().unwrap() {
            "c/sub/moved" => "b/g",
            path => path,
        };
        if let Some(old) = before.get(&PathBuf::from(old)) {
            assert_eq!(number, old, "{}", path.display());
        }
    }
    drop_caches();
    assert_eq!(numbers(&m), after, "forgotten and met again");
    m.remount();
    assert_eq!(numbers(&m), after, "mounted again");
    drop_caches();
    assert_eq!(numbers(&m), after);
    assert_listed_as_shown(&m);
}

/// The kernel's marks and ours lead to the same numbers.
#[test]
fn the_same_as_the_kernels() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, fill);
    layers.generation(copy_all_up);
    let oracle = numbers(&layers.kernel());
    assert_eq!(numbers(&layers.ours()), oracle);
    layers.change(|m| {
        m.file("c/f", "changed").mode("c/h", 0o600);
        rename(m, "a/g", "b/deep/g");
    });
    let oracle = numbers(&layers.kernel());
    assert_eq!(numbers(&layers.ours()), oracle);
}

#[test]
fn listed_as_shown_in_an_upper_of_the_kernel() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, fill);
    layers.generation(|m| {
        copy_all_up(m);
        rename(m, "a", "a1");
        m.dir("pure");
        rename(m, "c", "pure/c");
    });
    assert_listed_as_shown(&layers.kernel());
    assert_listed_as_shown(&layers.ours());
    layers.plain(|_| ());
    assert_listed_as_shown(&layers.ours());
    assert_listed_as_shown(&layers.ours_lowers());
}

/// A copy that moved into a directory of the upper alone keeps its number, and the listing there
/// says so too.
#[test]
fn moved_into_a_directory_of_the_upper() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, fill);
    layers.plain(|_| ());
    let mut m = layers.ours();
    let before = m.stat("a/f").ino();
    m.dir("pure").mode("a/f", 0o600);
    rename(&m, "a/f", "pure/f");
    m.hard_link("pure/g", "pure/f");
    assert_eq!(m.stat("pure/f").ino(), before);
    assert_listed_as_shown(&m);
    m.remount();
    assert_listed_as_shown(&m);
    assert_eq!([m.stat("pure/f").ino(), m.stat("pure/g").ino()], [before, before]);
    drop(m);
    assert_eq!(layers.kernel().stat("pure/f").ino(), before);
}
