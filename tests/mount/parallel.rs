//! Many at once.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::write::pattern;
use crate::support::process::wait_for;
use crate::support::tree::{Compare, assert_same_tree, dump};
use crate::support::{Scratch, SlowFs};
use crate::{needs, not_the_kernels};

const THREADS: usize = 8;
/// How long may take what waits for nobody, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

fn at_once(work: impl Fn(usize) + Sync) {
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (work, barrier) = (&work, &barrier);
            scope.spawn(move || {
                barrier.wait();
                work(thread);
            });
        }
    });
}

#[test]
fn one_file_copied_up_by_many() {
    needs!(mount);
    let s = Scratch::new();
    let content = pattern(2_000_000, 3);
    for round in 0..10 {
        s.lower(0).file(format!("d/e/f{round}"), &content);
    }
    let mut m = s.mount();
    for round in 0..10 {
        let path = m.path(format!("d/e/f{round}"));
        at_once(|thread| {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[b'!'; 100], thread as u64 * 200_000).unwrap();
        });
    }
    let mut expected = content.clone();
    for thread in 0..THREADS {
        expected[thread * 200_000..][..100].fill(b'!');
    }
    for _ in 0..2 {
        for round in 0..10 {
            assert!(fs::read(m.path(format!("d/e/f{round}"))).unwrap() == expected, "{round}");
        }
        m.remount();
    }
    assert!(fs::read(s.lower(0).path("d/e/f0")).unwrap() == content);
}

#[test]
fn one_directory_filled_and_emptied_by_many() {
    needs!(mount);
    let s = Scratch::new();
    for thread in 0..THREADS {
        for number in 0..50 {
            s.lower(0).file(format!("d/lower{thread}-{number}"), "");
        }
    }
    let mut m = s.mount();
    at_once(|thread| {
        for number in 0..50 {
            let name = |kind: &str| m.path(format!("d/{kind}{thread}-{number}"));
            fs::write(name("new"), "x").unwrap();
            fs::rename(name("new"), name("kept")).unwrap();
            fs::remove_file(name("lower")).unwrap();
            fs::write(name("gone"), "").unwrap();
            fs::create_dir(name("dir")).unwrap();
            fs::remove_file(name("gone")).unwrap();
            fs::remove_dir(name("dir")).unwrap();
        }
    });
    for _ in 0..2 {
        let names = m.names("d");
        assert_eq!(names.len(), THREADS * 50);
        assert!(names.iter().all(|name| name.starts_with("kept")));
        m.remount();
    }
    assert!(s.leftovers().is_empty(), "{:?}", s.leftovers());
}

/// Only one of several can win a race for a name.
#[test]
fn races_for_one_name_have_one_winner() {
    needs!(mount);
    let s = Scratch::new();
    for round in 0..50 {
        s.lower(0).file(format!("gone{round}"), "").file(format!("from{round}"), "x");
    }
    let m = s.mount();
    for round in 0..50 {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let won = |result: std::io::Result<()>| {
            if result.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        at_once(|_| won(fs::remove_file(m.path(format!("gone{round}")))));
        assert_eq!(count.swap(0, Ordering::Relaxed), 1, "unlink");
        at_once(|_| won(fs::create_dir(m.path(format!("gone{round}")))));
        assert_eq!(count.swap(0, Ordering::Relaxed), 1, "mkdir");
        at_once(|_| won(File::create_new(m.path(format!("new{round}"))).map(drop)));
        assert_eq!(count.swap(0, Ordering::Relaxed), 1, "create");
        at_once(|thread| {
            let to = m.path(format!("to{round}-{thread}"));
            won(fs::rename(m.path(format!("from{round}")), to));
        });
        assert_eq!(count.swap(0, Ordering::Relaxed), 1, "rename");
    }
    let moved = m.names("").iter().filter(|name| name.starts_with("to")).count();
    assert_eq!(moved, 50);
}

/// Threads that walk, move, copy up and delete in one tree; in the end it must be the same tree
/// after a remount, and the server alive.
#[test]
fn a_busy_tree_is_the_same_after_a_remount() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    for number in 0..200 {
        let dir = number % 10;
        s.lower(number % 2).file(format!("d{dir}/f{number}"), format!("{number}"));
    }
    let mut m = s.mount();
    at_once(|thread| {
        let mut state = u32::try_from(thread).unwrap() * 7919 + 1;
        let mut next = |bound: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % bound
        };
        for step in 0..300 {
            let path = m.path(format!("d{}/f{}", next(10), next(200)));
            let other = m.path(format!("d{}/f{}", next(10), next(200)));
            // Others are at it too, so most of these may fail; what counts is the end.
            let result = match next(7) {
                0 => fs::write(&path, format!("{thread} {step}")),
                1 => fs::rename(&path, &other),
                2 => fs::remove_file(&path),
                3 => fs::hard_link(&path, &other),
                4 => fs::read(&path).map(drop),
                5 => fs::read_dir(path.parent().unwrap())
                    .map(|entries| assert!(entries.count() < 1_000)),
                _ => nix::unistd::truncate(&path, 1).map_err(Into::into),
            };
            if let Err(err) = result {
                let known = [libc::ENOENT, libc::EEXIST, libc::EMLINK];
                assert!(known.contains(&err.raw_os_error().unwrap()), "{path:?} {other:?}: {err}");
            }
        }
    });
    let before = dump(m.root());
    m.remount();
    assert_same_tree(&before, &dump(m.root()), Compare::STRICT);
    assert!(s.leftovers().is_empty(), "{:?}", s.leftovers());
}

/// No lock is held while data is copied: what has nothing to do with the file goes on, however long
/// it takes.
#[test]
fn a_long_copy_up_holds_up_nothing_else() {
    needs!(mount);
    not_the_kernels!("it has no threads of its own");
    let s = Scratch::new();
    let source = s.base().sub("source");
    source.file("big/f", "big ".repeat(1 << 20));
    for number in 0..100 {
        s.lower(0).file(format!("small/f{number}"), "small").file(format!("big/g{number}"), "g");
    }
    let place = s.base().sub("slow-lower");
    place.dir("");
    let slow = SlowFs::mount(source.root(), &place);
    let lowers = vec![s.lower(0).root().to_owned(), place.root().to_owned()];
    let mut m = s.setup().lowers(lowers).mount();
    m.stat("big/f");
    let frozen = slow.freeze();
    // A program: what other tests start would close a file of ours once more, and wait for the
    // write to it before Linux 6.2.
    let mut write = Command::new("sh");
    write.args(["-c", "printf x | dd of=\"$1\" conv=notrunc status=none", "sh"]);
    let mut copier = write.arg(m.path("big/f")).spawn().unwrap();
    let hangs = || m.statistics()["held_up"].as_array().unwrap().len() == 1;
    assert!(wait_for(SOON, hangs), "{}", m.statistics()["held_up"]);
    for number in 0..100 {
        assert_eq!(m.read(format!("small/f{number}")), "small");
        assert_eq!(m.read(format!("big/g{number}")), "g");
        m.file(format!("big/h{number}"), "h");
    }
    fs::rename(m.path("big/g1"), m.path("big/g2")).unwrap();
    fs::remove_file(m.path("big/g3")).unwrap();
    assert!(copier.try_wait().unwrap().is_none(), "it copied from a layer that hangs");
    frozen.thaw();
    assert!(copier.wait().unwrap().success());
    assert!(m.read("big/f").starts_with("xig big"));
    m.unmount();
}
