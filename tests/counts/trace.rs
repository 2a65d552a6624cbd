//! strace on a running server.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Nothing was called for so long: what an operation leaves for later (RELEASE) has been done.
const QUIET: Duration = Duration::from_millis(60);

/// Locks, memory, waiting and the start of threads depend on the moment, not on the operation.
const IGNORED: [&str; 27] = [
    "brk",
    "clone",
    "clone3",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "exit",
    "futex",
    "getrandom",
    "getrusage",
    "gettid",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "poll",
    "prctl",
    "restart_syscall",
    "rseq",
    "rt_sigprocmask",
    "rt_sigtimedwait",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "sigaltstack",
];

/// System calls that are newer than strace 6.1, by their number on all machines (Linux 6.6, 6.13).
const NEWER: [(&str, &str); 4] = [
    ("syscall_0x1c4", "fchmodat2"),
    ("syscall_0x1cf", "setxattrat"),
    ("syscall_0x1d0", "getxattrat"),
    ("syscall_0x1d1", "listxattrat"),
];

/// Requests without an answer, that come when the kernel drops what it knew.
const UNANSWERED: [&str; 3] = ["FORGET", "BATCH_FORGET", "INTERRUPT"];

/// How often each was seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub requests: BTreeMap<String, u64>,
    pub calls: BTreeMap<String, u64>,
}

/// strace, attached to all threads of a process. Each has a file of its own, so that no call is cut
/// in two by another's.
#[derive(Debug)]
pub struct Trace {
    strace: Child,
    // It says that it leaves; nobody may close the pipe before.
    _messages: BufReader<ChildStderr>,
    files: TempDir,
    fuse: HashSet<String>,
}

impl Trace {
    pub fn attach(pid: u32) -> Self {
        let files = TempDir::with_prefix("ovlmerge-counts-").unwrap();
        let mut command = Command::new("strace");
        // Strings as bytes in hexadecimal, as far as the opcode of a request goes.
        command.args(["-ff", "-xx", "-s", "8", "-o"]).arg(files.path().join("t"));
        command.args(["-p", &pid.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
        let mut strace = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut messages = BufReader::new(strace.stderr.take().unwrap());
        let mut line = String::new();
        messages.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "{line}");
        Self { strace, _messages: messages, files, fuse: fuse_descriptors(pid) }
    }

    /// Waits until the server is idle, and detaches.
    pub fn finish(mut self) -> Seen {
        self.wait_until_quiet();
        self.stop();
        let mut seen = Seen::default();
        for file in fs::read_dir(self.files.path()).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            text.lines().for_each(|line| self.note(line, &mut seen));
        }
        seen
    }

    fn wait_until_quiet(&self) {
        let (mut size, mut since) = (0, Instant::now());
        while since.elapsed() < QUIET {
            std::thread::sleep(QUIET / 10);
            let now = size_of_all(self.files.path());
            if now != size {
                (size, since) = (now, Instant::now());
            }
        }
    }

    fn stop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.strace.id()).unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        self.strace.wait().unwrap();
    }

    fn note(&self, line: &str, seen: &mut Seen) {
        let Some((call, rest)) = line.split_once('(') else { return };
        let descriptor = rest.split([',', ')']).next().unwrap_or_default();
        match call {
            _ if IGNORED.contains(&call) => {}
            // Rust asks whether a descriptor is open before it closes it, in a debug build.
            "fcntl" if rest.contains("F_GETFD") => {}
            "read" if self.fuse.contains(descriptor) => {
                // None: interrupted, or still waiting when strace left.
                if let Some(name) = opcode(rest).map(request_name)
                    && !UNANSWERED.contains(&&*name)
                {
                    *seen.requests.entry(name).or_default() += 1;
                }
            }
            "write" | "writev" if self.fuse.contains(descriptor) => {}
            _ => {
                let newer = NEWER.iter().find(|(number, _)| *number == call);
                let name = newer.map_or(call, |(_, name)| name);
                *seen.calls.entry(name.to_owned()).or_default() += 1;
            }
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if self.strace.try_wait().unwrap().is_none() {
            self.stop();
        }
    }
}

fn size_of_all(dir: &Path) -> u64 {
    fs::read_dir(dir).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

fn fuse_descriptors(pid: u32) -> HashSet<String> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| entry.unwrap());
    let fuse = all.filter(|entry| {
        // One that was closed meanwhile is not the one that is read all the time.
        fs::read_link(entry.path()).is_ok_and(|target| target == Path::new("/dev/fuse"))
    });
    fuse.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// The second number of `fuse_in_header`, from
/// `5, "\x38\x00\x00\x00\x03\x00\x00\x00"..., 99) = 56`.
fn opcode(arguments: &str) -> Option<u32> {
    let (_, quoted) = arguments.split_once('"')?;
    let (hex, _) = quoted.split_once('"')?;
    let bytes = hex.split("\\x").skip(1).map(|byte| u8::from_str_radix(byte, 16).ok());
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    Some(u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?))
}

/// As in include/uapi/linux/fuse.h, without `FUSE_`.
fn request_name(opcode: u32) -> String {
    let known = match opcode {
        1 => "LOOKUP",
        2 => "FORGET",
        3 => "GETATTR",
        4 => "SETATTR",
        5 => "READLINK",
        6 => "SYMLINK",
        8 => "MKNOD",
        9 => "MKDIR",
        10 => "UNLINK",
        11 => "RMDIR",
        12 => "RENAME",
        13 => "LINK",
        14 => "OPEN",
        15 => "READ",
        16 => "WRITE",
        17 => "STATFS",
        18 => "RELEASE",
        20 => "FSYNC",
        21 => "SETXATTR",
        22 => "GETXATTR",
        23 => "LISTXATTR",
        24 => "REMOVEXATTR",
        25 => "FLUSH",
        27 => "OPENDIR",
        28 => "READDIR",
        29 => "RELEASEDIR",
        34 => "ACCESS",
        35 => "CREATE",
        36 => "INTERRUPT",
        42 => "BATCH_FORGET",
        44 => "READDIRPLUS",
        45 => "RENAME2",
        46 => "LSEEK",
        _ => return format!("opcode-{opcode}"),
    };
    known.to_owned()
}

#[test]
fn an_opcode_is_read_from_a_line_of_strace() {
    let line = r#"5, "\x38\x00\x00\x00\x03\x00\x00\x00"..., 1118208) = 56"#;
    assert_eq!(opcode(line).map(request_name).as_deref(), Some("GETATTR"));
    assert_eq!(opcode("5, 0x7f00, 1118208) = -1 ENOENT (No such file or directory)"), None);
    assert_eq!(opcode("5,  <detached ...>"), None);
}
