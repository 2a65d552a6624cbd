//! rename(2) of directories that lowers show through.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{RENAME_EXCHANGE, RENAME_NOREPLACE};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::SFlag;

use crate::support::mount::is_mountpoint;
use crate::support::process::{self, shell};
use crate::support::raw::rename;
use crate::support::user::NOBODY;
use crate::support::{LoopFs, Mount, Scratch, assert_errno};
use crate::{needs, not_the_kernels};

const OURS: &str = "it moves no directory of a lower without redirect_dir=on";
const OPAQUE: &str = "trusted.overlay.opaque";
const REDIRECT: &str = "trusted.overlay.redirect";

/// Two layers that merge into one directory, with something of every kind.
fn layers() -> Scratch {
    let s = Scratch::with_lowers(2);
    s.lower(0)
        .file("d/top", "top")
        .file("d/sub/both", "upper of both")
        .whiteout("d/sub/gone")
        .symlink("d/link", "top")
        .node("d/fifo", SFlag::S_IFIFO, 0, 0)
        .node("d/socket", SFlag::S_IFSOCK, 0, 0)
        .node("d/null", SFlag::S_IFCHR, 1, 3);
    s.lower(1)
        .file("d/bottom", "bottom")
        .file("d/sub/both", "lower of both")
        .file("d/sub/gone", "")
        .file("d/sub/deep/f", "deep")
        .hard_link("d/sub/one", "d/bottom")
        .xattr("d/bottom", "user.mine", "1")
        .owner("d/bottom", 5, 6)
        .mode("d/bottom", 0o4750)
        .times("d/bottom", 100, 7);
    s.lower(0).mode("d/sub", 0o2775);
    for d in ["d/sub/deep", "d/sub", "d"] {
        for n in 0..2 {
            if s.lower(n).exists(d) {
                s.lower(n).times(d, 300, 8);
            }
        }
    }
    s
}

/// A name that is too long for `.wh.NAME` kept the directory from getting its times, and whiteouts
/// stayed in it.
#[test]
fn with_a_long_name_that_is_gone() {
    needs!(mount);
    not_the_kernels!(OURS);
    let s = Scratch::new();
    let long = "x".repeat(255);
    s.lower(0).file(format!("d/{long}"), "").file("d/a", "").file("d/stays", "").file("d/z", "");
    let mut m = s.mount();
    for name in [long.as_str(), "a", "z"] {
        fs::remove_file(m.path("d").join(name)).unwrap();
    }
    m.times("d", 300, 8);
    fs::rename(m.path("d"), m.path("e")).unwrap();
    let modified = fs::metadata(m.path("e")).unwrap().mtime();
    m.unmount();
    assert_eq!((s.upper.names("e"), modified), (vec!["stays".to_owned()], 300));
}

/// A directory that no lower has needs no mark when it is replaced, which with `whiteout=aufs` is a
/// file in it.
#[test]
fn over_an_empty_directory_with_aufs_whiteouts() {
    needs!(mount);
    not_the_kernels!("it writes no such whiteouts");
    let s = Scratch::new();
    s.lower(0).file("lower/f", "lower");
    let m = s.setup().option("whiteout=aufs").mount();
    m.dir("empty").dir("emptied").file("full/f", "full").file("emptied/f", "");
    fs::remove_file(m.path("emptied/f")).unwrap();
    fs::rename(m.path("full"), m.path("empty")).unwrap();
    assert_eq!(m.names("empty"), ["f"]);
    fs::rename(m.path("empty"), m.path("emptied")).unwrap();
    assert_eq!(
        (m.names(""), m.read("emptied/f")),
        (vec!["emptied".into(), "lower".into()], "full".into())
    );
    drop(m);
    assert_eq!(s.setup().option("whiteout=aufs").mount().read("emptied/f"), "full");
}

/// Where the copy would not fit nothing is copied: it would stay in the upper, unchanged, and take
/// the room.
#[test]
fn without_room_for_it_nothing_is_copied() {
    needs!(mount, loop_device);
    not_the_kernels!(OURS);
    let disk = LoopFs::ext4(32);
    let (s, large) = (Scratch::in_dir(disk.path(), 0), Scratch::new());
    for file in 0..8 {
        large.lower(0).file(format!("d/{file}"), vec![b'x'; 6 << 20]);
    }
    let m = s.setup().lowers(vec![large.lower(0).root().to_owned()]).mount();
    assert_errno(fs::rename(m.path("d"), m.path("e")), libc::ENOSPC);
    drop(m);
    assert!(s.upper.names("").is_empty());
    assert!(s.leftovers().is_empty());
}

fn check_moved(m: &Mount, at: &str) {
    let d = m.sub(at);
    assert_eq!(d.names(""), ["bottom", "fifo", "link", "null", "socket", "sub", "top"]);
    assert_eq!(d.names("sub"), ["both", "deep", "one"]);
    assert_eq!(d.read("top"), "top");
    assert_eq!(d.read("sub/both"), "upper of both");
    assert_eq!(d.read("sub/deep/f"), "deep");
    let bottom = d.stat("bottom");
    assert_eq!((bottom.uid(), bottom.gid(), bottom.mode() & 0o7777), (5, 6, 0o4750));
    assert_eq!((bottom.mtime(), bottom.mtime_nsec()), (100, 7));
    assert_eq!(d.get_xattr("bottom", "user.mine").unwrap(), b"1");
    assert_eq!(d.read("sub/one"), "bottom");
    assert_eq!(d.mode_of("sub"), 0o2775);
    assert_eq!((d.stat("sub").mtime(), d.stat("sub/deep").mtime()), (300, 300));
    assert_eq!(fs::read_link(d.path("link")).unwrap(), Path::new("top"));
    assert!(d.stat("fifo").file_type().is_fifo() && d.stat("socket").file_type().is_socket());
    assert_eq!(d.stat("null").rdev(), nix::sys::stat::makedev(1, 3));
}

#[test]
fn a_directory_of_lowers_moves_with_all_that_it_shows() {
    needs!(mount);
    not_the_kernels!(OURS);
    let s = layers();
    let mut m = s.mount();
    fs::rename(m.path("d"), m.path("moved")).unwrap();
    for _ in 0..2 {
        assert_eq!(m.names(""), ["moved"]);
        check_moved(&m, "moved");
        m.remount();
    }
    m.unmount();
    assert_eq!(s.upper.names(""), ["d", "moved"]);
    assert!(s.upper.is_whiteout("d"));
    for dir in ["moved", "moved/sub", "moved/sub/deep"] {
        assert_eq!(s.upper.get_xattr(dir, OPAQUE), None, "{dir}: nothing is below");
        assert_eq!(s.upper.get_xattr(dir, REDIRECT), None, "{dir}");
    }
    assert_eq!(s.upper.names("moved/sub"), ["both", "deep", "one"], "no whiteouts");
    assert_eq!(s.leftovers(), Vec::<String>::new());
}

#[test]
fn a_redirect_moves_a_directory_alone() {
    needs!(mount);
    not_the_kernels!(OURS);
    let s = layers();
    let mut m = s.setup().option("redirect_dir=on").mount();
    fs::rename(m.path("d"), m.path("moved")).unwrap();
    fs::create_dir(m.path("place")).unwrap();
    fs::rename(m.path("moved/sub"), m.path("place/sub2")).unwrap();
    for _ in 0..2 {
        assert_eq!(m.names(""), ["moved", "place"]);
        assert_eq!(m.names("moved"), ["bottom", "fifo", "link", "null", "socket", "top"]);
        assert_eq!(m.names("place/sub2"), ["both", "deep", "one"]);
        assert_eq!(m.read("place/sub2/deep/f"), "deep");
        m.remount();
    }
    m.unmount();
    assert_eq!(s.upper.names("moved"), ["sub"]);
    assert!(s.upper.is_whiteout("moved/sub"));
    assert_eq!(s.upper.get_xattr("moved", REDIRECT).unwrap(), b"d");
    assert_eq!(s.upper.get_xattr("place/sub2", REDIRECT).unwrap(), b"/d/sub");
    assert_eq!(s.upper.names("place/sub2"), Vec::<String>::new(), "nothing was copied");
}

/// The kernel writes at most 256 bytes; what needs more moves by being copied, or not at all.
#[test]
fn a_redirect_that_would_be_too_long_is_not_written() {
    needs!(mount);
    not_the_kernels!(OURS);
    for (option, result) in [("rename_lower=copy", Ok(())), ("rename_lower=off", Err(libc::EXDEV))]
    {
        let s = Scratch::new();
        let above = format!("{}/{}", "a".repeat(127), "b".repeat(120));
        s.lower(0).file(format!("{above}/fits/f",), "1").file(format!("{above}/fits_not/f"), "2");
        let m = s.setup().option("redirect_dir=on").option(option).mount();
        fs::rename(m.path(format!("{above}/fits")), m.path("fits")).unwrap();
        let moved = fs::rename(m.path(format!("{above}/fits_not")), m.path("long"));
        match result {
            Ok(()) => moved.unwrap(),
            Err(errno) => assert_errno(moved, errno),
        }
        assert_eq!(s.upper.get_xattr("fits", REDIRECT).unwrap().len(), 254);
        assert_eq!(m.read("fits/f"), "1");
        assert_eq!(s.upper.exists("long/f"), result.is_ok());
    }
}

#[test]
fn redirects_are_refused_where_the_kernel_would_not_follow_them() {
    needs!(mount);
    not_the_kernels!(OURS);
    let s = Scratch::new();
    let refused = s.setup().option("redirect_dir=on").option("userxattr").attempt();
    assert!(!refused.status.success());
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("redirect_dir=on needs markers in trusted.overlay."), "{text}");
    let m = s.setup().option("redirect_dir=on").option("userxattr").read_only().mount();
    assert!(m.is_mounted(), "nothing is written there");
}

#[test]
fn it_is_exdev_where_it_is_not_wanted_or_too_much() {
    needs!(mount);
    not_the_kernels!(OURS);
    let s = Scratch::new();
    s.lower(0).file("many/a", "").file("many/b", "").file("many/c/d", "").dir("large").dir("empty");
    s.lower(0).file("large/f", vec![1; 64 << 10]);
    // A hole takes no place.
    let sparse = File::create(s.lower(0).path("large/sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    for (option, many, large) in [
        ("rename_lower=off", false, false),
        ("rename_lower=copy:3:1000000", false, true),
        ("rename_lower=copy:4:65535", true, false),
        ("rename_lower=copy:4:65536", true, true),
    ] {
        let m = s.setup().option(option).mount();
        for (name, moves) in [("many", many), ("large", large)] {
            let rename = || fs::rename(m.path(name), m.path("empty/new"));
            if moves {
                rename().unwrap();
                fs::rename(m.path("empty/new"), m.path(name)).unwrap();
                continue;
            }
            assert_errno(rename(), libc::EXDEV);
            assert_errno(move_flags(&m, name, "empty", RENAME_EXCHANGE), libc::EXDEV);
            assert_eq!(m.names(""), ["empty", "large", "many"]);
            assert!(!s.upper.exists(name), "{option}: nothing was copied up");
        }
        assert_eq!(m.names("many"), ["a", "b", "c"]);
        assert_eq!(m.stat("large/sparse").len(), 1 << 40);
        drop(m);
        for name in s.upper.names("") {
            fs::remove_dir_all(s.upper.path(&name))
                .or_else(|_| fs::remove_file(s.upper.path(&name)))
                .unwrap();
        }
    }
}

fn move_flags(m: &Mount, from: &str, to: &str, flags: u32) -> std::io::Result<()> {
    rename(&m.path(from), &m.path(to), flags)
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_copied() {
    needs!(mount);
    not_the_kernels!(OURS);
    let s = Scratch::new();
    s.lower(0).file("d/in/f", "").file("full/x", "").file("file", "");
    let m = s.mount();
    assert_errno(fs::rename(m.path("d"), m.path("full")), libc::ENOTEMPTY);
    assert_errno(fs::rename(m.path("d"), m.path("file")), libc::ENOTDIR);
    assert_errno(fs::rename(m.path("d"), m.path("d/in/d")), libc::EINVAL);
    assert_errno(fs::rename(m.path("file"), m.path("d")), libc::EISDIR);
    assert_errno(move_flags(&m, "d", "full", RENAME_NOREPLACE), libc::EEXIST);
    assert_errno(move_flags(&m, "d/in", "d", RENAME_EXCHANGE), libc::EINVAL);
    assert_errno(fs::rename(m.path("d"), m.path("full/.wh.d")), libc::EINVAL);
    assert_eq!(s.upper.names(""), Vec::<String>::new());
}

#[test]
fn directories_of_lowers_change_places() {
    needs!(mount);
    not_the_kernels!(OURS);
    for redirect in ["off", "on"] {
        let s = Scratch::new();
        s.lower(0).file("a/x", "of a").file("p/b/y", "of b").file("f", "file");
        let mut m = s.setup().option(&format!("redirect_dir={redirect}")).mount();
        move_flags(&m, "a", "p/b", RENAME_EXCHANGE).unwrap();
        move_flags(&m, "f", "a", RENAME_EXCHANGE).unwrap();
        for _ in 0..2 {
            assert_eq!(m.read("p/b/x"), "of a");
            assert_eq!((m.names("p/b"), m.names("f")), (vec!["x".into()], vec!["y".into()]));
            assert_eq!(m.read("a"), "file");
            m.remount();
        }
    }
}

#[test]
fn a_directory_of_a_lower_replaces_an_empty_one() {
    needs!(mount);
    not_the_kernels!(OURS);
    for redirect in ["off", "on"] {
        let s = Scratch::new();
        s.lower(0).file("d/x", "1").dir("empty").file("emptied/gone", "");
        let mut m = s.setup().option(&format!("redirect_dir={redirect}")).mount();
        fs::remove_file(m.path("emptied/gone")).unwrap();
        fs::rename(m.path("d"), m.path("empty")).unwrap();
        fs::rename(m.path("empty"), m.path("emptied")).unwrap();
        // And back to where a lower still has the old content.
        fs::rename(m.path("emptied"), m.path("d")).unwrap();
        m.file("d/y", "2");
        fs::remove_file(m.path("d/x")).unwrap();
        for _ in 0..2 {
            assert_eq!(m.names(""), ["d"]);
            assert_eq!(m.names("d"), ["y"]);
            m.remount();
        }
    }
}

#[test]
fn open_files_and_working_directories_move_along() {
    needs!(mount);
    not_the_kernels!(OURS);
    let s = layers();
    let m = s.mount();
    let mut reader = File::open(m.path("d/sub/both")).unwrap();
    let mut writer = fs::OpenOptions::new().write(true).open(m.path("d/top")).unwrap();
    let lost = File::open(m.path("d/sub/deep/f")).unwrap();
    fs::remove_file(m.path("d/sub/deep/f")).unwrap();
    let before = (m.stat("d/sub/deep").ino(), reader.metadata().unwrap().ino());
    let mut inside = Command::new("sh")
        .args(["-c", "read go; cat both; echo new > deep/new; readlink /proc/self/cwd"])
        .current_dir(m.path("d/sub"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    fs::rename(m.path("d"), m.path("moved")).unwrap();
    inside.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = inside.wait_with_output().unwrap();
    let wanted = format!("upper of both{}\n", m.path("moved/sub").display());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), wanted);
    assert_eq!(m.read("moved/sub/deep/new"), "new\n");
    writer.write_all(b"TOP").unwrap();
    assert_eq!(m.read("moved/top"), "TOP");
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "upper of both");
    let now = (m.stat("moved/sub/deep").ino(), m.stat("moved/sub/both").ino());
    assert_eq!(now, before, "numbers stay");
    let mut content = String::new();
    (&lost).read_to_string(&mut content).unwrap();
    assert_eq!(content, "deep", "a file without a name goes on");
}

/// What dpkg and mv(1) do: thousands of files, some of them linked, one with a hole.
#[test]
fn a_large_tree_moves_in_one_call() {
    needs!(mount, acl);
    not_the_kernels!(OURS);
    let s = Scratch::new();
    let lower = s.lower(0);
    for dir in 0..30 {
        for file in 0..100 {
            lower.file(format!("tree/{dir}/{file}"), format!("{dir} {file}"));
        }
        lower.hard_link(format!("tree/{dir}/linked"), "tree/0/0");
    }
    let mut sparse = File::create(lower.path("tree/sparse")).unwrap();
    sparse.seek(SeekFrom::Start(50 << 20)).unwrap();
    sparse.write_all(b"end").unwrap();
    drop(sparse);
    shell(lower.root(), "setfacl -m u:7:rwx tree/1; setfacl -d -m u:8:rx tree/2");
    let listing =
        "find . -printf '%P %y %m %U %G %s %T@ %l\\n' | sort; getfacl -R -n . 2>/dev/null";
    let before = shell(&lower.path("tree"), &listing.replace("%s ", ""));
    // Hard links stay what they are.
    let mut m = s.setup().option("index=on").mount();
    shell(m.root(), "mv --no-copy tree moved 2>/dev/null || mv tree moved");
    for _ in 0..2 {
        assert_eq!(shell(&m.path("moved"), &listing.replace("%s ", "")), before);
        assert_eq!(m.names(""), ["moved"]);
        assert_eq!(m.read("moved/17/99"), "17 99");
        let numbers: Vec<u64> =
            (0..30).map(|dir| m.stat(format!("moved/{dir}/linked")).ino()).collect();
        assert!(numbers.iter().all(|ino| *ino == m.stat("moved/0/0").ino()), "{numbers:?}");
        let sparse = m.stat("moved/sparse");
        assert_eq!(sparse.len(), (50 << 20) + 3);
        assert!(sparse.blocks() < 1000, "{} blocks", sparse.blocks());
        m.remount();
    }
}

/// Others read, write, make and remove names in the tree while it moves back and forth.
#[test]
fn a_tree_moves_while_others_work_in_it() {
    needs!(mount);
    not_the_kernels!(OURS);
    let s = Scratch::new();
    for dir in 0..10 {
        for file in 0..40 {
            s.lower(0).file(format!("tree/{dir}/{file}"), format!("{file}"));
        }
    }
    let mut m = s.mount();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..10)
            .map(|dir| {
                let (m, done) = (&m, &done);
                let here = File::open(m.path(format!("tree/{dir}"))).unwrap();
                scope.spawn(move || work_in(m, &here, dir, done))
            })
            .collect();
        for _ in 0..20 {
            fs::rename(m.path("tree"), m.path("moved")).unwrap();
            fs::rename(m.path("moved"), m.path("tree")).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.join().unwrap();
        }
    });
    for _ in 0..2 {
        for dir in 0..10 {
            let mut names = m.names(format!("tree/{dir}"));
            names.sort_by_key(|name| name.parse::<u32>().unwrap());
            // The even ones were removed, the odd ones written to.
            let odd: Vec<String> = (0..40).filter(|n| n % 2 == 1).map(|n| n.to_string()).collect();
            assert_eq!(names, odd, "tree/{dir}");
            assert!(odd.iter().all(|n| m.read(format!("tree/{dir}/{n}")) == format!("{n}+")));
        }
        m.remount();
    }
}

/// One worker, in a directory that it holds open: the path to it changes.
fn work_in(m: &Mount, here: &File, dir: usize, done: &AtomicBool) {
    use std::os::fd::AsRawFd;
    let here = format!("/proc/self/fd/{}", here.as_raw_fd());
    for n in 0..40 {
        let path = format!("{here}/{n}");
        if n % 2 == 0 {
            fs::remove_file(&path).unwrap();
        } else {
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(b"+").unwrap();
        }
    }
    while !done.load(Ordering::Relaxed) {
        let new = format!("{here}/new");
        fs::write(&new, "new").unwrap();
        fs::remove_file(&new).unwrap();
        assert_eq!(fs::read_dir(&here).unwrap().count(), 20, "{dir} in {m:?}");
    }
}

#[test]
fn mv_falls_back_where_a_directory_does_not_move() {
    needs!(mount);
    not_the_kernels!(OURS);
    let s = layers();
    let mut m = s.setup().option("rename_lower=off").mount();
    shell(m.root(), "mv d moved");
    for _ in 0..2 {
        check_moved(&m, "moved");
        m.remount();
    }
}

/// An ordinary user's server may not give files away: programs are told to copy for themselves.
#[test]
fn what_may_not_be_copied_up_is_exdev() {
    needs!(mount, fuse_for_users);
    not_the_kernels!(OURS);
    if !crate::support::need::program(crate::test_name!(), "fusermount3") {
        return;
    }
    let s = Scratch::new();
    s.lower(0).file("theirs/f", "1").owner("theirs", NOBODY, NOBODY).file("mine/f", "2");
    for dir in [&s.upper, &s.work, &s.mnt, s.lower(0)] {
        dir.owner("", NOBODY, NOBODY);
    }
    s.lower(0).owner("mine/f", NOBODY, NOBODY).owner("mine", NOBODY, NOBODY);
    let script = "\"$1\" -o \"$2\" \"$3\" && cd \"$3\" && mv mine moved &&
        mv theirs copied; cat copied/f moved/f; ls; cd /; fusermount3 -u \"$3\"";
    let output = s.shell_of_nobody(&[], script);
    let stuck = is_mountpoint(s.mnt.root());
    if stuck {
        umount2(s.mnt.root(), MntFlags::MNT_DETACH).unwrap();
    }
    assert!(output.status.success() && !stuck, "{}", process::text(&output.stderr));
    let text = process::text(&output.stdout);
    assert!(text.ends_with("12copied\nmoved\n"), "{text} {}", process::text(&output.stderr));
}
