//! `io=passthrough`: the kernel reads and writes files of the upper without asking.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::time::Duration;

use crate::support::raw::{self, Mapping};
use crate::support::user::{NOBODY, as_user};
use crate::support::{Mount, Scratch, assert_errno};
use crate::{needs, not_the_kernels};

const NOT_THE_KERNELS: &str = "it has no such option";

fn mount(s: &Scratch) -> Mount {
    s.setup().option("io=passthrough").mount()
}

/// Bytes that the server has written so far, to wherever.
fn written_by_server(m: &Mount) -> u64 {
    let counts = fs::read_to_string(format!("/proc/{}/io", m.pid().unwrap())).unwrap();
    let line = counts.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.unwrap().parse().unwrap()
}

const MIB: usize = 1 << 20;

/// Writes a MiB with `file`, and says whether that went through the server.
fn goes_through_server(m: &Mount, file: &File) -> bool {
    let before = written_by_server(m);
    file.write_all_at(&vec![b'w'; MIB], 0).unwrap();
    let bytes = written_by_server(m) - before;
    assert!(bytes < 64 << 10 || bytes >= MIB as u64, "{bytes} bytes");
    bytes >= MIB as u64
}

fn open(m: &Mount, name: &str) -> File {
    OpenOptions::new().read(true).write(true).open(m.path(name)).unwrap()
}

#[test]
fn files_of_the_upper_are_written_without_the_server() {
    needs!(mount, passthrough);
    not_the_kernels!(NOT_THE_KERNELS);
    let s = Scratch::new();
    s.lower(0).file("copied", "lower").file("cached", "lower");
    s.upper.file("old", "upper");
    let m = mount(&s);
    let made = File::create(m.path("made")).unwrap();
    assert!(!goes_through_server(&m, &made));
    assert!(!goes_through_server(&m, &open(&m, "old")));
    let mut unnamed = OpenOptions::new();
    unnamed.read(true).write(true).custom_flags(libc::O_TMPFILE);
    assert!(!goes_through_server(&m, &unnamed.open(m.root()).unwrap()));
    // What is open while it is copied up stays as it is open; the next one is passed through.
    assert!(goes_through_server(&m, &open(&m, "copied")));
    let direct = || !goes_through_server(&m, &open(&m, "copied"));
    assert!(crate::support::process::wait_for(Duration::from_secs(5), direct));
    for name in ["made", "old", "copied"] {
        assert_eq!(fs::metadata(m.path(name)).unwrap().len(), MIB as u64, "{name}");
        assert!(fs::read(s.upper.path(name)).unwrap() == vec![b'w'; MIB], "{name}");
    }
    assert_eq!(s.lower(0).read("copied"), "lower");
}

/// One inode is never cached and passed through at a time: the kernel would refuse the second open.
#[test]
fn readers_and_writers_of_one_file_see_the_same() {
    needs!(mount, passthrough);
    not_the_kernels!(NOT_THE_KERNELS);
    let s = Scratch::new();
    s.lower(0).file("f", "lower");
    let m = mount(&s);
    let mut reader = File::open(m.path("f")).unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "lower");
    // The reader's inode is cached, so this one is too.
    let mut writer = OpenOptions::new().append(true).open(m.path("f")).unwrap();
    writer.write_all(b" and more").unwrap();
    let late = File::open(m.path("f")).unwrap();
    text.clear();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, " and more");
    assert_eq!(m.read("f"), "lower and more");
    drop((reader, writer, late));
    // Passed through now; pages that the kernel has kept are older.
    let direct = || !goes_through_server(&m, &open(&m, "f"));
    assert!(crate::support::process::wait_for(Duration::from_secs(5), direct));
    let file = open(&m, "f");
    file.set_len(0).unwrap();
    file.write_all_at(b"direct", 0).unwrap();
    assert_eq!(m.read("f"), "direct");
    fs::remove_file(m.path("f")).unwrap();
    let mut two = OpenOptions::new().append(true).create(true).open(m.path("f")).unwrap();
    two.write_all(b"another file").unwrap();
    let mut buffer = [0; 6];
    file.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"direct");
    assert_eq!(m.read("f"), "another file");
}

/// The file below is written with the server's rights, which would keep set-id bits, and the kernel
/// leaves taking them away to the server, which sees no write.
#[test]
fn set_id_bits_go_when_a_user_writes() {
    needs!(mount, passthrough);
    not_the_kernels!(NOT_THE_KERNELS);
    let s = Scratch::new();
    let m = mount(&s);
    m.mode("", 0o777);
    let set_id = |file: &File| file.set_permissions(fs::Permissions::from_mode(0o6777)).unwrap();
    // Set before and after the file is opened to be written to.
    for (name, after) in [("before", false), ("after", true)] {
        m.file(name, "x").mode(name, if after { 0o777 } else { 0o6777 });
        let file = as_user(NOBODY, NOBODY, || open(&m, name));
        if after {
            set_id(&file);
        }
        as_user(NOBODY, NOBODY, || file.write_all_at(b"y", 0).unwrap());
        assert_eq!(m.mode_of(name), 0o777, "{name}");
        assert_eq!(s.upper.mode_of(name), 0o777, "{name}");
    }
    m.file("root", "x");
    let file = open(&m, "root");
    set_id(&file);
    file.write_all_at(b"y", 0).unwrap();
    assert_eq!(m.mode_of("root"), 0o6777, "CAP_FSETID keeps them");
}

#[test]
fn a_file_loses_its_capabilities_when_it_is_written() {
    needs!(mount, passthrough);
    not_the_kernels!(NOT_THE_KERNELS);
    let s = Scratch::new();
    let m = mount(&s);
    // VFS_CAP_REVISION_2 with CAP_NET_RAW.
    let mut capability = vec![0; 20];
    (capability[3], capability[5]) = (2, 0x20);
    m.file("f", "x").xattr("f", "security.capability", &capability);
    open(&m, "f").write_all_at(b"y", 0).unwrap();
    assert_eq!(m.get_xattr("f", "security.capability"), None);
    assert_eq!(s.upper.get_xattr("f", "security.capability"), None);
}

/// A mapping writes to the file below behind the kernel's back, also after it was closed.
#[test]
fn writes_through_a_mapping_change_the_time() {
    needs!(mount, passthrough);
    not_the_kernels!(NOT_THE_KERNELS);
    let s = Scratch::new();
    let m = mount(&s);
    for name in ["made", "old"] {
        m.file(name, vec![b'.'; 8192]);
        let before = m.stat(name);
        let file = open(&m, name);
        let map = Mapping::new(file.as_fd(), 8192, true).unwrap();
        drop(file);
        std::thread::sleep(Duration::from_millis(20));
        map.write(5000, b"mapped");
        let now = m.stat(name);
        assert!((now.mtime(), now.mtime_nsec()) > (before.mtime(), before.mtime_nsec()), "{name}");
        assert!(m.read(name)[5000..].starts_with("mapped."), "{name}");
    }
}

#[test]
fn an_immutable_file_cannot_be_written() {
    needs!(mount, passthrough, file_flags);
    not_the_kernels!(NOT_THE_KERNELS);
    // FS_IMMUTABLE_FL of linux/fs.h.
    const IMMUTABLE: i32 = 0x10;
    let s = Scratch::new();
    let m = mount(&s);
    m.file("f", "x");
    let reader = File::open(m.path("f")).unwrap();
    let flags = raw::get_flags(&reader).unwrap();
    raw::set_flags(&reader, flags | IMMUTABLE).unwrap();
    let opened = OpenOptions::new().write(true).open(m.path("f"));
    assert_errno(opened, libc::EPERM);
    drop(reader);
    // Opened by nobody else it is cached, and the server refuses the write.
    let open = || OpenOptions::new().write(true).open(m.path("f"));
    assert_errno(open().and_then(|file| file.write_all_at(b"y", 0)), libc::EPERM);
    assert_eq!(m.read("f"), "x");
    raw::set_flags(&File::open(m.path("f")).unwrap(), flags).unwrap();
    open().and_then(|file| file.write_all_at(b"y", 0)).unwrap();
    assert_eq!(m.read("f"), "y");
}

/// The depth of stacked file systems is bounded, and an upper that is stacked itself is beyond it.
#[test]
fn an_upper_on_a_stacked_file_system_is_cached() {
    needs!(mount, passthrough);
    not_the_kernels!(NOT_THE_KERNELS);
    let (below, s) = (Scratch::new(), Scratch::new());
    let outer = mount(&below);
    outer.dir("u").dir("w");
    let (upper, work) = (outer.path("u"), outer.path("w"));
    let inner = s.setup().upper(&upper).work(&work).option("io=passthrough").mount();
    let file = File::create(inner.path("f")).unwrap();
    assert!(goes_through_server(&inner, &file));
    assert!(inner.log().contains("io=passthrough"), "{}", inner.log());
    assert_eq!(fs::metadata(below.upper.path("u/f")).unwrap().len(), MIB as u64);
}
