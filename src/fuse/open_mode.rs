//! Whether the kernel reports that files are opened, and what for.

use crate::config::{CopyUpBy, Io};
use crate::error::Result;
use crate::sys::creds;

/// Whether the kernel reports that files are opened, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Never: OPEN is answered ENOSYS once. For a server that can open any file at any time.
    NotAsked,
    /// Each time: a file that is opened to write is copied up then.
    Asked,
    /// Each time: our descriptor stays open as long as the file is open.
    Pinned,
    /// Each time: the answer names the file that the kernel may read and write by itself. Like
    /// `NotAsked` or `Asked` if the kernel cannot do that.
    PassedThrough,
}

impl OpenMode {
    /// Chooses the mode by the options and the rights of this process.
    ///
    /// # Errors
    /// Those of capget(2).
    pub fn choose(io: Io, copy_up: CopyUpBy) -> Result<Self> {
        // A process that may override permissions can open any file again at any time, so the
        // kernel need not report opens.
        let opens_any = creds::has_capability(creds::CAP_DAC_OVERRIDE)?;
        let admin = creds::has_capability(creds::CAP_SYS_ADMIN)?;
        let may_pass_through = opens_any && admin && creds::in_initial_user_namespace();
        if io == Io::Passthrough && !may_pass_through {
            tracing::warn!(
                "io=passthrough has no effect: it takes CAP_SYS_ADMIN in the initial user \
                 namespace; run as root or leave it out"
            );
        }
        Ok(match (opens_any, io) {
            (true, Io::Passthrough) if may_pass_through => Self::PassedThrough,
            (true, _) => Self::without_passthrough(copy_up),
            (false, _) => Self::Pinned,
        })
    }

    /// The mode of a server that can open any file.
    pub fn without_passthrough(copy_up: CopyUpBy) -> Self {
        match copy_up {
            CopyUpBy::Write => Self::NotAsked,
            CopyUpBy::Open => Self::Asked,
        }
    }
}
