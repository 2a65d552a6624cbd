//! Attaching a FUSE connection to a directory, and detaching it.
//!
//! With CAP_SYS_ADMIN (also that of a user namespace) mount(2) does it; other users have the
//! set-uid helper fusermount3, which hands the opened /dev/fuse back over a socket.

#![allow(unsafe_code)]

use std::ffi::OsString;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags};
use nix::sys::socket::{self, AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType};
use nix::sys::stat::Mode;

use crate::error::{Context, Errno, Error, Result};

/// The helper for users without privilege, looked up in $PATH.
const HELPER: &str = "fusermount3";

/// Where the helper finds the number of the socket (fuse, util/fusermount.c).
const HELPER_SOCKET: &str = "_FUSE_COMMFD";

/// A request to mount.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Where; absolute.
    pub mountpoint: &'a Path,
    /// Flags of mount(2).
    pub flags: MsFlags,
    /// The same flags and the rest in words, for the helper.
    pub words: &'a [String],
    /// First column of /proc/mounts.
    pub fsname: &'a str,
    /// What follows `fuse.` in the type column.
    pub subtype: &'a str,
    /// `default_permissions`, `allow_other`.
    pub data: &'a [&'a str],
    /// Type bits of the root directory.
    pub root_mode: u32,
}

/// Opens /dev/fuse.
///
/// # Errors
/// A sentence that says how to get it.
pub fn open_device() -> Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    nix::fcntl::open("/dev/fuse", flags, Mode::empty()).map_err(Error::from).map_err(|err| {
        let advice = match err.errno() {
            Errno::ENOENT => {
                "/dev/fuse does not exist; load the kernel module with `modprobe fuse`, or give the \
                 container the device (--device /dev/fuse)"
            }
            Errno::ENODEV | Errno::ENXIO => {
                "the kernel has no FUSE behind /dev/fuse; load it with `modprobe fuse`"
            }
            _ => "/dev/fuse cannot be opened; make it readable and writable for this user",
        };
        err.context(advice)
    })
}

/// Mounts with mount(2).
pub fn direct(device: &OwnedFd, request: &Request<'_>) -> Result<()> {
    let mut data = format!(
        "fd={},rootmode={:o},user_id={},group_id={}",
        device.as_raw_fd(),
        request.root_mode,
        nix::unistd::geteuid(),
        nix::unistd::getegid()
    );
    for word in request.data {
        data.push(',');
        data.push_str(word);
    }
    let kind = format!("fuse.{}", request.subtype);
    nix::mount::mount(
        Some(request.fsname),
        request.mountpoint,
        Some(kind.as_str()),
        request.flags,
        Some(data.as_str()),
    )
    .map_err(Error::from)
    .context(|| format!("mounting on {}", request.mountpoint.display()))
}

/// Mounts with the helper; returns the connection that it opened.
///
/// # Errors
/// A sentence that says what the helper said, or that there is none.
pub fn with_helper(request: &Request<'_>) -> Result<OwnedFd> {
    let (ours, theirs) =
        socket::socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty())?;
    let mut words = request.words.to_vec();
    words.extend(request.data.iter().map(|word| (*word).to_owned()));
    words.push(format!("fsname={}", escape(request.fsname)));
    words.push(format!("subtype={}", escape(request.subtype)));
    let child = Command::new(HELPER)
        .arg("-o")
        .arg(words.join(","))
        .arg("--")
        .arg(request.mountpoint)
        .env(HELPER_SOCKET, theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.map_err(Error::from).map_err(|err| match err.errno() {
        Errno::ENOENT => err.context(
            "fusermount3 is not installed; without it only root, or root of a user namespace \
             (unshare -Urm), can mount: install the package fuse3",
        ),
        _ => err.context("fusermount3 cannot be started"),
    })?;
    drop(theirs);
    let received = receive(&ours);
    let output = child.wait_with_output().map_err(Error::from)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(Errno::EPERM, said.trim()));
    }
    received
}

/// Commas and backslashes of a value, as the helper's parser wants them.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,")
}

/// Takes one descriptor off the socket.
fn receive(socket: &OwnedFd) -> Result<OwnedFd> {
    let mut byte = [0u8; 1];
    let mut iov = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let message = socket::recvmsg::<()>(
        socket.as_raw_fd(),
        &mut iov,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            // SAFETY: the kernel has just installed this descriptor for us alone.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    Err(Error::new(Errno::EPERM, "fusermount3 did not hand over a connection"))
}

/// Unmounts; a mount that is in use is detached and goes when the last user does.
pub fn unmount(mountpoint: &Path) -> Result<()> {
    let quietly = MntFlags::UMOUNT_NOFOLLOW;
    match nix::mount::umount2(mountpoint, quietly) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(nix::errno::Errno::EBUSY) => {
            Ok(nix::mount::umount2(mountpoint, quietly | MntFlags::MNT_DETACH)?)
        }
        Err(nix::errno::Errno::EPERM) => unmount_with_helper(mountpoint),
        Err(err) => Err(err.into()),
    }
}

fn unmount_with_helper(mountpoint: &Path) -> Result<()> {
    let mut last = String::new();
    // Lazily only if it is in use.
    for how in ["-u", "-uz"] {
        let args: [OsString; 3] = [how.into(), "--".into(), mountpoint.into()];
        let output = Command::new(HELPER).args(args).stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(());
        }
        last = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    }
    Err(Error::new(Errno::EPERM, last))
}
