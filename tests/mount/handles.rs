//! File handles: name_to_handle_at(2) and open_by_handle_at(2) on the mount.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::support::process::wait_for;
use crate::support::{Engine, Mount, Scratch};
use crate::{needs, not_the_kernels};

/// `struct file_handle` with the room that the longest one takes (`MAX_HANDLE_SZ`).
#[repr(C)]
#[derive(Clone)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; 128],
}

#[track_caller]
fn handle(path: &Path) -> Handle {
    let mut handle = Handle { bytes: 128, kind: 0, data: [0; 128] };
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut mount = 0;
    // SAFETY: the name ends with a NUL, and the handle has the room that it states.
    let done = unsafe {
        libc::name_to_handle_at(
            libc::AT_FDCWD,
            name.as_ptr(),
            (&raw mut handle).cast(),
            &raw mut mount,
            0,
        )
    };
    assert_eq!(done, 0, "{}: {}", path.display(), std::io::Error::last_os_error());
    handle
}

fn open(m: &Mount, handle: &Handle) -> nix::Result<File> {
    let root = File::open(m.root()).unwrap();
    let mut handle = handle.clone();
    let flags = libc::O_RDONLY | libc::O_NONBLOCK;
    // SAFETY: the handle is one, whole, and the descriptor that comes back is nobody else's.
    unsafe {
        let fd = libc::open_by_handle_at(root.as_raw_fd(), (&raw mut handle).cast(), flags);
        nix::errno::Errno::result(fd).map(|fd| File::from_raw_fd(fd))
    }
}

#[track_caller]
fn read(m: &Mount, handle: &Handle) -> String {
    let mut text = String::new();
    open(m, handle).unwrap().read_to_string(&mut text).unwrap();
    text
}

fn exported(s: &Scratch) -> Mount {
    // What the kernel's overlayfs asks for besides.
    let index = if Engine::current() == Engine::Kernel {
        "index=on,nfs_export=on"
    } else {
        "nfs_export=on"
    };
    s.setup().option(index).mount()
}

/// Makes the kernel forget all that nobody has open.
fn forget() {
    for _ in 0..3 {
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    }
}

#[test]
fn what_the_kernel_has_forgotten_is_found_again() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("d/e/lower", "lower").file("d/other", "").file("top", "top");
    let m = exported(&s);
    m.file("d/e/upper", "upper");
    let paths = ["d/e/lower", "d/e/upper", "top", "d/e", "d", ""];
    let before = paths.map(|path| (handle(&m.path(path)), m.stat(path).ino()));
    forget();
    for (path, (handle, ino)) in paths.iter().zip(&before) {
        let file = open(&m, handle).unwrap_or_else(|err| panic!("{path}: {err}"));
        assert_eq!(file.metadata().unwrap().ino(), *ino, "{path}");
        drop(file);
        forget();
    }
    assert_eq!(read(&m, &before[0].0), "lower");
    assert_eq!(read(&m, &before[1].0), "upper");
    // A directory by handle has its place in the tree.
    forget();
    let dir = open(&m, &before[3].0).unwrap();
    let link = fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())).unwrap();
    assert_eq!(link, m.path("d/e"));
}

#[test]
fn a_handle_stays_over_rename_link_and_copy_up() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("d/lower", "lower").file("d/linked", "linked").dir("to");
    let m = exported(&s);
    m.file("dir/sub/upper", "upper");
    let paths = ["d/lower", "d/linked", "dir/sub/upper", "dir/sub"];
    let before = paths.map(|path| handle(&m.path(path)));
    forget();
    m.mode("d/lower", 0o600);
    forget();
    fs::rename(m.path("dir"), m.path("to/dir")).unwrap();
    forget();
    fs::rename(m.path("d/lower"), m.path("to/lower")).unwrap();
    fs::hard_link(m.path("d/linked"), m.path("to/linked")).unwrap();
    fs::remove_file(m.path("d/linked")).unwrap();
    forget();
    let texts = ["lower", "linked", "upper"];
    for (handle, text) in before.iter().zip(texts) {
        assert_eq!(read(&m, handle), text);
    }
    assert!(open(&m, &before[3]).unwrap().metadata().unwrap().is_dir());
}

/// Waits until a handle of what was removed is stale. The kernel may hold the object for a moment
/// more, as it does while somebody else has the caches dropped; then that is what is opened.
#[track_caller]
fn assert_becomes_stale(m: &Mount, handle: &Handle) {
    let stale = wait_for(Duration::from_secs(20), || match open(m, handle) {
        Ok(file) => {
            assert_eq!(file.metadata().unwrap().nlink(), 0, "something else is opened");
            false
        }
        Err(errno) => {
            assert_eq!(errno, nix::errno::Errno::ESTALE);
            true
        }
    });
    assert!(stale, "what was removed can still be opened");
}

#[test]
fn what_is_gone_is_stale_and_never_something_else() {
    needs!(mount);
    not_the_kernels!("on a file system that is not told from the one before it");
    let s = Scratch::new();
    s.lower(0).file("lower", "lower").dir("dir");
    let m = exported(&s);
    for round in 0..40 {
        m.file("again", format!("{round}")).dir("made");
        let old = ["again", "made"].map(|path| handle(&m.path(path)));
        if round % 2 == 0 {
            forget();
        }
        fs::remove_file(m.path("again")).unwrap();
        fs::remove_dir(m.path("made")).unwrap();
        // Most file systems give the number to the next one that is made.
        m.file("again", "new").dir("made");
        let new = handle(&m.path("again"));
        for old in &old {
            assert_becomes_stale(&m, old);
        }
        assert_eq!(read(&m, &new), "new");
        fs::rename(m.path("again"), m.path("over")).unwrap();
        fs::remove_dir(m.path("made")).unwrap();
        assert_eq!(read(&m, &new), "new");
    }
    let old = ["lower", "dir"].map(|path| handle(&m.path(path)));
    forget();
    fs::remove_file(m.path("lower")).unwrap();
    fs::remove_dir(m.path("dir")).unwrap();
    m.file("lower", "new").dir("dir");
    forget();
    for old in &old {
        assert_becomes_stale(&m, old);
    }
}

#[test]
fn a_file_without_a_name_is_there_as_long_as_it_is_open() {
    needs!(mount);
    not_the_kernels!("it says ESTALE");
    let s = Scratch::new();
    s.lower(0).file("f", "text");
    let m = exported(&s);
    let kept = File::open(m.path("f")).unwrap();
    let by_handle = handle(&m.path("f"));
    fs::remove_file(m.path("f")).unwrap();
    forget();
    assert_eq!(read(&m, &by_handle), "text");
    drop(kept);
    // That the kernel has forgotten something is told to us behind its back.
    let is_stale = || {
        forget();
        matches!(open(&m, &by_handle), Err(nix::errno::Errno::ESTALE))
    };
    assert!(wait_for(Duration::from_secs(30), is_stale));
}

#[test]
fn handles_of_an_earlier_mount_are_stale() {
    needs!(mount);
    not_the_kernels!("it has the handles of the file systems below");
    let s = Scratch::new();
    s.lower(0).file("f", "");
    let mut m = exported(&s);
    let old = handle(&m.path("f"));
    m.remount();
    assert_eq!(open(&m, &old).unwrap_err(), nix::errno::Errno::ESTALE);
    m.stat("f");
    assert_eq!(open(&m, &old).unwrap_err(), nix::errno::Errno::ESTALE);
}

#[test]
fn without_the_option_nothing_is_remembered() {
    needs!(mount);
    not_the_kernels!("it has no handles at all then");
    let s = Scratch::new();
    s.lower(0).file("d/f", "");
    let m = s.mount();
    let before = handle(&m.path("d/f"));
    forget();
    assert_eq!(open(&m, &before).unwrap_err(), nix::errno::Errno::ESTALE);
}
