//! What is open stays whole: after unlink, after rename, after copy-up.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};

use nix::sys::stat::{Mode, SFlag, fchmod, futimens};
use nix::sys::time::TimeSpec;
use xattr::FileExt as _;

use crate::support::tree::dump;
use crate::support::{Dir, Mount, Scratch};
use crate::{needs, not_the_kernels};

fn read_write(m: &Mount, name: &str) -> File {
    OpenOptions::new().read(true).write(true).open(m.path(name)).unwrap()
}

/// Everything that can be done to an open file whose content begins with "content".
#[track_caller]
fn exercise(file: &File, origin: &str) {
    let mut buffer = [0; 7];
    file.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"content", "{origin}");
    fchmod(file, Mode::from_bits_truncate(0o604)).unwrap();
    fchown(file, Some(21), Some(22)).unwrap();
    file.write_all_at(b"CON", 0).unwrap();
    file.set_len(5).unwrap();
    file.write_all_at(b"!", 9).unwrap();
    file.set_xattr("user.open", b"1").unwrap();
    assert_eq!(file.get_xattr("user.open").unwrap().unwrap(), b"1", "{origin}");
    file.remove_xattr("user.open").unwrap();
    assert_eq!(file.get_xattr("user.open").unwrap(), None, "{origin}");
    futimens(file, &TimeSpec::new(1, 0), &TimeSpec::new(-7, 5)).unwrap();
    file.sync_all().unwrap();
    let meta = file.metadata().unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o604, "{origin}");
    assert_eq!((meta.uid(), meta.gid()), (21, 22), "{origin}");
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-7, 5), "{origin}");
    assert_eq!(meta.len(), 10, "{origin}");
    let mut all = [0; 10];
    file.read_exact_at(&mut all, 0).unwrap();
    assert_eq!(&all, b"CONte\0\0\0\0!", "{origin}");
}

fn three_origins() -> (Scratch, Mount) {
    let s = Scratch::new();
    s.lower(0).file("lower", "content").file("copied", "content").dir("d");
    let m = s.mount();
    m.file("upper", "content").mode("copied", 0o644).times("copied", 1, 1);
    (s, m)
}

const ORIGINS: [&str; 3] = ["lower", "upper", "copied"];

#[test]
fn a_file_in_its_place() {
    needs!(mount);
    let (_s, m) = three_origins();
    for name in ORIGINS {
        let file = read_write(&m, name);
        exercise(&file, name);
        assert_eq!(m.read(name), "CONte\0\0\0\0!");
    }
}

#[test]
fn an_unlinked_file() {
    needs!(mount);
    let (s, m) = three_origins();
    for name in ORIGINS {
        let file = read_write(&m, name);
        fs::remove_file(m.path(name)).unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0, "{name}");
        exercise(&file, name);
        assert!(!m.exists(name));
        m.file(name, "another file");
        assert_eq!(file.metadata().unwrap().len(), 10);
        drop(file);
        assert_eq!(m.read(name), "another file");
    }
    assert_eq!(s.lower(0).read("lower"), "content");
    assert!(s.leftovers().is_empty(), "{:?}", s.leftovers());
}

/// Opened only for reading and never copied up: then the change must find the file all the same.
#[test]
fn an_unlinked_file_opened_for_reading() {
    needs!(mount);
    not_the_kernels!("it answers ENOENT or ESTALE where that would take a copy-up");
    let (s, m) = three_origins();
    for name in ORIGINS {
        let file = File::open(m.path(name)).unwrap();
        fs::remove_file(m.path(name)).unwrap();
        let mut buffer = [0; 7];
        file.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(&buffer, b"content", "{name}");
        fchmod(&file, Mode::from_bits_truncate(0o604)).unwrap();
        file.set_xattr("user.open", b"1").unwrap();
        futimens(&file, &TimeSpec::new(1, 0), &TimeSpec::new(2, 5)).unwrap();
        let meta = file.metadata().unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o604, 2), "{name}");
        assert_eq!(file.get_xattr("user.open").unwrap().unwrap(), b"1", "{name}");
        file.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(&buffer, b"content", "{name}");
        assert!(!m.exists(name), "{name} came back");
    }
    assert_eq!(s.lower(0).read("lower"), "content");
    assert_ne!(s.lower(0).mode_of("lower"), 0o604);
}

#[test]
fn a_renamed_file() {
    needs!(mount);
    let (_s, mut m) = three_origins();
    for name in ORIGINS {
        let file = read_write(&m, name);
        fs::rename(m.path(name), m.path(format!("d/{name}2"))).unwrap();
        exercise(&file, name);
        drop(file);
    }
    m.remount();
    for name in ORIGINS {
        assert_eq!(m.read(format!("d/{name}2")), "CONte\0\0\0\0!", "{name}");
        assert_eq!(m.mode_of(format!("d/{name}2")), 0o604, "{name}");
    }
}

#[test]
fn a_file_that_another_was_renamed_over() {
    needs!(mount);
    let (_s, m) = three_origins();
    for name in ORIGINS {
        let file = read_write(&m, name);
        m.file("new", "new");
        fs::rename(m.path("new"), m.path(name)).unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0, "{name}");
        exercise(&file, name);
        assert_eq!(m.read(name), "new");
    }
}

/// fuse-overlayfs issue 475 and the like: a reader that was there before must see the writer's
/// data and metadata, not those of the lower layer.
#[test]
fn a_reader_from_before_the_copy_up() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "content");
    let m = s.mount();
    let reader = File::open(m.path("f")).unwrap();
    let before = reader.metadata().unwrap();
    let writer = read_write(&m, "f");
    exercise(&writer, "f");
    let after = reader.metadata().unwrap();
    assert_eq!(before.ino(), after.ino());
    assert_eq!((after.len(), after.mode() & 0o7777), (10, 0o604));
    let mut all = [0; 10];
    reader.read_exact_at(&mut all, 0).unwrap();
    assert_eq!(&all, b"CONte\0\0\0\0!");
}

#[test]
fn a_directory_removed_while_it_is_someones_working_directory() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).dir("d");
    let m = s.mount();
    let dir = File::open(m.path("d")).unwrap();
    fs::remove_dir(m.path("d")).unwrap();
    let inside = format!("/proc/self/fd/{}/new", std::os::fd::AsRawFd::as_raw_fd(&dir));
    crate::support::assert_errno(File::create(inside), libc::ENOENT);
    assert!(!m.exists("d"));
}

#[test]
fn many_files_open_at_once() {
    needs!(mount);
    let s = Scratch::new();
    for number in 0..400 {
        s.lower(0).file(format!("f{number}"), format!("{number}"));
    }
    let m = s.mount();
    let files: Vec<_> = (0..400).map(|number| read_write(&m, &format!("f{number}"))).collect();
    for (number, file) in files.iter().enumerate() {
        file.write_all_at(b"+", 10).unwrap();
        if number % 2 == 0 {
            fs::remove_file(m.path(format!("f{number}"))).unwrap();
        }
    }
    for (number, file) in files.iter().enumerate() {
        let mut byte = [0];
        file.read_exact_at(&mut byte, 10).unwrap();
        assert_eq!((&byte, file.metadata().unwrap().len()), (b"+", 11), "{number}");
    }
}

/// Opens what has no data and removes it. Returns what fchmod, fchown, futimens and fsetxattr say
/// then, and what it looks like.
fn change_removed(dir: &std::path::Path, name: &str) -> Vec<String> {
    let path = dir.join(name);
    let is_dir = path.is_dir();
    // Neither waits for somebody at the other end of a FIFO.
    let file = OpenOptions::new()
        .read(true)
        .write(!is_dir)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)
        .unwrap();
    if is_dir { fs::remove_dir(&path) } else { fs::remove_file(&path) }.unwrap();
    let said =
        |done: std::io::Result<()>| format!("{:?}", done.err().map(|err| err.raw_os_error()));
    let mode = Mode::from_bits_truncate(0o604);
    let done = [
        fchmod(&file, mode).map_err(Into::into),
        fchown(&file, Some(21), Some(22)),
        futimens(&file, &TimeSpec::new(1, 0), &TimeSpec::new(-7, 5)).map_err(Into::into),
        file.set_xattr("trusted.open", b"1"),
    ];
    let mut all: Vec<_> = done.map(said).to_vec();
    let meta = file.metadata().unwrap();
    all.push(format!("{:o} {} {} {}", meta.mode(), meta.uid(), meta.gid(), meta.nlink()));
    all.push(format!("{} {} {:x}", meta.mtime(), meta.mtime_nsec(), meta.rdev()));
    all.push(format!("{:?}", file.get_xattr("trusted.open")));
    all.push(format!("{:?}", file.get_xattr("trusted.before")));
    all.push(format!("{:?}", path.exists()));
    all
}

/// A FIFO, device or directory of a lower that was removed could not be changed any more by who had
/// it open (EOPNOTSUPP, ESTALE). A plain file system is the measure: the kernel's overlayfs refuses
/// it for directories (ENOTDIR), and of anything else it brings the name back.
#[test]
fn what_has_no_data_and_was_removed() {
    needs!(mount);
    not_the_kernels!("it brings the names back");
    let s = Scratch::with_lowers(2);
    let plain = s.base().sub("plain");
    plain.dir("");
    KINDS.iter().for_each(|name| make(s.lower(1), name));
    make(s.lower(0), "merged");
    let before = dump(s.lower(1).root());
    for options in ["dev", "dev,xattr_permissions=2"] {
        let m = s.setup().option(options).mount();
        for name in KINDS {
            make(&plain, name);
            let expected = change_removed(plain.root(), name);
            assert_eq!(change_removed(m.root(), name), expected, "{name}, {options}");
        }
        assert!(m.names("").is_empty());
        drop(m);
        assert!(s.leftovers().is_empty(), "{:?}", s.leftovers());
        for name in s.upper.names("") {
            fs::remove_file(s.upper.path(name)).unwrap();
        }
    }
    assert!(before == dump(s.lower(1).root()));
}

const KINDS: [&str; 4] = ["fifo", "null", "dir", "merged"];

fn make(dir: &Dir, name: &str) {
    match name {
        "fifo" => dir.node(name, SFlag::S_IFIFO, 0, 0),
        "null" => dir.node(name, SFlag::S_IFCHR, 1, 3),
        _ => dir.dir(name),
    };
    dir.owner(name, 3, 4).xattr(name, "trusted.before", "x");
}
