//! utimensat(2) and what else moves times.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::stat::{UtimensatFlags, futimens, utimensat};
use nix::sys::time::TimeSpec;

use crate::needs;
use crate::support::user::{NOBODY, as_user};
use crate::support::{Dir, Scratch, assert_errno, passthrough_everywhere};

fn set(path: &Path, atime: TimeSpec, mtime: TimeSpec) -> nix::Result<()> {
    utimensat(nix::fcntl::AT_FDCWD, path, &atime, &mtime, UtimensatFlags::NoFollowSymlink)
}

fn mtime(dir: &Dir, path: &str) -> (i64, i64) {
    let meta = dir.stat(path);
    (meta.mtime(), meta.mtime_nsec())
}

fn atime(dir: &Dir, path: &str) -> (i64, i64) {
    let meta = dir.stat(path);
    (meta.atime(), meta.atime_nsec())
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// Before 1970 with a fraction, the beginning, and past the 32 bits of 2038. All fit into ext4.
const MOMENTS: [(i64, i64); 7] = [
    (-2_000_000_000, 999_999_999),
    (-1, 500_000_000),
    (-1, 0),
    (0, 0),
    (0, 1),
    (2_147_483_648, 5),
    (7_000_000_000, 123_456_789),
];

#[test]
fn any_moment_can_be_set_and_stays() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("lower", "").dir("dir").symlink("link", "nowhere");
    let mut m = s.mount();
    m.file("upper", "");
    for (seconds, nanoseconds) in MOMENTS {
        let moment = TimeSpec::new(seconds, nanoseconds);
        for name in ["lower", "upper", "dir", "link"] {
            set(&m.path(name), moment, moment).unwrap();
            assert_eq!(mtime(&m, name), (seconds, nanoseconds), "{name}");
        }
        m.remount();
        for name in ["lower", "upper", "dir", "link"] {
            assert_eq!(mtime(&m, name), (seconds, nanoseconds), "{name}, remounted");
            assert_eq!(atime(&m, name), (seconds, nanoseconds), "{name}, remounted");
        }
    }
}

#[test]
fn any_moment_of_a_lower_is_shown_and_copied_up() {
    needs!(mount);
    for (seconds, nanoseconds) in MOMENTS {
        let s = Scratch::new();
        s.lower(0).file("d/f", "").symlink("d/l", "x");
        for name in ["d/f", "d/l", "d", ""] {
            s.lower(0).times(name, seconds, nanoseconds);
        }
        let mut m = s.mount();
        m.mode("d/f", 0o600).owner("d/l", 1, 1);
        for round in 0..2 {
            for name in ["d/f", "d/l", "d"] {
                assert_eq!(mtime(&m, name), (seconds, nanoseconds), "{name}, round {round}");
                assert_eq!(mtime(&s.upper, name), (seconds, nanoseconds), "{name}, upper");
            }
            m.remount();
        }
    }
}

#[test]
fn omit_leaves_and_now_sets() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "").times("f", 1_000, 7);
    let m = s.mount();
    set(&m.path("f"), TimeSpec::UTIME_OMIT, TimeSpec::new(2_000, 8)).unwrap();
    assert_eq!(atime(&m, "f"), (1_000, 7));
    assert_eq!(mtime(&m, "f"), (2_000, 8));
    set(&m.path("f"), TimeSpec::new(3_000, 9), TimeSpec::UTIME_OMIT).unwrap();
    assert_eq!(atime(&m, "f"), (3_000, 9));
    assert_eq!(mtime(&m, "f"), (2_000, 8));
    let before = now();
    set(&m.path("f"), TimeSpec::UTIME_OMIT, TimeSpec::UTIME_NOW).unwrap();
    assert_eq!(atime(&m, "f"), (3_000, 9));
    assert!((before - 1..=now() + 1).contains(&mtime(&m, "f").0));
}

#[test]
fn times_through_a_descriptor() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let mut m = s.mount();
    let file = File::options().write(true).open(m.path("f")).unwrap();
    futimens(&file, &TimeSpec::new(11, 0), &TimeSpec::new(-5, 250)).unwrap();
    assert_eq!(file.metadata().unwrap().mtime(), -5);
    drop(file);
    m.remount();
    assert_eq!(mtime(&m, "f"), (-5, 250));
    assert_eq!(atime(&m, "f"), (11, 0));
}

/// With write permission one may say "now", but only the owner may name a moment.
#[test]
fn who_may_set_which_time() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("all", "").mode("all", 0o666).file("owned", "").owner("owned", NOBODY, NOBODY);
    s.lower(0).file("none", "").mode("none", 0o644);
    let m = s.mount();
    let [all, owned, none] = ["all", "owned", "none"].map(|name| m.path(name));
    as_user(NOBODY, NOBODY, || {
        let moment = TimeSpec::new(5, 5);
        let now = TimeSpec::UTIME_NOW;
        set(&all, now, now).unwrap();
        assert_errno(set(&all, moment, moment), libc::EPERM);
        set(&owned, moment, moment).unwrap();
        assert_errno(set(&none, now, now), libc::EACCES);
        assert_errno(set(&none, moment, moment), libc::EPERM);
    });
    assert_eq!(mtime(&m, "owned"), (5, 5));
}

/// fuse-overlayfs issue 400: copying a file up is not a change of its directory.
#[test]
fn copy_up_leaves_the_time_of_the_directory() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("d/sub/f", "").times("d/sub", 1_000, 1).times("d", 2_000, 2);
    let mut m = s.mount();
    m.mode("d/sub/f", 0o600);
    for _ in 0..2 {
        assert_eq!(mtime(&m, "d/sub"), (1_000, 1));
        assert_eq!(mtime(&m, "d"), (2_000, 2));
        m.remount();
    }
}

#[test]
fn a_change_of_names_moves_the_time_of_the_directory() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("d/f", "").file("e/f", "").dir("g").dir("h");
    for name in ["d", "e", "g", "h"] {
        s.lower(0).times(name, 1_000, 0);
    }
    let m = s.mount();
    let before = now() - 1;
    fs::remove_file(m.path("d/f")).unwrap();
    fs::rename(m.path("e/f"), m.path("g/f")).unwrap();
    m.file("h/new", "");
    for name in ["d", "e", "g", "h"] {
        let meta = m.stat(name);
        assert!(meta.mtime() >= before, "{name}: mtime {}", meta.mtime());
        assert!(meta.ctime() >= before, "{name}: ctime {}", meta.ctime());
    }
}

#[test]
fn a_write_moves_mtime_and_a_chmod_only_ctime() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("written", "").times("written", 1_000, 0);
    s.lower(0).file("chmodded", "").times("chmodded", 1_000, 0);
    let m = s.mount();
    let before = now() - 1;
    m.file("written", "x").mode("chmodded", 0o600);
    assert!(mtime(&m, "written").0 >= before);
    assert_eq!(mtime(&m, "chmodded"), (1_000, 0));
    assert!(m.stat("chmodded").ctime() >= before);
}

/// fuse-overlayfs issue 384, "file changed as we read it": reading changes nothing that stat
/// shows.
#[test]
fn reading_changes_no_time_of_a_lower() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "x").times("f", 1_000, 1).dir("d").times("d", 1_000, 1);
    let m = s.mount();
    let before = m.stat("f");
    assert_eq!(m.read("f"), "x");
    m.names("d");
    let after = m.stat("f");
    assert_eq!(
        (before.mtime(), before.ctime(), before.ctime_nsec()),
        (after.mtime(), after.ctime(), after.ctime_nsec())
    );
    assert_eq!(atime(s.lower(0), "f"), (1_000, 1));
    assert!(!s.upper.exists("f"));
}

/// The time of birth, as far as the layer knows it: of the copy once there is one.
#[test]
fn when_it_was_born() {
    needs!(mount);
    needs!(fuse_birth);
    let s = Scratch::new();
    s.lower(0).file("f", "x").file("d/g", "x");
    let born = |dir: &Dir, path: &str| fs::metadata(dir.path(path)).unwrap().created().unwrap();
    let m = s.mount();
    for path in ["f", "d", "d/g"] {
        assert_eq!(born(&m, path), born(s.lower(0), path), "{path}");
    }
    fs::write(m.path("f"), "y").unwrap();
    m.file("new", "");
    for path in ["f", "new"] {
        assert_eq!(born(&m, path), born(&s.upper, path), "{path}");
    }
}

/// A time of access that any reading would move, on a file system that keeps these times: one that
/// is older than the last change.
const LONG_AGO: (i64, i64) = (1_000, 1);

/// Gives an object of a layer a time of access that any reading of it would move.
fn age(layer: &Dir, path: &str) {
    set(&layer.path(path), TimeSpec::new(1_000, 1), TimeSpec::UTIME_OMIT).unwrap();
}

fn read_past_the_pages(path: &Path) -> usize {
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(path).unwrap();
    let mut data = crate::support::raw::Aligned::new(4096);
    data.read_from(&file)
}

/// xfstests' checks of `noatime`: what was opened to be written, or made, was open in the upper
/// without `O_NOATIME`, so that appending to it and reading it moved its access time there.
#[test]
fn access_times_of_the_layers_move_when_somebody_says_so_and_never_else() {
    const FILES: [&str; 4] = ["made", "d/written", "chmodded", "own/f"];
    needs!(mount);
    crate::not_the_kernels!("it keeps access times of the upper");
    let s = Scratch::new();
    let text = "x".repeat(9000);
    s.lower(0).file("read", &text).file("d/written", &text).file("chmodded", &text);
    s.lower(0).file("source", &text).file("d/beside", "").symlink("link", "read");
    s.upper.file("own/f", &text);
    let m = s.mount();
    m.file("made", &text).file("target", "");
    let append = |name: &str| {
        let mut file = File::options().append(true).open(m.path(name)).unwrap();
        std::io::Write::write_all(&mut file, b"more").unwrap();
    };
    append("d/written");
    m.mode("chmodded", 0o600);
    for path in ["made", "d/written", "chmodded", "own/f", "d", "own", ""] {
        age(&s.upper, path);
    }
    for path in ["read", "source", "d/written", "d", "link", ""] {
        age(s.lower(0), path);
    }
    assert_eq!(fs::read_link(m.path("link")).unwrap(), Path::new("read"));
    append("made");
    append("own/f");
    for path in ["made", "d/written", "chmodded", "own/f", "read"] {
        assert!(read_past_the_pages(&m.path(path)) > 0, "{path}");
    }
    let (from, to) =
        (File::open(m.path("source")), File::options().write(true).open(m.path("target")));
    crate::support::raw::copy_range(&from.unwrap(), 0, &to.unwrap(), 0, 9000).unwrap();
    for path in ["", "d", "own"] {
        m.names(path);
    }
    // The kernel reads the files itself if they are passed through.
    let files = if passthrough_everywhere() { &[][..] } else { &FILES[..] };
    for path in files.iter().copied().chain(["d", "own", ""]) {
        assert_eq!(atime(&s.upper, path), LONG_AGO, "{path} in the upper");
    }
    for path in ["read", "source", "d/written", "d", ""] {
        assert_eq!(atime(s.lower(0), path), LONG_AGO, "{path} in the lower");
    }
    if crate::support::raw::knows_mount_setattr() {
        let link = fs::symlink_metadata(s.lower(0).path("link")).unwrap();
        assert_eq!((link.atime(), link.atime_nsec()), LONG_AGO, "the link in the lower");
    }
    set(&m.path("made"), TimeSpec::new(5_000, 0), TimeSpec::UTIME_OMIT).unwrap();
    assert_eq!(atime(&s.upper, "made"), (5_000, 0));
}
