//! The life of a mount: layers, connection, requests, end.

use std::fmt;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use nix::mount::MsFlags;

use super::answer::guarded;
use super::crew::Crew;
use super::handler::Handler;
use super::leaving;
use super::negotiation;
use super::open_mode::OpenMode;
use super::seat::{Call, Seat};
use super::tell::Desk;
use crate::config::{Access, Config, MountOptions};
use crate::error::{Errno, Error, best_effort};
use crate::sys::{creds, memory, mount};
use crate::transport::abi::{self, opcode};
use crate::transport::device::Device;
use crate::transport::in_flight::Taken;
use crate::transport::reply::Reply;
use crate::transport::request::{Header, Operation, Request};
use crate::transport::waiting::{Next, Waiter, Waiting};
use crate::vfs::{Listener, NodeId, Vfs};

/// Why a mount could not be made, or ended badly: a sentence for people.
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
/// Signals end the mount as [`leaving`] says. The layers are opened before the mount is made, so
/// the mountpoint may be one of them.
///
/// # Errors
/// A sentence about an option, a layer, the mountpoint or /dev/fuse.
pub fn serve(config: &Config, ready: impl FnOnce()) -> Result<(), StartError> {
    // Before any thread starts: all inherit the mask, and one alone takes the signals.
    let signals = leaving::signals();
    signals.thread_block().map_err(Error::from)?;
    if config.device.is_none() {
        check_mountpoint(&config.mountpoint)?;
    }
    best_effort("limits of the caller stay", creds::lift_file_size());
    if let Err(err) = memory::serve_writeback() {
        tracing::debug!("little memory may make us wait for ourselves: {err}");
    }
    let vfs = Arc::new(Vfs::open(config)?);
    let served = Arc::clone(&vfs);
    // The leash, by which a helper sees our end, is held until then.
    let (session, _leash, ours) = match config.device {
        Some(number) => (start_passed(config, vfs, number)?, None, None),
        None => {
            let make = || attach(config, &vfs);
            let (ours, connection) = mount::OwnMount::make(&config.mountpoint, make)?;
            match start(config, vfs, connection.device) {
                Ok(session) => (session, connection.leash, Some(ours)),
                Err(err) => {
                    let undone = ours.unmount().map(drop);
                    best_effort("unmounting after a failed start", undone);
                    return Err(err.into());
                }
            }
        }
    };
    leaving::take_signals(signals, ours, &session.device, &session.handler)?;
    ready();
    let session = Arc::new(session);
    let end = session.run();
    Ok(leaving::finish(&session.device, &served, None).and(end)?)
}

fn check_mountpoint(path: &Path) -> Result<(), Error> {
    let found = std::fs::metadata(path).map_err(Error::from).map_err(|err| {
        let advice = match err.errno() {
            Errno::ENOENT => "does not exist; create the directory first",
            Errno::ENOTCONN => {
                "is a mount whose server is dead; unmount it first (ovlmerge umount, fusermount3 -u, or \
                 umount -l)"
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

/// Serves a connection that the caller has already mounted.
fn start_passed(config: &Config, vfs: Arc<Vfs>, number: i32) -> Result<Session, Error> {
    let device = mount::adopt_device(number)?;
    start(config, vfs, device).map_err(|err| match err.errno() {
        // From fuse_dev_read: not mounted yet, or not any more.
        Errno::EPERM | Errno::ENODEV | Errno::ENOTCONN => err.context(format!(
            "/dev/fd/{number} as the mountpoint: it is not mounted; mount it first, \
             with fd={number}"
        )),
        _ => err,
    })
}

/// Makes the mount and returns its connection.
fn attach(config: &Config, vfs: &Vfs) -> Result<mount::Connection, Error> {
    let options = &config.mount;
    let is_root = nix::unistd::geteuid().is_root();
    let access = options.access.unwrap_or(if is_root { Access::Everybody } else { Access::Owner });
    let mut data = Vec::new();
    if options.default_permissions {
        data.push("default_permissions".to_owned());
    }
    if access != Access::Owner {
        data.push("allow_other".to_owned());
    }
    data.extend(options.max_read.map(|bytes| format!("max_read={bytes}")));
    let (flags, words) = flags(options, is_root, !vfs.is_writable());
    let request = mount::Request {
        mountpoint: &config.mountpoint,
        flags,
        words: &words,
        fsname: &options.fsname,
        subtype: &options.subtype,
        data: &data,
        labels: &options.labels,
        auto_unmount: options.auto_unmount,
        root_mode: vfs.getattr(NodeId::ROOT)?.mode & libc::S_IFMT,
    };
    // Only the helper outlives this process.
    if options.auto_unmount {
        return with_helper(&request, options, is_root);
    }
    // Only an attempt tells whether this process may mount: its user does not.
    match mount_alone(&request) {
        Err(err) if matches!(err.errno(), Errno::EPERM | Errno::EACCES) => {
            tracing::debug!("{err}; trying fusermount3");
            with_helper(&request, options, is_root).map_err(|helper| match helper.errno() {
                Errno::ENOENT => Error::new(err.errno(), format!("{err}; {helper}")),
                _ => helper,
            })
        }
        other => other,
    }
}

/// Makes the mount with fusermount3. For all but root that sets `nosuid` and `nodev`, whatever is
/// asked (`find_mount_flag`, util/fusermount.c of libfuse).
fn with_helper(
    request: &mount::Request<'_>,
    options: &MountOptions,
    is_root: bool,
) -> Result<mount::Connection, Error> {
    for (asked, word) in [(options.suid, "suid"), (options.dev, "dev")] {
        if asked == Some(true) && !is_root {
            tracing::warn!(
                "option `{word}` has no effect: what fusermount3 mounts for an ordinary user is \
                 `no{word}`; leave it out, or mount as root"
            );
        }
    }
    mount::with_helper(request)
}

/// Makes the mount with mount(2).
fn mount_alone(request: &mount::Request<'_>) -> Result<mount::Connection, Error> {
    let device = mount::open_device()?;
    mount::direct(&device, request)?;
    Ok(mount::Connection { device, leash: None })
}

/// The flags of the mount, for mount(2) and in words.
fn flags(options: &MountOptions, is_root: bool, no_upper: bool) -> (MsFlags, Vec<String>) {
    let table = [
        (options.read_only || no_upper, MsFlags::MS_RDONLY, "ro", "rw"),
        (!options.suid.unwrap_or(is_root), MsFlags::MS_NOSUID, "nosuid", "suid"),
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
        // The helper has no word for some flags, and takes suid and dev from root alone.
        let word = if set { on } else { off };
        let privileged_word = matches!(word, "suid" | "dev");
        if !word.is_empty() && (is_root || !privileged_word) {
            words.push(word.to_owned());
        }
    }
    (flags, words)
}

/// Changes the flags of the mount at `mountpoint`: `change` gets those that it has.
///
/// # Errors
/// A sentence if nothing is mounted there or the caller may not do that; those of `change`.
pub fn remount(
    mountpoint: &Path,
    change: impl FnOnce(&mut MountOptions) -> Result<(), Error>,
) -> Result<(), StartError> {
    let place = mountpoint.display();
    let has = mount::flags(mountpoint)?;
    let mut options = Config::new(Vec::new(), None, mountpoint.to_owned()).mount;
    options.read_only = has.contains(MsFlags::MS_RDONLY);
    options.suid = Some(!has.contains(MsFlags::MS_NOSUID));
    options.dev = Some(!has.contains(MsFlags::MS_NODEV));
    options.exec = !has.contains(MsFlags::MS_NOEXEC);
    options.atime = !has.contains(MsFlags::MS_NOATIME);
    options.diratime = !has.contains(MsFlags::MS_NODIRATIME);
    options.sync = has.contains(MsFlags::MS_SYNCHRONOUS);
    change(&mut options)?;
    let (mut flags, _) = flags(&options, true, false);
    // Without this the kernel would leave access times as they are (`path_mount`).
    flags.set(MsFlags::MS_RELATIME, options.atime);
    mount::remount(mountpoint, flags).map_err(|err| match err.errno() {
        Errno::EINVAL => err.context(format!("nothing is mounted on {place}")),
        Errno::EPERM => err.context(format!(
            "only who may mount without a helper can change the flags of {place}: as root, or \
             unmount it and mount it again with other options"
        )),
        _ => err.context(format!("changing the flags of {place}")),
    })?;
    Ok(())
}

/// A connection, with the handler and the readers of its requests.
#[derive(Debug)]
struct Session {
    device: Arc<Device>,
    handler: Arc<Handler>,
    /// Size of a thread's buffer, in bytes.
    buffer: usize,
    crew: Arc<Crew>,
}

fn start(config: &Config, vfs: Arc<Vfs>, device: OwnedFd) -> Result<Session, Error> {
    let mode = OpenMode::choose(config.io, config.copy_up)?;
    let device = Arc::new(Device::new(device)?);
    let threads = config.threads.unwrap_or_else(default_threads);
    let crew = Arc::new(Crew::new(threads, creds::raise_open_files()?, Waiting::new(config.spin)));
    vfs.listen(listener(&device, &crew));
    let desk = Desk::new(&device, config);
    let session = Session {
        handler: Arc::new(Handler::new(vfs, config, mode, &device, &crew, desk)),
        device,
        buffer: negotiation::max_write(config) as usize + abi::ROOM_BESIDES_DATA,
        crew,
    };
    session.shake_hands()?;
    Ok(session)
}

/// Tells the kernel what it has to ask for again, and the crew that this thread will be busy.
fn listener(device: &Arc<Device>, crew: &Arc<Crew>) -> Listener {
    let (for_nodes, for_names) = (Arc::clone(device), Arc::clone(device));
    let changed = move |node: NodeId| {
        best_effort("telling the kernel of new attributes", for_nodes.forget_attributes(node.0));
    };
    let doubted = move |parent: NodeId, name: &[u8]| {
        let (device, name) = (Arc::clone(&for_names), name.to_vec());
        // The failed request holds the kernel's lock of the directory, so another thread tells.
        let tell = move || {
            best_effort("telling the kernel of a name", device.forget_name(parent.0, &name));
        };
        let thread = std::thread::Builder::new().name("names".into()).spawn(tell);
        best_effort("telling the kernel of a name", thread.map(drop).map_err(Error::from));
    };
    let crew = Arc::clone(crew);
    Listener::new(changed, doubted, move || crew.will_wait())
}

impl Session {
    /// Answers INIT, which the kernel sends first.
    fn shake_hands(&self) -> Result<(), Error> {
        let mut buffer = vec![0; self.buffer];
        let waiting = &self.crew.waiting;
        let mut waiter = waiting.waiter(1, &self.device)?;
        loop {
            let Next::Request(len) = waiting.next(&mut waiter, &self.device, &mut buffer, None)?
            else {
                return Err(Error::new(Errno::ENOTCONN, "unmounted before it was used"));
            };
            let request = buffer.get(..len).unwrap_or_default();
            let Ok(request) = Request::parse(request, false) else {
                return Err(Error::new(Errno::EPROTO, "the kernel does not speak FUSE"));
            };
            self.device.counters.came(request.header.opcode);
            let reply = Reply::new(&self.device, request.header.unique);
            let Operation::Init(offer) = request.operation else {
                reply.error(Errno::EIO);
                continue;
            };
            self.handler.init(&offer, reply)?;
            if offer.major == abi::MAJOR {
                return Ok(());
            }
        }
    }

    /// Serves until unmounted.
    fn run(self: &Arc<Self>) -> Result<(), Error> {
        let wanted = self.crew.fill().wanted;
        (0..wanted).try_for_each(|_| self.add_reader())?;
        let end = self.crew.watch(
            || self.device.has_requests(),
            || self.add_reader(),
            || self.handler.look_after_callers(),
        );
        // Announced now, because the next mount waits for what the readers still have to finish.
        self.handler.vfs.announce_end();
        self.crew.finish();
        end
    }

    /// Adds a thread that reads requests.
    fn add_reader(self: &Arc<Self>) -> Result<(), Error> {
        let seat = self.crew.join();
        let started = self.start_reader(&seat);
        if started.is_err() {
            self.crew.withdraw(&seat);
        }
        started
    }

    fn start_reader(self: &Arc<Self>, seat: &Arc<Seat>) -> Result<(), Error> {
        // There may be many added readers, and each has little to do.
        let buffer = match seat.number <= self.crew.fill().wanted {
            true => memory::ready(self.buffer),
            false => memory::zeroed(self.buffer)?,
        };
        let waiter = self.crew.waiting.waiter(seat.number, &self.device)?;
        let (session, sits) = (Arc::clone(self), Arc::clone(seat));
        let thread = std::thread::Builder::new().name(format!("reader-{}", seat.number));
        thread.spawn(move || session.read(&sits, waiter, buffer))?;
        Ok(())
    }

    /// Runs a thread that reads requests.
    fn read(&self, seat: &Arc<Seat>, mut waiter: Waiter, mut buffer: Vec<u8>) {
        seat.sit_down();
        match catch_unwind(AssertUnwindSafe(|| self.serve(seat, &mut waiter, &mut buffer))) {
            Ok(Ok(Next::Nothing)) => {}
            Ok(Ok(_)) => self.crew.leave(seat, Ok(())),
            Ok(Err(err)) => self.crew.leave(seat, Err(err)),
            Err(_) => self.crew.leave(seat, Err(Errno::EIO.into())),
        }
    }

    /// Serves requests until the mount is gone or the thread is not needed any more.
    fn serve(
        &self,
        seat: &Arc<Seat>,
        waiter: &mut Waiter,
        buffer: &mut [u8],
    ) -> Result<Next, Error> {
        let extended = self.handler.agreed().setxattr_ext;
        let waiting = &self.crew.waiting;
        loop {
            match waiting.next(waiter, &self.device, buffer, self.crew.patience())? {
                Next::Request(len) => {
                    let bytes = buffer.get(..len).unwrap_or_default();
                    // No request is taken any more: the process is about to end.
                    let Some(taken) = Taken::from(&self.device.in_flight) else {
                        return Ok(Next::Gone);
                    };
                    // The reader goes on, whatever the request comes to.
                    let client = guarded("request", || Ok(self.take(taken, bytes, extended, seat)));
                    waiting.served(waiter, client.unwrap_or(0));
                }
                Next::Nothing if !self.crew.may_retire(seat) => {}
                end => return Ok(end),
            }
        }
    }

    /// Serves one request and returns the number of its client.
    fn take(&self, taken: Taken, bytes: &[u8], extended: bool, seat: &Arc<Seat>) -> u32 {
        let request = match Request::parse(bytes, extended) {
            Ok(request) => request,
            Err(header) => {
                tracing::error!("a request that makes no sense: {header:?}");
                if let Some(header) = header {
                    Reply::new(&self.device, header.unique).error(Errno::EIO);
                }
                return 0;
            }
        };
        let Header { opcode, unique, node, uid, gid, pid } = request.header;
        self.device.counters.came(opcode);
        tracing::debug!(
            "{} {unique}: node {}, process {pid}, user {uid}:{gid}",
            opcode::name(opcode),
            node
        );
        let call = match request.operation {
            Operation::Forget { .. } | Operation::BatchForget(_) => {
                Call::forgetting(request.header)
            }
            _ => Call::new(request.header, request.only_reads()),
        };
        let _serving = self.crew.begin(seat, call, Some(taken));
        // FORGET and BATCH_FORGET get no answer.
        match request.operation {
            Operation::Forget { count } => self.handler.forget([(NodeId(node), count)]),
            Operation::BatchForget(forgets) => {
                self.handler.forget(forgets.map(|(node, count)| (NodeId(node), count)));
            }
            _ => {
                let reply = Reply::claimed(&self.device, request.header.unique, seat);
                self.handler.handle(&request, reply);
            }
        }
        request.header.pid
    }
}

/// Threads that read requests while none is held up. A wake-up on another CPU costs ten times one
/// on the same, so few are better than many. There are two at least, so that a request beside a
/// slow one need not wait for a new thread.
#[must_use]
pub fn default_threads() -> u32 {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cpus / 2).unwrap_or(u32::MAX).clamp(2, 8)
}
