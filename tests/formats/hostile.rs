//! Marks that make no sense: one object is broken, nothing else, and nobody leaves the layers.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::layers::{Kernel, Layers, NO_INDEX};
use crate::support::tree::dump;
use crate::support::{Dir, Mount, Scratch, assert_errno};
use crate::{needs, not_the_kernels};

const REDIRECT: &str = "trusted.overlay.redirect";
const METACOPY: &str = "trusted.overlay.metacopy";

/// Everything but `d/bad` works, and the listing names that one too.
#[track_caller]
fn assert_only_bad_is_broken(m: &Mount) {
    let names = || m.names("d");
    assert_eq!(names(), ["bad", "good", "other"]);
    assert_eq!(m.read("d/good"), "good");
    assert_eq!(m.names("d/other"), ["x"]);
    // With attributes, as READDIRPLUS asks for them.
    let list = std::process::Command::new("ls").arg("-l").arg(m.path("d")).output().unwrap();
    let shown = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(shown.contains("good") && shown.contains("other"), "{shown}");
    assert_eq!(names(), ["bad", "good", "other"]);
    m.file("d/new", "");
    fs::remove_file(m.path("d/new")).unwrap();
}

fn around_bad(s: &Scratch) {
    s.lower(1).file("d/good", "good").file("d/other/x", "").file("d/file", "");
    s.lower(1).file("secret/x", "").file("d/target/t", "");
    s.lower(0).whiteout("d/target").whiteout("d/file");
}

const NO_REDIRECTS: [&[u8]; 13] = [
    b"",
    b"/",
    b"a/b",
    b"..",
    b".",
    b"/..",
    b"/../x",
    b"/d/../secret",
    b"/d//target",
    b"/d/target/",
    b"//d/target",
    b"../secret",
    b"d\0target",
];

/// A redirect that is no name and no path, in a lower and in the upper.
#[test]
fn redirects_that_are_none() {
    needs!(mount);
    not_the_kernels!("its errors differ");
    for value in NO_REDIRECTS {
        let s = Scratch::with_lowers(2);
        around_bad(&s);
        let text = value.escape_ascii().to_string();
        println!("{text}");
        s.lower(0).dir("d/bad").xattr("d/bad", REDIRECT, value);
        let m = s.mount();
        assert_errno(fs::symlink_metadata(m.path("d/bad")), libc::EINVAL);
        assert_only_bad_is_broken(&m);
        drop(m);
        fs::remove_dir(s.lower(0).path("d/bad")).unwrap();
        s.upper.dir("d/bad").xattr("d/bad", REDIRECT, value);
        let m = s.mount();
        assert_errno(fs::symlink_metadata(m.path("d/bad")), libc::EINVAL);
        assert_only_bad_is_broken(&m);
    }
}

/// Where nothing can be below, or a file has its data, it is not even looked at. Found beside the
/// kernel: EINVAL for a directory of the lowest layer, and EIO for the data.
#[test]
fn redirects_that_would_lead_nowhere_are_not_read() {
    needs!(mount, kernel_overlay);
    for value in NO_REDIRECTS {
        let s = Scratch::with_lowers(2);
        s.lower(1).file("lowest/x", "x").xattr("lowest", REDIRECT, value);
        s.lower(0).dir("lowest").file("opaque/y", "y").xattr("opaque", REDIRECT, value);
        s.lower(0).xattr("opaque", "trusted.overlay.opaque", "y");
        s.lower(1).dir("opaque").file("whole", "hidden");
        s.upper.file("whole", "data").xattr("whole", REDIRECT, value);
        let check = |m: &Dir| {
            assert_eq!(m.names("lowest"), ["x"]);
            assert_eq!(m.names("opaque"), ["y"]);
            assert_eq!(m.read("whole"), "data");
        };
        check(s.mount().place());
        let options = "redirect_dir=on,metacopy=on,index=off";
        check(&Kernel::overlay(s.lowers(), Some((&s.upper, &s.work)), &s.mnt, options));
    }
}

/// As large as attributes can be.
#[test]
fn a_redirect_of_64_kib() {
    needs!(mount);
    not_the_kernels!("its errors differ");
    let s = Scratch::with_lowers(2);
    around_bad(&s);
    let place = s.base().sub("tmpfs");
    let tmpfs = Kernel::tmpfs(place.dir(""));
    for value in ["x".repeat(65_536), "/x".repeat(32_768), format!("/{}", "y".repeat(300))] {
        tmpfs.dir("d/bad").xattr("d/bad", REDIRECT, &value);
        let lowers = [place.root(), s.lower(0).root(), s.lower(1).root()];
        let setup = s.setup().lowers(lowers.iter().map(|path| path.to_path_buf()).collect());
        let m = setup.mount();
        assert_errno(fs::symlink_metadata(m.path("d/bad")), libc::EINVAL);
        assert_only_bad_is_broken(&m);
    }
}

/// Redirects to places that are no directories, to themselves, in circles, and through links.
#[test]
fn redirects_that_lead_nowhere() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, |dir| {
        dir.file("file", "").file("a/x", "").file("b/y", "").file("self/z", "").dir("deep/inner");
        dir.symlink("to-a", "a").symlink("up", "..").file("deep/inner/i", "");
        dir.symlink("etc", "/etc");
    });
    layers.plain(|dir| {
        for (name, value) in [
            ("self", "/self"),
            ("self-relative", "self-relative"),
            ("a", "/b"),
            ("b", "/a"),
            ("to-file", "/file"),
            ("to-file2", "file"),
            ("below-file", "/file/below"),
            ("by-link", "/to-a"),
            ("through-link", "/to-a/x"),
            ("through-up", "/up/etc"),
            ("through-etc", "/etc/network"),
            ("missing", "/not/there"),
            ("own-child", "/own-child/child"),
            ("deep", "/deep/inner"),
        ] {
            dir.dir(name).xattr(name, REDIRECT, value);
        }
        dir.file("own-child/child/c", "");
    });
    layers.plain(|dir| {
        for (name, value) in [("a", "/b"), ("b", "a"), ("self", "/self"), ("new", "/a/x/../y")] {
            if name != "new" {
                dir.dir(name).xattr(name, REDIRECT, value);
            }
        }
    });
    let tree = layers.assert_alike();
    for path in ["through-link", "through-up", "through-etc", "by-link", "to-file", "missing"] {
        assert!(!tree.keys().any(|key| key.starts_with(path) && key.as_os_str() != path), "{path}");
    }
}

/// A file cannot be led out of the layers either.
#[test]
fn redirects_of_files_that_lead_nowhere() {
    needs!(mount);
    not_the_kernels!("it refuses the lookup");
    let s = Scratch::with_lowers(2);
    s.lower(1).symlink("link", "/etc/hostname").dir("dir").file("d/good", "good").whiteout("zero");
    let values =
        ["/../etc/hostname", "/link", "link", "/dir", "/zero", "a/b", "/missing", "/d/good/x"];
    for (number, value) in values.iter().enumerate() {
        let name = format!("d/bad{number}");
        s.lower(0).file(&name, "");
        File::options().write(true).open(s.lower(0).path(&name)).unwrap().set_len(9000).unwrap();
        s.lower(0).xattr(&name, METACOPY, "").xattr(&name, REDIRECT, value);
    }
    let m = s.mount();
    assert_eq!(m.names("d").len(), values.len() + 1);
    for number in 0..values.len() {
        assert_eq!(m.stat(format!("d/bad{number}")).size(), 9000);
        assert_errno(fs::read(m.path(format!("d/bad{number}"))), libc::EIO);
    }
    assert_eq!(m.read("d/good"), "good");
}

/// Such a file has everything but its data: it can be looked at, changed and removed.
fn assert_without_data(m: &Mount) {
    assert_eq!(m.stat("d/bad").size(), 9000);
    assert_errno(fs::read(m.path("d/bad")), libc::EIO);
    let write = || File::options().write(true).open(m.path("d/bad"))?.set_len(5);
    assert_errno(write(), libc::EIO);
    assert_only_bad_is_broken(m);
}

fn bad_file(dir: &Dir, metacopy: &[u8]) {
    dir.file("d/bad", "");
    File::options().write(true).open(dir.path("d/bad")).unwrap().set_len(9000).unwrap();
    dir.xattr("d/bad", METACOPY, metacopy);
}

#[test]
fn metacopy_without_data() {
    needs!(mount);
    not_the_kernels!("it refuses the lookup");
    let s = Scratch::with_lowers(2);
    around_bad(&s);
    bad_file(s.lower(0), b"");
    assert_without_data(&s.mount());
    let s = Scratch::with_lowers(2);
    around_bad(&s);
    bad_file(&s.upper, b"");
    let m = s.mount();
    assert_without_data(&m);
    m.mode("d/bad", 0o600);
    fs::remove_file(m.path("d/bad")).unwrap();
    assert!(!m.exists("d/bad"));
    m.file("d/bad", "new");
    assert_eq!(m.read("d/bad"), "new");
}

#[test]
fn metacopy_headers_of_wrong_length() {
    needs!(mount);
    not_the_kernels!("it refuses the lookup");
    let long = [0_u8; 300];
    let bad: [&[u8]; 9] = [
        &[0],
        &[0, 4],
        &[0, 4, 0],
        &[9, 4, 0, 0],
        &[0, 9, 0, 0],
        &[0, 3, 0, 0],
        &[0, 4, 0, 0, 0],
        &[0, 4, 7, 0],
        &long,
    ];
    for value in bad {
        println!("{value:?}");
        let s = Scratch::with_lowers(2);
        around_bad(&s);
        s.lower(1).file("d/bad", "x".repeat(9000));
        bad_file(s.lower(0), value);
        assert_without_data(&s.mount());
    }
}

/// A mark on something that is no regular file means nothing.
#[test]
fn metacopy_on_other_kinds() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, |dir| {
        dir.file("d/x", "x").file("l", "x");
    });
    layers.plain(|dir| {
        dir.dir("d").xattr("d", METACOPY, "");
        dir.symlink("l", "d/x").xattr("l", METACOPY, "");
    });
    layers.assert_alike();
}

/// Rubbish in `origin` says nothing about the number, and breaks nothing.
#[test]
fn origins_that_are_none() {
    needs!(mount);
    not_the_kernels!("it may refuse the lookup");
    let s = Scratch::new();
    s.lower(0).file("low", "low");
    s.upper.dir("d").xattr("d", "trusted.overlay.impure", "y");
    let huge = [0, 0xfb, 29, 0, 1].into_iter().chain([0; 16]).chain([0xff; 8]).collect();
    let zero = [0, 0xfb, 29, 0, 1].into_iter().chain([0; 24]).collect();
    let big = [0, 0xfb, 33, 0, 0x81].into_iter().chain([0; 16]).chain([0xff; 12]).collect();
    let values: [Vec<u8>; 8] =
        [vec![], vec![0], vec![0xfb; 29], vec![0xff; 2000], b"y".to_vec(), huge, zero, big];
    for (number, value) in values.iter().enumerate() {
        let name = format!("d/f{number}");
        s.upper.file(&name, &name).xattr(&name, "trusted.overlay.origin", value);
        s.upper.file(format!("d/g{number}"), "");
    }
    let mut m = s.mount();
    for _ in 0..2 {
        let mut seen = std::collections::HashSet::new();
        assert_eq!(m.names("d").len(), 2 * values.len());
        for name in m.names("d") {
            let number = m.stat(format!("d/{name}")).ino();
            assert!(number != 0 && seen.insert(number), "{name}: {number}");
            assert!(m.xattr_names(format!("d/{name}")).is_empty());
        }
        for number in 0..values.len() {
            assert_eq!(m.read(format!("d/f{number}")), format!("d/f{number}"));
        }
        m.remount();
    }
}

/// Several files that say that they came from one: they stay several.
#[test]
fn one_origin_for_several_files() {
    needs_both!();
    let mut layers = Layers::new(NO_INDEX, |dir| {
        dir.file("one", "1").file("two", "2").file("three", "3");
    });
    layers.generation(|m| {
        m.file("one", "changed");
    });
    let value = layers.top().get_xattr("one", "trusted.overlay.origin").unwrap();
    for name in ["two", "three"] {
        layers.top().file(name, name).xattr(name, "trusted.overlay.origin", &value);
    }
    let m = layers.ours();
    for _ in 0..2 {
        assert_eq!([m.read("one"), m.read("two"), m.read("three")], ["changed", "two", "three"]);
        m.file("two", "two");
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    }
    m.mode("two", 0o600);
    assert_ne!(m.mode_of("three"), 0o600);
}

/// Values of the opaque mark other than the two that mean something.
#[test]
fn opaque_values_that_mean_nothing() {
    needs_both!();
    for value in [&b""[..], b"n", b"Y", b"yes", b"yy", b"y\0", b"xx", b"\xff", &[b'y'; 3000]] {
        println!("{}", value.escape_ascii());
        let mut layers = Layers::new(NO_INDEX, |dir| {
            dir.file("d/below", "").file("d/gone", "");
        });
        layers.plain(|dir| {
            dir.file("d/above", "").xattr("d", "trusted.overlay.opaque", value);
        });
        layers.plain(|_| ());
        layers.assert_alike();
    }
}

/// A name may be all bytes but two, and 255 of them.
#[test]
fn names_of_any_bytes() {
    needs_both!();
    let name = |length: usize, byte: u8| {
        PathBuf::from(OsStr::from_bytes(&[&vec![byte; length - 1][..], b"!"].concat()))
    };
    let bytes = || (1..=255_u8).filter(|byte| *byte != b'/');
    let mut layers = Layers::new(NO_INDEX, |dir| {
        for byte in bytes() {
            dir.file(name(255, byte), [byte]).file(name(2, byte), [byte]);
        }
    });
    layers.plain(|dir| {
        for byte in bytes().step_by(3) {
            dir.whiteout(name(255, byte));
        }
    });
    layers.assert_alike();
    layers.change(|m| {
        for byte in bytes().step_by(7) {
            fs::remove_file(m.path(name(2, byte))).unwrap();
            m.mode(name(255, 2), 0o640);
        }
    });
}

/// Redirects in a circle, in many layers: each leads further down, so there is an end. The kernel
/// gives some of these directories up with ESTALE.
#[test]
fn circles_end() {
    needs!(mount);
    not_the_kernels!("it refuses some of the lookups");
    let s = Scratch::with_lowers(20);
    for lower in s.lowers() {
        lower.file("a/in/fa", "").file("b/in/fb", "");
        lower.xattr("a", REDIRECT, "/b/in").xattr("b", REDIRECT, "/a/in");
        lower.xattr("a/in", REDIRECT, "/b").xattr("b/in", REDIRECT, "/a");
    }
    let m = s.mount();
    let begin = Instant::now();
    let tree = dump(m.root());
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    for path in ["a/in/fa", "b/in/fb"] {
        assert!(tree.contains_key(&PathBuf::from(path)), "{path}");
    }
}
