//! Where the copies in the upper say that they come from, and whether that is there.

use std::ffi::CStr;
use std::os::fd::AsFd;

use crate::error::{Errno, Result};
use crate::format::origin::{self, Value};
use crate::format::overlay::{Mark, Namespace};
use crate::format::protattr;
use crate::layer::LowerDir;
use crate::sys::handle::{self, Handle};
use crate::sys::{Protection, Stat, Target, stat, xattr};

/// What a copy carries besides what lookups go by.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// `P origin`, if it is not empty.
    pub origin: Option<Vec<u8>>,
    /// `P nlink` is there.
    pub counted: bool,
    /// `P protattr`.
    pub flags: Option<Vec<u8>>,
}

impl Marks {
    /// Those of an entry, of either namespace.
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

    /// Whether the flags can be read: the kernel and we pass over them otherwise.
    pub fn has_good_flags(&self) -> bool {
        self.flags.as_ref().is_none_or(|flags| protattr::parse(flags) != Protection::default())
    }
}

fn is_listed(list: &[u8], key: &CStr) -> bool {
    xattr::names(list).any(|name| name == key.to_bytes())
}

/// What an origin leads to.
#[derive(Debug)]
pub(super) enum Found {
    /// This file.
    File(Stat),
    /// Nothing that is there.
    Gone,
    /// It cannot be told here.
    Unknown,
    /// It is no handle.
    Malformed,
}

/// Looks for the object with this origin on the file systems of these layers. Whether it is also
/// below their roots is not asked, which would mean to go through them all.
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
            // Also what the file system says to handles of other kinds.
            Err(err) if matches!(err.errno(), Errno::ESTALE | Errno::EINVAL) => {}
            // Not for us, or no handles there.
            Err(_) => answer = Found::Unknown,
        }
    }
    Ok(answer)
}

/// Whether a value is a handle of the root of a layer; `None` if that cannot be told.
pub(super) fn is_of_root(value: &[u8], root: &LowerDir) -> Result<Option<bool>> {
    let Value::Handle { kind, bytes } = origin::read(value) else { return Ok(None) };
    let fd = root.dir().fd()?;
    let Some(own) = handle::of_open(fd.as_ref().as_fd())? else { return Ok(None) };
    Ok(Some(own.kind == kind && own.bytes == bytes))
}
