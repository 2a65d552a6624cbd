//! How the server leaves its caller: signals, descriptors, session.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::{io, mem, ptr};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{
    ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, getppid, pipe2, setsid,
};

use crate::error::{Error, Result};

/// The ignored signals that get their default action back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signals {
    /// All but SIGPIPE, which the runtime of Rust ignores for us.
    All,
    /// As `All`, but the signals that a shell or nohup(1) ignores on purpose stay ignored.
    KeepTerminal,
}

impl Signals {
    fn keeps(self, signal: i32) -> bool {
        match self {
            Self::All => signal == libc::SIGPIPE,
            Self::KeepTerminal => {
                [libc::SIGPIPE, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP].contains(&signal)
            }
        }
    }
}

/// Unblocks all signals, and gives those that the caller ignored their default action back. Both
/// states are inherited over execve(2): with SIGCHLD ignored we could not wait for a child, and
/// with SIGTERM blocked nobody could stop us.
pub fn reset_signals(signals: Signals) {
    for signal in 1..=libc::SIGRTMAX() {
        if !signals.keeps(signal) && ignores(signal) {
            // SAFETY: the default action needs no handler; no memory is passed.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    let unblocked = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    if let Err(err) = unblocked {
        tracing::warn!("signals stay blocked: {err}");
    }
}

/// Whether this process ignores a signal, as it does when its caller did.
#[must_use]
pub fn is_ignored(signal: Signal) -> bool {
    ignores(signal as i32)
}

fn ignores(signal: i32) -> bool {
    // SAFETY: sigaction is plain data, for which all zeroes is a valid value.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: a null new action only asks; `action` is valid for writes. A number that is no signal
    // gives an error, which reads as "not ignored".
    let asked = unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// The side of [`fork`] that this process is.
#[derive(Debug)]
pub enum Fork {
    /// The process that the caller waits for.
    Parent(Child),
    /// The process that goes on in the background.
    Child(Parent),
}

/// The child, seen from the parent.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    word: File,
}

/// How the wait for the child ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The child said that it is ready.
    Ready,
    /// The child exited with this status.
    Exited(i32),
    /// The child was killed by this signal.
    Killed(nix::sys::signal::Signal),
}

impl Child {
    /// Blocks until the child is ready or gone.
    #[must_use]
    pub fn wait_until_ready(mut self) -> End {
        let mut byte = [0];
        if self.word.read_exact(&mut byte).is_ok() {
            return End::Ready;
        }
        loop {
            return match waitpid(self.pid, None) {
                Ok(WaitStatus::Exited(_, status)) => End::Exited(status),
                Ok(WaitStatus::Signaled(_, signal, _)) => End::Killed(signal),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(_) => End::Exited(0),
            };
        }
    }
}

/// The parent, seen from the child.
#[derive(Debug)]
pub struct Parent {
    word: File,
    null: File,
}

impl Parent {
    /// Lets go of the standard descriptors, then tells the parent that it may leave.
    pub fn tell_ready(mut self) {
        let null = self.null.as_fd();
        let redirected = dup2_stdin(null).and(dup2_stdout(null)).and(dup2_stderr(null));
        if let Err(err) = redirected {
            tracing::warn!("the standard descriptors stay open: {err}");
        }
        if let Err(err) = self.word.write_all(b"1") {
            // The parent was killed. The mount is as good without it.
            tracing::warn!("nobody waits for the mount any more: {err}");
        }
    }
}

/// Splits off a process in a session of its own, in the root directory. Of the caller's descriptors
/// it keeps the standard ones and those in `keep`.
///
/// It must be called before any thread is started, and before any file is opened that is not in
/// `keep`.
///
/// # Errors
/// EBUSY if there are threads already, else the errno of the call that failed.
pub fn fork(keep: &[RawFd]) -> Result<Fork> {
    if thread_count().is_some_and(|threads| threads != 1) {
        return Err(Error::new(crate::error::Errno::EBUSY, "fork in a process with threads"));
    }
    close_inherited(keep)?;
    // Opened here, where the caller can still be told of an error: without /dev/null the standard
    // descriptors could only be closed, and the next files to be opened would get their numbers.
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|err| Error::from(err).context("/dev/null"))?;
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: this process has one thread (checked above), so the child has no lock that another
    // thread held, and may go on as a whole program.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => {
            Ok(Fork::Parent(Child { pid: child, word: File::from(reader) }))
        }
        ForkResult::Child => {
            PARENT.store(getppid().as_raw(), Ordering::Relaxed);
            setsid()?;
            chdir("/")?;
            Ok(Fork::Child(Parent { word: File::from(writer), null }))
        }
    }
}

/// The number of the process that waits until this one is ready; 0 if this one was not split off.
static PARENT: AtomicI32 = AtomicI32::new(0);

/// Whether this process should end before it begins to serve: a signal that ends it is pending, as
/// it is blocked, or the process that waits for this one is gone.
#[must_use]
pub fn is_called_off() -> bool {
    let parent = PARENT.load(Ordering::Relaxed);
    if parent != 0 && getppid().as_raw() != parent {
        return true;
    }
    let ends = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
    pending().is_some_and(|pending| ends.into_iter().any(|signal| pending.contains(signal)))
}

/// The pending signals (sigpending(2)).
fn pending() -> Option<SigSet> {
    let mut set = mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: there is room for the set that the call writes.
    if unsafe { libc::sigpending(set.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: the call has written it.
    let set = unsafe { set.assume_init() };
    // SAFETY: a set that the kernel has filled.
    Some(unsafe { SigSet::from_sigset_t_unchecked(set) })
}

/// The number of threads of this process, if procfs tells.
fn thread_count() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

/// Closes all descriptors above stderr but `keep`. If a pipe of the caller stayed open here, its
/// reader would wait until the mount goes away.
fn close_inherited(keep: &[RawFd]) -> Result<()> {
    const FIRST: RawFd = libc::STDERR_FILENO + 1;
    let mut keep: Vec<RawFd> = keep.iter().copied().filter(|&fd| fd >= FIRST).collect();
    keep.sort_unstable();
    let mut first = FIRST;
    for &fd in keep.iter().chain([&RawFd::MAX]) {
        if first < fd {
            let last = if fd == RawFd::MAX { libc::c_uint::MAX } else { fd.cast_unsigned() - 1 };
            // SAFETY: closes descriptors only. None above stderr is owned by this process yet but
            // those to keep, as the caller of `fork` has promised.
            let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
            if closed != 0 {
                return match io::Error::last_os_error() {
                    // Before Linux 5.9, or hidden by a seccomp filter.
                    err if matches!(err.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                        close_each(FIRST, &keep)
                    }
                    err => Err(Error::from(err).context("close_range")),
                };
            }
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}

fn close_each(first: RawFd, keep: &[RawFd]) -> Result<()> {
    let entries = std::fs::read_dir("/proc/self/fd");
    let entries = entries.map_err(|err| Error::from(err).context("/proc/self/fd"))?;
    let open: Vec<RawFd> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd >= first && !keep.contains(fd))
        .collect();
    for fd in open {
        // SAFETY: as above. One of the numbers is that of the listed directory itself, which is
        // closed already: to close it again gives EBADF.
        unsafe { libc::close(fd) };
    }
    Ok(())
}
