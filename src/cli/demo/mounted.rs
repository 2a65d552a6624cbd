//! The mount of the demo: this very program in the foreground, as a child process.

use std::env;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{FsType, statfs};
use nix::unistd::Pid;

use super::scene::Scene;
use super::{Doing, Stop};
use crate::cli::complain;
use crate::sys::{creds, fusermount};

const DEVICE: &str = "/dev/fuse";
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// FUSE_SUPER_MAGIC, which nix does not name.
const FUSE: FsType = FsType(0x6573_5546);

/// Checks beforehand whether a mount can work here; the error says why not.
pub fn check_machine() -> Result<(), Stop> {
    if let Err(err) = File::options().read(true).write(true).open(DEVICE) {
        let advice = match err.kind() {
            ErrorKind::NotFound => {
                "FUSE is missing: load it with `modprobe fuse`, or start the container with \
                 --device /dev/fuse"
            }
            ErrorKind::PermissionDenied => {
                "you may not use FUSE: have root run `chmod 666 /dev/fuse`, or run this as root"
            }
            _ => "FUSE does not work here: load it with `modprobe fuse`, or run this as root",
        };
        return Err(Stop::new(format_args!("cannot open {DEVICE} ({err}); {advice}")));
    }
    let may_mount = creds::has_capability(creds::CAP_SYS_ADMIN).unwrap_or(false);
    if !may_mount && fusermount::find().is_none() {
        return Err(Stop::new(
            "fusermount3 is missing, without which only root can mount: install the package fuse3",
        ));
    }
    Ok(())
}

/// A running mount, which is unmounted when this is dropped.
#[derive(Debug)]
pub struct Mounted {
    child: Child,
    mountpoint: PathBuf,
    ended: bool,
}

impl Mounted {
    /// Mounts the scene and waits until the mount can be used.
    pub fn start(scene: &Scene) -> Result<Self, Stop> {
        let program = env::current_exe().doing("cannot find the program itself")?;
        let child = Command::new(program)
            .args(["-f", "-o"])
            .arg(scene.options())
            .arg(&scene.merged)
            .stdin(Stdio::null())
            .spawn()
            .doing("cannot start the mount")?;
        let mut mounted = Self { child, mountpoint: scene.merged.clone(), ended: false };
        mounted.wait_until_usable()?;
        Ok(mounted)
    }

    fn wait_until_usable(&mut self) -> Result<(), Stop> {
        let usable = watch(&self.mountpoint);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match usable.recv_timeout(PAUSE) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(errno)) => {
                    return Err(Stop::new(format_args!("cannot look at the mountpoint: {errno}")));
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if let Some(status) = self.child.try_wait().doing("cannot wait for the mount")? {
                self.ended = true;
                return Err(Stop::new(format_args!("the mount ended too early, with {status}")));
            }
        }
        Err(Stop::new(format_args!(
            "the mount could not be used after {} seconds",
            PATIENCE.as_secs()
        )))
    }

    /// Unmounts, and waits until the server has left.
    pub fn stop(mut self) -> Result<(), Stop> {
        unmount(&self.mountpoint)?;
        let status = self.wait_for_end()?;
        if !status.success() {
            return Err(Stop::new(format_args!("the server of the mount left with {status}")));
        }
        Ok(())
    }

    fn wait_for_end(&mut self) -> Result<ExitStatus, Stop> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().doing("cannot wait for the mount")? {
                self.ended = true;
                return Ok(status);
            }
            thread::sleep(PAUSE);
        }
        Err(Stop::new(format_args!(
            "the server did not leave within {} seconds of being unmounted",
            PATIENCE.as_secs()
        )))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // First SIGTERM, as users do it. A server that does not leave is killed.
        if !self.ended
            && let Err(err) = terminate(&self.child).and_then(|()| self.wait_for_end())
        {
            complain(format_args!("demo: {err}"));
            if let Err(err) = self.child.kill().and_then(|()| self.child.wait()) {
                complain(format_args!("demo: the server of the mount cannot be killed: {err}"));
            }
        }
        // The folder is removed next, and not through the mount.
        if is_mounted(&self.mountpoint)
            && let Err(err) = unmount(&self.mountpoint)
        {
            complain(format_args!("demo: {err}"));
        }
    }
}

/// Whether a FUSE file system is mounted there, with a server or without.
fn is_mounted(mountpoint: &Path) -> bool {
    match statfs(mountpoint) {
        Ok(found) => found.filesystem_type() == FUSE,
        Err(errno) => matches!(errno, Errno::ENOTCONN | Errno::ECONNABORTED),
    }
}

fn terminate(child: &Child) -> Result<(), Stop> {
    let pid = i32::try_from(child.id()).doing("the number of a process")?;
    kill(Pid::from_raw(pid), Signal::SIGTERM).doing("cannot stop the server of the mount")
}

/// Tells when the mountpoint is a FUSE file system that answers. A thread of its own asks, because
/// statfs(2) blocks until the server has answered the kernel's first request.
fn watch(mountpoint: &Path) -> Receiver<Result<(), Errno>> {
    let (sender, receiver) = channel();
    let mountpoint = mountpoint.to_owned();
    thread::spawn(move || {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let answer = match statfs(&mountpoint) {
                Ok(found) if found.filesystem_type() == FUSE => Ok(()),
                // Not mounted yet, or the server has just died, which its parent reports.
                Ok(_) | Err(Errno::EINTR | Errno::ENOTCONN | Errno::ECONNABORTED) => {
                    thread::sleep(PAUSE);
                    continue;
                }
                Err(errno) => Err(errno),
            };
            // The receiver is gone if the demo has ended by now.
            sender.send(answer).ok();
            return;
        }
    });
    receiver
}

fn unmount(mountpoint: &Path) -> Result<(), Stop> {
    let what = format!("cannot unmount {}", mountpoint.display());
    match umount2(mountpoint, MntFlags::empty()) {
        Ok(()) => return Ok(()),
        Err(Errno::EPERM) => {}
        Err(errno) => return Err(Stop::new(format_args!("{what}: {errno}"))),
    }
    let helper =
        fusermount::find().ok_or_else(|| Stop::new(format_args!("{what}: no fusermount3")))?;
    let status = Command::new(&helper).arg("-u").arg("--").arg(mountpoint).status();
    let status = status.doing(&what)?;
    if !status.success() {
        return Err(Stop::new(format_args!("{what}: {} left with {status}", helper.display())));
    }
    Ok(())
}
