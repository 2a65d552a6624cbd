//! `ovlmerge umount`: unmounting, and waiting until all is on the disk.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::mount::{MsFlags, mount};

use crate::support::mount::{Detached, is_mountpoint};
use crate::support::process::{is_alive, output, pids_with_argument, text, wait_for};
use crate::support::user::NOBODY;
use crate::support::{Dir, LoopFs, Mount, Scratch, binary, raw};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it is no program";
const SOON: Duration = Duration::from_secs(60);

fn command(place: &Dir) -> Command {
    let mut command = Command::new(binary());
    command.arg("umount").arg(place.root());
    command
}

#[track_caller]
fn assert_fails(output: &Output, status: i32, words: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    for word in words {
        assert!(said.contains(word), "{word} in {said}");
    }
}

#[track_caller]
fn assert_unmounted(m: &Mount, pid: i32, output: &Output) {
    // Looked at first, as it may leave a moment later.
    let gone = !is_alive(pid);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(gone, "the server is still there");
    assert!(!is_mountpoint(m.root()));
}

/// What a server that was killed leaves behind.
#[test]
fn a_mount_whose_server_is_gone_is_unmounted() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let m = s.setup().background().mount();
    let pid = m.pid().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    assert!(wait_for(SOON, || !is_alive(pid)));
    let output = output(&mut command(&m));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!is_mountpoint(m.root()));
}

#[test]
fn it_returns_when_all_is_on_the_disk() {
    needs!(mount, loop_device);
    not_the_kernels!(NO_PROGRAM);
    let disk = LoopFs::ext4(64);
    for options in ["", "volatile"] {
        let s = Scratch::in_dir(disk.path(), 1);
        let m = match options {
            "" => s.setup().background().mount(),
            options => s.setup().option(options).mount(),
        };
        let data = vec![b'x'; 8 << 20];
        m.file("f", &data);
        let pid = m.pid().unwrap();
        assert_unmounted(&m, pid, &output(&mut command(&m)));
        if options.is_empty() {
            let after = disk.on_disk();
            let upper = after.dir().sub(s.upper.root().strip_prefix(disk.path()).unwrap());
            assert!(fs::read(upper.path("f")).unwrap() == data, "not on the disk");
        }
    }
}

#[test]
fn a_read_only_mount_and_a_mountpoint_with_odd_names() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let place = s.base().sub("a b,c\\d");
    place.dir("");
    let m = s.setup().read_only().mountpoint(place.root()).mount();
    s.base().symlink("link", place.root().to_str().unwrap());
    let pid = m.pid().unwrap();
    assert_unmounted(&m, pid, &output(&mut command(&s.base().sub("link"))));
}

/// Where the mountpoint hides the upper, there is no way to ask its disk.
#[test]
fn an_upper_below_the_mountpoint_is_no_obstacle() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let base = s.base().root().to_owned();
    let m = s.setup().mountpoint(&base).mount();
    let pid = m.pid().unwrap();
    let output = output(&mut command(&m));
    assert!(output.status.success() && !is_alive(pid), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("log"), "{}", text(&output.stderr));
}

#[test]
fn an_ordinary_user_can() {
    needs!(mount, fuse_for_users);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    for dir in [&s.upper, &s.work, &s.mnt] {
        dir.owner("", NOBODY, NOBODY);
    }
    let program = s.program();
    let as_user = |args: &[&std::ffi::OsStr]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        output(command.arg(&program).args(args))
    };
    let options = s.setup().option_string();
    let mounted = as_user(&["-o".as_ref(), &options, s.mnt.root().as_ref()]);
    assert!(mounted.status.success(), "{}", text(&mounted.stderr));
    let pid = pids_with_argument(s.mnt.root())[0];
    let unmounted = as_user(&["umount".as_ref(), s.mnt.root().as_ref()]);
    let gone = !is_alive(pid);
    assert!(unmounted.status.success(), "{}", text(&unmounted.stderr));
    assert!(gone && !is_mountpoint(s.mnt.root()));
}

#[test]
fn what_is_in_use_stays() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "x").dir("d");
    let m = s.mount();
    let open = File::open(m.path("f")).unwrap();
    let place = s.mnt.root().to_str().unwrap();
    assert_fails(&output(&mut command(&m)), 1, &["in use", place]);
    assert_eq!(m.read("f"), "x");
    drop(open);
    assert_fails(&output(&mut command(&m.sub("d"))), 1, &["nothing is mounted", "mountpoint"]);
    assert_eq!(m.read("f"), "x");
}

#[test]
fn what_is_no_mount_of_ours_is_left_alone() {
    needs!(mount);
    let s = Scratch::new();
    assert_fails(&output(&mut command(&s.mnt)), 1, &["not on a mount of ovlmerge"]);
    let missing = s.mnt.sub("missing");
    assert_fails(&output(&mut command(&missing)), 1, &["missing", "No such file"]);
    assert_fails(&output(Command::new(binary()).arg("umount")), 2, &["MOUNTPOINT"]);
}

/// A copy of the mount, as a container has one, keeps the server.
#[test]
fn it_waits_for_copies_of_the_mount() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let m = s.mount();
    let pid = m.pid().unwrap();
    let copy = s.base().sub("copy").dir("").root().to_owned();
    let bind = MsFlags::MS_BIND;
    mount(Some(m.root()), &copy, None::<&str>, bind, None::<&str>).unwrap();
    let copy = Detached::on(&copy);
    let mut waits = command(&m).stderr(Stdio::piped()).spawn().unwrap();
    assert!(wait_for(SOON, || !is_mountpoint(m.root())));
    std::thread::sleep(Duration::from_secs(6));
    assert!(waits.try_wait().unwrap().is_none() && is_alive(pid), "it does not wait");
    drop(copy);
    let output = waits.wait_with_output().unwrap();
    assert!(output.status.success() && !is_alive(pid));
    assert!(text(&output.stderr).contains(&format!("process {pid}")), "{}", text(&output.stderr));
}

#[test]
fn a_disk_that_fails_is_told() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let m = s.mount();
    let mut command = command(&m);
    raw::deny_syscall(&mut command, libc::SYS_syncfs);
    assert_fails(&output(&mut command), 1, &["unmounted, but", "disk"]);
    assert!(!is_mountpoint(m.root()));
}

/// Another mount namespace has a copy, as a container does that was started meanwhile. Whoever
/// waits learns of whom.
#[test]
fn it_says_who_has_a_copy_of_the_mount() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let m = s.setup().background().mount();
    let pid = m.pid().unwrap();
    let mut holder = Command::new("unshare");
    holder.args(["--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 1000"]);
    let mut holder = holder.stdout(Stdio::piped()).spawn().unwrap();
    holder.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let mut waits = command(&m).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(waits.stderr.take().unwrap()).read_line(&mut line).unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(waits.wait().unwrap().success());
    for part in [format!("process {} sleep", holder.id()), format!("server, process {pid}")] {
        assert!(line.contains(&part), "{part} in {line}");
    }
    assert!(!is_alive(pid), "the server is still there");
}
