//! Files that are made without a name (open(2), `O_TMPFILE`) and may get one later.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, AtFlags};

use crate::needs;
use crate::support::{Scratch, raw};

fn nameless(dir: &Path, mode: u32, flags: i32) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(mode).custom_flags(libc::O_TMPFILE | flags);
    options.open(dir).unwrap()
}

fn name(file: &File, path: &Path) -> nix::Result<()> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    nix::unistd::linkat(AT_FDCWD, link.as_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)
}

#[test]
fn it_is_used_and_goes() {
    needs!(mount);
    needs!(fuse_tmpfile);
    let s = Scratch::new();
    s.lower(0).file("d/f", "x");
    let mut m = s.mount();
    let mut file = nameless(&m.path("d"), 0o640, 0);
    file.write_all(b"nameless").unwrap();
    file.set_permissions(Permissions::from_mode(0o600)).unwrap();
    let meta = file.metadata().unwrap();
    assert_eq!((meta.nlink(), meta.mode() & 0o7777, meta.size()), (0, 0o600, 8));
    let mut read = [0; 8];
    file.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(&read, b"nameless");
    assert_eq!(m.names("d"), ["f"]);
    drop(file);
    m.unmount();
    assert!(s.upper.names("d").is_empty());
    assert!(s.leftovers().is_empty(), "{:?}", s.leftovers());
}

#[test]
fn it_gets_a_name_where_none_was_and_where_one_was_removed() {
    needs!(mount);
    needs!(fuse_tmpfile);
    let s = Scratch::new();
    s.lower(0).file("d/gone", "old").file("d/there", "x");
    let mut m = s.mount();
    std::fs::remove_file(m.path("d/gone")).unwrap();
    for path in ["d/new", "d/gone", "top"] {
        let mut file = nameless(&m.path("d"), 0o644, 0);
        file.write_all(b"first").unwrap();
        let number = file.metadata().unwrap().ino();
        let taken = name(&file, &m.path("d/there"));
        assert_eq!(taken, Err(nix::errno::Errno::EEXIST));
        name(&file, &m.path(path)).unwrap();
        file.write_all(b", then more").unwrap();
        let meta = m.stat(path);
        assert_eq!((meta.nlink(), meta.ino()), (1, number), "{path}");
        assert_eq!(file.metadata().unwrap().nlink(), 1);
        assert_eq!(m.read(path), "first, then more");
        // It is a file like any other now.
        std::fs::hard_link(m.path(path), m.path("another")).unwrap();
        assert_eq!(m.stat(path).nlink(), 2);
        std::fs::remove_file(m.path("another")).unwrap();
    }
    std::fs::rename(m.path("d/new"), m.path("moved")).unwrap();
    m.remount();
    for path in ["moved", "d/gone", "top"] {
        assert_eq!(m.read(path), "first, then more", "{path}");
    }
}

/// As open(2) says of `O_EXCL`, and linkat(2) of files that have lost their names.
#[test]
fn some_never_get_a_name() {
    needs!(mount);
    needs!(fuse_tmpfile);
    let s = Scratch::new();
    s.lower(0).file("lower", "x");
    let m = s.mount();
    let enoent = Err(nix::errno::Errno::ENOENT);
    assert_eq!(name(&nameless(m.root(), 0o600, libc::O_EXCL), &m.path("a")), enoent);
    let lost = File::create(m.path("lost")).unwrap();
    std::fs::remove_file(m.path("lost")).unwrap();
    assert_eq!(name(&lost, &m.path("a")), enoent);
    let lower = OpenOptions::new().write(true).open(m.path("lower")).unwrap();
    std::fs::remove_file(m.path("lower")).unwrap();
    (&lower).write_all(b"changed").unwrap();
    assert_eq!(name(&lower, &m.path("a")), enoent);
    assert!(m.names("").is_empty());
}

#[test]
fn it_inherits_as_a_file_with_a_name_does() {
    needs!(mount);
    needs!(fuse_tmpfile);
    let s = Scratch::new();
    s.lower(0).dir("d").owner("d", 0, 4321).mode("d", 0o2775);
    let m = s.mount();
    raw::own_umask(0o027);
    let file = nameless(&m.path("d"), 0o666, 0);
    let named = File::create(m.path("d/named")).unwrap();
    let of = |file: &File| {
        let meta = file.metadata().unwrap();
        (meta.uid(), meta.gid(), meta.mode())
    };
    assert_eq!(of(&file), of(&named));
    assert_eq!(of(&file).1, 4321);
}
