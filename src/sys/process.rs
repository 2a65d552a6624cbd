//! What procfs tells of this process and of others (proc(5)).

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::Name;
use super::at;
use super::descriptors::{proc_text, with_room};
use crate::error::{Error, Result};

/// The resources that a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory that is its own or shared with others, in bytes (`VmRSS`).
    pub resident: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
}

impl Usage {
    /// The resources that this process uses now; 0 for each that procfs does not tell.
    #[must_use]
    pub fn of_this_process() -> Self {
        let status = proc_text("/proc/self/status").unwrap_or_default();
        let number = |key| field(&status, key).and_then(|text| text.parse().ok()).unwrap_or(0);
        let list = with_room(|| fs::read_dir("/proc/self/fd").map_err(Error::from));
        let descriptors = list.map_or(0, Iterator::count);
        Self {
            // The unit is KiB, although the file has `kB`.
            resident: number("VmRSS:") * 1024,
            // One of them is the descriptor of the listing itself.
            descriptors: u64::try_from(descriptors).unwrap_or(u64::MAX).saturating_sub(1),
            threads: number("Threads:"),
        }
    }
}

/// The first word behind a key of a status file.
fn field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    fields(status, key)?.split_ascii_whitespace().next()
}

fn fields<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key))
}

/// Whether a thread is about to end, whatever it does now: each thread of a process that is killed,
/// or that a signal ends, gets SIGKILL (`complete_signal`, kernel/signal.c).
#[must_use]
pub fn is_dying(pid: u32) -> bool {
    let Ok(status) = proc_text(format!("/proc/{pid}/status")) else { return false };
    let pending = field(&status, "SigPnd:").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    let dead = field(&status, "State:").is_some_and(|state| matches!(state, "Z" | "X"));
    dead || pending.is_some_and(|mask| mask & 1 << (libc::SIGKILL - 1) != 0)
}

/// The path of the object that a thread of this process waits for, if it is in a system call whose
/// first argument is a descriptor. For a call on a name it is the path of the directory.
#[must_use]
pub fn waits_for(thread: i32) -> Option<PathBuf> {
    let call = proc_text(format!("/proc/self/task/{thread}/syscall")).ok()?;
    let mut words = call.split_ascii_whitespace();
    let (_number, first) = (words.next()?.parse::<u32>().ok()?, words.next()?);
    let descriptor = u32::from_str_radix(first.strip_prefix("0x")?, 16).ok()?;
    fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()
}

/// The path of an open file or directory.
#[must_use]
pub fn path_of(file: &impl AsFd) -> Option<PathBuf> {
    let number = file.as_fd().as_raw_fd();
    fs::read_link(format!("/proc/self/fd/{number}")).ok()
}

/// The user whose rights a thread has on files (`fsuid`), by the number in our user namespace.
#[must_use]
pub fn filesystem_user(pid: u32) -> Option<u32> {
    let status = proc_text(format!("/proc/{pid}/status")).ok()?;
    fields(&status, "Uid:")?.split_ascii_whitespace().nth(3)?.parse().ok()
}

/// A text for a process: its number, its program, its last argument, which for a server is the
/// mountpoint, and whether it is in another mount namespace.
#[must_use]
pub fn describe(pid: u32) -> String {
    let called = Called::of(pid);
    let mut text = called.named(pid);
    if let Some(last) = &called.last {
        text.push(' ');
        text.push_str(&printable(last));
    }
    if lives_in_other_mounts(pid) {
        text.push_str(", in another mount namespace");
    }
    text
}

/// Program and arguments of a process.
#[derive(Debug, Default)]
pub(super) struct Called {
    /// The name of its program.
    program: Option<Vec<u8>>,
    /// Its last argument: the mountpoint of a server, as it was written.
    pub last: Option<Vec<u8>>,
}

impl Called {
    /// Program and arguments of this process, as procfs tells them.
    pub fn of(pid: u32) -> Self {
        let line = with_room(|| fs::read(format!("/proc/{pid}/cmdline")).map_err(Error::from));
        let line = line.unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
        let program = words.first().and_then(|word| word.rsplit(|byte| *byte == b'/').next());
        let last = mountpoint(words.get(1..).unwrap_or_default());
        Self { program: program.map(<[u8]>::to_vec), last: last.map(<[u8]>::to_vec) }
    }

    /// A text for the process: its number and its program.
    pub fn named(&self, pid: u32) -> String {
        match &self.program {
            Some(program) => format!("process {pid} {}", printable(program)),
            None => format!("process {pid}"),
        }
    }
}

/// Whether a process is in another mount namespace than we are, as far as we can see.
pub(super) fn lives_in_other_mounts(pid: u32) -> bool {
    has_another(pid, "mnt")
}

/// Whether a process is in another user namespace than we are, as far as we can see.
pub(super) fn has_other_users(pid: u32) -> bool {
    has_another(pid, "user")
}

/// Whether a process is in another namespace of a kind than we are (namespaces(7)). False where
/// that cannot be seen.
fn has_another(pid: u32, kind: &str) -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}")).ok();
    let (ours, theirs) = (namespace("self"), namespace(&pid.to_string()));
    theirs.is_some() && ours.is_some() && ours != theirs
}

/// The last word of a command line that is neither an option nor the value of an option.
fn mountpoint<'a>(words: &[&'a [u8]]) -> Option<&'a [u8]> {
    let takes_value = |word: &[u8]| matches!(word, b"-o" | b"-t");
    let value_of = |at: usize| at.checked_sub(1).and_then(|at| words.get(at));
    let is_value = |at: usize| value_of(at).is_some_and(|word| takes_value(word));
    let mut plain =
        words.iter().enumerate().filter(|(at, word)| !is_value(*at) && !word.starts_with(b"-"));
    plain.next_back().map(|(_, word)| *word)
}

/// Bytes of another process as text, without characters that a terminal would obey.
pub(super) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().to_string()
}

/// One process, and never another one that gets its number later.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    /// Its directory in procfs, which never becomes that of another process.
    dir: OwnedFd,
}

impl Process {
    /// The process that has this number now.
    ///
    /// # Errors
    /// ENOENT if there is none.
    pub fn open(pid: u32) -> Result<Self> {
        let dir = at::open_root(Path::new(&format!("/proc/{pid}")))?;
        Ok(Self { pid, dir })
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it still runs. A zombie does not: it has let go of everything.
    ///
    /// # Errors
    /// Those of open(2) and read(2).
    pub fn is_alive(&self) -> Result<bool> {
        let stat = at::open(self.dir.as_fd(), Name::new(b"stat")?, OFlag::O_RDONLY);
        let read = |file: OwnedFd| {
            let mut text = Vec::new();
            fs::File::from(file).read_to_end(&mut text)?;
            Ok(text)
        };
        match stat.and_then(read) {
            // The state follows the name in parentheses, which may have any bytes.
            Ok(text) => {
                let state = text.rsplit(|byte| *byte == b')').next().unwrap_or_default();
                Ok(!state.starts_with(b" Z"))
            }
            Err(err) if matches!(err.errno().raw(), libc::ENOENT | libc::ESRCH) => Ok(false),
            Err(err) => Err(err),
        }
    }
}

/// The root directory of a thread. Two threads with equal ones are in one mount namespace too, so
/// that every absolute path means one object to both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// The number of the mount at `/`, which no other mount in any namespace has.
    mount: u64,
}

impl Root {
    /// The root of this process; `None` without procfs, or if procfs is that of another process
    /// namespace, where a number means another process.
    #[must_use]
    pub fn ours() -> Option<Self> {
        let known_as = fs::read_link("/proc/self").ok()?;
        let ours = std::process::id().to_string();
        if known_as.as_os_str() != ours.as_str() {
            return None;
        }
        Self::of("self")
    }

    /// The root of a thread. It can be read for the threads of every user, unless procfs hides
    /// processes (`hidepid`).
    #[must_use]
    pub fn of_thread(pid: u32) -> Option<Self> {
        Self::of(&pid.to_string())
    }

    fn of(process: &str) -> Option<Self> {
        Self::parse(&proc_text(format!("/proc/{process}/mountinfo")).ok()?)
    }

    /// The root by the text of mountinfo; `None` if the root directory is not the root of a mount.
    fn parse(mountinfo: &str) -> Option<Self> {
        let mut found = None;
        for line in mountinfo.lines() {
            let mut words = line.split(' ');
            let number = words.next()?.parse().ok()?;
            if words.nth(3) == Some("/") {
                // Of several mounts on each other the last one is seen.
                found = Some(Self { mount: number });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let usage = Usage::of_this_process();
        assert!(usage.resident > 0 && usage.descriptors > 2 && usage.threads > 0, "{usage:?}");
        let here = std::process::id();
        assert_eq!(filesystem_user(here), Some(nix::unistd::geteuid().as_raw()));
        assert_eq!(Root::of_thread(here), Root::ours());
        assert_eq!(filesystem_user(u32::MAX), None);
    }

    #[test]
    fn a_process_in_words() {
        let us = describe(std::process::id());
        assert!(us.starts_with(&format!("process {} ", std::process::id())), "{us}");
        assert!(!us.contains("namespace"), "{us}");
        assert_eq!(describe(u32::MAX), format!("process {}", u32::MAX));
    }

    #[test]
    fn options_are_no_mountpoint() {
        let of = |line: &str| {
            let words: Vec<_> = line.split(' ').map(str::as_bytes).collect();
            mountpoint(&words).map(|word| String::from_utf8_lossy(word).into_owned())
        };
        for line in ["-o a=b,c /m", "/m -o a=b,c", "overlay /m -o a=b", "-f -o a=b -oc /m -d"] {
            assert_eq!(of(line).as_deref(), Some("/m"), "{line}");
        }
        assert_eq!(of("-o a=b"), None);
    }

    #[test]
    fn the_uppermost_root_counts() {
        let text = "21 1 8:1 / / rw - ext4 a rw\n22 21 0:5 / /proc rw - proc p rw\n\
                    30 21 0:9 / / rw - tmpfs t rw\n";
        assert_eq!(Root::parse(text), Some(Root { mount: 30 }));
        assert_eq!(Root::parse("22 21 0:5 / /proc rw - proc p rw\n"), None, "a chroot");
    }
}
