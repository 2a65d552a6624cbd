//! stat(2) shows what is there, whatever way it changed: the kernel keeps attributes until it is
//! told that they are not true any more.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FallocateFlags, fallocate};

use crate::needs;
use crate::support::process::wait_for;
use crate::support::raw::{self, Mapping};
use crate::support::{Dir, Mount, Scratch};

/// `FS_NODUMP_FL` of linux/fs.h.
const NODUMP: i32 = 0x40;

/// Times of change are this far apart at least: more than a tick of any kernel.
const TICK: Duration = Duration::from_millis(20);

/// How long the kernel may go on showing a directory as it was before a file in it was copied up
/// (a second), with what a busy machine adds.
const SETTLED: Duration = Duration::from_secs(10);

type Change = fn(&Mount);

fn writable(m: &Mount) -> File {
    OpenOptions::new().read(true).write(true).open(m.path("d/f")).unwrap()
}

/// Each brings `d/f` into the upper, if it is not there yet.
const CHANGES: [(&str, Change); 15] = [
    ("chattr", |m| {
        let file = File::open(m.path("d/f")).unwrap();
        raw::set_flags(&file, raw::get_flags(&file).unwrap() ^ NODUMP).unwrap();
    }),
    ("chmod", |m| {
        m.mode("d/f", 0o600);
    }),
    ("chown", |m| {
        m.owner("d/f", 7, 7);
    }),
    ("times", |m| {
        m.times("d/f", 1_000, 1);
    }),
    ("setxattr", |m| {
        m.xattr("d/f", "user.new", "value");
    }),
    ("removexattr", |m| xattr::remove(m.path("d/f"), "user.old").unwrap()),
    ("link", |m| {
        m.hard_link("d/g", "d/f");
    }),
    ("link elsewhere", |m| {
        m.hard_link("g", "d/f");
    }),
    ("write", |m| writable(m).write_all_at(b"changed", 3).unwrap()),
    ("append", |m| {
        let mut file = OpenOptions::new().append(true).open(m.path("d/f")).unwrap();
        file.write_all(&[b'+'; 9000]).unwrap();
    }),
    ("truncate", |m| writable(m).set_len(10).unwrap()),
    ("open to truncate", |m| drop(File::create(m.path("d/f")).unwrap())),
    ("fallocate", |m| fallocate(writable(m), FallocateFlags::empty(), 0, 100_000).unwrap()),
    ("copy_file_range", |m| {
        let from = File::open(m.path("other")).unwrap();
        raw::copy_range(&from, 0, &writable(m), 0, 5000).unwrap();
    }),
    ("a mapping", |m| {
        let map = Mapping::new(writable(m).as_fd(), 4096, true).unwrap();
        map.write(0, b"mapped");
        map.sync().unwrap();
    }),
];

/// All that a change can move, but for the numbers, which are those of the mount, and the count of
/// a merged directory, which is made up.
fn shown(dir: &Dir, path: &str) -> Vec<(&'static str, i64)> {
    let stat = dir.stat(path);
    let unsigned = |value: u64| i64::try_from(value).unwrap();
    let mut all = vec![
        ("mode", stat.mode().into()),
        ("uid", stat.uid().into()),
        ("mtime", stat.mtime()),
        ("mtime_nsec", stat.mtime_nsec()),
        ("ctime", stat.ctime()),
        ("ctime_nsec", stat.ctime_nsec()),
        ("size", unsigned(stat.size())),
    ];
    if !stat.is_dir() {
        all.push(("nlink", unsigned(stat.nlink())));
    }
    all
}

fn blocks(dir: &Dir, path: &str) -> u64 {
    dir.stat(path).blocks()
}

fn fill(layer: &Dir) {
    layer.file("d/f", vec![b'.'; 5000]).xattr("d/f", "user.old", "x").file("other", [b'o'; 9000]);
}

/// xfstests generic/277: chattr(1) moves the time of change, and stat(1) showed the old one until
/// the file was forgotten. Directories showed that of the lower after they were copied up.
#[test]
fn after_each_change_stat_shows_what_the_upper_has() {
    needs!(mount, file_flags);
    for (name, change) in CHANGES {
        for is_lower in [true, false] {
            let s = Scratch::new();
            fill(if is_lower { s.lower(0) } else { &s.upper });
            s.lower(0).dir("d").file("d/beside", "");
            let m = s.mount();
            for path in ["d/f", "d", "", "other"] {
                m.stat(path);
            }
            std::thread::sleep(TICK);
            change(&m);
            let what =
                format!("{name} of a file of the {}", if is_lower { "lower" } else { "upper" });
            assert_eq!(shown(&m, "d/f"), shown(&s.upper, "d/f"), "{what}");
            let same = wait_for(SETTLED, || blocks(&m, "d/f") == blocks(&s.upper, "d/f"));
            assert!(same, "{what}: blocks");
            for path in ["d", ""] {
                let same = wait_for(SETTLED, || shown(&m, path) == shown(&s.upper, path));
                assert!(
                    same,
                    "{what}, \"{path}\": {:?}\n{:?}",
                    shown(&m, path),
                    shown(&s.upper, path)
                );
            }
        }
    }
}

/// Changes of names: the object that was renamed, linked or lost a name, and the directories.
#[test]
fn after_each_change_of_names_stat_shows_what_the_upper_has() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).dir("d").dir("e").file("d/kept", "");
    let m = s.mount();
    m.file("d/f", "x").hard_link("d/g", "d/f").file("d/h", "h");
    let see = |paths: &[&str]| {
        for path in paths {
            let same = wait_for(SETTLED, || shown(&m, path) == shown(&s.upper, path));
            assert!(same, "{path}: {:?}\n{:?}", shown(&m, path), shown(&s.upper, path));
        }
        std::thread::sleep(TICK);
    };
    let rename = |from: &str, to: &str| fs::rename(m.path(from), m.path(to)).unwrap();
    see(&["d/f", "d/g", "d/h", "d", ""]);
    rename("d/f", "e/f");
    see(&["e/f", "d/g", "d", "e", ""]);
    fs::remove_file(m.path("d/g")).unwrap();
    see(&["e/f", "d", "e"]);
    raw::rename(&m.path("e/f"), &m.path("d/h"), libc::RENAME_EXCHANGE).unwrap();
    see(&["e/f", "d/h", "d", "e"]);
    rename("d/h", "e/f");
    see(&["e/f", "d", "e"]);
    m.dir("e/new");
    see(&["e/new", "e"]);
    fs::remove_dir(m.path("e/new")).unwrap();
    see(&["e"]);
}

/// A directory of a lower that is renamed is copied up with all that it shows, of which much is
/// known to the kernel already.
#[test]
fn after_a_whole_tree_was_copied_up_stat_shows_what_the_upper_has() {
    needs!(mount);
    crate::not_the_kernels!("a rename of a lower directory is EXDEV without redirects");
    let s = Scratch::new();
    s.lower(0).file("a/b/c/f", vec![b'.'; 5000]).file("a/b/g", "g").symlink("a/l", "b/g");
    let m = s.mount();
    let all = ["a", "a/b", "a/b/c", "a/b/c/f", "a/b/g"];
    for path in all {
        m.stat(path);
    }
    let link = |dir: &Dir, path: &str| {
        let stat = fs::symlink_metadata(dir.path(path)).unwrap();
        (stat.ctime(), stat.ctime_nsec())
    };
    link(&m, "a/l");
    std::thread::sleep(TICK);
    fs::rename(m.path("a"), m.path("z")).unwrap();
    for path in all.map(|path| path.replacen('a', "z", 1)) {
        let same = wait_for(SETTLED, || shown(&m, &path) == shown(&s.upper, &path));
        assert!(same, "{path}: {:?}\n{:?}", shown(&m, &path), shown(&s.upper, &path));
    }
    assert_eq!(link(&m, "z/l"), link(&s.upper, "z/l"));
    assert!(Path::new(&m.path("z/l")).is_symlink());
}
