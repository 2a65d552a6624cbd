//! Reads the bytes of a layer: decompresses them, and computes both digests.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::blob::{Compression, Digesting, Summary};

/// First bytes of gzip (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// First bytes of a zstd frame (RFC 8878, 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// First bytes of a frame that decoders skip, the first without its lower half (RFC 8878, 3.1.2).
const ZSTD_SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
/// Formats that are recognized but not supported.
const OTHERS: [(&[u8], &str); 3] =
    [(b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"PK\x03\x04", "zip")];

/// Bytes that are read to find the format: the longest of the above.
const LOOK: usize = 6;

/// The first bytes once more, followed by the rest.
type Whole<R> = io::Chain<io::Cursor<Vec<u8>>, R>;
type Packed<R> = BufReader<Digesting<Whole<R>>>;

enum Decoder<R: Read> {
    None(Packed<R>),
    Gzip(Box<MultiGzDecoder<Packed<R>>>),
    Zstd(Box<zstd::Decoder<'static, Packed<R>>>),
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(inner) => inner.read(buf),
            Self::Gzip(inner) => inner.read(buf),
            Self::Zstd(inner) => inner.read(buf),
        }
    }
}

/// A layer that is being read, in any compression.
pub struct Source<R: Read> {
    unpacked: Digesting<Decoder<R>>,
    compression: Compression,
    /// Limit of unpacked bytes per packed byte, and number of bytes to which it does not apply.
    most: Option<(u64, u64)>,
}

impl<R: Read> std::fmt::Debug for Source<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({:?}, {} bytes)", self.compression, self.unpacked.len())
    }
}

impl<R: Read> Source<R> {
    /// Finds out the compression of a layer.
    ///
    /// # Errors
    /// Those of reading; InvalidData for a known format that is not supported.
    pub fn new(mut from: R) -> io::Result<Self> {
        let mut head = Vec::new();
        from.by_ref().take(LOOK as u64).read_to_end(&mut head)?;
        if let Some((_, name)) = OTHERS.iter().find(|(mark, _)| head.starts_with(mark)) {
            let text = format!("it is compressed by {name}, which is not read; use gzip or zstd");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let zstd = head.starts_with(&ZSTD) || is_skippable(&head);
        let gzip = head.starts_with(&GZIP);
        let packed = BufReader::new(Digesting::new(io::Cursor::new(head).chain(from)));
        let (decoder, compression) = if gzip {
            (Decoder::Gzip(Box::new(MultiGzDecoder::new(packed))), Compression::Gzip)
        } else if zstd {
            (Decoder::Zstd(Box::new(zstd::Decoder::with_buffer(packed)?)), Compression::Zstd)
        } else {
            (Decoder::None(packed), Compression::None)
        };
        Ok(Self { unpacked: Digesting::new(decoder), compression, most: None })
    }

    /// Sets a limit of `ratio` unpacked bytes per packed byte, beyond the first `free` bytes.
    /// Reading fails when it is exceeded.
    #[must_use]
    pub fn with_most(mut self, ratio: Option<u64>, free: u64) -> Self {
        self.most = ratio.map(|ratio| (ratio, free));
        self
    }

    fn check_ratio(&self) -> io::Result<()> {
        let Some((ratio, free)) = self.most else { return Ok(()) };
        let packed = match &self.unpacked.get_ref() {
            Decoder::None(_) => return Ok(()),
            Decoder::Gzip(decoder) => decoder.get_ref().get_ref().len(),
            Decoder::Zstd(decoder) => decoder.get_ref().get_ref().len(),
        };
        if self.unpacked.len() <= free.max(packed.saturating_mul(ratio)) {
            return Ok(());
        }
        let text = format!(
            "more than {ratio} bytes come out of each byte of it; if that is meant, call with \
             another --max-ratio"
        );
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }

    /// Reads to the end, and returns the digests.
    ///
    /// # Errors
    /// Those of reading, and of the check sums of the compression.
    pub fn finish(mut self) -> io::Result<(Summary, Compression)> {
        io::copy(&mut self, &mut io::sink())?;
        let (diff_id, unpacked, decoder) = self.unpacked.finish();
        let mut packed = match decoder {
            Decoder::None(packed) => packed,
            Decoder::Gzip(decoder) => decoder.into_inner(),
            Decoder::Zstd(decoder) => decoder.finish(),
        };
        io::copy(&mut packed, &mut io::sink())?;
        let (digest, size, _) = packed.into_inner().finish();
        Ok((Summary { digest, diff_id, size, unpacked }, self.compression))
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.unpacked.read(buf)?;
        self.check_ratio()?;
        Ok(len)
    }
}

fn is_skippable(head: &[u8]) -> bool {
    let frame = [0xf0, 0xff, 0xff, 0xff].into_iter().zip(ZSTD_SKIPPABLE);
    head.len() >= ZSTD_SKIPPABLE.len()
        && head.iter().zip(frame).all(|(byte, (mask, wanted))| byte & mask == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::oci::blob::BlobWriter;
    use std::io::Write;

    #[test]
    fn what_was_written_comes_back_with_the_same_digests() {
        let data = b"some text ".repeat(50_000);
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut writer = BlobWriter::new(Vec::new(), compression).unwrap();
            writer.write_all(&data).unwrap();
            let (summary, bytes) = writer.finish().unwrap();
            let mut source = Source::new(&*bytes).unwrap();
            let mut begin = [0; 10];
            source.read_exact(&mut begin).unwrap();
            assert_eq!(&begin, b"some text ");
            assert_eq!(source.finish().unwrap(), (summary, compression));
            if compression != Compression::None {
                let cut = bytes.get(..bytes.len() - 3).unwrap();
                assert!(Source::new(cut).unwrap().finish().is_err(), "{compression:?}");
            }
        }
    }

    /// The first name of a plain tar may have the rest of such a frame's first bytes in it.
    #[test]
    fn a_frame_that_is_skipped_begins_with_5() {
        let compression = |head: &[u8]| {
            let bytes = [head, &[0; 600]].concat();
            Source::new(&*bytes).map(|source| source.compression)
        };
        for first in [0x50, 0x5f] {
            let head = [first, 0x2a, 0x4d, 0x18];
            assert_eq!(compression(&head).unwrap(), Compression::Zstd);
        }
        assert_eq!(compression(b"a*M\x18").unwrap(), Compression::None);
        assert_eq!(compression(b"P*M").unwrap(), Compression::None);
    }

    #[test]
    fn what_grows_too_much() {
        let data = vec![0; 1 << 20];
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut writer = BlobWriter::new(Vec::new(), compression).unwrap();
            writer.write_all(&data).unwrap();
            let bytes = writer.finish().unwrap().1;
            let end = |ratio, free| {
                let source = Source::new(&*bytes).unwrap().with_most(ratio, free);
                source.finish().map_err(|err| err.to_string())
            };
            end(None, 0).unwrap();
            end(Some(1), 1 << 20).unwrap();
            end(Some(1 << 20), 0).unwrap();
            let result = end(Some(10), 1 << 19);
            if compression == Compression::None {
                result.unwrap();
            } else {
                assert!(result.unwrap_err().contains("--max-ratio"), "{compression:?}");
            }
        }
    }

    #[test]
    fn formats_that_are_not_read_are_named() {
        let err = Source::new(&b"\xfd7zXZ\0...."[..]).unwrap_err();
        assert!(err.to_string().contains("xz"), "{err}");
        assert!(Source::new(&b""[..]).is_ok());
    }
}
