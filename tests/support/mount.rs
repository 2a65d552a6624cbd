//! A mount that goes when the test ends, however it ends.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::process::{self, is_alive, pids_with_argument, wait_for};
use super::scratch::Dir;
use super::{Engine, binary, raw, release};

/// How long anything that ought to take a moment may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mount to be made.
#[derive(Clone, Debug)]
pub struct Setup {
    lowers: Vec<PathBuf>,
    upper: Option<PathBuf>,
    work: Option<PathBuf>,
    mountpoint: PathBuf,
    options: Vec<String>,
    background: bool,
    env: Vec<(String, String)>,
    missing_syscall: Option<i64>,
    open_files: Option<u64>,
    missing_capability: Option<u8>,
    group: Option<PathBuf>,
}

impl Setup {
    /// Lower layers, the topmost first, and where to mount them.
    pub fn new(lowers: Vec<PathBuf>, mountpoint: &Path) -> Self {
        Self {
            lowers,
            upper: None,
            work: None,
            mountpoint: mountpoint.to_owned(),
            options: Vec::new(),
            background: false,
            env: Vec::new(),
            missing_syscall: None,
            open_files: None,
            missing_capability: None,
            group: None,
        }
    }

    pub fn lowers(mut self, lowers: Vec<PathBuf>) -> Self {
        self.lowers = lowers;
        self
    }

    pub fn upper(mut self, path: &Path) -> Self {
        self.upper = Some(path.to_owned());
        self
    }

    pub fn work(mut self, path: &Path) -> Self {
        self.work = Some(path.to_owned());
        self
    }

    pub fn mountpoint(mut self, path: &Path) -> Self {
        self.mountpoint = path.to_owned();
        self
    }

    /// Without upper and work directory.
    pub fn read_only(mut self) -> Self {
        self.upper = None;
        self.work = None;
        self
    }

    /// One more `-o` option.
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// Without `-f`, as programs in use are started.
    pub fn background(mut self) -> Self {
        self.background = true;
        self
    }

    /// With one more environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As on a kernel that has no such system call: ENOSYS.
    pub fn without_syscall(mut self, number: i64) -> Self {
        self.missing_syscall = Some(number);
        self
    }

    /// With a hard limit of that many open files.
    pub fn open_files(mut self, limit: u64) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// Run by root that lacks one of its capabilities (linux/capability.h).
    pub fn without_capability(mut self, number: u8) -> Self {
        self.missing_capability = Some(number);
        self
    }

    /// In a control group, by its `cgroup.procs`.
    pub fn group(mut self, procs: &Path) -> Self {
        self.group = Some(procs.to_owned());
        self
    }

    /// The value of `-o`.
    pub fn option_string(&self) -> OsString {
        let lowers: Vec<_> = self.lowers.iter().map(|path| escaped(path)).collect();
        let mut text = OsString::from("lowerdir=");
        text.push(lowers.join(OsStr::new(":")));
        if lowers.is_empty() {
            // The options name them.
            text.clear();
        }
        for (name, path) in [("upperdir", &self.upper), ("workdir", &self.work)] {
            if let Some(path) = path {
                text.push(format!(",{name}="));
                text.push(escaped(path));
            }
        }
        for option in &self.options {
            text.push(",");
            text.push(option);
        }
        text
    }

    /// The program with all its arguments, those of OVLMERGE_TEST_OPTIONS after its own.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        if !self.background {
            command.arg("-f");
        }
        command.envs(self.env.iter().cloned());
        command.arg("-o").arg(self.option_string());
        if let Some(options) = std::env::var_os("OVLMERGE_TEST_OPTIONS") {
            command.arg("-o").arg(options);
        }
        command.arg(&self.mountpoint);
        if let Some(number) = self.missing_syscall {
            raw::deny_syscall(&mut command, number);
        }
        if let Some(limit) = self.open_files {
            raw::limit_open_files(&mut command, limit);
        }
        if let Some(number) = self.missing_capability {
            raw::drop_capability(&mut command, number);
        }
        if let Some(procs) = &self.group {
            raw::enter_group(&mut command, procs);
        }
        command
    }

    /// Runs the program in the background mode and returns how its first process ended: for mounts
    /// that are refused. One that succeeds is unmounted at once.
    pub fn attempt(&self) -> Output {
        let setup = self.clone().background();
        let output = process::output(setup.command().stdin(Stdio::null()));
        if output.status.success() {
            assert!(unmount(&self.mountpoint, &mut None), "it cannot be unmounted again");
        }
        output
    }

    /// Mounts. Fails the test if that fails.
    pub fn mount(&self) -> Mount {
        let mut mount = Mount {
            dir: Dir::new(&self.mountpoint),
            setup: self.clone(),
            server: None,
            watchdog: None,
            mounted: false,
            log: tempfile::NamedTempFile::new().unwrap(),
        };
        mount.start();
        mount
    }
}

/// Writes the two characters of the option syntax, and the one that takes their meaning, as text.
fn escaped(path: &Path) -> OsString {
    let mut bytes = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            bytes.push(b'\\');
        }
        bytes.push(byte);
    }
    OsStr::from_bytes(&bytes).to_owned()
}

/// How long one server may live before it is taken to hang. OVLMERGE_TEST_LIMIT changes it.
fn time_limit() -> Duration {
    let seconds = std::env::var("OVLMERGE_TEST_LIMIT").map_or(600, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

/// Kills a server that never answers, for then its callers get an error and the test an end.
#[derive(Debug)]
struct Watchdog {
    _stops_when_dropped: mpsc::Sender<()>,
}

impl Watchdog {
    fn over(pid: i32) -> Self {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            if receiver.recv_timeout(time_limit()) == Err(RecvTimeoutError::Timeout) {
                eprintln!("the server {pid} is killed: it took longer than {:?}", time_limit());
                if let Err(err) = kill(Pid::from_raw(pid), Signal::SIGKILL) {
                    eprintln!("{pid}: {err}");
                }
            }
        });
        Self { _stops_when_dropped: sender }
    }
}

/// A mounted overlay; through [`Dir`] also the directory that it is mounted on.
#[derive(Debug)]
pub struct Mount {
    dir: Dir,
    setup: Setup,
    server: Option<Child>,
    watchdog: Option<Watchdog>,
    mounted: bool,
    log: tempfile::NamedTempFile,
}

impl Mount {
    /// The mountpoint.
    pub fn place(&self) -> &Dir {
        &self.dir
    }

    /// What the program printed on standard error so far.
    pub fn log(&self) -> String {
        process::text(&fs::read(self.log.path()).unwrap_or_default())
    }

    /// The process that serves the mount; none for the kernel's.
    pub fn pid(&self) -> Option<i32> {
        match &self.server {
            Some(child) => i32::try_from(child.id()).ok(),
            None => pids_with_argument(&self.setup.mountpoint).pop(),
        }
    }

    /// What the server tells about itself, as `ovlmerge stat --json` prints it: how many requests
    /// of each kind it got, how often something was copied up, and the like.
    #[track_caller]
    pub fn statistics(&self) -> serde_json::Value {
        let mut command = Command::new(binary());
        let output = process::output(command.args(["stat", "--json"]).arg(self.root()));
        assert!(output.status.success(), "{}", process::text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// How many writes the server has taken; 0 with the kernel's overlayfs.
    pub fn writes_taken(&self) -> u64 {
        match Engine::current() {
            Engine::Kernel => 0,
            Engine::Program => self.statistics()["requests"]["WRITE"].as_u64().unwrap_or(0),
        }
    }

    /// Waits until the server has taken so many writes, of which the last is of a mapping that is
    /// closed. Before Linux 6.16 neither munmap(2) nor umount(2) does so: what no server has taken
    /// when the mount ends is lost, with every FUSE file system.
    #[track_caller]
    pub fn wait_for_writes_of_mapping(&self, writes: u64) {
        let asked = self.setup.options.iter().any(|option| option == "io=passthrough");
        let by_kernel = asked || super::passthrough_everywhere();
        if Engine::current() == Engine::Program && !by_kernel && release::running() < (6, 16) {
            let come = wait_for(PATIENCE, || self.writes_taken() >= writes);
            assert!(come, "{} of {writes} writes", self.writes_taken());
        }
    }

    /// Whether something is mounted there now.
    pub fn is_mounted(&self) -> bool {
        is_mountpoint(self.root())
    }

    /// Unmounts and mounts again with the same options, so that nothing is remembered.
    pub fn remount(&mut self) {
        self.unmount();
        self.start();
    }

    /// Unmounts and waits until the server has left.
    #[track_caller]
    pub fn unmount(&mut self) {
        self.mounted = false;
        let clean = unmount(&self.setup.mountpoint, &mut self.server);
        self.watchdog = None;
        assert!(clean, "the mount or its server would not go\n{}", self.log());
    }

    /// Waits until the server has left by itself, and returns whether it did.
    pub fn server_leaves(&mut self, limit: Duration) -> bool {
        let mountpoint = self.setup.mountpoint.clone();
        wait_for(limit, || match &mut self.server {
            Some(child) => child.try_wait().unwrap().is_some(),
            None => pids_with_argument(&mountpoint).is_empty(),
        })
    }

    /// Waits until the server has left by itself, and returns how: for one in the foreground.
    #[track_caller]
    pub fn status(&mut self, limit: Duration) -> std::process::ExitStatus {
        assert!(self.server_leaves(limit), "it stays");
        self.server.as_mut().unwrap().wait().unwrap()
    }

    fn start(&mut self) {
        match Engine::current() {
            Engine::Kernel => mount_kernel(&self.setup),
            Engine::Program if self.setup.background => self.start_in_background(),
            Engine::Program => self.start_in_foreground(),
        }
        self.mounted = true;
        self.watchdog = self.pid().map(Watchdog::over);
    }

    fn start_in_background(&self) {
        let mut command = self.setup.command();
        let stderr = File::options().append(true).open(self.log.path()).unwrap();
        let status = command.stdin(Stdio::null()).stderr(stderr).status();
        let status = status.unwrap_or_else(|err| panic!("{command:?}: {err}"));
        assert!(status.success(), "{command:?}: {status}\n{}", self.log());
        assert!(is_mountpoint(self.root()), "{command:?} ended before the mount was there");
    }

    fn start_in_foreground(&mut self) {
        let before = fs::metadata(self.root()).unwrap();
        let mut command = self.setup.command();
        let stderr = File::options().append(true).open(self.log.path()).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(stderr).spawn();
        let mut child = child.unwrap_or_else(|err| panic!("{command:?}: {err}"));
        let up = wait_for(PATIENCE, || {
            let ended = child.try_wait().unwrap().is_some();
            let root = fs::metadata(self.root());
            ended || root.is_ok_and(|meta| meta.dev() != before.dev())
        });
        let ended = child.try_wait().unwrap();
        self.server = Some(child);
        self.mounted = true;
        assert!(up && ended.is_none(), "{command:?}: no mount ({ended:?})\n{}", self.log());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.mounted {
            unmount(&self.setup.mountpoint, &mut self.server);
        }
        let log = self.log();
        if std::thread::panicking() && !log.is_empty() {
            eprintln!("the server's messages:\n{log}");
        }
    }
}

fn mount_kernel(setup: &Setup) {
    // What a test asks for comes later, and counts.
    let mut options = OsString::from("index=off,redirect_dir=off,metacopy=off,");
    options.push(setup.option_string());
    let result = nix::mount::mount(
        Some("overlay"),
        &setup.mountpoint,
        Some("overlay"),
        MsFlags::MS_NOATIME,
        Some(options.as_os_str()),
    );
    result.unwrap_or_else(|err| panic!("kernel overlay {options:?}: {err}"));
}

/// Takes a mount away that no [`Mount`] has, with all above it, at once.
pub fn detach(path: &Path) {
    while is_mountpoint(path) {
        let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        umount2(path, flags).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    }
}

/// A mount that a test had other programs make. It goes when this goes.
#[derive(Debug)]
pub struct Detached(PathBuf);

impl Detached {
    pub fn on(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        detach(&self.0);
    }
}

/// Whether a mount is at `path`, by the kernel's own list.
pub fn is_mountpoint(path: &Path) -> bool {
    mount_line(path).is_some()
}

/// The line of /proc/self/mounts for `path`, of which the uppermost mount counts.
pub fn mount_line(path: &Path) -> Option<String> {
    // Blanks and backslashes in names are written in octal there.
    let wanted = path.to_str()?;
    let wanted = wanted.replace('\\', "\\134").replace(' ', "\\040");
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut lines = table.lines().rev();
    let line = lines.find(|line| line.split(' ').nth(1) == Some(wanted.as_str()));
    line.map(str::to_owned)
}

/// Unmounts in any case, and says whether it went as it should: not busy, and the server left.
fn unmount(mountpoint: &Path, server: &mut Option<Child>) -> bool {
    let pids = match server {
        Some(child) => vec![i32::try_from(child.id()).unwrap()],
        None => pids_with_argument(mountpoint),
    };
    let mut clean = wait_for(Duration::from_secs(5), || {
        !is_mountpoint(mountpoint) || umount2(mountpoint, MntFlags::UMOUNT_NOFOLLOW).is_ok()
    });
    if !clean {
        eprintln!("{} is busy: detaching it", mountpoint.display());
        if let Err(err) = umount2(mountpoint, MntFlags::MNT_DETACH) {
            eprintln!("it stays: {err}");
        }
    }
    for pid in pids {
        clean &= see_off(pid, mountpoint);
    }
    if let Some(child) = server {
        child.wait().unwrap();
        *server = None;
    }
    clean
}

/// Waits until a server has left by itself, and kills it if it does not.
fn see_off(pid: i32, mountpoint: &Path) -> bool {
    if wait_for(Duration::from_secs(3), || !is_alive(pid)) {
        return true;
    }
    // A program that was started with mounts of its own has copies of all of ours, and as long as
    // it runs they are mounted. That is no fault of the server.
    let excused = is_mounted_elsewhere(mountpoint);
    if !excused && wait_for(PATIENCE, || !is_alive(pid)) {
        return true;
    }
    eprintln!("the server {pid} of {} stays: killed", mountpoint.display());
    if let Err(err) = kill(Pid::from_raw(pid), Signal::SIGKILL) {
        eprintln!("{pid}: {err}");
    }
    wait_for(PATIENCE, || !is_alive(pid));
    excused
}

/// Whether some process sees a mount there that is none of ours.
fn is_mounted_elsewhere(mountpoint: &Path) -> bool {
    let Some(wanted) = mountpoint.to_str() else { return false };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.into_iter().any(|process| {
        let table = fs::read_to_string(process.path().join("mounts")).unwrap_or_default();
        table.lines().any(|line| line.split(' ').nth(1) == Some(wanted))
    })
}
