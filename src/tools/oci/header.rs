//! Encodes the header of an entry: ustar, preceded by an extended header if ustar has no room.
//!
//! Equal entries give equal bytes.

use tar::EntryType;

use super::entry::{Entry, Kind};
use super::{XATTR, pax};
use crate::error::{Errno, Error, Result};
use crate::id::Id;

/// Size of the blocks of an archive, in bytes (pax(1), ustar interchange format).
pub const BLOCK: usize = 512;

/// Room for a path or a link target in a ustar header, in bytes.
const NAME_ROOM: usize = 100;
/// Largest number in the seven octal digits of ids.
const LARGEST_ID: u32 = 0o7_777_777;
/// Largest number in the eleven octal digits of sizes and times.
const LARGEST_NUMBER: u64 = 0o77_777_777_777;

impl Kind {
    fn entry_type(self) -> EntryType {
        match self {
            Self::File => EntryType::Regular,
            Self::Directory => EntryType::Directory,
            Self::Symlink => EntryType::Symlink,
            Self::HardLink => EntryType::Link,
            Self::CharDevice => EntryType::Char,
            Self::BlockDevice => EntryType::Block,
            Self::Fifo => EntryType::Fifo,
        }
    }
}

impl Entry {
    /// Encodes the bytes before the data.
    ///
    /// # Errors
    /// EINVAL for an attribute name that an archive cannot hold, EOVERFLOW for such a device
    /// number.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let records = self.records()?;
        let mut out = Vec::with_capacity(BLOCK);
        if !records.is_empty() {
            let (above, last) = split_path(&self.path);
            // The name that archive/tar of Go uses. Readers go by the type.
            let name = [above, b"PaxHeaders.0/", last].concat();
            let mut header = tar::Header::new_ustar();
            put_name(&mut header, &name)?;
            header.set_entry_type(EntryType::XHeader);
            header.set_mode(0o644);
            set_ids(&mut header, Id::ROOT, Id::ROOT);
            header.set_mtime(0);
            header.set_size(records.len() as u64);
            header.set_cksum();
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(&records);
            out.resize(out.len() + padding(records.len() as u64), 0);
        }
        out.extend_from_slice(self.ustar()?.as_bytes());
        Ok(out)
    }

    fn ustar(&self) -> Result<tar::Header> {
        let mut header = tar::Header::new_ustar();
        put_name(&mut header, &self.path)?;
        header.set_entry_type(self.kind.entry_type());
        header.set_mode(self.mode);
        set_ids(&mut header, fits(self.uid), fits(self.gid));
        header.set_mtime(if self.mtime_fits() { self.mtime.sec.unsigned_abs() } else { 0 });
        header.set_size(if self.size > LARGEST_NUMBER { 0 } else { self.size });
        if let Some(field) = header.as_ustar_mut() {
            copy_into(&mut field.linkname, &self.link);
        }
        if matches!(self.kind, Kind::CharDevice | Kind::BlockDevice) {
            let (major, minor) = self.device;
            if major > LARGEST_ID || minor > LARGEST_ID {
                return Err(Error::new(Errno::EOVERFLOW, "a device number that tar cannot hold"));
            }
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        header.set_cksum();
        Ok(header)
    }

    fn mtime_fits(&self) -> bool {
        self.mtime.nsec == 0 && (0..=LARGEST_NUMBER as i64).contains(&self.mtime.sec)
    }

    /// Returns the records for what ustar has no room for, in the order of their keys.
    fn records(&self) -> Result<Vec<u8>> {
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut add = |key: &str, value: &[u8]| records.push((key.into(), value.to_vec()));
        let (long_path, long_link) = (self.path.len() > NAME_ROOM, self.link.len() > NAME_ROOM);
        if long_path {
            add("path", &self.path);
        }
        if long_link {
            add("linkpath", &self.link);
        }
        // Without this record, a reader may take the names for UTF-8 (pax(1)).
        let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
        if (long_path && !is_text(&self.path)) || (long_link && !is_text(&self.link)) {
            add("hdrcharset", b"BINARY");
        }
        for (key, id) in [("uid", self.uid), ("gid", self.gid)] {
            if id.number() > LARGEST_ID {
                add(key, id.to_string().as_bytes());
            }
        }
        if !self.mtime_fits() {
            add("mtime", pax::time(self.mtime).as_bytes());
        }
        if self.size > LARGEST_NUMBER {
            add("size", self.size.to_string().as_bytes());
        }
        for (name, value) in &self.xattrs {
            records.push(([XATTR.as_bytes(), name].concat(), value.clone()));
        }
        records.sort();
        let mut out = Vec::new();
        for (key, value) in &records {
            pax::push(&mut out, key, value)?;
        }
        Ok(out)
    }
}

/// Returns the number of zeros that follow `len` bytes of data.
#[must_use]
pub fn padding(len: u64) -> usize {
    // The remainder is smaller than a block, so it fits.
    let over = usize::try_from(len % BLOCK as u64).unwrap_or(0);
    if over == 0 { 0 } else { BLOCK - over }
}

fn fits(id: Id) -> Id {
    if id.number() > LARGEST_ID { Id::ROOT } else { id }
}

fn set_ids(header: &mut tar::Header, uid: Id, gid: Id) {
    header.set_uid(uid.number().into());
    header.set_gid(gid.number().into());
}

/// Splits a path into its directory, with the slash, and its last component, without one.
fn split_path(path: &[u8]) -> (&[u8], &[u8]) {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => path.split_at(slash + 1),
        None => (b"", path),
    }
}

/// Writes a name, truncated to the room. An extended header then has all of it.
fn put_name(header: &mut tar::Header, name: &[u8]) -> Result<()> {
    let field = header.as_ustar_mut().ok_or(Errno::EIO)?;
    copy_into(&mut field.name, name);
    Ok(())
}

fn copy_into(field: &mut [u8], bytes: &[u8]) {
    for (to, from) in field.iter_mut().zip(bytes) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::stat::Time;

    fn plain() -> Entry {
        let mtime = Time { sec: 5, nsec: 0 };
        Entry { mode: 0o644, mtime, ..Entry::new(b"a".to_vec(), Kind::File) }
    }

    /// Reads the bytes with the crate `tar`, including the extended header.
    fn read<T>(bytes: &[u8], see: impl FnOnce(&mut tar::Entry<'_, &[u8]>) -> T) -> T {
        let mut archive = tar::Archive::new(bytes);
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        see(&mut entry)
    }

    #[test]
    fn what_fits_needs_no_extension() {
        let bytes = plain().encode().unwrap();
        assert_eq!(bytes.len(), BLOCK);
        read(&bytes, |entry| {
            assert_eq!(&*entry.path_bytes(), b"a");
            assert_eq!(entry.header().mtime().unwrap(), 5);
        });
        let path = vec![b'x'; NAME_ROOM];
        assert_eq!(Entry { path, ..plain() }.encode().unwrap().len(), BLOCK);
    }

    #[test]
    fn what_does_not_fit_is_in_the_extension() {
        let path = [b"d/".as_slice(), &[0xff; 120]].concat();
        let xattrs = [(b"user.b".to_vec(), b"\0b".to_vec()), (b"user.a".to_vec(), vec![])].into();
        let mtime = Time { sec: -1, nsec: 500_000_000 };
        let entry = Entry {
            path: path.clone(),
            uid: Id::new(3_000_000_000).unwrap(),
            mtime,
            xattrs,
            ..plain()
        };
        let bytes = entry.encode().unwrap();
        read(&bytes, |entry| {
            assert_eq!(&*entry.path_bytes(), path);
            let records = entry.pax_extensions().unwrap().unwrap();
            let records: Vec<_> = records
                .map(|record| {
                    let record = record.unwrap();
                    (record.key().unwrap().to_owned(), record.value_bytes().to_vec())
                })
                .collect();
            let keys: Vec<_> = records.iter().map(|(key, _)| key.as_str()).collect();
            let xattr = ["SCHILY.xattr.user.a", "SCHILY.xattr.user.b"];
            assert_eq!(keys, [&xattr[..], &["hdrcharset", "mtime", "path", "uid"]].concat());
            assert_eq!(records[1].1, b"\0b");
            assert_eq!(records[3].1, b"-0.5");
            assert_eq!(records[5].1, b"3000000000");
        });
    }

    #[test]
    fn sizes_above_eight_gib() {
        let size = LARGEST_NUMBER + 1;
        let bytes = Entry { size, ..plain() }.encode().unwrap();
        let text = format!("size={size}\n");
        assert!(bytes.windows(text.len()).any(|window| window == text.as_bytes()));
    }

    #[test]
    fn an_attribute_that_no_archive_can_hold() {
        let xattrs = [(b"user.a=b".to_vec(), vec![])].into();
        let err = Entry { xattrs, ..plain() }.encode().unwrap_err();
        assert_eq!(err.errno(), Errno::EINVAL);
    }
}
