//! The one error type of the engine, and the one place where its errno comes from.
//!
//! An [`Error`] is two words: the errno that the caller of the system call will see, and an
//! optional boxed context for people. A missing name (ENOENT), by far the commonest error, carries
//! no context and allocates nothing.

use std::fmt;
use std::io;

/// What the engine returns.
pub type Result<T> = std::result::Result<T, Error>;

/// An errno of the running kernel, never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

macro_rules! errnos {
    ($($name:ident),* $(,)?) => {
        #[allow(missing_docs)] // the names are those of errno(3)
        impl Errno {
            $(pub const $name: Errno = Errno(libc::$name);)*

            fn name(self) -> Option<&'static str> {
                match self.0 {
                    $(libc::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos!(
    EPERM,
    ENOENT,
    EINTR,
    EIO,
    ENXIO,
    EBADF,
    EAGAIN,
    ENOMEM,
    EACCES,
    EBUSY,
    EEXIST,
    EXDEV,
    ENODEV,
    ENOTDIR,
    EISDIR,
    EINVAL,
    EMFILE,
    ENFILE,
    ENOTTY,
    ETXTBSY,
    EFBIG,
    ENOSPC,
    EROFS,
    EMLINK,
    ERANGE,
    ENAMETOOLONG,
    ENOTCONN,
    ECONNABORTED,
    ENOSYS,
    EPROTO,
    ENOTEMPTY,
    ELOOP,
    ENODATA,
    EOVERFLOW,
    EOPNOTSUPP,
    ESTALE,
    EDQUOT,
);

impl Errno {
    /// The errno of the system call that just failed on this thread.
    #[must_use]
    pub fn last() -> Self {
        Self::from_raw(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }

    /// An errno from its number; what is not one becomes EIO.
    #[must_use]
    pub fn from_raw(raw: i32) -> Self {
        if raw > 0 { Self(raw) } else { Self::EIO }
    }

    /// Whether any call may give it, whatever is asked of it, and the next time not: memory or
    /// descriptors are short, or a disk does not answer.
    #[must_use]
    pub fn is_shortage(self) -> bool {
        [Self::EIO, Self::ENOMEM, Self::EMFILE, Self::ENFILE].contains(&self)
    }

    /// Whether it may go again by itself: a shortage, or an object that is being replaced.
    #[must_use]
    pub fn may_pass(self) -> bool {
        self.is_shortage() || self == Self::ESTALE
    }

    /// The number, as errno(3) has it.
    #[must_use]
    pub fn raw(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Errno {
    /// Its name, as errno(3) has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

/// A failed operation: the errno for the program, the context for people.
#[derive(Clone)]
pub struct Error {
    errno: Errno,
    /// It says that the thing that was read makes no sense. That stays so, however often one looks.
    is_fact: bool,
    context: Option<Box<str>>,
}

impl Error {
    /// The errno that the caller gets.
    #[must_use]
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// Says what was being done to what. The errno stays as it is.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        let text = match self.context.take() {
            Some(inner) => format!("{what}: {inner}"),
            None => what.to_string(),
        };
        self.context = Some(text.into_boxed_str());
        self
    }

    /// Says that something which was read makes no sense, such as a mark. Any other error says that
    /// it could not be found out: nobody may remember one of those.
    #[must_use]
    pub fn fact(self) -> Self {
        Self { is_fact: true, ..self }
    }

    /// Whether it says that what is there makes no sense.
    #[must_use]
    pub fn is_fact(&self) -> bool {
        self.is_fact
    }

    /// An error with its context from the start.
    #[must_use]
    pub fn new(errno: Errno, what: impl fmt::Display) -> Self {
        Self::from(errno).context(what)
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self { errno, is_fact: false, context: None }
    }
}

impl From<nix::errno::Errno> for Error {
    fn from(errno: nix::errno::Errno) -> Self {
        Errno::from_raw(errno as i32).into()
    }
}

impl From<io::Error> for Error {
    fn from(err: io::Error) -> Self {
        match err.raw_os_error() {
            Some(raw) => Errno::from_raw(raw).into(),
            None => Self::new(Errno::EIO, err),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.context {
            Some(context) => write!(f, "{:?} ({context})", self.errno),
            None => self.errno.fmt(f),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from_raw_os_error(self.errno.raw());
        match &self.context {
            Some(context) => write!(f, "{context}: {text}"),
            None => text.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

/// Adds context to the error of a [`Result`], lazily.
pub trait Context<T> {
    /// Runs `what` only if there is an error to describe.
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|err| err.context(what()))
    }
}

/// Something after the fact that may fail without making the operation wrong: logged, never dropped
/// without a trace.
pub fn best_effort<T>(what: &str, result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(err) => {
            tracing::warn!("{what}: {err}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_keeps_the_errno() {
        let err = Error::from(Errno::ENOSPC).context("etc/passwd").context("copy-up");
        assert_eq!(err.errno(), Errno::ENOSPC);
        assert!(err.to_string().starts_with("copy-up: etc/passwd: "));
    }

    #[test]
    fn an_io_error_without_errno_is_eio() {
        assert_eq!(Error::from(io::Error::other("x")).errno(), Errno::EIO);
    }
}
