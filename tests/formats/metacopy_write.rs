//! `metacopy=on`: changes of metadata leave the data below, and the kernel goes on with that.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::layers::{Layers, NO_INDEX, blocks, rename, show};
use crate::support::process::{self, run};
use crate::support::{Dir, Mount, Scratch};
use crate::{needs, not_the_kernels};

const MARK: &str = "trusted.overlay.metacopy";

fn content(seed: u8) -> Vec<u8> {
    (0..40_000_u32).map(|i| (i % 251) as u8 ^ seed).collect()
}

fn fill(dir: &Dir) {
    for (seed, name) in (1..).zip(["d/a", "d/b", "d/c", "d/e", "d/f", "d/g"]) {
        dir.file(name, content(seed)).times(name, 1_000_000, 7).mode(name, 0o644);
    }
    dir.file("d/empty", "").file("d/one", content(9)).hard_link("d/two", "d/one");
}

/// Each name gets a change of metadata of its own.
fn touch_all(m: &Dir) {
    m.mode("d/a", 0o640).owner("d/b", 5, 6).times("d/c", 5, 6).xattr("d/e", "user.k", "v");
    m.mode("d/f", 0o4755).mode("d/g", 0o600).mode("d/empty", 0o600);
}

const STUBS: [&str; 6] = ["d/a", "d/b", "d/c", "d/e", "d/f", "d/g"];

fn is_stub(layers: &Layers, path: &str) -> bool {
    layers.top().get_xattr(path, MARK).is_some()
}

fn ours(layers: &Layers) -> Mount {
    layers.ours_writing("metacopy=on")
}

/// An upper in which everything is changed, and nothing copied.
fn changed() -> (Layers, Mount) {
    let mut layers = Layers::new(NO_INDEX, fill);
    layers.plain(|_| ());
    let m = ours(&layers);
    touch_all(&m);
    (layers, m)
}

#[test]
fn changes_of_metadata_copy_no_data() {
    needs_both!();
    let (layers, mut m) = changed();
    for path in STUBS {
        assert!(is_stub(&layers, path), "{path}");
        assert_eq!(layers.top().stat(path).size(), 40_000);
        assert!(blocks(layers.top(), path) <= 8, "{path}");
        assert_eq!(blocks(&m, path), blocks(layers.layer(0), path), "{path}");
    }
    assert!(!is_stub(&layers, "d/empty"));
    let left = show(&m);
    assert!(fs::read(m.path("d/a")).unwrap() == content(1));
    m.remount();
    crate::support::tree::assert_same_tree(&left, &show(&m), crate::support::tree::Compare::STRICT);
    drop(m);
    layers.assert_alike();
}

/// A file with several names is copied whole: its data may be elsewhere for each of them.
#[test]
fn hard_links_are_copied_whole() {
    needs_both!();
    let (layers, m) = changed();
    m.mode("d/one", 0o600);
    assert!(!is_stub(&layers, "d/one"));
    assert!(fs::read(m.path("d/two")).unwrap() == content(9));
    drop(m);
    // The kernel, without an index, separates the names.
    assert!(fs::read(layers.kernel().path("d/one")).unwrap() == content(9));
    assert!(fs::read(layers.ours().path("d/two")).unwrap() == content(9));
}

#[test]
fn the_first_write_completes_the_data() {
    needs_both!();
    let (layers, mut m) = changed();
    let open = |m: &Dir, path: &str| File::options().read(true).write(true).open(m.path(path));
    open(&m, "d/a").unwrap().write_all_at(b"WRITTEN", 3).unwrap();
    open(&m, "d/b").unwrap().set_len(20_000).unwrap();
    run("fallocate", &["-p", "-o", "0", "-l", "4096", m.path("d/c").to_str().unwrap()]);
    run("chattr", &["+d", m.path("d/e").to_str().unwrap()]);
    File::create(m.path("d/f")).unwrap();
    let mut expected = content(1);
    expected[3..10].copy_from_slice(b"WRITTEN");
    for _ in 0..2 {
        assert!(fs::read(m.path("d/a")).unwrap() == expected);
        assert!(fs::read(m.path("d/b")).unwrap() == content(2)[..20_000]);
        assert!(fs::read(m.path("d/c")).unwrap()[4096..] == content(3)[4096..]);
        assert!(fs::read(m.path("d/e")).unwrap() == content(4));
        m.remount();
    }
    for path in ["d/a", "d/b", "d/c", "d/e", "d/f"] {
        assert!(!is_stub(&layers, path), "{path}");
    }
    assert!(is_stub(&layers, "d/g"));
    drop(m);
    layers.assert_alike();
}

/// chattr(1) went to the descriptor that files are read through: where the data was below, that was
/// one of a lower, and the lower was changed.
#[test]
fn flags_of_a_lower_stay() {
    needs_both!();
    let (layers, m) = changed();
    let flags = |dir: &Dir| {
        let path = dir.path("d/a");
        process::run("lsattr", &[path.to_str().unwrap()]).split(' ').next().unwrap().to_owned()
    };
    let before = flags(layers.layer(0));
    run("chattr", &["+d", m.path("d/a").to_str().unwrap()]);
    assert_eq!(flags(layers.layer(0)), before);
    assert_ne!(flags(&m), before);
}

#[test]
fn names_come_and_go() {
    needs_both!();
    let (layers, m) = changed();
    rename(&m, "d/a", "moved");
    m.hard_link("link", "d/b").dir("new");
    rename(&m, "d/c", "new/c");
    fs::remove_file(m.path("d/e")).unwrap();
    rename(&m, "moved", "d/f");
    assert!(fs::read(m.path("d/f")).unwrap() == content(1));
    assert!(fs::read(m.path("link")).unwrap() == content(2));
    let left = show(&m);
    drop(m);
    let kernel = layers.kernel();
    crate::support::tree::assert_same_tree(
        &left,
        &show(&kernel),
        crate::support::tree::Compare::STRICT,
    );
}

#[test]
fn open_files_go_on() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, fill);
    layers.plain(|_| ());
    let m = ours(&layers);
    let both = |path: &str| File::options().read(true).write(true).open(m.path(path)).unwrap();
    let (a, b, c) = (both("d/a"), both("d/b"), both("d/c"));
    let mut byte = [0];
    a.read_exact_at(&mut byte, 5).unwrap();
    touch_all(&m);
    for (file, seed) in [(&a, 1), (&b, 2), (&c, 3)] {
        file.read_exact_at(&mut byte, 30_000).unwrap();
        assert_eq!(byte[0], content(seed)[30_000]);
    }
    a.write_all_at(b"new", 4).unwrap();
    a.sync_all().unwrap();
    b.sync_all().unwrap();
    assert!(!is_stub(&layers, "d/a") && is_stub(&layers, "d/b"));
    // Without a name, and with the data still below.
    fs::remove_file(m.path("d/b")).unwrap();
    rename(&m, "d/g", "d/c");
    for (file, seed) in [(&b, 2), (&c, 3)] {
        file.read_exact_at(&mut byte, 30_000).unwrap();
        assert_eq!(byte[0], content(seed)[30_000]);
        file.write_all_at(b"x", 1).unwrap();
        file.read_exact_at(&mut byte, 30_000).unwrap();
        assert_eq!(byte[0], content(seed)[30_000]);
        assert_eq!(file.metadata().unwrap().len(), 40_000);
    }
    assert_eq!(b.metadata().unwrap().uid(), 5);
    for (seed, path) in [(2, "d/b"), (3, "d/c")] {
        assert!(fs::read(layers.layer(0).path(path)).unwrap() == content(seed));
    }
}

/// Turns of the two, each with its own way to leave data below and to complete it.
#[test]
fn in_turns_with_the_kernel() {
    needs_both!();
    let (layers, m) = changed();
    drop(m);
    let write = |m: &Dir, path: &str, text: &str| {
        let file = File::options().write(true).open(m.path(path)).unwrap();
        file.write_all_at(text.as_bytes(), 7).unwrap();
    };
    let kernel = layers.kernel();
    write(&kernel, "d/a", "kernel");
    kernel.mode("d/b", 0o611).mode("d/one", 0o604);
    rename(&kernel, "d/g", "g");
    drop(kernel);
    layers.assert_alike_as_upper();
    let m = ours(&layers);
    write(&m, "d/b", "ours");
    write(&m, "g", "ours");
    m.mode("d/c", 0o700);
    assert!(is_stub(&layers, "d/c") && !is_stub(&layers, "g"));
    let left = show(&m);
    drop(m);
    let kernel = layers.kernel();
    write(&kernel, "d/c", "kernel");
    drop(kernel);
    let tree = layers.assert_alike();
    assert_eq!(tree.len(), left.len());
}

/// Where the kernel would not follow the marks none is written.
#[test]
fn without_trusted_attributes_data_is_copied() {
    needs!(mount);
    not_the_kernels!("it refuses both options together");
    let s = Scratch::new();
    fill(s.lower(0));
    let m = s.setup().option("userxattr,metacopy=on").mount();
    touch_all(&m);
    for path in STUBS {
        assert!(s.upper.xattr_names(path).iter().all(|name| !name.contains("metacopy")), "{path}");
        assert!(fs::read(s.upper.path(path)).unwrap() == fs::read(s.lower(0).path(path)).unwrap());
    }
    assert!(m.log().contains("metacopy=on"), "{}", m.log());
}

#[test]
fn off_by_default() {
    needs!(mount);
    let s = Scratch::new();
    fill(s.lower(0));
    let m = s.mount();
    touch_all(&m);
    for path in STUBS {
        assert_eq!(s.upper.get_xattr(path, MARK), None, "{path}");
    }
}

/// A lower that is replaced would have its data under the metadata of the one before.
#[test]
fn lowers_that_may_change() {
    needs!(mount);
    not_the_kernels!("it has no timeout=");
    let s = Scratch::new();
    s.lower(0).file("f", "A".repeat(50_000));
    let m = s.setup().option("metacopy=on,timeout=0").mount();
    let log = m.log();
    assert!(log.contains("metacopy=on has no effect: timeout= says"), "{log}");
    m.mode("f", 0o640);
    s.lower(0).file("new", "B".repeat(80_000));
    std::fs::rename(s.lower(0).path("new"), s.lower(0).path("f")).unwrap();
    assert_eq!(m.read("f"), "A".repeat(50_000));
}

/// The warning spoke of another reason.
#[test]
fn an_upper_with_owners_in_attributes() {
    needs!(mount);
    not_the_kernels!("it knows no such uppers");
    let s = Scratch::new();
    fill(s.lower(0));
    for option in ["metacopy=on,xattr_permissions=2", "metacopy=on"] {
        let m = s.setup().option(option).mount();
        let log = m.log();
        assert!(log.contains("metacopy=on has no effect: the upper keeps owners"), "{log}");
        assert!(log.contains("user.containers.override_stat"), "{log}");
    }
}
