//! How the kernel tells of files being opened.

use crate::config::{CopyUpBy, Io};
use crate::error::Result;
use crate::sys::creds;

/// How the kernel tells of files being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Not at all: OPEN is answered ENOSYS once. For a server that can open any file at any time.
    NotAsked,
    /// Each time: what is opened to write is copied up then.
    Asked,
    /// Each time: the descriptor stays open as long as the file is.
    Pinned,
    /// Each time, for the answer says which file the kernel may read and write by itself. As
    /// `NotAsked` if the kernel cannot.
    PassedThrough,
}

impl OpenMode {
    /// The mode for what was asked for, by what this process may do.
    ///
    /// # Errors
    /// Those of capget(2).
    pub fn choose(io: Io, copy_up: CopyUpBy) -> Result<Self> {
        // Who may override permissions can open any file again at any time, so the kernel need not
        // tell us when files are opened.
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

    /// For a server that can open any file.
    pub fn without_passthrough(copy_up: CopyUpBy) -> Self {
        match copy_up {
            CopyUpBy::Write => Self::NotAsked,
            CopyUpBy::Open => Self::Asked,
        }
    }
}
