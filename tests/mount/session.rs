//! The life of a mount: how it begins, what it says about itself, how it ends.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::mount::{is_mountpoint, mount_line};
use crate::support::process::{is_alive, output, pids_with_argument, text, wait_for};
use crate::support::{Scratch, assert_errno, binary};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it is no program";
const SOON: Duration = Duration::from_secs(60);

/// Callers read standard error to its end, and take exit status 0 for "it can be used".
#[test]
fn the_background_process_is_ready_and_holds_nothing_of_its_caller() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let mut command = s.setup().background().command();
    // Returns when both pipes are at their end, so it hangs if the server keeps one.
    let output = output(command.stdin(Stdio::piped()));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(s.mnt.read("f"), "x");
    let pids = pids_with_argument(s.mnt.root());
    assert_eq!(pids.len(), 1, "{pids:?}");
    let pid = pids[0];
    for fd in 0..3 {
        let target = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
        assert_eq!(target.to_str(), Some("/dev/null"), "descriptor {fd}");
    }
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
    umount2(s.mnt.root(), MntFlags::empty()).unwrap();
    assert!(wait_for(SOON, || !is_alive(pid)), "the server stays after the unmount");
}

#[test]
fn what_the_system_says_about_the_mount() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let m = s.mount();
    let line = mount_line(m.root()).unwrap();
    let columns: Vec<_> = line.split(' ').collect();
    assert_eq!((columns[0], columns[2]), ("ovlmerge", "fuse.ovlmerge"), "{line}");
    let options: Vec<_> = columns[3].split(',').collect();
    for option in ["rw", "nodev", "noatime", "default_permissions", "allow_other"] {
        assert!(options.contains(&option), "{option} in {line}");
    }
    drop(m);
    let m = s.setup().read_only().option("nosuid,noexec").mount();
    let line = mount_line(m.root()).unwrap();
    for option in ["ro", "nosuid", "noexec"] {
        assert!(line.split([' ', ',']).any(|word| word == option), "{option} in {line}");
    }
}

#[test]
fn signals_end_it_in_order() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        for background in [false, true] {
            let s = Scratch::new();
            let setup = s.setup();
            let setup = if background { setup.background() } else { setup };
            let mut m = setup.mount();
            m.file("f", "written before the signal");
            kill(Pid::from_raw(m.pid().unwrap()), signal).unwrap();
            assert!(m.server_leaves(SOON), "{signal} in the background: {background}");
            assert!(!is_mountpoint(m.root()), "{signal}");
            assert_eq!(s.upper.read("f"), "written before the signal");
            assert!(s.leftovers().is_empty());
        }
    }
}

#[test]
fn a_signal_while_files_are_open_loses_nothing() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let mut m = s.mount();
    let mut file = File::create(m.path("f")).unwrap();
    file.write_all(b"first ").unwrap();
    kill(Pid::from_raw(m.pid().unwrap()), Signal::SIGTERM).unwrap();
    assert!(wait_for(SOON, || !is_mountpoint(m.root())), "it stays mounted");
    // Detached, it can serve until the last file is closed, or give up at once: but not half.
    match file.write_all(b"second").and_then(|()| file.sync_all()) {
        Ok(()) => assert_eq!(s.upper.read("f"), "first second"),
        Err(err) => {
            assert!(matches!(err.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED)));
            assert_eq!(s.upper.read("f"), "first ");
        }
    }
    drop(file);
    assert!(m.server_leaves(SOON));
}

#[test]
fn a_lazy_unmount_ends_it_with_the_last_open_file() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    for background in [false, true] {
        let s = Scratch::new();
        s.lower(0).file("f", "content");
        let setup = s.setup();
        let mut m = if background { setup.background().mount() } else { setup.mount() };
        let mut file = File::options().read(true).write(true).open(m.path("f")).unwrap();
        umount2(m.root(), MntFlags::MNT_DETACH).unwrap();
        assert!(!is_mountpoint(m.root()));
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
        file.write_all(b", and more").unwrap();
        drop(file);
        assert!(m.server_leaves(SOON), "in the background: {background}");
        assert_eq!(s.upper.read("f"), "content, and more");
    }
}

#[test]
fn a_busy_mount_cannot_be_unmounted_by_accident() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let m = s.mount();
    let file = File::open(m.path("f")).unwrap();
    assert_errno(umount2(m.root(), MntFlags::empty()), libc::EBUSY);
    drop(file);
    assert_eq!(m.read("f"), "x");
}

/// SingularityCE mounts on the root file system that is the lowest layer (fuse-overlayfs issues
/// 277 and 364: a hang).
#[test]
fn the_mountpoint_can_be_a_layer() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "lower").file("d/g", "").file("d/h", "");
    let mut m = s.setup().mountpoint(s.lower(0).root()).mount();
    assert_eq!(m.read("f"), "lower");
    m.file("f", "changed").file("d/new", "");
    fs::remove_file(m.path("d/g")).unwrap();
    assert_eq!(m.names("d"), ["h", "new"]);
    m.remount();
    assert_eq!(m.names("d"), ["h", "new"]);
    m.unmount();
    assert_eq!(s.lower(0).read("f"), "lower");
    assert_eq!(s.lower(0).names("d"), ["g", "h"]);
}

#[test]
fn the_layers_can_lie_below_the_mountpoint() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let place = s.base().root().to_owned();
    let mut m = s.setup().mountpoint(&place).mount();
    assert_eq!(m.names(""), ["f"]);
    m.file("new", "y");
    m.unmount();
    assert_eq!(s.upper.names(""), ["new"]);
}

#[test]
fn relative_paths_and_links_to_layers() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    s.base().symlink("l/short", "../lower0");
    let output = output(
        Command::new(binary())
            .args(["-o", "lowerdir=l/short,upperdir=upper", "-o", "workdir=work", "mnt"])
            .current_dir(s.base().root()),
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    // The way there may go: what counts is what was opened.
    fs::remove_dir_all(s.base().path("l")).unwrap();
    let (read, made) = (s.mnt.read("f"), fs::write(s.mnt.path("new"), ""));
    let pids = pids_with_argument(std::path::Path::new("lowerdir=l/short,upperdir=upper"));
    umount2(s.mnt.root(), MntFlags::empty()).unwrap();
    assert_eq!(read, "x");
    made.unwrap();
    assert!(wait_for(SOON, || pids.iter().all(|&pid| !is_alive(pid))));
}

/// As mount(8) and containerd call it: source and mountpoint first, options behind.
#[test]
fn options_may_follow_the_source_and_the_mountpoint() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    let mut options = s.setup().option_string();
    options.push(",,rw,dev,suid,");
    let mut command = Command::new(binary());
    command.arg("overlay").arg(s.mnt.root()).arg("-o").arg(options);
    let output = output(&mut command);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let read = s.mnt.read("f");
    let line = mount_line(s.mnt.root()).unwrap();
    umount2(s.mnt.root(), MntFlags::empty()).unwrap();
    assert_eq!(read, "x");
    assert!(!line.contains("nodev") && !line.contains("nosuid"), "{line}");
}

/// A crash must not cost more than the mount: what was done is on the upper, and it can be mounted
/// again.
#[test]
fn a_killed_server_leaves_a_usable_upper() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("d/f", "x").file("d/g", "");
    let mut m = s.mount();
    m.file("d/f", "changed").file("new", "y");
    fs::remove_file(m.path("d/g")).unwrap();
    kill(Pid::from_raw(m.pid().unwrap()), Signal::SIGKILL).unwrap();
    assert!(m.server_leaves(SOON));
    assert_errno(fs::metadata(m.path("new")), libc::ENOTCONN);
    m.remount();
    assert_eq!(m.read("d/f"), "changed");
    assert_eq!(m.names("d"), ["f"]);
    assert_eq!(m.read("new"), "y");
}

/// The lock on the upper goes with the mount.
#[test]
fn one_upper_serves_one_mount_after_the_other() {
    needs!(mount);
    let s = Scratch::new();
    for round in 0..10 {
        let m = s.mount();
        m.file(format!("f{round}"), "");
    }
    assert_eq!(s.upper.names("").len(), 10);
}

/// With a limit as low as some containers set it.
#[test]
fn descriptors_do_not_pile_up() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    for number in 0..3_000 {
        s.lower(0).file(format!("d{number}/f"), "x");
    }
    let m = s.setup().open_files(400).mount();
    let held = || fs::read_dir(format!("/proc/{}/fd", m.pid().unwrap())).unwrap().count();
    for number in 0..3_000 {
        let name = format!("d{number}");
        assert_eq!(m.names(&name), ["f"]);
        m.file(format!("{name}/f"), "y");
        fs::create_dir(m.path(format!("{name}/sub"))).unwrap();
        fs::remove_dir(m.path(format!("{name}/sub"))).unwrap();
    }
    assert!(held() < 400, "{} descriptors after 3000 directories", held());
    for number in 0..3_000 {
        m.file(format!("d{number}/again"), "");
    }
    assert!(held() < 400, "{} descriptors", held());
}

/// A mount by an ordinary user, through fusermount3.
#[test]
fn an_ordinary_user_mounts_with_fusermount() {
    needs!(mount, fuse_for_users);
    not_the_kernels!(NO_PROGRAM);
    if !crate::support::need::program(crate::test_name!(), "fusermount3") {
        return;
    }
    let s = Scratch::new();
    s.lower(0).file("f", "x").file("gone", "");
    for dir in [&s.upper, &s.work, &s.mnt, s.lower(0)] {
        dir.owner("", 65534, 65534);
    }
    s.lower(0).owner("f", 65534, 65534);
    let script = "set -e; \"$1\" -o \"$2\" \"$3\"; cd \"$3\"
        echo y > f; mkdir d; rm gone; ls; stat -c %u f; cd /; fusermount3 -u \"$3\"";
    let output = s.shell_of_nobody(&[], script);
    let stuck = is_mountpoint(s.mnt.root());
    if stuck {
        umount2(s.mnt.root(), MntFlags::MNT_DETACH).unwrap();
    }
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "d\nf\n65534\n");
    assert!(!stuck);
    assert_eq!(s.upper.read("f"), "y\n");
    assert!(!s.upper.exists("gone") || s.upper.stat("gone").len() == 0);
}

/// As rootless containers do it.
#[test]
fn a_user_namespace_is_enough() {
    needs!(mount, userns, fuse_for_users);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "x").file("gone", "").file("dir/old", "");
    for path in ["", "f", "gone", "dir", "dir/old"] {
        s.lower(0).owner(path, 65534, 65534);
    }
    for dir in [&s.upper, &s.work, &s.mnt] {
        dir.owner("", 65534, 65534);
    }
    let script = "set -e; mount_it() { \"$1\" -o \"$2\" \"$3\"; }
        mount_it \"$@\"; cd \"$3\"
        echo y > f; rm gone; rm -r dir; mkdir dir; touch dir/new; ln -s f l; mkfifo p
        cd /; umount \"$3\"; mount_it \"$@\"; cd \"$3\"
        ls . dir; cat f; stat -c %u:%g f dir; cd /; umount \"$3\"";
    let output = s.shell_of_nobody(&["unshare", "-Urm"], script);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), ".:\ndir\nf\nl\np\n\ndir:\nnew\ny\n0:0\n0:0\n");
    assert!(s.upper.is_whiteout("gone"));
    assert_eq!(s.upper.get_xattr("dir", "user.overlay.opaque").unwrap(), b"y");
    assert!(s.upper.names("dir").iter().all(|name| name == "new"));
    assert!(s.upper.names("").iter().all(|name| !name.starts_with(".wh.")));
}

/// The programs of a mount that is used by others need its files, so permission bits of the
/// mountpoint itself do not matter once it is mounted.
#[test]
fn the_mountpoint_keeps_its_own_mode_below() {
    needs!(mount);
    let s = Scratch::new();
    s.mnt.mode("", 0o700);
    s.upper.mode("", 0o755);
    let mut m = s.mount();
    assert_eq!(m.stat("").permissions().mode() & 0o7777, 0o755);
    let inside = m.stat("").dev();
    m.unmount();
    assert_eq!(s.mnt.mode_of(""), 0o700);
    assert_ne!(s.mnt.stat("").dev(), inside);
}
