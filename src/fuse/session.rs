//! The life of a mount: layers, connection, requests, end.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use nix::mount::MsFlags;
use nix::sys::signal::{SigSet, Signal};

use super::adapter::{Adapter, OpenMode};
use crate::config::{Access, Config, MountOptions};
use crate::error::{Errno, Error, best_effort};
use crate::sys::{creds, mount};
use crate::vfs::{Listener, NodeId, Vfs};

/// Why a mount did not come to be, or ended badly: a sentence for people.
#[derive(Debug)]
pub struct StartError(Error);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for StartError {}

impl From<Error> for StartError {
    fn from(err: Error) -> Self {
        Self(err)
    }
}

/// Mounts and serves until unmounted. `ready` is called once, when the mount can be used.
///
/// SIGTERM and SIGINT unmount. The layers are opened before the mount is made, so the mountpoint
/// may be one of them.
///
/// # Errors
/// What is wrong with an option, a layer, the mountpoint or /dev/fuse.
pub fn serve(config: &Config, ready: impl FnOnce()) -> Result<(), StartError> {
    // Before any thread starts, so that all inherit it and only the one below takes the signals.
    let signals = end_signals();
    signals.thread_block().map_err(Error::from)?;
    check_mountpoint(&config.mountpoint)?;
    best_effort("limits of the caller stay", creds::lift_file_size());
    let vfs = Arc::new(Vfs::open(config)?);
    let device = attach(config, &vfs)?;
    let session = match start(config, vfs, device) {
        Ok(session) => session,
        Err(err) => {
            best_effort("unmounting after a failed start", mount::unmount(&config.mountpoint));
            return Err(err.into());
        }
    };
    unmount_on_signal(signals, &config.mountpoint)?;
    ready();
    session.run().map_err(Error::from)?;
    Ok(())
}

fn end_signals() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set
}

fn check_mountpoint(path: &Path) -> Result<(), Error> {
    let found = std::fs::metadata(path).map_err(Error::from).map_err(|err| {
        let advice = match err.errno() {
            Errno::ENOENT => "does not exist; create the directory first",
            Errno::ENOTCONN => {
                "is a mount whose server is gone; unmount it first (fusermount3 -u, or umount -l)"
            }
            _ => "cannot be used",
        };
        err.context(format!("mountpoint {} {advice}", path.display()))
    })?;
    if found.is_dir() {
        return Ok(());
    }
    let text = format!("mountpoint {} is not a directory; mount on a directory", path.display());
    Err(Error::new(Errno::ENOTDIR, text))
}

/// Makes the mount and returns its connection.
fn attach(config: &Config, vfs: &Vfs) -> Result<std::os::fd::OwnedFd, Error> {
    let options = &config.mount;
    let privileged = nix::unistd::geteuid().is_root();
    let access =
        options.access.unwrap_or(if privileged { Access::Everybody } else { Access::Owner });
    let mut data = Vec::new();
    if options.default_permissions {
        data.push("default_permissions");
    }
    if access != Access::Owner {
        data.push("allow_other");
    }
    let (flags, words) = flags(options, privileged, !vfs.is_writable());
    let request = mount::Request {
        mountpoint: &config.mountpoint,
        flags,
        words: &words,
        fsname: &options.fsname,
        subtype: &options.subtype,
        data: &data,
        root_mode: vfs.getattr(NodeId::ROOT)?.mode & libc::S_IFMT,
    };
    if privileged {
        let device = mount::open_device()?;
        match mount::direct(&device, &request) {
            Ok(()) => return Ok(device),
            // Root without CAP_SYS_ADMIN is an ordinary user.
            Err(err) if err.errno() == Errno::EPERM => tracing::debug!("{err}; trying fusermount3"),
            Err(err) => return Err(err),
        }
    }
    mount::with_helper(&request)
}

/// The flags of the mount, for mount(2) and in words.
fn flags(options: &MountOptions, privileged: bool, no_upper: bool) -> (MsFlags, Vec<String>) {
    let table = [
        (options.read_only || no_upper, MsFlags::MS_RDONLY, "ro", "rw"),
        (!options.suid.unwrap_or(privileged), MsFlags::MS_NOSUID, "nosuid", "suid"),
        (!options.dev.unwrap_or(false), MsFlags::MS_NODEV, "nodev", "dev"),
        (!options.exec, MsFlags::MS_NOEXEC, "noexec", "exec"),
        (!options.atime, MsFlags::MS_NOATIME, "noatime", "atime"),
        (!options.diratime, MsFlags::MS_NODIRATIME, "", ""),
        (options.sync, MsFlags::MS_SYNCHRONOUS, "sync", "async"),
        (options.dirsync, MsFlags::MS_DIRSYNC, "dirsync", ""),
    ];
    let mut flags = MsFlags::empty();
    let mut words = Vec::new();
    for (set, flag, on, off) in table {
        if set {
            flags |= flag;
        }
        // The helper knows no word for some flags, and takes suid and dev from root alone.
        let word = if set { on } else { off };
        let privileged_word = matches!(word, "suid" | "dev");
        if !word.is_empty() && !privileged_word {
            words.push(word.to_owned());
        }
    }
    (flags, words)
}

fn start(
    config: &Config,
    vfs: Arc<Vfs>,
    device: std::os::fd::OwnedFd,
) -> Result<fuser::Session<Adapter>, Error> {
    // Who may override permissions can open any file again at any time, so the kernel need not tell
    // us when files are opened.
    let mode = if creds::has_capability(creds::CAP_DAC_OVERRIDE)? {
        OpenMode::NotAsked
    } else {
        OpenMode::Pinned
    };
    let acl = match config.mount.access {
        Some(Access::OwnerAndRoot) => fuser::SessionACL::RootAndOwner,
        _ => fuser::SessionACL::All,
    };
    let mut session = fuser::Config::default();
    session.acl = acl;
    session.n_threads = Some(config.threads.unwrap_or_else(default_threads));
    let adapter = Adapter::new(Arc::clone(&vfs), config, mode);
    let session = fuser::Session::from_fd(adapter, device, acl, session)?;
    let notifier = session.notifier();
    vfs.listen(Listener::new(move |node| {
        // Attributes alone: an offset below zero leaves the pages (fuse_reverse_inval_inode).
        let told = notifier.inval_inode(fuser::INodeNo(node.0), -1, 0).map_err(Error::from);
        match told {
            // The kernel does not know the node any more.
            Err(err) if err.errno() == Errno::ENOENT => {}
            other => {
                best_effort("telling the kernel of new attributes", other);
            }
        }
    }));
    Ok(session)
}

/// Threads that read requests. A wake-up on another CPU costs ten times one on the same, so few are
/// better than many; two, so that one slow request of the kind that is not handed to the pool (a
/// read from a slow disk) does not hold up everything.
fn default_threads() -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    (cpus / 2).clamp(2, 8)
}

/// Unmounts on the first of `signals`; the loop then ends by itself.
fn unmount_on_signal(signals: SigSet, mountpoint: &Path) -> Result<(), Error> {
    let mountpoint = mountpoint.to_owned();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while let Ok(signal) = signals.wait() {
            tracing::info!("{signal}: unmounting");
            best_effort("unmounting", mount::unmount(&mountpoint));
        }
    })?;
    Ok(())
}
