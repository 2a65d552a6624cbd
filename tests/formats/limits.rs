//! Layers at the limits of what a file system can hold: one object is broken at most.

use std::fs::{self, File};
use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};

use crate::support::process::run;
use crate::support::{Dir, Kernel, Scratch};
use crate::{needs, not_the_kernels};

/// So deep that no path leads to the end: it would be longer than a path may be (`PATH_MAX`).
const LEVELS: usize = 2_100;

fn open_dir(place: &Dir) -> OwnedFd {
    File::open(place.root()).unwrap().into()
}

/// Goes down `levels` directories named `d`, making them if asked to.
fn descend(from: OwnedFd, levels: usize, make: bool) -> OwnedFd {
    let mut dir = from;
    for level in 0..levels {
        if make {
            mkdirat(&dir, "d", Mode::S_IRWXU).unwrap_or_else(|err| panic!("{level}: {err}"));
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY;
        dir =
            openat(&dir, "d", flags, Mode::empty()).unwrap_or_else(|err| panic!("{level}: {err}"));
    }
    dir
}

fn create_at(dir: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    openat(dir, name, OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRUSR)
}

fn open_at(dir: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    openat(dir, name, OFlag::O_RDONLY, Mode::empty())
}

/// Removes a tree that no path leads to the end of, and which is too deep for recursion.
fn remove(dir: &Dir) {
    run("rm", &["-rf", dir.path("d").to_str().unwrap()]);
}

/// Looked up, listed, copied up, changed and removed at the deepest level, with less memory for the
/// stack than a call a level would take.
#[test]
fn deeper_than_a_path_is_long() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    let place = Kernel::tmpfs(s.base().sub("tmpfs").dir(""));
    let [upper, work] = ["upper", "work"].map(|name| place.sub(name).dir("").clone());
    for lower in s.lowers() {
        create_at(&descend(open_dir(lower), LEVELS, true), "below").unwrap();
    }
    let mut m = s.setup().upper(upper.root()).work(work.root()).option("volatile").mount();
    {
        let end = descend(open_dir(&m), LEVELS, false);
        open_at(&end, "below").unwrap();
        create_at(&end, "new").unwrap();
        nix::unistd::unlinkat(&end, "below", nix::unistd::UnlinkatFlags::NoRemoveDir).unwrap();
    }
    m.file("beside", "works");
    m.remount();
    let end = descend(open_dir(&m), LEVELS, false);
    open_at(&end, "new").unwrap();
    assert_eq!(open_at(&end, "below").unwrap_err(), nix::errno::Errno::ENOENT);
    assert_eq!(m.read("beside"), "works");
    drop(end);
    remove(&m);
    assert_eq!(m.names(""), ["beside"]);
    m.unmount();
    s.lowers().iter().chain([&upper]).for_each(remove);
}

/// What an earlier mount left in the work directory does not keep the next one from being mounted,
/// however deep it is, and however few files the server may open.
#[test]
fn deeper_than_there_are_descriptors() {
    needs!(mount);
    not_the_kernels!("the limit is that of a process");
    let s = Scratch::new();
    let place = Kernel::tmpfs(s.base().sub("tmpfs").dir(""));
    let [upper, work] = ["upper", "work"].map(|name| place.sub(name).dir("").clone());
    create_at(&descend(open_dir(&work.sub("work").dir("left").sub("left")), LEVELS, true), "end")
        .unwrap();
    let setup = s.setup().upper(upper.root()).work(work.root()).open_files(512);
    let m = setup.mount();
    m.file("f", "works");
    assert!(work.sub("work").names("").is_empty());
}

/// The largest value that an attribute can have (`XATTR_SIZE_MAX`, linux/limits.h).
const LARGEST: usize = 65_536;

/// Every mark there is, as large as attributes get. The object may be broken; its directory, what
/// stands beside it, and the rest of the mount are not.
#[test]
fn marks_of_64_kib() {
    needs!(mount);
    not_the_kernels!("its errors differ");
    needs!(tmpfs_user_xattr);
    let marks = [
        "opaque",
        "redirect",
        "metacopy",
        "origin",
        "impure",
        "nlink",
        "upper",
        "uuid",
        "protattr",
        "whiteout",
        "dirmeta_delegate",
        "verity",
        "unknown",
    ];
    let s = Scratch::with_lowers(1);
    s.lower(0).file("d/bad/below", "").file("d/good", "good").file("d/file", "x".repeat(9000));
    let place = Kernel::tmpfs(s.base().sub("tmpfs").dir(""));
    let lowers = vec![place.root().to_owned(), s.lower(0).root().to_owned()];
    let setup = s.setup().lowers(lowers);
    for namespace in ["trusted.overlay", "user.overlay"] {
        for mark in marks {
            let name = format!("{namespace}.{mark}");
            println!("{name}");
            place.dir("d/bad").file("d/file", "");
            for (path, byte) in [("d/bad", "y"), ("d/file", "\0")] {
                // In lowers, and one at a time: a file system may hold no two of that size.
                place.xattr(path, &name, byte.repeat(LARGEST));
            }
            let m = setup.mount();
            assert_eq!(m.names("d"), ["bad", "file", "good"]);
            assert_eq!(m.read("d/good"), "good");
            for path in ["d/bad", "d/file"] {
                match fs::symlink_metadata(m.path(path)) {
                    Ok(_) => assert!(m.xattr_names(path).is_empty(), "{path}"),
                    Err(err) => assert_eq!(err.raw_os_error(), Some(libc::EINVAL), "{path}: {err}"),
                }
            }
            if let Err(err) = fs::read(m.path("d/file")) {
                assert_eq!(err.raw_os_error(), Some(libc::EIO), "{err}");
            }
            m.file("d/new", "");
            fs::remove_file(m.path("d/new")).unwrap();
            drop(m);
            fs::remove_dir(place.path("d/bad")).unwrap();
            fs::remove_file(place.path("d/file")).unwrap();
        }
    }
}

/// Of another program, and of users: the former are hidden, the latter shown and copied up.
#[test]
fn other_attributes_of_64_kib() {
    needs!(mount);
    not_the_kernels!("it shows those of other programs");
    needs!(tmpfs_user_xattr);
    let s = Scratch::with_lowers(1);
    let place = Kernel::tmpfs(s.base().sub("tmpfs").dir(""));
    let [lower, upper, work] =
        ["lower", "upper", "work"].map(|name| place.sub(name).dir("").clone());
    let value = "v".repeat(LARGEST);
    lower.file("shown", "").xattr("shown", "user.large", &value);
    for (path, name) in [
        ("opaque", "user.fuseoverlayfs.opaque"),
        ("origin", "user.fuseoverlayfs.origin"),
        ("stat", "user.fuseoverlayfs.override_stat"),
    ] {
        lower.dir(path).xattr(path, name, &value).file(format!("{path}/f"), "");
    }
    let setup = s.setup().lowers(vec![lower.root().to_owned()]);
    let m = setup.upper(upper.root()).work(work.root()).mount();
    for path in ["opaque", "origin", "stat"] {
        assert_eq!(m.names(path), ["f"]);
        assert!(m.xattr_names(path).is_empty(), "{path}");
    }
    m.mode("shown", 0o600).mode("opaque", 0o700);
    assert_eq!(m.get_xattr("shown", "user.large").unwrap(), value.as_bytes());
    assert_eq!(upper.get_xattr("shown", "user.large").unwrap(), value.as_bytes());
    assert!(upper.xattr_names("opaque").iter().all(|name| !name.starts_with("user.fuse")));
}
