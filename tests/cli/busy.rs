//! Directories that another mount is using: as the kernel's overlayfs with `index=off` a second
//! mount goes on, with a warning. With an index, or `--strict`, it is refused.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::refusal::{assert_refusal, assert_refused};
use crate::support::mount::detach;
use crate::support::process::{output, text};
use crate::support::{Mount, Scratch, Setup};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "its warning is in the kernel's log";

/// Another scratch directory, whose mount has the upper and the work directory of this one.
fn beside(s: &Scratch) -> (Scratch, Setup) {
    let other = Scratch::new();
    let setup = s.setup().mountpoint(other.mnt.root());
    (other, setup)
}

/// The process that serves a mount, as a warning of another names it.
fn server(m: &Mount) -> String {
    format!("(process {} ovlmerge, mounted on {})", m.pid().unwrap(), m.root().display())
}

#[track_caller]
fn assert_warned(m: &Mount, words: &[&str]) {
    for word in words {
        assert!(m.log().contains(word), "no `{word}` in: {}", m.log());
    }
}

/// Work that is under way in the first mount stays, and what both build has different names.
#[test]
fn a_second_mount_goes_on_and_names_the_first() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    for number in 0..200 {
        s.lower(0).file(format!("a{number}"), "lower").file(format!("b{number}"), "lower");
    }
    let first = s.mount();
    first.file("new", "of the first");
    s.work.file("work/under-way", "");
    let (_other, setup) = beside(&s);
    let second = setup.mount();
    let (upper, work) = (s.upper.root().display(), s.work.root().display());
    let both = format!("upperdir={upper} and workdir={work}: another mount is using them");
    let advice = format!("unmount that one (ovlmerge umount {})", first.root().display());
    assert_warned(&second, &[&both, &server(&first), &advice]);
    assert_eq!(second.log().matches("another mount").count(), 1, "{}", second.log());
    assert!(s.work.exists("work/under-way"), "it was swept");
    assert_eq!(second.read("new"), "of the first");
    std::thread::scope(|scope| {
        for (m, prefix) in [(&first, "a"), (&second, "b")] {
            scope.spawn(move || {
                for number in 0..200 {
                    let path = m.path(format!("{prefix}{number}"));
                    let file = File::options().write(true).open(&path).unwrap();
                    file.write_all_at(prefix.as_bytes(), 0).unwrap();
                    fs::rename(&path, m.path(format!("{prefix}moved{number}"))).unwrap();
                }
            });
        }
    });
    for prefix in ["a", "b"] {
        for number in 0..200 {
            let moved = s.upper.read(format!("{prefix}moved{number}"));
            assert_eq!(moved, format!("{prefix}ower"));
            assert!(s.upper.is_whiteout(format!("{prefix}{number}")));
        }
    }
}

#[test]
fn with_an_index_or_strict_it_is_refused() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let mut first = s.mount();
    let (other, setup) = beside(&s);
    let upper = s.upper.root().to_str().unwrap();
    let words = ["upperdir", upper, "unmount", &server(&first)];
    assert_refused(&other, &setup.clone().option("index=on"), &words);
    let mut strict = setup.clone().background().command();
    strict.arg("--strict");
    assert_refusal(&other, &output(&mut strict), 1, &words);
    // Only the work directory is in use.
    let own_upper = setup.clone().upper(other.upper.root()).option("index=on");
    assert_refused(&other, &own_upper, &["workdir", s.work.root().to_str().unwrap()]);
    // The first one goes on.
    first.file("f", "changed").file("new", "");
    assert_eq!(first.read("f"), "changed");
    first.unmount();
    drop(setup.option("index=on").mount());
}

/// The second knows of the first, the third of the second, and the last one out leaves an upper
/// that the next has for itself, work directory swept.
#[test]
fn each_is_seen_by_the_next() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let mut first = s.mount();
    let (_two, setup) = beside(&s);
    let mut second = setup.mount();
    first.unmount();
    s.work.file("work/under-way", "");
    let (_three, setup) = beside(&s);
    let mut third = setup.mount();
    assert_warned(&third, &[&server(&second)]);
    assert!(s.work.exists("work/under-way"));
    second.unmount();
    third.unmount();
    let fourth = setup.mount();
    assert!(!fourth.log().contains("another mount"), "{}", fourth.log());
    assert!(!s.work.exists("work/under-way"), "nobody needs it any more");
}

/// What stopping and starting a container does while a shell outside sits in its files.
#[test]
fn an_old_mount_that_somebody_sits_in() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "lower");
    let old = s.mount();
    let sits = File::open(old.path("f")).unwrap();
    old.file("written", "before");
    detach(old.root());
    let (_other, setup) = beside(&s);
    let new = setup.mount();
    let pid = old.pid().unwrap();
    let who = format!("(process {pid} ovlmerge, unmounted from {}", old.root().display());
    assert_warned(&new, &[&who, "something still uses its files", &format!("kill {pid}, twice")]);
    assert!(!new.log().contains("mounted on"), "{}", new.log());
    assert_eq!(new.read("written"), "before");
    new.file("f", "new");
    let mut byte = [0];
    sits.read_exact_at(&mut byte, 0).unwrap();
    drop(sits);
    drop(new);
    assert_eq!(s.upper.read("f"), "new");
}

/// Each leaves the guard against a crash until the last is gone.
#[test]
fn volatile_mounts_beside_others() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let guard = || s.work.exists("work/incompat/volatile");
    for options in [["volatile", "volatile"], ["volatile", "rw"], ["rw", "volatile"]] {
        for leaves_first in [0, 1] {
            let (_other, setup) = beside(&s);
            let mut mounts =
                [s.setup().option(options[0]).mount(), setup.option(options[1]).mount()];
            mounts[leaves_first].unmount();
            assert!(guard(), "the other is still there");
            mounts[1 - leaves_first].unmount();
            assert!(!guard(), "{options:?}");
        }
    }
    drop(s.mount());
}

/// It says so, as the path of the mountpoint may mean nothing here.
#[test]
fn a_mount_of_another_namespace() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let script = "set -e\n\
        \"$1\" -o \"$2\" \"$3\"\n\
        echo ready\n\
        read _ || true\n\
        umount \"$3\"";
    let mut inside = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(s.program())
        .arg(s.setup().option_string())
        .arg(s.mnt.root())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = inside.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    assert_eq!(line, "ready\n");
    let m = s.mount();
    let log = m.log();
    drop(inside.stdin.take());
    assert!(inside.wait().unwrap().success());
    let place = s.mnt.root().display();
    assert!(log.contains(&format!("mounted on {place} in another mount namespace)")), "{log}");
    assert!(log.contains(" --mount umount "), "{log}");
}

/// The mount is gone here, and a container that was started meanwhile has a copy.
#[test]
fn a_copy_in_another_namespace() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    // Older ones do not tell which file system a process serves.
    if crate::support::release::running() < (6, 18) {
        return;
    }
    let s = Scratch::new();
    let old = s.mount();
    let mut holder = std::process::Command::new("unshare");
    holder.args(["--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 1000"]);
    let mut holder = holder.stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(&mut holder.stdout.take().unwrap(), &mut [0]).unwrap();
    detach(old.root());
    let (_other, setup) = beside(&s);
    let new = setup.mount();
    let pid = holder.id();
    holder.kill().unwrap();
    holder.wait().unwrap();
    let who = format!("with a copy of the mount at process {pid} sleep");
    assert_warned(&new, &[&who, &format!("nsenter --target {pid} --mount umount")]);
}

/// Images share their layers: lowers are for as many mounts as there are.
#[test]
fn lowers_are_shared() {
    needs!(mount);
    let one = Scratch::new();
    one.lower(0).file("f", "x");
    let other = Scratch::new();
    let (m, mut n) =
        (one.mount(), other.setup().lowers(vec![one.lower(0).root().to_owned()]).mount());
    m.file("f", "changed");
    assert_eq!((m.read("f"), n.read("f")), ("changed".into(), "x".into()));
    n.unmount();
}

/// The kernel warns as well, and refuses with `index=on`.
#[test]
fn a_lower_in_the_upper_of_another_mount() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let m = s.mount();
    m.file("f", "changed").file("d/sub/g", "");
    let other = Scratch::new();
    for path in ["", "d/sub"] {
        let lowers = vec![s.upper.path(path), other.lower(0).path("")];
        let setup = other.setup().lowers(lowers);
        let n = setup.mount();
        assert_warned(&n, &["lowerdir=", "another mount is using it", "as its upper", &server(&m)]);
        drop(n);
        assert_refused(&other, &setup.option("index=on"), &["lowerdir", "as its upper"]);
    }
    m.file("e/g", "");
    let lowers = vec![s.upper.path("d"), s.upper.path("e")];
    let n = other.setup().lowers(lowers).mount();
    assert_warned(&n, &[" and lowerdir=", "ovlmerge umount"]);
    assert_eq!(n.log().matches("another mount").count(), 1, "{}", n.log());
}

/// A layer that is being rewritten is nobody else's.
#[test]
fn a_tool_has_the_upper_for_itself() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let alone = File::open(s.upper.root()).unwrap();
    let lock = nix::fcntl::Flock::lock(alone, nix::fcntl::FlockArg::LockExclusive).unwrap();
    assert_refused(&s, &s.setup(), &["upperdir", "for itself alone", "try again"]);
    drop(lock);
    drop(s.mount());
    let m = s.mount();
    let check =
        format!("lowerdir={},upperdir={}", s.lower(0).root().display(), s.upper.root().display());
    let checked = output(std::process::Command::new(s.program()).args(["check", "-o", &check]));
    assert!(text(&checked.stderr).contains("it is mounted"), "{}", text(&checked.stderr));
    drop(m);
}

#[test]
fn a_mount_over_a_mount_leaves_both_whole() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("below", "");
    let other = Scratch::new();
    other.lower(0).file("above", "");
    let m = s.mount();
    let mut n = other.setup().mountpoint(s.mnt.root()).mount();
    assert_eq!(s.mnt.names(""), ["above"]);
    n.unmount();
    assert_eq!(m.names(""), ["below"]);
}

/// The server of a mount that has just been unmounted is waited for.
#[test]
fn one_after_the_other() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    for _ in 0..5 {
        let mut m = s.setup().background().mount();
        m.file("f", "x");
        nix::mount::umount2(m.root(), nix::mount::MntFlags::empty()).unwrap();
        let again = s.mount();
        assert!(!again.log().contains("another mount"), "{}", again.log());
        drop(again);
        assert!(m.server_leaves(Duration::from_secs(20)));
    }
}
