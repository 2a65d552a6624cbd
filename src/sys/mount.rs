//! Attaching a FUSE connection to a directory, and detaching it.
//!
//! With CAP_SYS_ADMIN (also that of a user namespace) mount(2) does it; other users have the
//! set-uid helper [`fusermount`], which hands the opened /dev/fuse back over a socket.

#![allow(unsafe_code)]

use std::ffi::OsString;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::mount::{MntFlags, MsFlags};
use nix::sys::socket::{self, AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType};
use nix::sys::stat::Mode;
use nix::sys::statvfs::FsFlags;

use super::descriptors::with_room;
use super::{fusermount, mountinfo};
use crate::error::{Context, Errno, Error, Result};

/// Where the helper finds the number of the socket (fuse, util/fusermount.c).
const HELPER_SOCKET: &str = "_FUSE_COMMFD";

/// A request to mount.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The mountpoint; an absolute path.
    pub mountpoint: &'a Path,
    /// Flags of mount(2).
    pub flags: MsFlags,
    /// These flags and the other options as words, for the helper.
    pub words: &'a [String],
    /// First column of /proc/mounts.
    pub fsname: &'a str,
    /// The type column of /proc/mounts without `fuse.` in front.
    pub subtype: &'a str,
    /// Options of the file system, such as `allow_other` and `max_read=4096`.
    pub data: &'a [String],
    /// Security labels, for mount(2) alone.
    pub labels: &'a [(&'static str, String)],
    /// The helper stays and unmounts when this process is gone.
    pub auto_unmount: bool,
    /// Type bits of the root directory.
    pub root_mode: u32,
}

/// Opens /dev/fuse.
///
/// # Errors
/// Those of open(2), with a sentence that says what to do about it.
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

/// The name of a FUSE device: major and minor number (Documentation/admin-guide/devices.txt).
const DEVICE: (u64, u64) = (10, 229);

/// Takes over a descriptor of /dev/fuse that the caller has opened, mounted and passed to us.
///
/// # Errors
/// EINVAL with a sentence if the descriptor is something else.
pub fn adopt_device(number: RawFd) -> Result<OwnedFd> {
    let wrong = |why: &str| {
        let text =
            format!("/dev/fd/{number} as the mountpoint: {why}; pass a descriptor of /dev/fuse");
        Error::new(Errno::EINVAL, text)
    };
    // SAFETY: borrowed for this call, which gives EBADF if the descriptor is not open.
    let found = nix::sys::stat::fstat(unsafe { BorrowedFd::borrow_raw(number) });
    let found = found.map_err(|_| wrong("the descriptor is not open"))?;
    let numbers = (nix::sys::stat::major(found.st_rdev), nix::sys::stat::minor(found.st_rdev));
    let is_char = found.st_mode & libc::S_IFMT == libc::S_IFCHR;
    if !is_char || numbers != DEVICE {
        return Err(wrong("the descriptor is something else"));
    }
    // SAFETY: the descriptor is open, and the command line gives it to us; nothing else in this
    // process knows its number.
    let device = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl(&device, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // Callers in Go open everything non-blocking, but the threads that read requests have to wait.
    let flags = OFlag::from_bits_retain(fcntl(&device, FcntlArg::F_GETFL)?);
    fcntl(&device, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(device)
}

/// Mounts with mount(2).
///
/// Security labels are tried, and left out where the kernel does not take them: EINVAL comes from
/// a kernel without SELinux (`fuse_parse_param`), EACCES and EPERM from one that allows labels in
/// the initial user namespace alone (`selinux_set_mnt_opts`). Callers always pass a label.
pub fn direct(device: &OwnedFd, request: &Request<'_>) -> Result<()> {
    let plain = data(device, request);
    if !request.labels.is_empty() {
        match mount_with(request, &labelled(&plain, request.labels)) {
            Err(err) if matches!(err.errno(), Errno::EINVAL | Errno::EACCES | Errno::EPERM) => {
                tracing::debug!("{err}; mounting without the security label");
            }
            other => return other,
        }
    }
    mount_with(request, &plain)
}

/// The data of mount(2) with the labels, in quotes as a label may have commas
/// (`selinux_sb_eat_lsm_opts`).
fn labelled(plain: &str, labels: &[(&'static str, String)]) -> String {
    let words = labels.iter().map(|(name, label)| format!(",{name}=\"{label}\""));
    plain.to_owned() + &words.collect::<String>()
}

/// The data of mount(2) without labels.
fn data(device: &OwnedFd, request: &Request<'_>) -> String {
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
    data
}

fn mount_with(request: &Request<'_>, data: &str) -> Result<()> {
    let kind = format!("fuse.{}", request.subtype);
    nix::mount::mount(
        Some(request.fsname),
        request.mountpoint,
        Some(kind.as_str()),
        request.flags,
        Some(data),
    )
    .map_err(Error::from)
    .context(|| format!("mounting on {}", request.mountpoint.display()))
}

/// A connection to the kernel, and what keeps the helper that made it from unmounting.
#[derive(Debug)]
pub struct Connection {
    /// The opened /dev/fuse.
    pub device: OwnedFd,
    /// With `auto_unmount` a socket to the helper, which unmounts when the socket is closed.
    pub leash: Option<OwnedFd>,
}

/// Mounts with the helper. Returns the connection that it opened.
///
/// # Errors
/// A sentence with the message of the helper, or that there is no helper.
pub fn with_helper(request: &Request<'_>) -> Result<Connection> {
    let (ours, theirs) =
        socket::socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    // The helper gets this end alone: with a copy of ours it would never see that ours is closed.
    fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let mut words = request.words.to_vec();
    words.extend(request.data.iter().cloned());
    words.extend(request.auto_unmount.then(|| "auto_unmount".to_owned()));
    words.push(format!("fsname={}", escape(request.fsname)));
    words.push(format!("subtype={}", escape(request.subtype)));
    let child = fusermount::command()?
        .arg("-o")
        .arg(words.join(","))
        .arg("--")
        .arg(request.mountpoint)
        .env(HELPER_SOCKET, theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let child =
        child.map_err(Error::from).context(|| "fusermount3 cannot be started".to_owned())?;
    drop(theirs);
    let received = receive(&ours);
    if request.auto_unmount && received.is_ok() {
        // The helper stays as long as this socket is open.
        return Ok(Connection { device: received?, leash: Some(ours) });
    }
    let output = child.wait_with_output().map_err(Error::from)?;
    if !output.status.success() {
        let why = fusermount::failure(&output.stderr);
        return Err(why.context(format!("mounting on {}", request.mountpoint.display())));
    }
    Ok(Connection { device: received?, leash: None })
}

/// A value with its commas and backslashes escaped for the parser of the helper.
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

/// The flags of the mount that a path is on.
///
/// # Errors
/// Those of statfs(2).
pub fn flags(path: &Path) -> Result<MsFlags> {
    let shown = nix::sys::statfs::statfs(path)?.flags();
    let table = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_SYNCHRONOUS, MsFlags::MS_SYNCHRONOUS),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
    ];
    Ok(table
        .iter()
        .filter(|(shown_as, _)| shown.contains(*shown_as))
        .map(|(_, flag)| *flag)
        .collect())
}

/// Gives a mount other flags. Its other options stay as they are (`fuse_reconfigure`).
///
/// # Errors
/// EINVAL where nothing is mounted, EPERM without privilege where it was mounted.
pub fn remount(mountpoint: &Path, flags: MsFlags) -> Result<()> {
    let flags = flags | MsFlags::MS_REMOUNT;
    Ok(nix::mount::mount(None::<&str>, mountpoint, None::<&str>, flags, None::<&str>)?)
}

/// Unmounts a mount that nobody uses.
///
/// # Errors
/// A sentence that says why it stays mounted.
pub fn unmount_unused(mountpoint: &Path) -> Result<()> {
    let place = mountpoint.display();
    let unmounted = match nix::mount::umount2(mountpoint, MntFlags::UMOUNT_NOFOLLOW) {
        Err(nix::errno::Errno::EPERM | nix::errno::Errno::EACCES) => run_helper("-u", mountpoint),
        other => other.map_err(Error::from),
    };
    match unmounted {
        Err(err) if err.errno() == Errno::EBUSY => {
            let text = format!("{place} is in use, and stays mounted; `fuser -vm` tells by whom");
            Err(Error::new(Errno::EBUSY, text))
        }
        Err(err) if err.errno() == Errno::EINVAL => {
            let text = format!("nothing is mounted on {place}; name the mountpoint itself");
            Err(Error::new(Errno::EINVAL, text))
        }
        other => other.context(|| place),
    }
}

/// A mount that this process has made.
#[derive(Clone, Debug)]
pub struct OwnMount {
    point: PathBuf,
    /// The device of its file system, as mountinfo writes it; `None` without procfs.
    device: Option<Vec<u8>>,
}

impl OwnMount {
    /// Makes a mount on `mountpoint` with `mount`.
    ///
    /// # Errors
    /// Those of `mount`.
    pub fn make<T>(mountpoint: &Path, mount: impl FnOnce() -> Result<T>) -> Result<(Self, T)> {
        // mountinfo has the path without links. They are resolved before there is a mount, as the
        // mount itself would be asked then.
        let point = std::fs::canonicalize(mountpoint).unwrap_or_else(|_| mountpoint.to_owned());
        let made = mount()?;
        let device = on_top(&point).ok().flatten();
        Ok((Self { point, device }, made))
    }

    /// Unmounts it. A mount in use is detached, and ends with its last user. False if it is not on
    /// top of its mountpoint: it was detached or moved, or somebody has mounted something on it.
    ///
    /// # Errors
    /// Those of umount(2), or the message of the helper.
    pub fn unmount(&self) -> Result<bool> {
        if self.device.is_some() && on_top(&self.point)? != self.device {
            return Ok(false);
        }
        unmount(&self.point).map(|()| true)
    }
}

/// The device of the file system that was mounted on a path last, if there is one.
fn on_top(mountpoint: &Path) -> Result<Option<Vec<u8>>> {
    let mounts = mountinfo::mounts()?;
    Ok(mounts.into_iter().rfind(|mount| mount.point == mountpoint).map(|mount| mount.device))
}

fn unmount(mountpoint: &Path) -> Result<()> {
    let quietly = MntFlags::UMOUNT_NOFOLLOW;
    match nix::mount::umount2(mountpoint, quietly) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(nix::errno::Errno::EBUSY) => {
            Ok(nix::mount::umount2(mountpoint, quietly | MntFlags::MNT_DETACH)?)
        }
        // EACCES is the answer of a security module (aa_umount, security/apparmor/mount.c).
        Err(nix::errno::Errno::EPERM | nix::errno::Errno::EACCES) => {
            unmount_with_helper(mountpoint)
        }
        Err(err) => Err(err.into()),
    }
}

fn unmount_with_helper(mountpoint: &Path) -> Result<()> {
    // Lazily only if it cannot be unmounted otherwise, as when it is in use.
    run_helper("-u", mountpoint).or_else(|_| run_helper("-uz", mountpoint))
}

fn run_helper(how: &str, mountpoint: &Path) -> Result<()> {
    let args: [OsString; 3] = [how.into(), "--".into(), mountpoint.into()];
    let run = || {
        let mut command = fusermount::command()?;
        command.args(&args).stdin(Stdio::null()).output().map_err(Error::from)
    };
    let output = with_room(run).context(|| "fusermount3 cannot be started")?;
    if output.status.success() {
        return Ok(());
    }
    Err(fusermount::failure(&output.stderr))
}
