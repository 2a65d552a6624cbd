//! From results to answers. Errors and panics are logged.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Errno, Result};

/// The result of an operation, with the errno that the kernel gets.
pub type Answer<T> = std::result::Result<T, Errno>;

/// Runs an operation. A panic in it becomes EIO, and a line in the log.
pub fn guarded<T>(name: &'static str, act: impl FnOnce() -> Result<T>) -> Answer<T> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(err)) => {
            match err.errno() {
                // A disk or a layer failed, which belongs in the log.
                Errno::EIO | Errno::ESTALE => tracing::warn!("{name}: {err}"),
                _ => tracing::debug!("{name}: {err}"),
            }
            Err(err.errno())
        }
        Err(_) => {
            tracing::error!("{name}: a bug in ovlmerge; this request fails with EIO");
            Err(Errno::EIO)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_eio_and_no_more() {
        let answer = guarded("test", || -> Result<()> { panic!("a bug") });
        assert_eq!(answer, Err(Errno::EIO));
        assert_eq!(guarded("test", || Ok(7)), Ok(7), "and life goes on");
    }
}
