//! Whether the owner that stat(2) shows of an object is its real owner.
//!
//! An owner that a user namespace lacks is shown as the overflow id, usually 65534
//! (user_namespaces(7)). Where the namespace has that id too (it is the user `nobody` on most
//! systems), stat(2) shows both alike. So a process in a namespace below ours is asked, the
//! witness: there that id is root and no other id is mapped, so that it sees root where the owner
//! is real. It is started when it is first needed, and ends when it has had nothing to do for a
//! while.
//!
//! # References
//! user_namespaces(7), "Unmapped user and group IDs"; unix(7), `SCM_RIGHTS`.

#![allow(unsafe_code)]

use std::fs;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::OFlag;
use nix::sys::socket::{self, AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, StatxFlags, statx};

use super::at;
use super::creds::{self, Owner};
use super::descriptors::{proc_text, with_room};
use super::name::Target;
use super::stat::{self, FileType, Stat};
use crate::error::{Errno, Error, Result};
use crate::id::Id;

/// An answer for the user and one for the group of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Each {
    /// For the user.
    pub uid: bool,
    /// For the group.
    pub gid: bool,
}

/// The overflow ids of this user namespace.
#[derive(Debug)]
pub struct Overflow {
    ids: Owner,
    /// Whether each of them is an id of this namespace.
    mapped: Each,
    witness: Mutex<Option<Witness>>,
}

impl Overflow {
    /// The overflow ids of this user namespace; `None` in the initial one, which lacks no id.
    #[must_use]
    pub fn of_this_namespace() -> Option<Self> {
        if creds::in_initial_user_namespace() {
            return None;
        }
        let ids = ids()?;
        let mapped = Each {
            uid: is_mapped("/proc/self/uid_map", ids.uid),
            gid: is_mapped("/proc/self/gid_map", ids.gid),
        };
        Some(Self { ids, mapped, witness: Mutex::new(None) })
    }

    /// Whether attributes show an overflow id.
    #[must_use]
    pub fn is_shown(&self, stat: &Stat) -> bool {
        let shown = self.shown(stat);
        shown.uid || shown.gid
    }

    fn shown(&self, stat: &Stat) -> Each {
        let Owner { uid, gid } = self.ids;
        Each { uid: stat.uid == uid.number(), gid: stat.gid == gid.number() }
    }

    /// Whether the namespace lacks the user and the group of an object with these attributes.
    ///
    /// # Errors
    /// Those of openat(2); EOVERFLOW if it cannot be told, as no further namespace can be made.
    pub fn lacks(&self, object: Target<'_>, stat: &Stat) -> Result<Each> {
        let shown = self.shown(stat);
        if !(shown.uid && self.mapped.uid || shown.gid && self.mapped.gid) {
            return Ok(shown);
        }
        let opened;
        let fd = match object {
            Target::Fd(fd) => fd,
            Target::At(dir, name) => {
                opened = at::open(dir, name, OFlag::O_PATH)?;
                opened.as_fd()
            }
        };
        let [uid, gid] = match self.ask(fd) {
            Err(_) if is_reached_by_capability(fd) => return Ok(Each::default()),
            Err(err) => {
                let text = "whether its owner is mapped into this user namespace cannot be told";
                return Err(Error::new(Errno::EOVERFLOW, format!("{text}: {err}")));
            }
            Ok(seen) => seen,
        };
        let is_root = |seen| seen == Id::ROOT.number();
        Ok(Each { uid: shown.uid && !is_root(uid), gid: shown.gid && !is_root(gid) })
    }

    /// The user and the group that the witness sees.
    fn ask(&self, object: BorrowedFd<'_>) -> Result<[u32; 2]> {
        let mut witness = self.witness.lock();
        if let Some(there) = &*witness
            && let Ok(seen) = there.ask(object)
        {
            return Ok(seen);
        }
        witness.insert(Witness::call(self.ids, self.mapped)?).ask(object)
    }
}

/// Whether we may read or write an object although its mode does not let us. Only a capability lets
/// us then, and it reaches only objects whose user and group are both in the namespace
/// (`capable_wrt_inode_uidgid`, kernel/capability.c): so both are real. If not, nothing is known.
fn is_reached_by_capability(object: BorrowedFd<'_>) -> bool {
    // The owner that the kernel sees, not one that an extended attribute may name.
    let Ok(stat) = stat::fstat(object) else { return false };
    let granted = match stat.uid == nix::unistd::geteuid().as_raw() {
        true => stat.mode >> 6,
        // We may be in the group, or in an entry of an ACL, which grants no more than the bits of
        // the group.
        false => stat.mode >> 3 | stat.mode,
    };
    let wanted =
        [libc::R_OK, libc::W_OK].into_iter().filter(|bit| granted & bit.cast_unsigned() == 0);
    // The mode of a symbolic link forbids nothing.
    stat.kind() != FileType::Symlink && wanted.into_iter().any(|bit| may_access(object, bit))
}

/// faccessat2(2) with the effective ids (Linux 5.8). `rustix` refuses `AT_EMPTY_PATH`.
fn may_access(object: BorrowedFd<'_>, mode: libc::c_int) -> bool {
    let flags = libc::AT_EACCESS | libc::AT_EMPTY_PATH;
    // SAFETY: the path is a NUL-terminated literal.
    let result = unsafe {
        libc::syscall(libc::SYS_faccessat2, object.as_raw_fd(), c"".as_ptr(), mode, flags)
    };
    result == 0
}

/// The ids that the kernel shows for an owner without one: a user namespace lacks its id, or a
/// mount does not map it.
#[must_use]
pub fn ids() -> Option<Owner> {
    let uid = number("/proc/sys/kernel/overflowuid")?;
    Some(Owner { uid, gid: number("/proc/sys/kernel/overflowgid")? })
}

/// The id in a file of procfs; without the file, the default of the kernel.
fn number(path: &str) -> Option<Id> {
    // DEFAULT_OVERFLOWUID, linux/highuid.h.
    const NOBODY: u32 = 65534;
    let text = proc_text(path).ok();
    Id::new(text.and_then(|text| text.trim().parse().ok()).unwrap_or(NOBODY))
}

/// Whether the map in a file of procfs has an id. Without procfs the answer is no.
fn is_mapped(path: &str, id: Id) -> bool {
    proc_text(path).is_ok_and(|map| maps(&map, id))
}

/// Whether a map has an id, in one of its lines `INSIDE OUTSIDE COUNT` (user_namespaces(7)).
fn maps(map: &str, id: Id) -> bool {
    map.lines().any(|line| {
        let mut words = line.split_ascii_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), _, Some(Ok(count))) = (words.next(), words.next(), words.next())
        else {
            return false;
        };
        (first..first.saturating_add(count)).contains(&id.number().into())
    })
}

/// A process to which one user and one group are root, and all others are not.
#[derive(Debug)]
struct Witness {
    socket: OwnedFd,
}

/// The time for which the witness waits for the next question, in milliseconds. It should not be
/// long: the memory that the witness shares with us is not given back while it lives.
const IDLE: i32 = 5000;

/// A message of the witness. The first one is the number of its process, or 0 and an errno. An
/// answer is a user, a group, and an errno or 0.
type Words<const N: usize> = [u32; N];

impl Witness {
    fn call(ids: Owner, mapped: Each) -> Result<Self> {
        let (kind, flags) = (SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
        let pair = || Ok(socket::socketpair(AddressFamily::Unix, kind, None, flags)?);
        let (ours, theirs) = with_room(pair)?;
        // SAFETY: the child, which has this thread alone, does system calls and nothing else.
        let child = unsafe { libc::fork() };
        match child {
            0 => begin(theirs.as_raw_fd()),
            1.. => drop(theirs),
            _ => return Err(Errno::last().into()),
        }
        // The child has left the witness to init or a subreaper, which waits for its end.
        waitpid(Pid::from_raw(child), None).ok();
        let witness = Self { socket: ours };
        let [pid, errno] = witness.hear()?;
        if pid == 0 {
            return Err(Errno::from_raw(errno.cast_signed()).into());
        }
        for (file, id, wanted) in [("uid", ids.uid, mapped.uid), ("gid", ids.gid, mapped.gid)] {
            if !wanted {
                continue;
            }
            // Without privilege a group may be mapped only where no process can drop groups.
            let write = |file: &str, text: &str| {
                with_room(|| Ok(fs::write(format!("/proc/{pid}/{file}"), text)?))
            };
            let denied = write("setgroups", "deny");
            if let Err(err) = write(&format!("{file}_map"), &format!("0 {id} 1")) {
                tracing::debug!(?denied, "{file} {id} cannot be told from others: {err}");
            }
        }
        Ok(witness)
    }

    fn ask(&self, object: BorrowedFd<'_>) -> Result<[u32; 2]> {
        let fds = [object.as_raw_fd()];
        let (data, control) = ([IoSlice::new(b"?")], [ControlMessage::ScmRights(&fds)]);
        let (socket, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
        socket::sendmsg::<()>(socket, &data, &control, flags, None)?;
        match self.hear()? {
            [uid, gid, 0] => Ok([uid, gid]),
            [.., errno] => Err(Errno::from_raw(errno.cast_signed()).into()),
        }
    }

    /// The next message of the witness.
    ///
    /// # Errors
    /// EIO if the witness is gone.
    fn hear<const N: usize>(&self) -> Result<Words<N>> {
        let mut words = [[0; size_of::<u32>()]; N];
        loop {
            let (to, socket) = (words.as_flattened_mut(), self.socket.as_raw_fd());
            match socket::recv(socket, to, MsgFlags::empty()) {
                Ok(len) if len == size_of_val(&words) => return Ok(words.map(u32::from_ne_bytes)),
                Ok(_) => return Err(Errno::EIO.into()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(err) => return Err(err.into()),
            }
        }
    }
}

/// Runs the child: it starts the witness and ends, so that no process of ours has to wait for the
/// witness.
fn begin(socket: RawFd) -> ! {
    // SAFETY: as in `Witness::call`.
    let witness = unsafe { libc::fork() };
    if witness == 0 {
        testify(socket);
    }
    if witness < 0 {
        say(socket, [0, last_errno()]);
    }
    // SAFETY: ends this process without running anything.
    unsafe { libc::_exit(0) }
}

/// Runs the witness: it tells the owner of each object that it is handed.
fn testify(socket: RawFd) -> ! {
    close_all_but(socket);
    let socket = 0;
    // Where it fails the old directory is kept.
    rustix::process::chdir(c"/").ok();
    // SAFETY: no memory is passed; this process has one thread.
    let alone = unsafe { libc::unshare(libc::CLONE_NEWUSER) } == 0;
    say(socket, if alone { [std::process::id(), 0] } else { [0, last_errno()] });
    while alone && answer_one(socket) {}
    // SAFETY: ends this process without running anything.
    unsafe { libc::_exit(0) }
}

/// Waits for one question and answers it; false if no question comes.
fn answer_one(socket: RawFd) -> bool {
    let mut ready = libc::pollfd { fd: socket, events: libc::POLLIN, revents: 0 };
    // SAFETY: `ready` is one entry.
    let found = unsafe { libc::poll(&raw mut ready, 1, IDLE) };
    let Some(object) = (found > 0).then(|| take(socket)).flatten() else { return false };
    say(socket, owner_of(object));
    // SAFETY: the descriptor came with the question, for us alone.
    unsafe { libc::close(object) };
    true
}

/// Closes all descriptors but one, which gets the number 0. The others hold locks, mounts and pipes
/// that somebody waits for.
fn close_all_but(kept: RawFd) {
    // Before Linux 5.9 the descriptors below this number are closed one by one. The witness may
    // keep some for the short time that it lives.
    const MANY: RawFd = 1 << 16;
    // SAFETY: nothing in this process uses the descriptors that are closed here and below.
    unsafe { libc::dup2(kept, 0) };
    // SAFETY: as above.
    if unsafe { libc::syscall(libc::SYS_close_range, 1, u32::MAX, 0) } != 0 {
        for fd in 1..MANY {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

/// The descriptor that comes with the next question; `None` if there is no more question.
fn take(socket: RawFd) -> Option<RawFd> {
    let (mut byte, mut control) = (0u8, [0u64; 4]);
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: msghdr is plain data, for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the message points to a buffer of one byte and one for control data, both alive.
    let received = unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    if received <= 0 {
        return None;
    }
    // SAFETY: the kernel has filled the message.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if header.is_null() {
        return None;
    }
    // SAFETY: our own side of the socket sends one descriptor with each byte and nothing else.
    Some(unsafe { libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned() })
}

fn owner_of(object: RawFd) -> Words<3> {
    // SAFETY: the descriptor is open: the caller closes it after this call.
    let object = unsafe { BorrowedFd::borrow_raw(object) };
    match statx(object, c"", AtFlags::EMPTY_PATH, StatxFlags::UID | StatxFlags::GID) {
        Ok(found) => [found.stx_uid, found.stx_gid, 0],
        Err(err) => [0, 0, err.raw_os_error().cast_unsigned()],
    }
}

fn say<const N: usize>(socket: RawFd, words: Words<N>) {
    let words = words.map(u32::to_ne_bytes);
    // Where this fails, the other side sees that the socket is closed.
    socket::send(socket, words.as_flattened(), MsgFlags::MSG_NOSIGNAL).ok();
}

fn last_errno() -> u32 {
    nix::errno::Errno::last_raw().cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_have_ids_or_not() {
        let map = "         0     100000      65534\n     70000     165534          2\n";
        let has = |id| maps(map, Id::new(id).unwrap());
        assert_eq!([0, 65533, 65534, 70_001, 70_002].map(has), [true, true, false, true, false]);
        assert!(!maps("", Id::ROOT) && !maps("0 0", Id::ROOT) && !maps("x y z", Id::ROOT));
        assert!(maps("0 0 4294967295", Id::new(u32::MAX - 1).unwrap()));
    }
}
