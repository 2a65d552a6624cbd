//! statfs, fsync and their kind.

use std::fs::{self, File};
use std::io::Write;

use nix::sys::statvfs::statvfs;

use crate::support::raw::sync_filesystem;
use crate::support::{Engine, Kernel, LoopFs, Scratch};
use crate::{needs, not_the_kernels};

#[test]
fn statfs_is_that_of_the_upper() {
    needs!(mount, loop_device);
    let small = LoopFs::ext4(32);
    let s = Scratch::in_dir(small.path(), 1);
    s.lower(0).file("f", "");
    let m = s.mount();
    let (upper, merged) = (statvfs(small.path()).unwrap(), statvfs(m.root()).unwrap());
    assert_eq!(merged.blocks(), upper.blocks());
    assert_eq!(merged.fragment_size(), upper.fragment_size());
    assert_eq!(merged.blocks_available(), upper.blocks_available());
    assert_eq!(merged.files(), upper.files());
    assert_eq!(merged.files_free(), upper.files_free());
    assert_eq!(merged.name_max(), 255);
    assert_eq!(statvfs(&m.path("f")).unwrap().blocks(), upper.blocks());
}

#[test]
fn a_read_only_mount_has_a_statfs_too() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    let m = s.setup().read_only().mount();
    let (lower, merged) = (statvfs(s.lower(0).root()).unwrap(), statvfs(m.root()).unwrap());
    assert_eq!(merged.blocks(), lower.blocks());
    assert_eq!(merged.name_max(), 255);
}

/// containers/storage recognises a mount by it.
#[test]
fn the_type_is_that_of_fuse() {
    needs!(mount);
    not_the_kernels!("it is another file system");
    let s = Scratch::new();
    let m = s.mount();
    let stat = nix::sys::statfs::statfs(m.root()).unwrap();
    assert_eq!(stat.filesystem_type(), nix::sys::statfs::FUSE_SUPER_MAGIC);
}

#[test]
fn everything_can_be_synced() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("lower", "x").dir("dir");
    for options in ["", "volatile"] {
        let mut setup = s.setup();
        if !options.is_empty() {
            setup = setup.option(options);
        }
        let mut m = setup.mount();
        let mut file = File::create(m.path("dir/new")).unwrap();
        file.write_all(b"x").unwrap();
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        File::open(m.path("lower")).unwrap().sync_all().unwrap();
        for dir in ["dir", ""] {
            File::open(m.path(dir)).unwrap().sync_all().unwrap();
        }
        sync_filesystem(&file).unwrap();
        drop(file);
        m.unmount();
        clear_volatile(&s);
    }
    assert_eq!(fs::read(s.upper.path("dir/new")).unwrap(), b"x");
}

/// A package manager calls fsync(2) for each file. Asking us each time took two wake-ups of threads
/// for nothing, in mounts where there is nothing to do.
#[test]
fn where_nothing_can_be_synced_the_kernel_asks_once() {
    needs!(mount);
    not_the_kernels!("it has no requests");
    let memory = Scratch::new();
    let tmpfs = Kernel::tmpfs(memory.base().sub("tmpfs").dir(""));
    let in_memory = Scratch::in_dir(tmpfs.root(), 1);
    let disk = LoopFs::ext4(32);
    let on_disk = Scratch::in_dir(disk.path(), 1);
    let cases =
        [(&in_memory, "fsync=auto", 2), (&on_disk, "volatile", 2), (&on_disk, "fsync=auto", 11)];
    for (s, options, asked) in cases {
        let m = s.setup().option(options).mount();
        m.file("f", "x");
        let file = File::open(m.path("f")).unwrap();
        (0..10).for_each(|_| file.sync_all().unwrap());
        File::open(m.root()).unwrap().sync_all().unwrap();
        let requests = &m.statistics()["requests"];
        let count = |name: &str| requests[name].as_u64().unwrap_or(0);
        assert_eq!(count("FSYNC") + count("FSYNCDIR"), asked, "{options}: {requests}");
    }
}

/// The kernel leaves its mark of a volatile mount behind whatever happens, and refuses the next
/// one.
fn clear_volatile(s: &Scratch) {
    let mark = s.work.path("work/incompat/volatile");
    match Engine::current() {
        Engine::Kernel if mark.exists() => {
            fs::remove_dir_all(s.work.path("work/incompat")).unwrap();
        }
        Engine::Kernel => {}
        // An orderly end takes it away.
        Engine::Program => assert!(!mark.exists()),
    }
}

/// A volatile upper whose mount did not end in order may be damaged, so it is not used again.
#[test]
fn a_volatile_mount_that_crashed_is_not_used_again() {
    needs!(mount);
    not_the_kernels!("it has no process to kill");
    let s = Scratch::new();
    let setup = s.setup().option("volatile");
    let mut m = setup.mount();
    m.file("f", "");
    let pid = nix::unistd::Pid::from_raw(m.pid().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    m.unmount();
    let output = setup.attempt();
    let message = crate::support::process::text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("volatile"), "{message}");
    fs::remove_dir(s.work.path("work/incompat/volatile")).unwrap();
    drop(setup.mount());
}
