//! `/dev/fd/N` as the mountpoint: the caller has opened /dev/fuse and mounted it already, as
//! apptainer in setuid mode and mount.fuse3 with drop_privileges do.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::refusal::assert_refusal;
use crate::support::mount::{Detached, is_mountpoint};
use crate::support::process::{is_alive, output, pids_with_argument, text, wait_for};
use crate::support::{LoopFs, Scratch, assert_errno, binary, raw};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it is no program";
const SOON: Duration = Duration::from_secs(60);

/// The number under which the program gets the descriptor.
const NUMBER: i32 = 204;

fn device() -> File {
    File::options().read(true).write(true).open("/dev/fuse").unwrap()
}

/// Mounts on the mountpoint of the test as a caller does, with nobody serving it yet.
fn premounted(s: &Scratch) -> (File, Detached) {
    use std::os::fd::AsRawFd;
    let device = device();
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
        device.as_raw_fd()
    );
    let (kind, flags) = (Some("fuse.test"), MsFlags::MS_NODEV | MsFlags::MS_NOSUID);
    mount(Some("test"), s.mnt.root(), kind, flags, Some(data.as_str())).unwrap();
    (device, Detached::on(s.mnt.root()))
}

/// The program, given `device`.
fn command(s: &Scratch, device: &File, options: &str) -> Command {
    let mut command = Command::new(binary());
    let mut words = s.setup().option_string();
    words.push(options);
    command.arg("-o").arg(words).arg(format!("/dev/fd/{NUMBER}")).stdin(Stdio::null());
    raw::pass_descriptor(&mut command, device.as_fd(), NUMBER);
    command
}

/// The server, which has no mountpoint in its command line.
fn servers(s: &Scratch) -> Vec<i32> {
    pids_with_argument(s.work.root())
}

#[test]
fn a_descriptor_that_is_mounted_already_is_served() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    for foreground in [false, true] {
        let s = Scratch::new();
        s.lower(0).file("f", "x");
        let (device, mounted) = premounted(&s);
        let mut command = command(&s, &device, "");
        let child = if foreground {
            Some(command.arg("-f").spawn().unwrap())
        } else {
            let output = output(&mut command);
            assert!(output.status.success(), "{}", text(&output.stderr));
            None
        };
        drop(device);
        assert_eq!(s.mnt.read("f"), "x");
        s.mnt.file("new", "y");
        assert_eq!(s.upper.read("new"), "y");
        // Who has mounted it unmounts it, and the server leaves by itself.
        drop(mounted);
        if let Some(mut child) = child {
            assert!(child.wait().unwrap().success());
        }
        assert!(wait_for(SOON, || servers(&s).is_empty()), "foreground: {foreground}");
    }
}

/// The mount is the caller's: a signal ends the server in order, and the mount stays for its owner.
#[test]
fn a_signal_ends_the_server_alone() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let (device, mounted) = premounted(&s);
    let output = output(&mut command(&s, &device, ",volatile"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    drop(device);
    s.mnt.file("f", "x");
    assert!(s.work.exists("work/incompat/volatile"));
    let pid = servers(&s)[0];
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    assert!(wait_for(SOON, || servers(&s).is_empty()));
    assert!(is_mountpoint(s.mnt.root()));
    drop(mounted);
    assert_eq!(s.upper.read("f"), "x");
    // An orderly end: the upper of a volatile mount can be used again.
    assert!(!s.work.exists("work/incompat/volatile"));
}

/// A caller's mount stays when the server goes, so that its writer waits for an answer meanwhile.
#[test]
fn a_signal_lets_it_finish_what_it_has_taken() {
    needs!(mount, loop_device);
    not_the_kernels!(NO_PROGRAM);
    let disk = LoopFs::ext4(32);
    let s = Scratch::in_dir(disk.path(), 1);
    s.lower(0).file("f", "lower");
    let (device, mounted) = premounted(&s);
    let output = output(&mut command(&s, &device, ""));
    assert!(output.status.success(), "{}", text(&output.stderr));
    drop(device);
    let pid = servers(&s)[0];
    let mut file = File::options().write(true).open(s.mnt.path("f")).unwrap();
    let frozen = disk.freeze();
    let writer = std::thread::spawn(move || file.write_all(b"new"));
    // Long enough for the server to take it.
    std::thread::sleep(Duration::from_millis(300));
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let left = wait_for(Duration::from_millis(500), || !is_alive(pid));
    drop(frozen);
    assert!(!left, "it left before it was done");
    assert!(wait_for(SOON, || servers(&s).is_empty()));
    writer.join().unwrap().unwrap();
    drop(mounted);
    assert_eq!(s.upper.read("f"), "newer");
}

/// The mount may be of another process namespace, in which the numbers of those who ask mean
/// others: nobody gets an answer. The log does.
#[test]
fn only_a_signal_gets_statistics() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let (device, mounted) = premounted(&s);
    let log = s.base().path("log");
    let output = output(command(&s, &device, "").env("OVLMERGE_LOG_FILE", &log));
    assert!(output.status.success(), "{}", text(&output.stderr));
    drop(device);
    let asked = raw::get_xattr(&s.mnt.path("f"), "system.ovlmerge.stat", 65536);
    assert_errno(asked, libc::EACCES);
    kill(Pid::from_raw(servers(&s)[0]), Signal::SIGUSR1).unwrap();
    let logged = || std::fs::read_to_string(&log).unwrap().contains("\"layer_count\":2");
    assert!(wait_for(SOON, logged), "{}", std::fs::read_to_string(&log).unwrap());
    assert_eq!(s.mnt.read("f"), "x");
    drop(mounted);
    assert!(wait_for(SOON, || servers(&s).is_empty()));
}

#[test]
fn a_descriptor_of_something_else_is_refused() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let null = File::open("/dev/null").unwrap();
    let answer = output(&mut command(&s, &null, ""));
    assert_refusal(&s, &answer, 1, &["/dev/fd/204", "something else"]);
    let mut closed = Command::new(binary());
    closed.arg("-o").arg(s.setup().option_string()).arg("/dev/fd/205");
    assert_refusal(&s, &output(&mut closed), 1, &["/dev/fd/205", "not open"]);
    let unmounted = device();
    let answer = output(&mut command(&s, &unmounted, ""));
    assert_refusal(&s, &answer, 1, &["/dev/fd/204", "not mounted"]);
}
