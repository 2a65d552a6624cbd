//! The forms of the marks of an upper, found out once, when it is mounted.

use std::fmt;

use crate::config::{Config, NamespaceChoice, WhiteoutChoice};
use crate::error::{Errno, Error, Result, best_effort};
use crate::format::overlay::{Mark, Namespace};
use crate::layer::work::Work;
use crate::sys::xattr::SetMode;
use crate::sys::{Name, Writable, at, creds, stat, xattr};

/// The form of whiteouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhiteoutForm {
    /// A character device 0:0 at the name, as in the kernel's overlayfs.
    Device,
    /// An empty file with a mark at the name, in a directory with the mark `opaque=x`, where no
    /// such device can be made (on another overlay). The kernel reads it in lower layers.
    Xattr,
    /// A file `.wh.NAME` beside the name, where there are no extended attributes either.
    Aufs,
}

/// The form of the mark of an opaque directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpaqueForm {
    /// `opaque=y` in this namespace.
    Xattr(Namespace),
    /// A file `.wh..wh..opq` in it, where there are no extended attributes.
    Aufs,
}

/// The one form that each mark has in an upper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forms {
    /// The form of whiteouts.
    pub whiteout: WhiteoutForm,
    /// The form of the mark of opaque directories.
    pub opaque: OpaqueForm,
    /// The namespace of all other marks; `None` where there are no extended attributes.
    pub namespace: Option<Namespace>,
}

impl fmt::Display for Forms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whiteout = match self.whiteout {
            WhiteoutForm::Device => "character devices 0:0",
            WhiteoutForm::Xattr => "empty files with an attribute",
            WhiteoutForm::Aufs => "files .wh.NAME",
        };
        let opaque = match self.opaque {
            OpaqueForm::Xattr(_) => "an attribute",
            OpaqueForm::Aufs => "files .wh..wh..opq",
        };
        write!(f, "whiteouts are {whiteout}, opaque directories have {opaque}, attributes ")?;
        match self.namespace {
            Some(Namespace::Trusted) => f.write_str("are trusted.overlay.*"),
            Some(Namespace::User) => f.write_str("are user.overlay.*"),
            None => f.write_str("cannot be kept"),
        }
    }
}

impl Forms {
    /// Finds out the forms that the upper can hold, within what was asked for.
    ///
    /// # Errors
    /// EOPNOTSUPP if the upper cannot hold what was asked for, with advice.
    pub(super) fn probe(work: &Work, config: &Config) -> Result<Self> {
        let namespace = probe_namespace(work, config.namespace)?;
        let devices = takes_devices(work)?;
        let whiteout = match (config.whiteout, devices, namespace) {
            (WhiteoutChoice::Auto | WhiteoutChoice::Device, true, _) => WhiteoutForm::Device,
            (WhiteoutChoice::Auto | WhiteoutChoice::Xattr, _, Some(_)) => WhiteoutForm::Xattr,
            (WhiteoutChoice::Auto, false, None) | (WhiteoutChoice::Aufs, ..) => WhiteoutForm::Aufs,
            (WhiteoutChoice::Device, false, _) => {
                return Err(cannot(
                    "whiteout=char: no device 0:0 can be made in it",
                    false,
                    namespace,
                ));
            }
            (WhiteoutChoice::Xattr, _, None) => {
                return Err(cannot(
                    "whiteout=xattr: it takes no extended attributes",
                    devices,
                    None,
                ));
            }
        };
        let opaque = match namespace {
            Some(namespace) if config.whiteout != WhiteoutChoice::Aufs => {
                OpaqueForm::Xattr(namespace)
            }
            _ => OpaqueForm::Aufs,
        };
        Ok(Self { whiteout, opaque, namespace })
    }
}

/// A refusal that says which other values of `whiteout` the upper can hold.
fn cannot(what: &str, devices: bool, namespace: Option<Namespace>) -> Error {
    let works = match (devices, namespace) {
        (true, _) => "whiteout=char or whiteout=aufs",
        (false, Some(_)) => "whiteout=xattr or whiteout=aufs",
        (false, None) => "whiteout=aufs",
    };
    Error::new(
        Errno::EOPNOTSUPP,
        format!("{what}; leave the option out, give {works}, or use another file system"),
    )
}

/// Mode of a whiteout device (`WHITEOUT_MODE`, linux/fs.h).
pub(super) const WHITEOUT_MODE: u32 = libc::S_IFCHR;

/// Permission bits of a whiteout that is a file: without `w` its owner cannot mark it (xattr(7)).
pub(super) const WHITEOUT_FILE: u32 = 0o600;

/// Marks a directory as one whose empty files may be whiteouts. An opaque one stays opaque: nothing
/// below it shows, so it needs no whiteouts.
pub(super) fn mark_xattr_whiteouts(dir: Writable<'_>, namespace: Namespace) -> Result<()> {
    match xattr::set(dir, namespace.key(Mark::Opaque), b"x", SetMode::Create) {
        Err(err) if err.errno() == Errno::EEXIST => Ok(()),
        other => other,
    }
}

/// Whether the file system takes a character device 0:0 from us.
fn takes_devices(work: &Work) -> Result<bool> {
    let temp = work.fresh_name();
    let name = Name::new(temp.as_bytes())?;
    match at::mknod(work.fd(), name, WHITEOUT_MODE, 0) {
        Ok(()) => {
            // The object has to be a device: a file system may make something else.
            let back = stat::stat_if_exists(work.fd().entry(name).target())?;
            work.discard(&temp)?;
            Ok(back.is_some_and(|stat| stat.is_whiteout_device()))
        }
        Err(err) if matches!(err.errno(), Errno::EROFS | Errno::ENOSPC | Errno::EDQUOT) => Err(err),
        Err(_) => Ok(false),
    }
}

/// The namespace that we may and can write to.
fn probe_namespace(work: &Work, choice: NamespaceChoice) -> Result<Option<Namespace>> {
    let candidates: &[Namespace] = match choice {
        NamespaceChoice::Trusted => &[Namespace::Trusted],
        NamespaceChoice::User => &[Namespace::User],
        NamespaceChoice::Auto if creds::may_trust()? => &[Namespace::Trusted, Namespace::User],
        NamespaceChoice::Auto => &[Namespace::User],
    };
    let temp = work.fresh_name();
    let name = Name::new(temp.as_bytes())?;
    at::mkdir(work.fd(), name, 0o700)?;
    let target = work.fd().entry(name);
    let mut found = None;
    for namespace in candidates {
        let key = namespace.key(Mark::Opaque);
        match xattr::set(target, key, b"y", SetMode::Any) {
            // A file system may take the attribute and hide it (fuse-overlayfs).
            Ok(()) if xattr::get_if_set(target.target(), key)?.as_deref() == Some(b"y") => {
                found = Some(*namespace);
                break;
            }
            Ok(()) => {}
            Err(err) if err.errno() == Errno::EPERM || xattr::is_absent(&err) => {}
            // A full disk says nothing about what it could hold.
            Err(err) => {
                best_effort("a probe stays in work until the next mount", work.discard(&temp));
                return Err(err.context("upperdir does not take an extended attribute"));
            }
        }
    }
    work.discard(&temp)?;
    let refused = match (found, choice) {
        (Some(_), _) | (None, NamespaceChoice::Auto) => return Ok(found),
        (None, NamespaceChoice::Trusted) => {
            "xattr=trusted: it takes no attributes trusted.overlay.* from us, which takes root and \
             a file system that has them; leave xattr= out, or give xattr=user"
        }
        (None, NamespaceChoice::User) => {
            "xattr=user: it takes no attributes user.overlay.*; leave xattr= out, or use another \
             file system"
        }
    };
    Err(Error::new(Errno::EOPNOTSUPP, refused))
}
