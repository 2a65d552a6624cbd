//! Turns what libc returns into a [`Result`].

use crate::error::{Errno, Result};

/// Turns the result of a libc call into ours.
pub(super) fn check(result: libc::c_int) -> Result<libc::c_int> {
    if result < 0 { Err(Errno::last().into()) } else { Ok(result) }
}

/// Turns the result of a raw call into ours.
pub(super) fn check_sys(result: libc::c_long) -> Result<()> {
    if result < 0 { Err(Errno::last().into()) } else { Ok(()) }
}

/// Turns the result of a raw call that returns a length into ours.
pub(super) fn check_sys_len(result: libc::c_long) -> Result<usize> {
    usize::try_from(result).map_err(|_| Errno::last().into())
}
