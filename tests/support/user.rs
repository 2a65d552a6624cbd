//! Doing things as another user, or with another umask, beside tests that do not.
//!
//! Linux keeps credentials per thread, and the umask too once the thread has left its sharing with
//! the others, so a thread of its own is enough.

use super::raw;

/// The user and the group that own nothing.
pub const NOBODY: u32 = 65534;

/// Runs `work` as the user `uid` with the group `gid` and no other group.
pub fn as_user<T: Send>(uid: u32, gid: u32, work: impl FnOnce() -> T + Send) -> T {
    in_thread(move || {
        raw::become_user(uid, gid, &[]);
        work()
    })
}

/// Runs `work` as `uid` with the group `gid` and further groups.
pub fn as_member<T: Send>(
    uid: u32,
    gid: u32,
    groups: &[u32],
    work: impl FnOnce() -> T + Send,
) -> T {
    in_thread(move || {
        raw::become_user(uid, gid, groups);
        work()
    })
}

/// Runs `work` under `umask`.
pub fn with_umask<T: Send>(umask: u32, work: impl FnOnce() -> T + Send) -> T {
    in_thread(move || {
        raw::own_umask(umask);
        work()
    })
}

fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
