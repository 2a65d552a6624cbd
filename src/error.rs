//! The error type of the engine, with the errno that a program gets.
//!
//! An [`Error`] consists of an errno for the caller of the system call, and an optional boxed
//! context for people. ENOENT for a missing name is by far the commonest error. It has no context,
//! and so allocates nothing.

use std::fmt;
use std::io;

/// Result of an operation of the engine.
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
    /// Returns the errno of the system call that has just failed on this thread.
    #[must_use]
    pub fn last() -> Self {
        Self::from_raw(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }

    /// Converts a number. One that is not positive becomes EIO.
    #[must_use]
    pub fn from_raw(raw: i32) -> Self {
        if raw > 0 { Self(raw) } else { Self::EIO }
    }

    /// Whether any call may fail with this error for a while, whatever its arguments: memory or
    /// descriptors are short, or a disk does not answer.
    #[must_use]
    pub fn is_shortage(self) -> bool {
        [Self::EIO, Self::ENOMEM, Self::EMFILE, Self::ENFILE].contains(&self)
    }

    /// Whether a later try may succeed: after a shortage, or after an object was replaced.
    #[must_use]
    pub fn may_pass(self) -> bool {
        self.is_shortage() || self == Self::ESTALE
    }

    /// Returns the number, as in errno(3).
    #[must_use]
    pub fn raw(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Errno {
    /// Formats the name, as in errno(3).
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

/// A failed operation: an errno for the program, a context for people.
#[derive(Clone)]
pub struct Error {
    errno: Errno,
    /// The object that was read is malformed. That stays so, however often it is read.
    is_fact: bool,
    context: Option<Box<str>>,
}

impl Error {
    /// Returns the errno that the caller gets.
    #[must_use]
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// Adds a description of the failed operation and its object. The errno stays.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        let text = match self.context.take() {
            Some(inner) => format!("{what}: {inner}"),
            None => what.to_string(),
        };
        self.context = Some(text.into_boxed_str());
        self
    }

    /// Declares that an object that was read, such as a mark, is malformed. Only such an error may
    /// be remembered. After any other one the state of the object is unknown.
    #[must_use]
    pub fn fact(self) -> Self {
        Self { is_fact: true, ..self }
    }

    /// Whether the error says that an object is malformed.
    #[must_use]
    pub fn is_fact(&self) -> bool {
        self.is_fact
    }

    /// Creates an error with a context.
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

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Self {
        Errno::from_raw(errno.raw_os_error()).into()
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

/// Adds a context to the error of a [`Result`].
pub trait Context<T> {
    /// Adds what `what` returns to an error. `what` runs only if there is one.
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|err| err.context(what()))
    }
}

/// Logs the error of a step whose failure does not make the operation wrong. Returns the value of a
/// success.
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
