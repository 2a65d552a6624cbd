//! How a mount ends: what the server was handed is in the upper when it has left, whatever ended
//! the session.
//!
//! Programs that are told of no error take their data for written. So a server that leaves with
//! half of it done loses data: once a page of a mapping, whose program was gone already, was lost
//! in this way with each unmount on Linux 5.10 to 6.12.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::mount::{Detached, detach, is_mountpoint};
use crate::support::process::{is_alive, wait_for};
use crate::support::{Dir, LoopFs, Mount, Scratch, release};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it is no program";
const SOON: Duration = Duration::from_secs(60);

/// Ends a connection from the kernel's side: its waiting callers get an error, and the server
/// nothing more to read (Documentation/filesystems/fuse/fuse.rst).
pub fn abort(m: &Mount) {
    let home = Scratch::new();
    let control = home.base().sub("control").dir("").root().to_owned();
    mount(Some("none"), &control, Some("fusectl"), MsFlags::empty(), None::<&str>).unwrap();
    let _mounted = Detached::on(&control);
    let number = libc::minor(fs::metadata(m.root()).unwrap().dev());
    fs::write(control.join(number.to_string()).join("abort"), "1").unwrap();
}

fn signal(m: &Mount, signal: Signal) {
    kill(Pid::from_raw(m.pid().unwrap()), signal).unwrap();
}

/// Writes to a file of the lower from another thread, and returns when the server has got it. It
/// waits there, as the upper is frozen.
fn begin_to_write(m: &Mount) -> JoinHandle<std::io::Result<()>> {
    let path = m.path("f");
    let writer = std::thread::spawn(move || {
        let mut file = File::options().write(true).open(path)?;
        file.write_all(b"new")
    });
    let taken = || m.statistics()["requests"]["WRITE"] == 1;
    assert!(wait_for(SOON, taken), "{}", m.statistics());
    writer
}

/// Whether another server could take the upper.
fn is_free(upper: &Dir) -> bool {
    Flock::lock(File::open(upper.root()).unwrap(), FlockArg::LockExclusiveNonblock).is_ok()
}

#[test]
fn what_was_taken_before_an_abort_is_finished() {
    needs!(mount, loop_device);
    not_the_kernels!(NO_PROGRAM);
    for background in [false, true] {
        let disk = LoopFs::ext4(32);
        let s = Scratch::in_dir(disk.path(), 1);
        s.lower(0).file("f", "lower");
        let setup = s.setup();
        let mut m = if background { setup.background().mount() } else { setup.mount() };
        let pid = m.pid().unwrap();
        let frozen = disk.freeze();
        let writer = begin_to_write(&m);
        abort(&m);
        assert!(writer.join().unwrap().is_err(), "it was answered");
        let left = wait_for(Duration::from_millis(500), || !is_alive(pid) || is_free(&s.upper));
        drop(frozen);
        assert!(!left, "it left, or gave the upper away, before it was done");
        assert!(m.server_leaves(SOON), "background: {background}");
        assert_eq!(s.upper.read("f"), "newer");
        assert!(s.leftovers().is_empty());
    }
}

/// The writer waits in the mount, which is therefore detached and served until it leaves.
#[test]
fn a_signal_waits_for_who_is_inside() {
    needs!(mount, loop_device);
    not_the_kernels!(NO_PROGRAM);
    let disk = LoopFs::ext4(32);
    let s = Scratch::in_dir(disk.path(), 1);
    s.lower(0).file("f", "lower");
    let mut m = s.mount();
    let frozen = disk.freeze();
    let writer = begin_to_write(&m);
    signal(&m, Signal::SIGTERM);
    assert!(wait_for(SOON, || !is_mountpoint(m.root())), "it stays mounted");
    drop(frozen);
    writer.join().unwrap().unwrap();
    assert!(m.server_leaves(SOON));
    assert_eq!(s.upper.read("f"), "newer");
}

#[test]
fn a_second_signal_ends_it_for_who_is_inside() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "lower");
    let mut m = s.mount();
    let mut file = File::options().write(true).open(m.path("f")).unwrap();
    file.write_all(b"new").unwrap();
    signal(&m, Signal::SIGTERM);
    assert!(wait_for(SOON, || !is_mountpoint(m.root())), "it stays mounted");
    file.write_all(b"est").unwrap();
    signal(&m, Signal::SIGINT);
    assert!(m.server_leaves(SOON), "an open file keeps it");
    assert_eq!(s.upper.read("f"), "newest");
    assert!(file.write_all(b"!").is_err());
}

/// podman stop and start with somebody inside: the old server was told to end, and unmounted what
/// stood on the path by then.
#[test]
fn a_signal_unmounts_nothing_that_is_somebody_elses() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "lower");
    let mut old = s.mount();
    let inside = File::open(old.path("f")).unwrap();
    // Whoever has it open in the mount that is detached goes on reading.
    umount2(old.root(), MntFlags::MNT_DETACH).unwrap();
    let other = Scratch::new();
    other.lower(0).file("f", "of another");
    let on_top = other.setup().mountpoint(s.mnt.root()).mount();
    signal(&old, Signal::SIGTERM);
    assert!(!wait_for(Duration::from_millis(500), || !is_mountpoint(s.mnt.root())), "unmounted");
    assert_eq!(on_top.read("f"), "of another");
    assert_eq!(std::io::read_to_string(&inside).unwrap(), "lower");
    drop(inside);
    assert!(old.server_leaves(SOON));
    assert_eq!(on_top.read("f"), "of another");
}

/// A mount on top of it that is none of ours, and a path with links to it.
#[test]
fn a_signal_leaves_what_is_mounted_on_top() {
    needs!(mount, root);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "lower");
    let link = s.base().path("link");
    std::os::unix::fs::symlink(s.base().root(), &link).unwrap();
    let through = link.join(s.mnt.root().strip_prefix(s.base().root()).unwrap());
    let mut m = s.setup().mountpoint(&through).mount();
    mount(Some("none"), s.mnt.root(), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    let _on_top = Detached::on(s.mnt.root());
    fs::write(s.mnt.path("precious"), "data").unwrap();
    signal(&m, Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(s.mnt.read("precious"), "data");
    umount2(s.mnt.root(), MntFlags::empty()).unwrap();
    // A second one ends it all the same.
    signal(&m, Signal::SIGTERM);
    assert!(m.server_leaves(SOON));
}

/// What a program has written lies in memory for up to half a minute. The kernel's overlayfs forces
/// it out when it is unmounted.
#[test]
fn what_was_written_is_on_the_disk_when_it_has_left() {
    needs!(mount, loop_device);
    let disk = LoopFs::ext4(64);
    let s = Scratch::in_dir(disk.path(), 1);
    s.lower(0).file("changed", "lower").dir("d");
    let mut m = s.mount();
    let data = vec![b'x'; 8 << 20];
    m.file("d/new", &data).file("changed", "upper");
    fs::set_permissions(m.path("d"), fs::Permissions::from_mode(0o700)).unwrap();
    m.unmount();
    let after = disk.on_disk();
    let upper = s.upper.root().strip_prefix(disk.path()).unwrap();
    let upper = after.dir().sub(upper);
    assert!(fs::read(upper.path("d/new")).unwrap() == data, "the data is not on the disk");
    assert_eq!(upper.read("changed"), "upper");
    assert_eq!(upper.mode_of("d"), 0o700);
}

/// Whoever waits for the server learns that the disk did not take what it should have.
#[test]
fn a_disk_that_fails_at_the_end_is_told() {
    needs!(mount, loop_device);
    not_the_kernels!(NO_PROGRAM);
    let disk = LoopFs::ext4(32);
    for (option, fails) in [("fsync=auto", true), ("fsync=strict", true), ("volatile", false)] {
        let s = Scratch::in_dir(disk.path(), 1);
        let setup = s.setup().option(option).without_syscall(libc::SYS_syncfs);
        let mut m = setup.mount();
        m.file("f", "x");
        umount2(m.root(), MntFlags::empty()).unwrap();
        let status = m.status(SOON);
        assert_eq!(status.code(), Some(i32::from(fails)), "{option}: {}", m.log());
        assert_eq!(m.log().contains("to the disk"), fails, "{option}: {}", m.log());
    }
}

/// Whoever mounts again at once waits for the server that still writes, however long that takes.
#[test]
fn the_next_mount_waits_for_the_end_of_the_last() {
    needs!(mount, loop_device);
    not_the_kernels!(NO_PROGRAM);
    let disk = LoopFs::ext4(32);
    let s = Scratch::in_dir(disk.path(), 1);
    s.lower(0).file("f", "lower");
    let m = s.mount();
    let frozen = disk.freeze();
    let writer = begin_to_write(&m);
    abort(&m);
    assert!(writer.join().unwrap().is_err(), "it was answered");
    detach(m.root());
    let setup = s.setup();
    let next = std::thread::spawn(move || setup.mount());
    // Longer than anybody waits for an upper that another mount uses.
    std::thread::sleep(Duration::from_secs(5));
    assert!(!next.is_finished(), "it does not wait");
    drop(frozen);
    let next = next.join().unwrap();
    assert_eq!(next.read("f"), "newer");
}

/// A lower that never answers: the server of a file system on the network is gone.
#[test]
fn a_layer_that_hangs_does_not_keep_it_for_ever() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let below = Scratch::new();
    below.lower(0).file("f", "lower").file("g", "lower");
    let hangs = below.mount();
    let s = Scratch::new();
    let lowers = vec![hangs.root().to_owned()];
    let mut m = s.setup().lowers(lowers).mount();
    m.file("other", "upper");
    // Closing a file of a FUSE file system waits for an answer, also when a process dies, until the
    // kernel knows that there is none.
    assert_eq!(hangs.read("f"), "lower");
    assert_eq!(m.read("f"), "lower");
    signal(&hangs, Signal::SIGSTOP);
    // A program: starting the next mount would close a file of this one (see [`LoopFs::freeze`]).
    let mut reader = Command::new("cat");
    let mut reader = reader.arg(m.path("g")).stdout(Stdio::null()).spawn().unwrap();
    // It need not have come to the server yet: then nothing hangs, and it leaves all the sooner.
    std::thread::sleep(Duration::from_millis(200));
    signal(&m, Signal::SIGTERM);
    assert!(wait_for(SOON, || !is_mountpoint(m.root())), "it stays mounted");
    signal(&m, Signal::SIGTERM);
    // Its process may wait for the layer until that is back. The upper does not.
    let free = wait_for(SOON, || is_free(&s.upper));
    let next = free.then(|| s.setup().mount());
    let shown = next.as_ref().map(|next| next.read("other"));
    drop(next);
    let left = m.server_leaves(Duration::from_secs(60));
    signal(&hangs, Signal::SIGCONT);
    // Before FOPEN_NOFLUSH (Linux 5.16) each close of a file in the layer waits for its answer.
    assert!(left || release::running() < (5, 16), "it waits for the layer");
    assert_eq!(shown.as_deref(), Some("upper"), "the next mount waits for the layer");
    assert_eq!(s.upper.read("other"), "upper");
    reader.wait().unwrap();
}
