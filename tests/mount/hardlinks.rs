//! Files of lowers with several names, without an index: each name is a file of its own, as in the
//! kernel's overlayfs with `index=off`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Uid};

use crate::support::process::shell;
use crate::support::{Dir, Kernel, LoopFs, Scratch, raw};
use crate::{needs, not_the_kernels};

/// A copy of a view that cannot change (tar, cp -a, an image) has each file once.
#[test]
fn names_in_a_view_that_cannot_change_are_one_file() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    s.lower(0).file("d/a", "x").hard_link("d/b", "d/a").hard_link("e", "d/a");
    s.lower(1).file("d/other", "y").hard_link("f", "d/other");
    let look = |m: &Dir| {
        forget();
        let [a, b, e, other, f] = ["d/a", "d/b", "e", "d/other", "f"].map(|name| m.stat(name));
        assert!(a.ino() == b.ino() && b.ino() == e.ino() && other.ino() == f.ino());
        assert_ne!(a.ino(), f.ino());
        assert_eq!([a, b, e, other, f].map(|stat| stat.nlink()), [3, 3, 3, 2, 2]);
    };
    let m = s.setup().read_only().mount();
    look(&m);
    m.names("d");
    look(&m);
    drop(m);
    // Without an upper that could change them, with `ro` and one, and where the number of a file
    // does not follow from the number in the layer, as in a mount below.
    let below = s.mount();
    let above = Scratch::new();
    let lowers = vec![below.root().to_owned()];
    look(&above.setup().lowers(lowers.clone()).mount());
    look(&above.setup().lowers(lowers).read_only().mount());
}

/// With an index all names show a copy before the name that was used follows it into the upper.
/// Where that fails, nothing may have been cut.
#[test]
fn what_is_cut_is_whole_until_its_name_has_followed() {
    /// `FS_IMMUTABLE_FL`, linux/fs.h.
    const IMMUTABLE: i32 = 0x10;
    needs!(mount, loop_device);
    for cut in [
        |path: &Path| nix::unistd::truncate(path, 0).is_ok(),
        |path: &Path| File::create(path).is_ok(),
    ] {
        let disk = LoopFs::ext4(32);
        let s = Scratch::in_dir(disk.path(), 1);
        s.lower(0).file("d/a", "content").hard_link("e", "d/a");
        s.upper.dir("d");
        let mut m = s.setup().option("index=on").mount();
        let dir = File::open(s.upper.path("d")).unwrap();
        raw::set_flags(&dir, IMMUTABLE).unwrap();
        let done = cut(&m.path("d/a"));
        raw::set_flags(&dir, 0).unwrap();
        assert!(!done, "the directory can be changed");
        for _ in 0..2 {
            for name in ["d/a", "e"] {
                assert_eq!((m.read(name).as_str(), m.stat(name).len()), ("content", 7), "{name}");
            }
            m.remount();
        }
    }
}

/// What is done, and what it is called.
type Step = (&'static str, fn(&Dir));

fn forget() {
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
}

/// Content, link count and number of each name.
fn seen<'a>(m: &Dir, names: &[&'a str]) -> Vec<(&'a str, String, u64, u64)> {
    let of = |name: &&'a str| {
        let stat = m.stat(name);
        (*name, fs::read_to_string(m.path(name)).unwrap_or_default(), stat.nlink(), stat.ino())
    };
    names.iter().map(of).collect()
}

fn chown(path: &Path, id: u32) -> io::Result<()> {
    let (user, group) = (Some(Uid::from_raw(id)), Some(Gid::from_raw(id)));
    Ok(nix::unistd::fchownat(
        nix::fcntl::AT_FDCWD,
        path,
        user,
        group,
        nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
    )?)
}

/// All names show one number and one count, until one of them is changed: that one is a file of its
/// own then, and the others stay what they were.
#[test]
fn a_change_of_one_name_is_that_names_alone() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("a", "old").hard_link("b", "a").hard_link("d/c", "a");
    s.lower(0).symlink("link", "a").hard_link("d/link", "link");
    let mut m = s.mount();
    let lower = s.lower(0).stat("a").ino();
    for name in ["a", "b", "d/c"] {
        assert_eq!((m.stat(name).ino(), m.stat(name).nlink()), (lower, 3), "{name}");
    }
    m.file("b", "new").mode("d/c", 0o600).owner("d/link", 3, 3);
    for _ in 0..2 {
        assert_eq!([m.read("a"), m.read("b"), m.read("d/c")], ["old", "new", "old"]);
        assert_eq!([m.mode_of("a"), m.mode_of("d/c")], [0o644, 0o600]);
        assert_eq!([m.stat("link").uid(), m.stat("d/link").uid()], [0, 3]);
        assert_eq!(
            ["a", "b", "d/c", "link", "d/link"].map(|name| m.stat(name).nlink()),
            [3, 1, 1, 2, 1]
        );
        assert_eq!(m.stat("a").ino(), lower);
        for name in ["b", "d/c"] {
            assert_eq!(m.stat(name).ino(), s.upper.stat(name).ino(), "{name}: that of the copy");
        }
        m.remount();
    }
    assert_eq!(s.lower(0).read("a"), "old");
    assert!(!s.upper.exists("a") && !s.upper.exists("link"));
}

/// A file that was open under one name stays that name's.
#[test]
fn open_files_follow_their_own_name() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("a", "old").hard_link("b", "a");
    let m = s.mount();
    let open = |name| OpenOptions::new().read(true).write(true).open(m.path(name)).unwrap();
    let (a, b) = (open("a"), open("b"));
    a.write_all_at(b"A", 0).unwrap();
    b.write_all_at(b"BB", 0).unwrap();
    assert_eq!([m.read("a"), m.read("b")], ["Ald", "BBd"]);
    assert_eq!([a.metadata().unwrap().nlink(), b.metadata().unwrap().nlink()], [1, 1]);
}

/// What the kernel had looked up, or forgotten, decided which names were changed with the first: a
/// write showed in the other name as long as that was known, and not after the next mount; and the
/// layer had names that nobody had touched.
#[test]
fn nothing_depends_on_what_was_looked_up() {
    needs!(root, mount);
    for forgets in [false, true] {
        for looks in [false, true] {
            let s = Scratch::new();
            s.lower(0).file("a/x", "old").dir("b").hard_link("b/y", "a/x").hard_link("b/z", "a/x");
            let mut m = s.mount();
            if looks {
                assert_eq!(m.names("a").len() + m.names("b").len(), 3);
                assert_eq!(seen(&m, &["a/x", "b/y", "b/z"]).len(), 3);
            }
            if forgets {
                forget();
            }
            m.file("a/x", "new");
            for _ in 0..2 {
                assert_eq!([m.read("a/x"), m.read("b/y"), m.read("b/z")], ["new", "old", "old"]);
                m.remount();
            }
            assert!(!s.upper.exists("b"), "{forgets} {looks}");
        }
    }
}

/// Removing and linking again all names of hard links after a change is what container storage
/// does. The count of a name that was still there became 0, and the kernel makes no link to what it
/// takes for removed: ENOENT, and the name was lost.
#[test]
fn a_name_that_is_there_is_counted() {
    needs!(mount);
    not_the_kernels!("options");
    let steps: [Step; 2] = [
        ("unlink", |m| fs::remove_file(m.path("b")).unwrap()),
        ("rename", |m| {
            m.file("n", "n");
            fs::rename(m.path("n"), m.path("b")).unwrap();
            fs::remove_file(m.path("b")).unwrap();
        }),
    ];
    for (step, remove) in steps {
        for looked_up in [false, true] {
            for option in ["index=off", "index=on", "index=auto"] {
                let s = Scratch::new();
                s.lower(0).file("a", "x").hard_link("b", "a").hard_link("c", "a");
                let mut m = s.setup().option(option).mount();
                if looked_up {
                    assert_eq!(m.stat("b").nlink(), 3);
                }
                let open = File::open(m.path("a")).unwrap();
                m.owner("a", 5, 5);
                for _ in 0..3 {
                    remove(&m);
                    let count = open.metadata().unwrap().nlink();
                    assert!(count > 0, "{step} {option} {looked_up}");
                    fs::hard_link(m.path("a"), m.path("b")).unwrap();
                    assert_eq!(m.stat("a").nlink(), count + 1, "{step} {option} {looked_up}");
                    assert_eq!(m.stat("a").ino(), m.stat("b").ino());
                }
                drop(open);
                m.remount();
                assert_eq!((m.read("b").as_str(), m.stat("b").uid()), ("x", 5));
            }
        }
    }
}

/// The same while others look at the names: an answer with the new count was there before the
/// answer to UNLINK, and the kernel counted down once more.
#[test]
fn a_name_that_is_there_is_counted_whoever_looks() {
    needs!(root, mount);
    not_the_kernels!("options");
    links_are_made_while_others_look(|a, b| {
        fs::remove_file(b)?;
        fs::hard_link(a, b)
    });
}

/// The same where the name goes to another file, and that file goes with it.
#[test]
fn a_name_that_is_there_is_counted_whoever_looks_at_what_is_renamed_over() {
    needs!(root, mount);
    not_the_kernels!("options");
    links_are_made_while_others_look(|a, b| {
        let new = b.with_extension("new");
        fs::write(&new, "new")?;
        fs::rename(&new, b)?;
        fs::hard_link(a, &new)?;
        fs::rename(&new, b)
    });
}

/// Changes `a`, and calls `remake(a, b)`, which takes the other name `b` away from it and makes it
/// again, while others look at both.
fn links_are_made_while_others_look(remake: fn(&Path, &Path) -> io::Result<()>) {
    const PAIRS: usize = 200;
    let seconds = std::env::var("OVLMERGE_RACE_SECONDS").map_or(3, |text| text.parse().unwrap());
    let s = Scratch::new();
    for pair in 0..PAIRS {
        s.lower(0)
            .file(format!("d/a{pair}"), "x")
            .hard_link(format!("e/b{pair}"), format!("d/a{pair}"));
    }
    for option in ["index=off", "index=on"] {
        let m = s.setup().option(option).mount();
        let (ended, begun) = (AtomicBool::new(false), Instant::now());
        let path = |dir, pair: usize| m.path(format!("{dir}{pair}"));
        let (mut lost, mut links) = (0, 0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        for pair in 0..PAIRS {
                            for dir in ["e/b", "d/a"] {
                                // It may be away just now.
                                fs::symlink_metadata(path(dir, pair)).ok();
                            }
                        }
                    }
                });
            }
            for round in 0.. {
                for pair in 0..PAIRS {
                    let (a, b) = (path("d/a", pair), path("e/b", pair));
                    chown(&a, round).unwrap();
                    links += 1;
                    if let Err(err) = remake(&a, &b) {
                        println!("{option}, {pair}: {err}");
                        lost += 1;
                        fs::remove_file(&b).ok();
                        fs::copy(&a, &b).unwrap();
                    }
                }
                if begun.elapsed() > Duration::from_secs(seconds) {
                    break;
                }
            }
            ended.store(true, Ordering::Relaxed);
        });
        println!("{option}: {links} links, {lost} lost");
        assert_eq!(lost, 0, "of {links} links, with {option}");
        drop(m);
        for dir in [&s.upper, &s.work] {
            for name in dir.names("") {
                let path = dir.path(name);
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
                    .unwrap();
            }
        }
        for name in ["overlay.origin", "overlay.impure"] {
            for space in ["trusted", "user"] {
                xattr::remove(s.upper.root(), format!("{space}.{name}")).ok();
            }
        }
    }
}

/// A file that had been copied up and got a second name by the kernel's overlayfs, which marks no
/// directory for that, was two files: what one appended was lost to the other.
#[test]
fn one_object_is_one_file_whatever_marks_are_missing() {
    needs!(root, mount, kernel_overlay);
    not_the_kernels!("it is about layers that both have written to");
    for order in [["d/g", "f"], ["f", "d/g"]] {
        for removes_mark in [false, true] {
            let s = Scratch::new();
            s.lower(0).file("f", "abc");
            let mut m = s.mount();
            m.mode("f", 0o600);
            m.unmount();
            let k = Kernel::overlay(s.lowers(), Some((&s.upper, &s.work)), &s.mnt, "index=off");
            k.dir("d").hard_link("d/g", "f");
            drop(k);
            if removes_mark {
                xattr::remove(s.upper.root(), "trusted.overlay.impure").unwrap();
            }
            xattr::remove(s.upper.path("d"), "trusted.overlay.impure").ok();
            let m = s.mount();
            let numbers = order.map(|name| (m.stat(name).ino(), m.stat(name).nlink()));
            assert_eq!(numbers[0], numbers[1], "{order:?}");
            assert_eq!(numbers[0], (s.lower(0).stat("f").ino(), 2), "the original's");
            for (name, more) in [("f", "d"), ("d/g", "e"), ("f", "f")] {
                let path = m.path(name);
                let file = OpenOptions::new().append(true).open(path).unwrap();
                io::Write::write_all(&mut &file, more.as_bytes()).unwrap();
            }
            assert_eq!([m.read("f"), m.read("d/g")], ["abcdef", "abcdef"]);
        }
    }
}

const CHANGES: [Step; 9] = [
    ("write", |m| {
        m.file("a", "new");
    }),
    ("chmod", |m| {
        m.mode("d/c", 0o640);
    }),
    ("link", |m| {
        m.hard_link("new", "b");
    }),
    ("unlink", |m| fs::remove_file(m.path("a")).unwrap()),
    ("rename", |m| fs::rename(m.path("a"), m.path("d/new")).unwrap()),
    ("rename over another name", |m| fs::rename(m.path("a"), m.path("b")).unwrap()),
    ("rename over a name of its own", |m| {
        m.hard_link("new", "b");
        fs::rename(m.path("b"), m.path("new")).unwrap();
    }),
    ("exchange", |m| {
        crate::support::raw::rename(&m.path("a"), &m.path("d/c"), libc::RENAME_EXCHANGE).unwrap();
        m.file("a", "exchanged");
    }),
    ("all gone but one", |m| {
        for name in ["a", "b"] {
            fs::remove_file(m.path(name)).unwrap();
        }
        m.file("d/c", "last");
    }),
];

/// Two layers with names of one file.
fn lay(s: &Scratch) {
    s.lower(0).file("a", "old").hard_link("b", "a").hard_link("d/c", "a");
    fs::hard_link(s.lower(0).path("a"), s.lower(1).path("other")).unwrap();
}

/// Each name, with its number as it is to those of the layers.
fn look(s: &Scratch, m: &Dir) -> Vec<(String, String, u64, String)> {
    let all = ["a", "b", "d/c", "other", "new", "d/new"];
    let names: Vec<&str> = all.into_iter().filter(|name| m.exists(name)).collect();
    let lower = s.lower(0).stat("a").ino();
    let of = |name: &str, number: u64| match number {
        _ if number == lower => "the lower's".to_owned(),
        _ if s.upper.exists(name) && number == s.upper.stat(name).ino() => "its own".to_owned(),
        _ => number.to_string(),
    };
    let seen = seen(m, &names).into_iter();
    seen.map(|(name, content, count, number)| (name.into(), content, count, of(name, number)))
        .collect()
}

/// Beside the kernel's overlayfs: what each name shows after each of these, at once, after the
/// kernel has forgotten it, and after the next mount.
#[test]
fn beside_the_kernel() {
    needs!(root, mount, kernel_overlay);
    not_the_kernels!("it mounts both");
    for option in ["index=off", "index=on"] {
        for (what, change) in CHANGES {
            let (ours, kernels) = (Scratch::with_lowers(2), Scratch::with_lowers(2));
            lay(&ours);
            lay(&kernels);
            let mut m = ours.setup().option(option).mount();
            let overlay = |s: &Scratch| {
                let options = format!("{option},xino=off");
                Kernel::overlay(s.lowers(), Some((&s.upper, &s.work)), &s.mnt, &options)
            };
            let k = overlay(&kernels);
            assert_eq!(look(&ours, &m), look(&kernels, &k), "{option}");
            change(&m);
            change(&k);
            assert_eq!(look(&ours, &m), look(&kernels, &k), "{what}, {option}");
            forget();
            assert_eq!(look(&ours, &m), look(&kernels, &k), "{what}, {option}, forgotten");
            drop(k);
            m.remount();
            let k = overlay(&kernels);
            assert_eq!(look(&ours, &m), look(&kernels, &k), "{what}, {option}, mounted again");
        }
    }
}

/// Clock ticks that a process has spent so far: fields 14 and 15 of proc_pid_stat(5).
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, which is field 2, may hold blanks.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Each name of a file was looked for among all of its names, so that a directory of 20,000 took
/// the server three times as long as one of as many files, and one of 60,000 nine times.
#[test]
fn many_names_of_one_file_are_listed_as_fast_as_many_files() {
    needs!(root, mount);
    not_the_kernels!("it has no process of its own");
    /// ext4 has at most 65,000 links to a file.
    const MANY: usize = 40_000;
    let s = Scratch::new();
    s.lower(0).file("one", "").dir("names").dir("files");
    for number in 0..MANY {
        let (of, name) = (s.lower(0).path("one"), number.to_string());
        fs::hard_link(of, s.lower(0).path("names").join(&name)).unwrap();
        File::create(s.lower(0).path("files").join(&name)).unwrap();
    }
    for option in ["index=off", "index=on"] {
        let m = s.setup().option(option).mount();
        let pid = m.pid().unwrap();
        let [files, names] = ["files", "names"].map(|dir| {
            let before = ticks(pid);
            let listed = shell(m.root(), &format!("find {dir} | wc -l; ls -l {dir} | wc -l"));
            assert_eq!(listed, format!("{}\n{}\n", MANY + 1, MANY + 1));
            ticks(pid) - before
        });
        println!("{option}: {files} ticks for files, {names} for names");
        assert!(names <= files * 2 + 20, "{option}: {names} ticks, {files} for files");
    }
}
