//! Records of extended headers, for one entry or for all that follow.

use std::collections::BTreeMap;

use super::entry::Attributes;
use super::{XATTR, pax};
use crate::error::{Errno, Error, Result};

/// Limit of the size of [`Records`], in bytes; archive/tar of Go has it for one header.
pub(super) const LONGEST: u64 = 1 << 20;

/// Records by key. One with an empty value takes back an earlier one (pax(1)).
#[derive(Debug, Default)]
pub(super) struct Records {
    all: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Number of bytes of all keys and values.
    len: usize,
}

impl Records {
    /// Adds the records of an extended header.
    ///
    /// # Errors
    /// EINVAL for a malformed header, for records of sparse files, and beyond [`LONGEST`].
    pub fn add(&mut self, header: &[u8]) -> Result<()> {
        for record in pax::records(header) {
            let (key, value) = record?;
            if key.starts_with(b"GNU.sparse.") {
                let text = "not a layer: a sparse entry; write the archive without --sparse";
                return Err(Error::new(Errno::EINVAL, text));
            }
            self.set(key, value);
        }
        if self.len as u64 > LONGEST {
            let text = format!("not a layer: extended headers of {} bytes for one entry", self.len);
            return Err(Error::new(Errno::EINVAL, text));
        }
        Ok(())
    }

    /// Adds one record.
    pub fn set(&mut self, key: &[u8], value: &[u8]) {
        self.len += key.len() + value.len();
        if let Some(before) = self.all.insert(key.to_vec(), value.to_vec()) {
            self.len -= key.len() + before.len();
        }
    }

    /// Returns the value of `key`, here or else in `others`.
    pub fn get<'a>(&'a self, key: &str, others: &'a Self) -> Option<&'a [u8]> {
        let found = self.all.get(key.as_bytes()).or_else(|| others.all.get(key.as_bytes()));
        found.map(Vec::as_slice).filter(|value| !value.is_empty())
    }

    /// Returns the attributes, here and in `others`. An attribute may have an empty value.
    pub fn xattrs(&self, others: &Self) -> Attributes {
        let of = |records: &Self| {
            let behind = records.all.range(XATTR.as_bytes().to_vec()..);
            let named = behind.map_while(|(key, value)| {
                Some((key.strip_prefix(XATTR.as_bytes())?.to_vec(), value.clone()))
            });
            named.collect::<Attributes>()
        };
        let mut found = of(others);
        found.append(&mut of(self));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(said: &[(&str, &str)]) -> Records {
        let mut records = Records::default();
        for (key, value) in said {
            let mut header = Vec::new();
            pax::push(&mut header, key.as_bytes(), value.as_bytes()).unwrap();
            records.add(&header).unwrap();
        }
        records
    }

    #[test]
    fn what_is_said_of_one_entry_comes_before_what_is_said_of_all() {
        let all = records(&[("uid", "1"), ("gid", "2"), ("SCHILY.xattr.user.a", "of all")]);
        let own = records(&[
            ("gid", ""),
            ("size", "3"),
            ("SCHILY.xattr.user.a", ""),
            ("SCHILY.xattr.user.b", "own"),
        ]);
        let got = ["uid", "gid", "size", "path"].map(|key| own.get(key, &all));
        assert_eq!(got, [Some(&b"1"[..]), None, Some(b"3"), None]);
        let xattrs: Vec<_> = own.xattrs(&all).into_iter().collect();
        let wanted = [(&b"user.a"[..], &b""[..]), (b"user.b", b"own")];
        assert_eq!(xattrs, wanted.map(|(name, value)| (name.to_vec(), value.to_vec())));
    }

    #[test]
    fn what_is_said_again_is_counted_once() {
        let mut records = records(&[("a", "123"), ("a", "1"), ("b", "")]);
        assert_eq!(records.len, 3);
        records.set(b"a", b"");
        assert_eq!(records.len, 2);
    }
}
