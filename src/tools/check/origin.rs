//! Reads the origins of copies in the upper, and finds the objects that they name.

use std::ffi::CStr;
use std::os::fd::AsFd;

use crate::error::{Errno, Result};
use crate::format::origin::{self, Value};
use crate::format::overlay::{Mark, Namespace};
use crate::format::protattr;
use crate::layer::LowerDir;
use crate::sys::handle::{self, Handle};
use crate::sys::{Protection, Stat, Target, stat, xattr};

/// Marks of a copy that lookups do not use.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Value of `P origin`, unless it is empty.
    pub origin: Option<Vec<u8>>,
    /// Whether `P nlink` is set.
    pub counted: bool,
    /// Value of `P protattr`.
    pub flags: Option<Vec<u8>>,
}

impl Marks {
    /// Reads the marks of an object, from either namespace.
    pub fn read(target: Target<'_>) -> Result<Self> {
        let list = xattr::list(target)?;
        let mut marks = Self::default();
        let value = |mark| -> Result<Option<Vec<u8>>> {
            for key in Namespace::BOTH.map(|namespace| namespace.key(mark)) {
                if is_listed(&list, key)
                    && let Some(value) = xattr::get_if_set(target, key)?
                {
                    return Ok(Some(value));
                }
            }
            Ok(None)
        };
        marks.origin = value(Mark::Origin)?.filter(|value| !value.is_empty());
        marks.counted = value(Mark::Nlink)?.is_some();
        marks.flags = value(Mark::Protattr)?;
        Ok(marks)
    }

    /// Whether the flags can be read. If not, both the kernel and ovlmerge ignore them.
    pub fn has_good_flags(&self) -> bool {
        self.flags.as_ref().is_none_or(|flags| protattr::parse(flags) != Protection::default())
    }
}

fn is_listed(list: &[u8], key: &CStr) -> bool {
    xattr::names(list).any(|name| name == key.to_bytes())
}

/// Result of looking for an origin.
#[derive(Debug)]
pub(super) enum Found {
    /// The origin is this file.
    File(Stat),
    /// The object does not exist.
    Gone,
    /// It is not known whether the object exists.
    Unknown,
    /// The value is not a file handle.
    Malformed,
}

/// Looks for the object with this origin on the file systems of the layers. It need not be below
/// their roots, as it would take a search of all layers to check that.
///
/// # Errors
/// Those of the layers.
pub(super) fn find(roots: &[LowerDir], value: &[u8]) -> Result<Found> {
    let (kind, bytes) = match origin::read(value) {
        Value::Handle { kind, bytes } => (kind, bytes.to_vec()),
        Value::Unknown => return Ok(Found::Unknown),
        Value::Malformed => return Ok(Found::Malformed),
    };
    let handle = Handle { kind, bytes };
    let mut answer = Found::Gone;
    let mut seen = Vec::new();
    for root in roots {
        let dev = root.dir().dev()?;
        if seen.contains(&dev) {
            continue;
        }
        seen.push(dev);
        let mount = root.dir().fd()?;
        match handle::open(mount.as_ref().as_fd(), &handle) {
            Ok(file) => return Ok(Found::File(stat::fstat(file.as_fd())?)),
            // A file system also returns these errors for handles of another type.
            Err(err) if matches!(err.errno(), Errno::ESTALE | Errno::EINVAL) => {}
            // We may not open handles, or the file system has none.
            Err(_) => answer = Found::Unknown,
        }
    }
    Ok(answer)
}

/// Whether a value is a handle of the root of a layer; `None` if that is not known.
pub(super) fn is_of_root(value: &[u8], root: &LowerDir) -> Result<Option<bool>> {
    let Value::Handle { kind, bytes } = origin::read(value) else { return Ok(None) };
    let fd = root.dir().fd()?;
    let Some(own) = handle::of_open(fd.as_ref().as_fd())? else { return Ok(None) };
    Ok(Some(own.kind == kind && own.bytes == bytes))
}
