//! When a file of a lower is copied up to be written, and who hears of it when that fails.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

use nix::fcntl::{FallocateFlags, fallocate};

use crate::support::mount::Detached;
use crate::support::process::{output, text, wait_for};
use crate::support::raw::{Mapping, get_flags, set_flags};
use crate::support::{Mount, Scratch, Setup, assert_errno, passthrough_everywhere};
use crate::{needs, not_the_kernels};

/// More than the upper has room for.
const LARGE: usize = 3 << 20;

/// `FS_IMMUTABLE_FL` and `FS_APPEND_FL` of linux/fs.h.
const IMMUTABLE: i32 = 0x10;
const APPEND_ONLY: i32 = 0x20;

/// An upper with room for 1 MiB, below a lower with a file `large` and one `small`.
struct Small {
    /// Goes first, before the directory that it is in.
    _upper: Detached,
    s: Scratch,
}

impl Small {
    fn new() -> Self {
        let s = Scratch::new();
        s.lower(0).file("large", vec![b'A'; LARGE]).file("small", vec![b'a'; 5000]);
        let place = s.base().dir("tmpfs").path("tmpfs");
        let mut mount = Command::new("mount");
        let done = output(mount.args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(&place));
        assert!(done.status.success(), "{}", text(&done.stderr));
        let upper = Detached::on(&place);
        s.base().dir("tmpfs/upper").dir("tmpfs/work");
        Self { _upper: upper, s }
    }

    fn setup(&self) -> Setup {
        let base = self.s.base();
        self.s.setup().upper(&base.path("tmpfs/upper")).work(&base.path("tmpfs/work"))
    }
}

fn open(m: &Mount, name: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(m.path(name))
}

fn store(file: &File) -> Mapping {
    let map = Mapping::new(file.as_fd(), 4096, true).unwrap();
    map.write(0, b"stored");
    map
}

/// close(2), which the standard library does without a look at what it says.
fn close(file: File) -> io::Result<()> {
    nix::unistd::close(file).map_err(io::Error::from)
}

/// A program stored through a mapping of a lower file while the upper was full. Each of the three
/// calls that programs make to be sure has to say so, and nobody goes on seeing what is not kept.
#[test]
fn a_store_that_cannot_be_kept_is_reported_by_msync_fsync_and_close() {
    needs!(mount);
    not_the_kernels!("there open(2) fails");
    let small = Small::new();
    let m = small.setup().mount();
    let file = open(&m, "large").unwrap();
    assert_errno(store(&file).sync(), libc::ENOSPC);
    let file = open(&m, "large").unwrap();
    let map = store(&file);
    assert_errno(file.sync_all(), libc::ENOSPC);
    drop(map);
    let file = open(&m, "large").unwrap();
    drop(store(&file));
    assert_errno(close(file), libc::ENOSPC);
    let file = open(&m, "large").unwrap();
    let map = store(&file);
    assert_errno(close(file), libc::ENOSPC);
    let seen = || m.read("large").starts_with("AAAA");
    assert!(wait_for(std::time::Duration::from_secs(10), seen), "a store that is lost is seen");
    drop(map);
    assert!(small.s.lower(0).read("large").starts_with("AAAA"));
}

/// The option makes it the kernel's way: open(2) says that there is no room.
#[test]
fn opening_to_write_copies_up_where_that_is_wanted() {
    needs!(mount);
    let small = Small::new();
    let setup = match crate::support::Engine::current() {
        crate::support::Engine::Kernel => small.setup(),
        crate::support::Engine::Program => small.setup().option("copy_up=open"),
    };
    let m = setup.mount();
    let upper = small.s.base().sub("tmpfs/upper");
    assert_errno(open(&m, "large"), libc::ENOSPC);
    assert_errno(OpenOptions::new().write(true).open(m.path("large")), libc::ENOSPC);
    assert_errno(OpenOptions::new().append(true).open(m.path("large")), libc::ENOSPC);
    assert_eq!(File::open(m.path("large")).unwrap().metadata().unwrap().len(), LARGE as u64);
    assert!(!upper.exists("large"));
    m.stat("small");
    let file = open(&m, "small").unwrap();
    assert_eq!(upper.read("small"), "a".repeat(5000));
    let (shown, real) = (m.stat("small"), upper.stat("small"));
    assert_eq!((shown.ctime(), shown.ctime_nsec()), (real.ctime(), real.ctime_nsec()));
    file.write_all_at(b"written", 0).unwrap();
    assert!(upper.read("small").starts_with("writtena"));
    // What is emptied by being opened needs no room.
    let file = File::create(m.path("large")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 0);
    file.write_all_at(b"new", 0).unwrap();
    assert_eq!((m.read("large"), upper.read("large")), ("new".into(), "new".into()));
    assert_eq!(small.s.lower(0).stat("large").len(), LARGE as u64);
}

#[test]
fn by_default_the_first_change_copies_up() {
    needs!(mount);
    not_the_kernels!("there being opened to write copies up");
    let s = Scratch::new();
    s.lower(0).file("f", "lower");
    for option in ["copy_up=write", "copy_up=open"] {
        let m = s.setup().option(option).mount();
        drop(open(&m, "f").unwrap());
        assert_eq!(s.upper.exists("f"), option == "copy_up=open", "{option}");
    }
}

/// Set-id bits go as with truncate(2).
#[test]
fn emptying_by_opening_takes_set_id_bits() {
    needs!(mount);
    let s = Scratch::new();
    let mode = 0o4777;
    s.lower(0).file("f", "lower").mode("f", mode);
    let setup = match crate::support::Engine::current() {
        crate::support::Engine::Kernel => s.setup(),
        crate::support::Engine::Program => s.setup().option("copy_up=open"),
    };
    let m = setup.mount();
    let path = m.path("f");
    crate::support::user::as_user(65534, 65534, || drop(File::create(&path).unwrap()));
    assert_eq!(m.mode_of("f"), 0o777);
    assert_eq!((m.stat("f").len(), s.upper.stat("f").len()), (0, 0));
}

/// The flags of chattr(1) forbid it to open a file to write, where opens are asked for.
#[test]
fn protected_files_cannot_be_opened_to_write() {
    needs!(mount, file_flags);
    let s = Scratch::new();
    let setup = match crate::support::Engine::current() {
        crate::support::Engine::Kernel => s.setup(),
        crate::support::Engine::Program => s.setup().option("copy_up=open"),
    };
    for (name, flag) in [("immutable", IMMUTABLE), ("append", APPEND_ONLY)] {
        s.lower(0).file(name, vec![b'A'; 5000]);
        let file = File::open(s.lower(0).path(name)).unwrap();
        set_flags(&file, get_flags(&file).unwrap() | flag).unwrap();
    }
    let m = setup.mount();
    let results = ["immutable", "append"].map(|name| open(&m, name).map(drop));
    let to_append = OpenOptions::new().append(true).open(m.path("append")).map(drop);
    drop(m);
    for name in ["immutable", "append"] {
        let file = File::open(s.lower(0).path(name)).unwrap();
        let flags = get_flags(&file).unwrap() & !(IMMUTABLE | APPEND_ONLY);
        set_flags(&file, flags).unwrap();
    }
    for result in results {
        assert_errno(result, libc::EPERM);
    }
    to_append.unwrap();
}

/// Preallocation changes nothing that was written, wherever it is; the rest would.
#[test]
fn room_of_a_file_that_may_only_grow() {
    needs!(mount, file_flags);
    let s = Scratch::new();
    s.lower(0).file("f", vec![b'A'; 5000]);
    let _protected = Protected::new(&s.lower(0).path("f"), APPEND_ONLY);
    let m = s.mount();
    let file = OpenOptions::new().append(true).open(m.path("f")).unwrap();
    let (keep, punch) = (FallocateFlags::FALLOC_FL_KEEP_SIZE, FallocateFlags::FALLOC_FL_PUNCH_HOLE);
    for (flags, offset, errno) in [
        (FallocateFlags::empty(), 0, None),
        (FallocateFlags::empty(), 4096, None),
        (keep, 0, None),
        (keep | punch, 0, Some(libc::EPERM)),
        (keep | punch, 1 << 20, Some(libc::EPERM)),
    ] {
        let done = fallocate(&file, flags, offset, 4096).err().map(|err| err as i32);
        assert_eq!(done, errno, "{flags:?} at {offset}");
    }
    assert_eq!(m.stat("f").len(), 8192);
}

/// What chattr(1) protects, as long as this lives.
struct Protected(File);

impl Protected {
    fn new(path: &std::path::Path, flag: i32) -> Self {
        let file = File::open(path).unwrap();
        set_flags(&file, get_flags(&file).unwrap() | flag).unwrap();
        Self(file)
    }
}

impl Drop for Protected {
    fn drop(&mut self) {
        let flags = get_flags(&self.0).unwrap() & !(IMMUTABLE | APPEND_ONLY);
        set_flags(&self.0, flags).unwrap();
    }
}

/// Nobody is asked when a file is opened, so that one which is protected can be opened to write and
/// mapped. What is stored was lost without a word, and seen by others meanwhile. With passthrough
/// each open is asked for, and refused.
#[test]
fn a_store_to_a_protected_file_is_reported() {
    needs!(mount, file_flags);
    not_the_kernels!("there open(2) fails");
    for flag in [IMMUTABLE, APPEND_ONLY] {
        let s = Scratch::new();
        s.lower(0).file("f", vec![b'A'; 5000]);
        let _protected = Protected::new(&s.lower(0).path("f"), flag);
        let m = s.mount();
        if passthrough_everywhere() {
            assert_errno(open(&m, "f").map(drop), libc::EPERM);
            continue;
        }
        let checks: [fn(File) -> io::Result<()>; 4] = [
            |file| store(&file).sync(),
            |file| {
                let _map = store(&file);
                file.sync_all()
            },
            |file| {
                drop(store(&file));
                close(file)
            },
            |file| {
                let _map = store(&file);
                close(file)
            },
        ];
        for check in checks {
            let said = check(open(&m, "f").unwrap()).unwrap_err().raw_os_error();
            // Of a page that could not be written the kernel notes EIO for all but ENOSPC
            // (`mapping_set_error`, include/linux/pagemap.h). The server says why.
            assert!([Some(libc::EIO), Some(libc::EPERM)].contains(&said), "{said:?}");
        }
        let seen = || m.read("f").starts_with("AAAA");
        assert!(wait_for(std::time::Duration::from_secs(10), seen), "a store that is lost is seen");
        assert!(!s.upper.exists("f"));
        assert!(s.lower(0).read("f").starts_with("AAAA"));
    }
}
