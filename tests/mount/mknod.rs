//! Everything that is neither file nor directory nor link.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::needs;
use crate::support::user::{NOBODY, as_user};
use crate::support::{Scratch, assert_errno};

const KINDS: [(&str, SFlag, (u64, u64)); 5] = [
    ("fifo", SFlag::S_IFIFO, (0, 0)),
    ("socket", SFlag::S_IFSOCK, (0, 0)),
    ("char", SFlag::S_IFCHR, (1, 3)),
    ("block", SFlag::S_IFBLK, (259, 77_777)),
    ("file", SFlag::S_IFREG, (0, 0)),
];

#[test]
fn every_type_can_be_made() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).dir("d");
    let mut m = s.mount();
    for (name, kind, (major, minor)) in KINDS {
        m.node(format!("d/{name}"), kind, major, minor);
    }
    for _ in 0..2 {
        for (name, kind, (major, minor)) in KINDS {
            let meta = m.stat(format!("d/{name}"));
            assert_eq!(meta.mode(), kind.bits() | 0o644, "{name}");
            assert_eq!(meta.rdev(), makedev(major, minor), "{name}");
            assert_eq!(meta.nlink(), 1);
        }
        m.remount();
    }
}

/// fuse-overlayfs issues 99 and podman 3816: chmod of a socket must not try to open it.
#[test]
fn every_type_can_be_copied_up() {
    needs!(mount);
    let s = Scratch::new();
    for (name, kind, (major, minor)) in KINDS {
        s.lower(0).node(name, kind, major, minor).times(name, 99, 9);
    }
    let mut m = s.mount();
    for (name, ..) in KINDS {
        m.mode(name, 0o600).owner(name, 12, 34);
    }
    for _ in 0..2 {
        for (name, kind, (major, minor)) in KINDS {
            let meta = m.stat(name);
            assert_eq!(meta.mode(), kind.bits() | 0o600, "{name}");
            assert_eq!(meta.rdev(), makedev(major, minor), "{name}");
            assert_eq!((meta.uid(), meta.gid()), (12, 34), "{name}");
            assert_eq!((meta.mtime(), meta.mtime_nsec()), (99, 9), "{name}");
        }
        m.remount();
    }
}

#[test]
fn an_existing_name_is_not_replaced() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("lower", "x");
    let m = s.mount();
    for (_, kind, (major, minor)) in KINDS {
        let device = makedev(major, minor);
        assert_errno(mknod(&m.path("lower"), kind, Mode::S_IRUSR, device), libc::EEXIST);
    }
    assert_eq!(m.read("lower"), "x");
}

#[test]
fn a_fifo_carries_data_between_programs() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).node("lower", SFlag::S_IFIFO, 0, 0);
    let m = s.mount();
    m.node("upper", SFlag::S_IFIFO, 0, 0);
    for name in ["lower", "upper"] {
        std::thread::scope(|scope| {
            let path = m.path(name);
            let reader = scope.spawn(move || fs::read_to_string(path).unwrap());
            fs::write(m.path(name), "through").unwrap();
            assert_eq!(reader.join().unwrap(), "through");
        });
    }
}

#[test]
fn a_socket_can_be_bound_and_connected() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).dir("d");
    let m = s.mount();
    let listener = UnixListener::bind(m.path("d/s")).unwrap();
    assert!(m.stat("d/s").file_type().is_socket());
    m.mode("d/s", 0o777);
    let _client = UnixStream::connect(m.path("d/s")).unwrap();
    listener.accept().unwrap();
    assert_errno(fs::File::open(m.path("d/s")), libc::ENXIO);
}

/// A lower's device is shown but, as for any mount that does not ask for `dev`, reading it opens
/// no driver behind the container's back: either the device works or EACCES, never a hang or a
/// file.
#[test]
fn a_lower_device_is_never_opened_as_a_file() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).node("zero", SFlag::S_IFCHR, 1, 5);
    let m = s.mount();
    let opened =
        fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(m.path("zero"));
    match opened {
        Ok(mut file) => {
            let mut byte = [1];
            std::io::Read::read_exact(&mut file, &mut byte).unwrap();
            assert_eq!(byte, [0]);
        }
        Err(err) => assert_eq!(err.raw_os_error(), Some(libc::EACCES), "{err}"),
    }
}

#[test]
fn only_root_makes_devices() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).dir("d").mode("d", 0o777);
    let m = s.mount();
    let [device, fifo] = ["d/device", "d/fifo"].map(|name| m.path(name));
    as_user(NOBODY, NOBODY, || {
        assert_errno(mknod(&device, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 3)), libc::EPERM);
        mknod(&fifo, SFlag::S_IFIFO, Mode::S_IRUSR, 0).unwrap();
    });
    assert_eq!(m.stat("d/fifo").uid(), NOBODY);
}

/// To the layers a character device 0:0 is a whiteout, so a program that makes one must not make
/// something else vanish.
#[test]
fn making_a_device_0_0_leaves_no_ghost() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).dir("d");
    let mut m = s.mount();
    let made = mknod(&m.path("d/dev"), SFlag::S_IFCHR, Mode::S_IRUSR, 0);
    let shown = m.names("d");
    if made.is_ok() {
        // The kernel's overlayfs lets it be made, and takes it for a whiteout afterwards.
        m.remount();
        assert!(m.names("d").is_empty());
    } else {
        assert_errno(made, libc::EPERM);
        assert!(shown.is_empty());
    }
    m.file("d/dev", "still a usable name");
    assert_eq!(m.read("d/dev"), "still a usable name");
}
