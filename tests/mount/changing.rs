//! Lower layers that something changes behind the mount, with `timeout=`: after that time the mount
//! shows what a new one would.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::raw::Mapping;
use crate::support::{Dir, Mount, Scratch, passthrough_everywhere};
use crate::{needs, not_the_kernels};

/// All that is below a directory: type, and contents or target.
fn see(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(here) = dirs.pop() {
        for entry in fs::read_dir(&here).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let what = if kind.is_dir() {
                dirs.push(path.clone());
                "directory".to_owned()
            } else if kind.is_symlink() {
                format!("to {}", fs::read_link(&path).unwrap().display())
            } else {
                format!("file of {}", runs(&fs::read(&path).unwrap()))
            };
            all.insert(path.strip_prefix(dir).unwrap().to_owned(), what);
        }
    }
    all
}

/// How often each byte comes, one behind the other.
fn runs(bytes: &[u8]) -> String {
    let parts = bytes.chunk_by(|left, right| left == right);
    parts.map(|part| format!("{} {:?}, ", part.len(), char::from(part[0]))).collect()
}

type Change = fn(&Dir);

/// Puts a new object in the place of an old one in one step.
fn replace(dir: &Dir, name: &str, make: impl FnOnce(&Path)) {
    let new = dir.path("new");
    make(&new);
    fs::rename(&new, dir.path(name)).unwrap();
}

/// Changes of what `fill` makes, in a directory of a lower.
const CHANGES: [(&str, Change); 15] = [
    ("a file grows in place", |d| fs::write(d.path("f"), "B".repeat(9000)).unwrap()),
    ("a file shrinks in place", |d| fs::write(d.path("f"), "B".repeat(10)).unwrap()),
    ("a file changes in place", |d| fs::write(d.path("f"), "B".repeat(3000)).unwrap()),
    ("a file is appended to", |d| {
        let file = File::options().write(true).open(d.path("f")).unwrap();
        file.write_all_at(&[b'B'; 6000], 3000).unwrap();
    }),
    ("a file is replaced", |d| replace(d, "f", |new| fs::write(new, "B".repeat(9000)).unwrap())),
    ("a file is replaced by one of its size", |d| {
        replace(d, "f", |new| fs::write(new, "B".repeat(3000)).unwrap());
    }),
    ("a file is removed and made anew", |d| {
        fs::remove_file(d.path("f")).unwrap();
        fs::write(d.path("f"), "B".repeat(3000)).unwrap();
    }),
    ("a file goes", |d| fs::remove_file(d.path("f")).unwrap()),
    ("a file becomes a directory", |d| {
        fs::remove_file(d.path("f")).unwrap();
        d.file("f/inside", "x");
    }),
    ("a file becomes a link", |d| replace(d, "f", |new| symlink("elsewhere", new).unwrap())),
    ("a link leads elsewhere", |d| {
        fs::remove_file(d.path("l")).unwrap();
        symlink("there_now", d.path("l")).unwrap();
    }),
    ("a name is added", |d| {
        d.file("added", "x").dir("added_dir");
    }),
    ("a directory goes", |d| fs::remove_dir_all(d.path("sub")).unwrap()),
    ("a directory becomes a file", |d| {
        fs::remove_dir_all(d.path("sub")).unwrap();
        d.file("sub", "x");
    }),
    ("a directory is replaced", |d| {
        fs::rename(d.path("sub"), d.path("moved")).unwrap();
        d.file("sub/other", "x");
    }),
];

fn fill(dir: &Dir) {
    dir.file("f", "A".repeat(3000)).symlink("l", "there").file("sub/g", "g").file("sub/h", "h");
}

/// Layers where `merged` is a directory of all, `both` of the two lowers, `one` of the lower one
/// alone, `covered` of the upper and the lower one.
fn build() -> Scratch {
    let s = Scratch::with_lowers(2);
    for name in ["merged", "both", "one", "covered"] {
        fill(&s.lower(1).dir(name).sub(name));
    }
    s.lower(0).file("merged/top", "x").file("merged/sub/top", "x").file("both/top", "x");
    s.upper.file("merged/upper", "x").file("covered/sub/upper", "x");
    s
}

fn show_as_new(s: &Scratch, m: &Mount, what: &str) {
    let fresh = s.base().dir("fresh").path("fresh");
    let mut lowers = vec![s.upper.root().to_owned()];
    lowers.extend(s.lowers().iter().map(|lower| lower.root().to_owned()));
    let fresh = s.setup().lowers(lowers).read_only().mountpoint(&fresh).mount();
    let (old, new) = (see(m.root()), see(fresh.root()));
    let differs = |path: &&PathBuf| old.get(*path) != new.get(*path);
    let paths: Vec<_> = old.keys().chain(new.keys()).filter(differs).collect();
    let both =
        |path: &&PathBuf| format!("{path:?}: {:?}, not {:?}", old.get(*path), new.get(*path));
    let text: Vec<_> = paths.iter().map(both).collect();
    assert!(paths.is_empty(), "{what}:\n{}", text.join("\n"));
}

/// With `timeout=0` a file that was replaced was read as its old beginning, a hole, and its new
/// end; changes that kept the size never showed, nor did new names in merged directories.
fn all_changes_show(option: &str, after: Duration) {
    for (name, change) in CHANGES {
        let s = build();
        let m = s.setup().option(option).mount();
        see(m.root());
        see(m.root());
        for dir in ["merged", "both", "one", "covered"] {
            change(&s.lower(1).sub(dir));
        }
        std::thread::sleep(after);
        show_as_new(&s, &m, &format!("{option}, {name}"));
        // The mount can still be changed, with what is there now.
        m.file("merged/new", "x").file("covered/new", "x").file("one/new", "x");
        show_as_new(&s, &m, &format!("{option}, {name}, and changed"));
    }
}

#[test]
fn with_no_lifetime_changes_of_lowers_show_at_once() {
    needs!(mount);
    not_the_kernels!("its lowers must not change");
    all_changes_show("timeout=0", Duration::ZERO);
}

/// A file that comes back in another layer is another file, although it is the same inode.
#[test]
fn a_file_that_moves_to_another_layer_shows() {
    needs!(mount);
    not_the_kernels!("its layers must not change");
    let s = Scratch::with_lowers(2);
    s.lower(0).dir("d");
    s.lower(1).file("d/f", "content");
    let m = s.setup().option("timeout=0").mount();
    assert_eq!(m.read("d/f"), "content");
    fs::rename(s.lower(1).path("d/f"), s.lower(0).path("d/f")).unwrap();
    assert_eq!((m.read("d/f").as_str(), m.names("d")), ("content", vec!["f".to_owned()]));
    s.lower(1).file("d/f", "other");
    m.mode("d/f", 0o600);
    assert_eq!((m.read("d/f").as_str(), m.mode_of("d/f") & 0o777), ("content", 0o600));
    assert_eq!(s.upper.read("d/f"), "content");
}

#[test]
fn with_a_lifetime_changes_of_lowers_show_after_it() {
    needs!(mount);
    not_the_kernels!("its lowers must not change");
    all_changes_show("timeout=0.3", Duration::from_millis(400));
}

/// A page that is mapped is one that the kernel would keep. Who opens the file anew sees what there
/// is now, and the mapping shows the old page or the new one.
#[test]
fn changes_of_a_file_that_is_mapped_show() {
    needs!(mount);
    not_the_kernels!("its lowers must not change");
    for option in ["timeout=0", "timeout=0.3"] {
        for (name, change) in &CHANGES[..7] {
            let s = build();
            let m = s.setup().option(option).mount();
            let file = File::open(m.path("one/f")).unwrap();
            let map = Mapping::new(file.as_fd(), 3000, false).unwrap();
            assert_eq!(runs(&map.read()), "3000 'A', ");
            change(&s.lower(1).sub("one"));
            std::thread::sleep(Duration::from_millis(if option == "timeout=0" { 0 } else { 400 }));
            show_as_new(&s, &m, &format!("{option}, {name}, mapped"));
            let (now, seen) = (fs::read(s.lower(1).path("one/f")).unwrap(), runs(&map.read()));
            let mut page = now;
            page.resize(3000, 0);
            let wanted = ["3000 'A', ".to_owned(), runs(&page)];
            assert!(wanted.contains(&seen), "{option}, {name}: {seen}");
        }
    }
}

/// A file that was replaced while it was copied up could not be copied (EIO, as it was shorter than
/// the size of the other), or the copy was of both. Whoever goes by its path gets one of the two,
/// and whoever had it open may be told that it is gone.
#[test]
fn a_file_that_is_replaced_while_it_is_copied_up() {
    needs!(mount);
    not_the_kernels!("its lowers must not change");
    const FILES: usize = 300;
    /// Longer than a copy takes, so that most of them meet one change at most.
    const PAUSE: Duration = Duration::from_millis(5);
    type Replace = fn(&Path, &str);
    let (old, new) = ("A".repeat(300_000), "B".repeat(900_000));
    let ways: [(&str, Replace); 2] = [
        ("replaced", |path, text| {
            let beside = path.with_extension("new");
            fs::write(&beside, text).unwrap();
            fs::rename(&beside, path).unwrap();
        }),
        ("in place", |path, text| fs::write(path, text).unwrap()),
    ];
    for (way, replace) in ways {
        let s = Scratch::new();
        let path = |number: usize| s.lower(0).path(format!("{number}"));
        (0..FILES).for_each(|number| fs::write(path(number), &old).unwrap());
        let m = s.setup().option("timeout=0").mount();
        let (at, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
        let errors: Vec<_> = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    let number = at.load(Ordering::Relaxed);
                    replace(&path(number), &new);
                    std::thread::sleep(PAUSE);
                    replace(&path(number), &old);
                    std::thread::sleep(PAUSE);
                }
            });
            let mut errors = Vec::new();
            for number in 0..FILES {
                at.store(number, Ordering::Relaxed);
                let file = m.path(number.to_string());
                let done = match number % 2 {
                    0 => fs::set_permissions(&file, fs::Permissions::from_mode(0o600)),
                    _ => File::options().write(true).open(&file).and_then(|file| file.set_len(7)),
                };
                errors.extend(done.err().map(|err| (number, err.raw_os_error())));
            }
            ended.store(true, Ordering::Relaxed);
            errors
        });
        println!("{way}: {errors:?}");
        let allowed = |(_, errno): &(usize, Option<i32>)| *errno == Some(libc::ESTALE);
        assert!(errors.iter().all(allowed), "{way}: {errors:?}");
        assert!(errors.len() < FILES / 2, "{way}: {} fail", errors.len());
        for number in 0..FILES {
            let name = number.to_string();
            if way == "replaced" && s.upper.exists(&name) {
                let seen = runs(&fs::read(s.upper.path(&name)).unwrap());
                let whole = [300_000, 7].map(|count| format!("{count} 'A', "));
                let other = [900_000, 7].map(|count| format!("{count} 'B', "));
                assert!(whole.contains(&seen) || other.contains(&seen), "{name}: {seen}");
            }
        }
    }
}

/// Writes that the kernel gathers would hide what the file has become.
#[test]
fn changes_show_with_writes_that_are_gathered_too() {
    needs!(mount);
    not_the_kernels!("its lowers must not change");
    // The two exclude one another.
    if passthrough_everywhere() {
        return;
    }
    let s = build();
    let m = s.setup().option("timeout=0,writeback=1").mount();
    assert_eq!(m.read("one/f"), "A".repeat(3000));
    s.lower(1).file("one/f", "B".repeat(9000));
    assert_eq!(m.read("one/f"), "B".repeat(9000));
    assert!(m.log().contains("writeback=1 has no effect"), "{}", m.log());
}

/// Without the option nobody looks again.
#[test]
fn by_default_lowers_do_not_change() {
    needs!(mount);
    not_the_kernels!("its lowers must not change");
    let s = build();
    let m = s.mount();
    see(m.root());
    s.lower(1).file("merged/added", "x");
    assert!(!m.names("merged").contains(&"added".to_owned()));
}
