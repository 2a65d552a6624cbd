//! Extended attributes as users of the mount see them.
//!
//! Marks of an overlay are hidden, in both namespaces. The marks that an inner overlay sets are
//! escaped (see [`crate::format::overlay`]).

use std::ffi::CString;

use crate::error::{Errno, Error, Result};
use crate::format::acl;
use crate::format::overlay::{self, Dialect};
use crate::sys::xattr::{self as sys, SetMode};
use crate::sys::{Target, Writable};

/// The stored form of a name that users see. A hidden name gives the error `otherwise`.
fn stored(name: &[u8], dialect: Dialect, otherwise: Errno) -> Result<CString> {
    let stored = overlay::stored(name, dialect).ok_or(otherwise)?;
    if stored.len() > sys::NAME_MAX {
        // As getxattr(2) for names that are too long.
        return Err(Errno::ERANGE.into());
    }
    CString::new(stored.into_owned()).map_err(|_| Errno::EINVAL.into())
}

/// Reads one value.
///
/// # Errors
/// ENODATA also for a hidden attribute.
pub fn get(target: Target<'_>, dialect: Dialect, name: &[u8]) -> Result<Vec<u8>> {
    let found = match sys::get(target, &stored(name, dialect, Errno::ENODATA)?) {
        Err(err) if sys::is_absent(&err) && overlay::has_two_places(name, dialect) => {
            sys::get(target, &stored(name, Dialect::Plain, Errno::ENODATA)?)
        }
        other => other,
    };
    found.map(|value| of_known_ids(name, value))
}

/// Removes the entries of an ACL whose ids have no number here. Other values stay as they are.
fn of_known_ids(name: &[u8], value: Vec<u8>) -> Vec<u8> {
    match overlay::is_acl(name) {
        true => acl::of_known_ids(&value).unwrap_or(value),
        false => value,
    }
}

/// Sets one value.
///
/// # Errors
/// EPERM for a hidden name without an escaped form; EOPNOTSUPP for an ACL where modes are not those
/// of inodes.
pub fn set(
    object: Writable<'_>,
    dialect: Dialect,
    name: &[u8],
    value: &[u8],
    mode: SetMode,
) -> Result<()> {
    let refused = if overlay::is_acl(name) { Errno::EOPNOTSUPP } else { Errno::EPERM };
    sys::set(object, &stored(name, dialect, refused)?, value, mode)
}

/// Removes one value, wherever it is stored.
pub fn remove(object: Writable<'_>, dialect: Dialect, name: &[u8]) -> Result<()> {
    let own = stored(name, dialect, Errno::ENODATA)?;
    if !overlay::has_two_places(name, dialect) {
        return sys::remove(object, &own);
    }
    let real = stored(name, Dialect::Plain, Errno::ENODATA)?;
    if sys::get_if_set(object.target(), &real)?.is_none() {
        return sys::remove(object, &own);
    }
    match sys::remove(object, &own) {
        Err(err) if !sys::is_absent(&err) => Err(err),
        _ => sys::remove(object, &real),
    }
}

/// Lists the visible names, each terminated by NUL.
pub fn list(target: Target<'_>, dialect: Dialect) -> Result<Vec<u8>> {
    let all = sys::list(target)?;
    let mut out = Vec::with_capacity(all.len());
    let visible = |name| !overlay::stands_back(name, dialect, sys::names(&all));
    let names = sys::names(&all).filter(|name| visible(name));
    for name in names.filter_map(|name| overlay::shown(name, dialect)) {
        out.extend_from_slice(&name);
        out.push(0);
    }
    Ok(out)
}

/// An object, with the dialect in which its attributes are stored.
type Stored<'a> = (Target<'a>, Dialect);

/// An object that may be changed, with the dialect in which its attributes are stored.
type StoredInUpper<'a> = (Writable<'a>, Dialect);

/// Gives `to` the visible attributes of `from`, and removes all others that are visible.
///
/// # Errors
/// As for [`copy`].
pub fn replace(from: Stored<'_>, to: StoredInUpper<'_>) -> Result<()> {
    let wanted = list(from.0, from.1)?;
    let there = list(to.0.target(), to.1)?;
    for name in sys::names(&there) {
        if sys::names(&wanted).any(|wanted| wanted == name) {
            continue;
        }
        match remove(to.0, to.1, name) {
            Err(err) if sys::is_absent(&err) => {}
            other => other?,
        }
    }
    copy(from, to).map(drop)
}

/// Copies all visible attributes, ACLs included, from one object to another. Returns whether an
/// attribute of the `system.` namespace (an ACL) may have changed the mode of `to`.
///
/// # Errors
/// Those of the calls. An attribute that `to` cannot hold is no error unless it is an ACL or a file
/// capability: it is left out, as in the kernel's overlayfs.
pub fn copy(from: Stored<'_>, to: StoredInUpper<'_>) -> Result<bool> {
    let all = sys::list(from.0)?;
    let mut any_acl = false;
    // ACLs come last: they decide whether the rest may be set.
    let is_last = |stored: &&[u8]| stored.starts_with(b"system.");
    let first = sys::names(&all).filter(|stored| !is_last(stored));
    for stored in first.chain(sys::names(&all).filter(is_last)) {
        if overlay::stands_back(stored, from.1, sys::names(&all)) {
            continue;
        }
        let Some(name) = overlay::shown(stored, from.1) else { continue };
        let key = CString::new(stored).map_err(|_| Errno::EIO)?;
        let value = match sys::get(from.0, &key) {
            Ok(value) => of_known_ids(&name, value),
            // EOVERFLOW: a capability for ids that do not exist here (fs/xattr.c).
            Err(err) if sys::is_absent(&err) || err.errno() == Errno::EOVERFLOW => continue,
            Err(err) => return Err(err),
        };
        any_acl |= name.starts_with(b"system.");
        match set(to.0, to.1, &name, &value, SetMode::Any) {
            Err(err) if may_be_left_out(&name, &err) => {
                tracing::debug!("copy-up leaves out {}: {err}", name.escape_ascii());
            }
            other => other?,
        }
    }
    Ok(any_acl)
}

fn may_be_left_out(name: &[u8], err: &Error) -> bool {
    let decides_access = overlay::is_acl(name) || name == b"security.capability";
    match err.errno() {
        Errno::EOPNOTSUPP => !decides_access,
        // Only the host may set labels of a security module (security/commoncap.c).
        Errno::EPERM => name.starts_with(b"security.") && !decides_access,
        _ => false,
    }
}
