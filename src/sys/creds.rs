//! The ids of this process, and what it may do.

#![allow(unsafe_code)]

use rustix::thread::{CapabilitySet, capabilities};

use super::descriptors::proc_text;
use crate::error::Result;
use crate::id::Id;

/// Bit of CAP_DAC_OVERRIDE in linux/capability.h.
pub const CAP_DAC_OVERRIDE: u32 = 1;
/// Bit of CAP_SYS_ADMIN in linux/capability.h.
pub const CAP_SYS_ADMIN: u32 = 21;

/// A user and a group: the effective ones of this process, or those that own an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: Id,
    /// Group.
    pub gid: Id,
}

/// The ids that this process creates files with.
#[must_use]
pub fn effective() -> Owner {
    // The answer of geteuid(2) is always an id: the overflow id for a user that is not mapped.
    let id = |number| Id::new(number).unwrap_or(Id::ROOT);
    Owner { uid: id(nix::unistd::geteuid().as_raw()), gid: id(nix::unistd::getegid().as_raw()) }
}

/// Whether this thread has the capability in its own user namespace (capget(2)).
pub fn has_capability(bit: u32) -> Result<bool> {
    let own = capabilities(None)?.effective;
    Ok(own.contains(CapabilitySet::from_bits_retain(1 << bit)))
}

/// Whether this process is in the initial user namespace, whose map is the identity over all ids
/// (user_namespaces(7)). Without procfs the answer is no, which is the safe one.
#[must_use]
pub fn in_initial_user_namespace() -> bool {
    let Ok(map) = proc_text("/proc/self/uid_map") else { return false };
    let mut words = map.split_ascii_whitespace();
    words.next() == Some("0") && words.next() == Some("0") && words.next() == Some("4294967295")
}

/// Whether this process may set attributes of the `trusted.` namespace, and see them (xattr(7)).
///
/// # Errors
/// Those of capget(2).
pub fn may_trust() -> Result<bool> {
    Ok(in_initial_user_namespace() && has_capability(CAP_SYS_ADMIN)?)
}

/// The groups of the process `pid`, which made a request: `gid` and the supplementary groups.
/// Without procfs, or where the groups cannot be seen, only `gid`.
#[must_use]
pub fn groups_of(pid: u32, gid: u32) -> Vec<u32> {
    let status = proc_text(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    line.split_ascii_whitespace().filter_map(|id| id.parse().ok()).chain([gid]).collect()
}

/// The supplementary groups of this process.
#[must_use]
pub fn own_groups() -> Vec<u32> {
    let groups = nix::unistd::getgroups().unwrap_or_default();
    groups.into_iter().map(nix::unistd::Gid::as_raw).collect()
}

/// Lifts the limit on the size of files that was inherited, as far as we may. Where a limit is
/// left, a write beyond it fails with EFBIG alone: the signal that the kernel sends too (SIGXFSZ,
/// setrlimit(2)) would end the server, and is ignored.
pub fn lift_file_size() -> Result<()> {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
    // SAFETY: ignoring a signal runs no code of ours.
    if unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(crate::error::Errno::last().into());
    }
    if setrlimit(Resource::RLIMIT_FSIZE, RLIM_INFINITY, RLIM_INFINITY).is_err() {
        let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE)?;
        setrlimit(Resource::RLIMIT_FSIZE, hard, hard)?;
    }
    Ok(())
}

/// Raises the soft limit of open files to the hard one and returns it.
pub fn raise_open_files() -> Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
