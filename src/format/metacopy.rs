//! Marks on files, above all `P metacopy`: the data of the file is in a layer below.
//!
//! The value of `P metacopy` is empty, or a header of four bytes (version 0, length, flags, digest
//! algorithm) followed by a digest of the data (`struct ovl_metacopy`, fs/overlayfs/overlayfs.h).

use std::ffi::CStr;

use super::nlink::Count;
use super::origin::{self, Origin};
use super::overlay::{Mark, Namespace};
use super::redirect::Redirect;
use crate::error::{Errno, Error, Result};

/// The marks of one non-directory of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileMarks {
    /// The file has metadata only; its data is in a layer below.
    pub metacopy: bool,
    /// Name or path of the data in the layers below, if it differs from that of the file.
    pub redirect: Option<Redirect>,
    /// The lower file from which the file was copied.
    pub origin: Option<Origin>,
    /// Value of `P origin`; empty if the file does not have the mark.
    pub handle: Vec<u8>,
    /// Value of `P nlink`: number of names in the mount, if the file is in the index of hard links.
    pub count: Option<Count>,
    /// The file has no extended attributes at all.
    pub no_attributes: bool,
}

impl FileMarks {
    /// Reads the marks, given the attribute names of a file; `value` fetches one value.
    ///
    /// # Errors
    /// The errors of `value`; EIO for a malformed metacopy mark, EINVAL for a malformed redirect.
    pub fn read<'a>(
        names: impl Iterator<Item = &'a [u8]>,
        mut value: impl FnMut(&'static CStr) -> Result<Vec<u8>>,
    ) -> Result<Self> {
        let mut marks = Self { no_attributes: true, ..Self::default() };
        let mut redirect = None;
        for name in names {
            marks.no_attributes = false;
            for namespace in Namespace::BOTH {
                let key = namespace.key(Mark::Metacopy);
                if key.to_bytes() == name {
                    check(&value(key)?)?;
                    marks.metacopy = true;
                }
                let key = namespace.key(Mark::Origin);
                if key.to_bytes() == name {
                    marks.handle = value(key)?;
                    marks.origin = origin::decode(&marks.handle);
                }
                let key = namespace.key(Mark::Nlink);
                if key.to_bytes() == name {
                    marks.count = Count::parse(&value(key)?);
                }
                let key = namespace.key(Mark::Redirect);
                if key.to_bytes() == name {
                    redirect = Some(value(key)?);
                }
            }
        }
        // The kernel ignores the mark on other files (ovl_lookup_single, fs/overlayfs/namei.c).
        if marks.metacopy {
            marks.redirect = redirect.map(|value| Redirect::parse(&value)).transpose()?;
        }
        Ok(marks)
    }
}

/// Length of the header, in bytes.
const HEADER: usize = 4;

/// Checks the form of `P metacopy`. The digest is not used.
///
/// # Errors
/// EIO for any other form, as in the kernel.
fn check(value: &[u8]) -> Result<()> {
    let well_formed = match value {
        [] => true,
        [0, len, 0, _, ..] => value.len() >= HEADER && usize::from(*len) == value.len(),
        _ => false,
    };
    if well_formed {
        return Ok(());
    }
    let text = format!("metacopy mark of unknown form ({} bytes)", value.len());
    Err(Error::new(Errno::EIO, text).fact())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        check(b"").unwrap();
        check(&[0, 4, 0, 0]).unwrap();
        check(&[[0, 36, 0, 1].as_slice(), &[7; 32]].concat()).unwrap();
        for bad in [&[0u8][..], &[0, 4], &[0, 4, 0], &[1, 4, 0, 0], &[0, 9, 0, 0], &[0, 4, 1, 0]] {
            assert_eq!(check(bad).unwrap_err().errno(), Errno::EIO, "{bad:?}");
        }
    }
}
