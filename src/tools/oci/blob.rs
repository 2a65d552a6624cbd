//! Writes the bytes of a layer: compresses and counts them, and computes both digests.

use std::fmt::Write as _;
use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::gzip::Gzip;

/// Compression of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// No compression.
    #[default]
    None,
    /// gzip(1).
    Gzip,
    /// zstd(1).
    Zstd,
}

impl Compression {
    /// Returns the media type of a layer (media types of the image specification).
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// Digests and sizes of a finished layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Digest of the bytes as written, by which a manifest names the layer.
    pub digest: String,
    /// Digest of the archive before compression, by which the configuration of an image names it.
    pub diff_id: String,
    /// Number of bytes as written.
    pub size: u64,
    /// Number of bytes of the archive before compression.
    pub unpacked: u64,
}

/// Passes bytes on, counts them and computes their digest.
#[derive(Debug)]
pub struct Digesting<T> {
    inner: T,
    sha: Sha256,
    len: u64,
}

impl<T> Digesting<T> {
    /// Creates a wrapper of `inner`.
    pub fn new(inner: T) -> Self {
        Self { inner, sha: Sha256::new(), len: 0 }
    }

    fn note(&mut self, bytes: &[u8]) {
        self.sha.update(bytes);
        self.len += bytes.len() as u64;
    }

    /// Returns the wrapped reader or writer.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns the number of bytes that have passed.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no bytes have passed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the digest as `sha256:HEX`, the number of bytes, and the wrapped reader or writer.
    pub fn finish(self) -> (String, u64, T) {
        let mut text = String::from("sha256:");
        for byte in self.sha.finalize() {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").ok();
        }
        (text, self.len, self.inner)
    }
}

impl<T: Write> Write for Digesting<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.inner.write(bytes)?;
        self.note(bytes.get(..len).unwrap_or(bytes));
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: io::Read> io::Read for Digesting<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buf)?;
        self.note(buf.get(..len).unwrap_or_default());
        Ok(len)
    }
}

/// Compresses the bytes written to it.
enum Encoder<W: Write> {
    None(Digesting<W>),
    Gzip(Gzip<Digesting<W>>),
    Zstd(zstd::Encoder<'static, Digesting<W>>),
}

impl<W: Write> Encoder<W> {
    fn inner(&mut self) -> &mut dyn Write {
        match self {
            Self::None(inner) => inner,
            Self::Gzip(inner) => inner,
            Self::Zstd(inner) => inner,
        }
    }

    fn finish(self) -> io::Result<Digesting<W>> {
        match self {
            Self::None(inner) => Ok(inner),
            Self::Gzip(inner) => inner.finish(),
            Self::Zstd(inner) => inner.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner().flush()
    }
}

/// Writer of a layer.
pub struct BlobWriter<W: Write>(Digesting<Encoder<W>>);

impl<W: Write> std::fmt::Debug for BlobWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlobWriter({} bytes)", self.0.len())
    }
}

impl<W: Write> BlobWriter<W> {
    /// Begins a layer. The result does not depend on the machine or the time.
    ///
    /// # Errors
    /// Those of zstd when it begins.
    pub fn new(to: W, compression: Compression) -> io::Result<Self> {
        let to = Digesting::new(to);
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
        let encoder = match compression {
            Compression::None => Encoder::None(to),
            Compression::Gzip => Encoder::Gzip(Gzip::new(to, threads)?),
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(to, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                // The result is the same for any number of workers except 0.
                encoder.multithread(u32::try_from(threads).unwrap_or(1))?;
                encoder.include_checksum(true)?;
                Encoder::Zstd(encoder)
            }
        };
        Ok(Self(Digesting::new(encoder)))
    }

    /// Ends the compression, and returns the digests.
    ///
    /// # Errors
    /// Those of the last writes.
    pub fn finish(self) -> io::Result<(Summary, W)> {
        let (diff_id, unpacked, encoder) = self.0.finish();
        let mut rest = encoder.finish()?;
        rest.flush()?;
        let (digest, size, to) = rest.finish();
        Ok((Summary { digest, diff_id, size, unpacked }, to))
    }
}

impl<W: Write> Write for BlobWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn pack(data: &[u8], compression: Compression) -> (Summary, Vec<u8>) {
        let mut writer = BlobWriter::new(Vec::new(), compression).unwrap();
        writer.write_all(data).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn digests_are_those_of_sha256sum() {
        let (summary, bytes) = pack(b"abc", Compression::None);
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((summary.digest.as_str(), summary.diff_id.as_str()), (abc, abc));
        assert_eq!((bytes.as_slice(), summary.size), (&b"abc"[..], 3));
    }

    #[test]
    fn compressed_bytes_are_the_same_each_time_and_come_back() {
        let data = b"some text, some more ".repeat(100_000);
        let plain = pack(&data, Compression::None).0;
        for compression in [Compression::Gzip, Compression::Zstd] {
            let (summary, bytes) = pack(&data, compression);
            assert_eq!(
                (&summary, &bytes),
                (&pack(&data, compression).0, &pack(&data, compression).1)
            );
            assert_eq!(summary.diff_id, plain.digest);
            assert_eq!(summary.size, bytes.len() as u64);
            let mut back = Vec::new();
            match compression {
                Compression::Gzip => {
                    flate2::read::GzDecoder::new(&*bytes).read_to_end(&mut back).unwrap();
                }
                _ => back = zstd::decode_all(&*bytes).unwrap(),
            }
            assert!(back == data);
        }
    }
}
