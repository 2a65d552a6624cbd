//! Cutting an operation off in the middle.
//!
//! The operation runs in a thread of its own whose system calls are handed to us first
//! (seccomp_unotify(2)). We count those that change something and let them pass, or answer with an
//! error in their place: all from one on, and for the disk that is what a killed server looks like;
//! or one alone, and that is a full disk. Or we count all, and one of them fails.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc;

/// Where to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nowhere.
    Never,
    /// From this call on (the first is 1) nothing reaches the disk.
    From(usize),
    /// This call alone fails with ENOSPC.
    NoSpaceAt(usize),
    /// Of all calls, those that only look counted too, this one alone fails, with this errno.
    ErrorAt(usize, i32),
}

/// What the file system knows of renameat2(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renames {
    /// All that it knows here.
    All,
    /// No flags, as NFS and some FUSE servers: EINVAL.
    WithoutFlags,
}

impl Renames {
    fn refuses(self, call: &libc::seccomp_data) -> bool {
        let has_flags = call.args[4] & 0xffff_ffff != 0;
        self == Self::WithoutFlags && i64::from(call.nr) == libc::SYS_renameat2 && has_flags
    }
}

/// What happened.
#[derive(Debug)]
pub struct Ran<T> {
    pub result: T,
    /// The mutating calls, by number, in their order; with [`Cut::ErrorAt`] all calls.
    pub calls: Vec<i64>,
}

/// Every call that changes a file system, and those that force it to the disk, which report a full
/// one.
const MUTATING: [i64; 33] = [
    libc::SYS_openat,
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    SYS_FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_pwrite64,
    libc::SYS_copy_file_range,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    SYS_SETXATTRAT,
    SYS_REMOVEXATTRAT,
    libc::SYS_fsync,
    libc::SYS_syncfs,
];

/// Every call that looks at a file system. With the others they are all that can fail for want of
/// memory or descriptors, or because of a bad disk.
const LOOKING: [i64; 18] = [
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    SYS_GETXATTRAT,
    SYS_LISTXATTRAT,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_ioctl,
    libc::SYS_fstatfs,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_pread64,
];

/// Numbers of newer calls are the same on every architecture (asm-generic/unistd.h).
const SYS_FCHMODAT2: i64 = 452;
const SYS_SETXATTRAT: i64 = 463;
const SYS_GETXATTRAT: i64 = 464;
const SYS_LISTXATTRAT: i64 = 465;
const SYS_REMOVEXATTRAT: i64 = 466;

/// _IOWR('!', 0, struct seccomp_notif), _IOWR('!', 1, struct seccomp_notif_resp); linux/seccomp.h.
const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;

/// Milliseconds in which an operation gets to its next call or to its end.
const PATIENCE: i32 = 30_000;

/// Whether the machine lets us do this.
pub fn works() -> Result<(), String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(install().map(drop)))
        .join()
        .map_err(|_| "the probe panicked")?
        .map_err(|err| err.to_string())?;
    receive.recv().map_err(|err| err.to_string())?
}

/// Runs `act` in a thread of its own and cuts it off.
pub fn run<T: Send + 'static>(
    cut: Cut,
    renames: Renames,
    act: impl FnOnce() -> T + Send + 'static,
) -> Ran<T> {
    run_seen(cut, renames, act, |_| {})
}

/// As [`run`]; `see` is told the number of each call that counts before it is made, from 1.
pub fn run_seen<T: Send + 'static>(
    cut: Cut,
    renames: Renames,
    act: impl FnOnce() -> T + Send + 'static,
    see: impl FnMut(usize),
) -> Ran<T> {
    let (send, receive) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        send.send(install().unwrap()).unwrap();
        act()
    });
    let listener = receive.recv().unwrap();
    let calls = supervise(&listener, cut, renames, see);
    let result = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    Ran { result, calls }
}

/// Hands the calls of this thread that are watched, for the rest of its life, to whom has the
/// descriptor.
fn install() -> Result<OwnedFd, String> {
    let load = u16::try_from(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS).unwrap();
    let equal = u16::try_from(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K).unwrap();
    let answer = u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap();
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    // The number is the first field of struct seccomp_data.
    let mut program = vec![statement(load, 0)];
    let watched = [&MUTATING[..], &LOOKING[..]].concat();
    for (index, call) in watched.iter().enumerate() {
        let to_notify = u8::try_from(watched.len() - index).unwrap();
        let k = u32::try_from(*call).unwrap();
        program.push(libc::sock_filter { code: equal, jt: to_notify, jf: 0, k });
    }
    program.push(statement(answer, libc::SECCOMP_RET_ALLOW));
    program.push(statement(answer, libc::SECCOMP_RET_USER_NOTIF));
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap(),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: plain numbers.
    let unprivileged = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if unprivileged != 0 {
        return Err(format!("PR_SET_NO_NEW_PRIVS: {}", std::io::Error::last_os_error()));
    }
    // SAFETY: the program is as long as it says and outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const filter,
        )
    };
    match i32::try_from(fd) {
        // SAFETY: a new descriptor that nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(format!("seccomp: {}", std::io::Error::last_os_error())),
    }
}

/// Answers until the thread is gone.
fn supervise(
    listener: &OwnedFd,
    cut: Cut,
    renames: Renames,
    mut see: impl FnMut(usize),
) -> Vec<i64> {
    let mut calls = Vec::new();
    while let Some(asked) = receive(listener) {
        let call = i64::from(asked.data.nr);
        let mut errno = 0;
        if renames.refuses(&asked.data) {
            errno = libc::EINVAL;
        } else if let Cut::ErrorAt(only, error) = cut {
            calls.push(call);
            errno = if calls.len() == only { error } else { 0 };
        } else if mutates(&asked.data) {
            calls.push(call);
            see(calls.len());
            errno = match cut {
                Cut::From(first) if calls.len() >= first => libc::EIO,
                Cut::NoSpaceAt(only) if calls.len() == only => libc::ENOSPC,
                _ => 0,
            };
        }
        send(listener, asked.id, errno);
    }
    calls
}

/// openat(2) does only if it creates.
fn mutates(call: &libc::seccomp_data) -> bool {
    if LOOKING.contains(&call.nr.into()) {
        return false;
    }
    let flags = match i64::from(call.nr) {
        libc::SYS_openat => call.args[2],
        libc::SYS_open => call.args[1],
        _ => return true,
    };
    let flags = i32::try_from(flags & 0xffff_ffff).unwrap_or(0);
    let tmpfile = libc::O_TMPFILE & !libc::O_DIRECTORY;
    flags & (libc::O_CREAT | libc::O_TRUNC | tmpfile) != 0
}

fn receive(listener: &OwnedFd) -> Option<libc::seccomp_notif> {
    loop {
        let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, as we say.
        let ready = unsafe { libc::poll(&raw mut poll, 1, PATIENCE) };
        assert!(ready != 0, "the operation hangs");
        if ready < 0 {
            continue;
        }
        if poll.revents & libc::POLLIN == 0 {
            return None;
        }
        // SAFETY: all-zero is what the kernel wants to be given.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel fills one such structure.
        if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut asked) } == 0 {
            return Some(asked);
        }
    }
}

fn send(listener: &OwnedFd, id: u64, errno: i32) {
    let go_on = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap();
    let flags = if errno == 0 { go_on } else { 0 };
    let mut answer = libc::seccomp_notif_resp { id, val: 0, error: -errno, flags };
    // SAFETY: the kernel reads one such structure. A thread that died meanwhile needs no answer.
    unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw mut answer) };
}
