//! Reads an archive that is not trusted: ustar, pax and GNU headers, one entry at a time.
//!
//! Memory is bounded, whatever the headers say. An archive without its end mark is an error, as a
//! part of one must not be taken for the whole.

use std::io::Read;

use super::entry::{Entry, Kind};
use super::header::{BLOCK, padding};
use super::pax;
use super::records::{self, Records};
use crate::error::{Context, Errno, Error, Result};
use crate::id::Id;
use crate::sys::stat::Time;

/// Longest path and link target that are read, in bytes (`PATH_MAX`, limits.h).
pub const LONGEST_PATH: usize = 4096;

/// An archive that is being read. Its [`Read`] returns the data of the last entry.
#[derive(Debug)]
pub struct Archive<R> {
    input: R,
    /// Unread data of the entry, and the zeros after it; in bytes.
    left: u64,
    padding: usize,
    /// Records for all entries that follow.
    global: Records,
    ended: bool,
}

fn bad(what: impl std::fmt::Display) -> Error {
    Error::new(Errno::EINVAL, format!("not a layer: {what}"))
}

impl<R: Read> Archive<R> {
    /// Creates an archive at its beginning.
    pub fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0, global: Records::default(), ended: false }
    }

    /// Returns the source of the archive.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// Reads the next entry; `None` at the end mark. Skips the unread data of the last entry.
    ///
    /// # Errors
    /// Those of reading; EINVAL for a malformed or truncated archive, or an entry that a layer
    /// cannot hold.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut own = Records::default();
        let mut gnu = GnuNames::default();
        while !self.ended {
            self.skip_data()?;
            let block = self.block()?;
            if block.iter().all(|byte| *byte == 0) {
                self.ended = true;
                break;
            }
            check_sum(&block)?;
            let header = tar::Header::from_byte_slice(&block);
            let size = field(&header.as_old().size, "size")?;
            let size = u64::try_from(size).map_err(|_| bad("an entry of negative size"))?;
            match header.as_old().linkflag[0] {
                b'x' => own.add(&self.extension(size)?)?,
                b'g' => {
                    let extension = self.extension(size)?;
                    self.global.add(&extension)?;
                }
                b'L' => gnu.path = Some(c_string(self.extension(size)?)),
                b'K' => gnu.link = Some(c_string(self.extension(size)?)),
                _ => {
                    let said = Said { own, global: &self.global, gnu };
                    let entry = read_entry(header, size, said)?;
                    self.left = entry.size;
                    self.padding = padding(entry.size);
                    return Ok(Some(entry));
                }
            }
        }
        Ok(None)
    }

    fn skip_data(&mut self) -> Result<()> {
        let rest = self.left + self.padding as u64;
        let skipped = std::io::copy(&mut self.input.by_ref().take(rest), &mut std::io::sink())
            .map_err(Error::from)
            .context(|| "reading the layer")?;
        if skipped != rest {
            return Err(cut_off());
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn block(&mut self) -> Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.exactly(&mut block)?;
        Ok(block)
    }

    fn exactly(&mut self, buf: &mut [u8]) -> Result<()> {
        self.input.read_exact(buf).map_err(|err| match err.kind() {
            std::io::ErrorKind::UnexpectedEof => cut_off(),
            _ => Error::from(err).context("reading the layer"),
        })
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > records::LONGEST {
            return Err(bad(format_args!("an extended header of {size} bytes")));
        }
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| Errno::EFBIG)?];
        self.exactly(&mut bytes)?;
        self.padding = padding(size);
        Ok(bytes)
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let read = self.input.by_ref().take(self.left).read(buf)?;
        self.left -= read as u64;
        if read == 0 && self.left > 0 && !buf.is_empty() {
            return Err(std::io::Error::other("it is cut off"));
        }
        Ok(read)
    }
}

fn cut_off() -> Error {
    bad("it ends before its end mark, so a part is missing")
}

fn check_sum(block: &[u8; BLOCK]) -> Result<()> {
    // The field itself counts as blanks (pax(1), ustar interchange format).
    const FIELD: std::ops::Range<usize> = 148..156;
    let sum: u32 = (0..BLOCK)
        .zip(block)
        .map(|(at, byte)| if FIELD.contains(&at) { u32::from(b' ') } else { u32::from(*byte) })
        .sum();
    let said = field(block.get(FIELD).unwrap_or_default(), "check sum")?;
    if said == i64::from(sum) { Ok(()) } else { Err(bad("a header with a wrong check sum")) }
}

/// Parses a number: octal digits, or binary if the first bit is set (GNU, star).
fn field(bytes: &[u8], what: &str) -> Result<i64> {
    let wrong = || bad(format_args!("a header with a wrong {what}"));
    let (first, rest) = bytes.split_first().ok_or_else(wrong)?;
    if first & 0x80 != 0 {
        // Two's complement. The topmost bit is the mark, the next one is the sign.
        let mut value = i64::from((first << 1).cast_signed() >> 1);
        for byte in rest {
            value = value.checked_mul(256).ok_or_else(wrong)? | i64::from(*byte);
        }
        return Ok(value);
    }
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = std::str::from_utf8(text).map_err(|_| wrong())?.trim();
    match text {
        "" => Ok(0),
        _ if text.starts_with(['+', '-']) => Err(wrong()),
        _ => i64::from_str_radix(text, 8).map_err(|_| wrong()),
    }
}

fn c_string(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Paths that GNU tar writes as entries of their own.
#[derive(Default)]
struct GnuNames {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// Facts about an entry from extended headers and other entries before it.
struct Said<'a> {
    own: Records,
    global: &'a Records,
    gnu: GnuNames,
}

impl Said<'_> {
    fn get(&self, key: &str) -> Option<&[u8]> {
        self.own.get(key, self.global)
    }

    fn number(&self, key: &str, otherwise: i64) -> Result<i64> {
        let Some(text) = self.get(key) else { return Ok(otherwise) };
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        number.ok_or_else(|| bad(format_args!("a wrong {key}")))
    }
}

fn read_entry(header: &tar::Header, size: u64, mut said: Said<'_>) -> Result<Entry> {
    let old = header.as_old();
    let path = said.get("path").map(<[u8]>::to_vec).or_else(|| said.gnu.path.take());
    let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
    let link = said.get("linkpath").map(<[u8]>::to_vec).or_else(|| said.gnu.link.take());
    let link = link.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
    if path.len() > LONGEST_PATH || link.len() > LONGEST_PATH {
        return Err(bad("a path of more than 4096 bytes"));
    }
    let kind = kind(old.linkflag[0], &path)?;
    let id = |number: i64| {
        let id = u32::try_from(number).ok().and_then(Id::new);
        id.ok_or_else(|| bad(format_args!("an owner {number}, which nobody can be")))
    };
    let size = said.number("size", i64::try_from(size).map_err(|_| Errno::EFBIG)?)?;
    let size = u64::try_from(size).map_err(|_| bad("an entry of negative size"))?;
    let mtime = match said.get("mtime") {
        Some(text) => pax::parse_time(text).ok_or_else(|| bad("a wrong mtime"))?,
        None => Time { sec: field(&old.mtime, "time")?, nsec: 0 },
    };
    let device = match kind {
        Kind::CharDevice | Kind::BlockDevice => (
            header.device_major().map_err(bad)?.unwrap_or(0),
            header.device_minor().map_err(bad)?.unwrap_or(0),
        ),
        _ => (0, 0),
    };
    let entry = Entry {
        mode: u32::try_from(field(&old.mode, "mode")? & 0o7777).map_err(|_| Errno::EINVAL)?,
        uid: id(said.number("uid", field(&old.uid, "owner")?)?)?,
        gid: id(said.number("gid", field(&old.gid, "owner")?)?)?,
        // Links and the like have no data, whatever the field says, as in archive/tar of Go.
        size: if kind == Kind::File { size } else { 0 },
        xattrs: said.own.xattrs(said.global),
        path,
        kind,
        mtime,
        link,
        device,
    };
    Ok(entry)
}

fn kind(flag: u8, path: &[u8]) -> Result<Kind> {
    Ok(match flag {
        // Before POSIX, a directory was a file whose name ends with a slash.
        b'0' | b'7' | 0 if path.ends_with(b"/") => Kind::Directory,
        b'0' | b'7' | 0 => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'S' => return Err(bad("a sparse entry; write the archive without --sparse")),
        other => return Err(bad(format_args!("an entry of type {}", other.escape_ascii()))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(path: &[u8], mtime: Time, size: u64) -> Entry {
        let (uid, gid) = (Id::new(3_000_000_000).unwrap(), Id::new(7).unwrap());
        let mode = 0o640;
        Entry { mode, uid, gid, mtime, size, ..Entry::new(path.to_vec(), Kind::File) }
    }

    fn first(bytes: &[u8]) -> Result<Option<Entry>> {
        Archive::new(bytes).next_entry()
    }

    #[test]
    fn what_is_written_is_read() {
        let path = [b"d/".as_slice(), &[0xfe; 200]].concat();
        let mut first = written(&path, Time { sec: -2, nsec: 750_000_000 }, 3);
        first.xattrs.insert(b"user.a".to_vec(), b"1\n2=3\0".to_vec());
        first.xattrs.insert(b"user.b".to_vec(), Vec::new());
        // Records apply to one entry.
        let second = written(b"next", Time::default(), 0);
        let mut bytes = first.encode().unwrap();
        bytes.extend_from_slice(b"abc");
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes.extend_from_slice(&second.encode().unwrap());
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        let mut archive = Archive::new(&*bytes);
        assert_eq!(archive.next_entry().unwrap(), Some(first));
        let mut data = String::new();
        archive.read_to_string(&mut data).unwrap();
        assert_eq!(data, "abc");
        assert_eq!(archive.next_entry().unwrap(), Some(second));
        assert!(archive.next_entry().unwrap().is_none());
    }

    #[test]
    fn a_part_of_an_archive_is_an_error_wherever_it_is_cut() {
        let mut bytes = written(&[b'x'; 150], Time::default(), 3).encode().unwrap();
        bytes.extend_from_slice(b"abc");
        bytes.resize(bytes.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
        let whole = |bytes: &[u8]| {
            let mut archive = Archive::new(bytes);
            while archive.next_entry()?.is_some() {}
            Ok::<_, Error>(())
        };
        whole(&bytes).unwrap();
        for len in 0..bytes.len() - 2 * BLOCK {
            assert!(whole(bytes.get(..len).unwrap()).is_err(), "{len}");
        }
    }

    #[test]
    fn numbers_in_both_forms() {
        for (bytes, value) in [
            (&b"0000644\0"[..], 0o644),
            (b"     12 ", 0o12),
            (b"\0\0\0\0", 0),
            (b"\x80\0\0\0\0\0\0\0\x02\0\0\0", 0x200_0000),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
        ] {
            assert_eq!(field(bytes, "x").unwrap(), value, "{bytes:?}");
        }
        for wrong in [&b"9"[..], b"-1", b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"z"] {
            assert!(field(wrong, "x").is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn headers_that_would_fill_the_memory() {
        let mut header = tar::Header::new_ustar();
        for kind in [tar::EntryType::XHeader, tar::EntryType::GNULongName] {
            header.set_entry_type(kind);
            header.set_size(10 << 30);
            header.set_cksum();
            let err = first(header.as_bytes()).unwrap_err();
            assert!(err.to_string().contains("10737418240"), "{err}");
        }
    }

    /// Each header is short enough. They were once kept for ever, so that a small, well compressed
    /// file took all memory.
    #[test]
    fn many_headers_that_would_fill_the_memory() {
        for kind in [tar::EntryType::XHeader, tar::EntryType::XGlobalHeader] {
            let mut bytes = Vec::new();
            for number in 0..4 {
                let mut records = Vec::new();
                pax::push(&mut records, format!("k{number}").as_bytes(), &[b'x'; 400_000]).unwrap();
                let mut header = tar::Header::new_ustar();
                header.set_entry_type(kind);
                header.set_size(records.len() as u64);
                header.set_cksum();
                bytes.extend_from_slice(header.as_bytes());
                bytes.append(&mut records);
                bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
            }
            let err = first(&bytes).unwrap_err().to_string();
            assert!(err.contains("extended headers of 1200006 bytes"), "{err}");
        }
    }

    #[test]
    fn rubbish_is_refused() {
        let mut header = tar::Header::new_ustar();
        header.set_path("a").unwrap();
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.set_cksum();
        assert!(first(header.as_bytes()).unwrap_err().to_string().contains("sparse"));
        header.set_entry_type(tar::EntryType::Regular);
        assert!(first(header.as_bytes()).unwrap_err().to_string().contains("check sum"));
        assert!(first(&[b'x'; 4096]).is_err());
    }
}
