//! Encoding of numbers and bytes, in the byte order of the machine, as the kernel does it.

use smallvec::SmallVec;

use super::abi::OUT_HEADER;

/// Error for a request that ends too early, or a name without a NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The unread rest of a request.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Reads from the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    /// Reads 32 bits.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    /// Reads 64 bits.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_ne_bytes)
    }

    /// Skips `count` bytes.
    pub fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.bytes(count).map(drop)
    }

    /// Reads `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (first, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(first)
    }

    /// Reads the bytes up to the next NUL, and skips the NUL.
    pub fn name(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Malformed)?;
        let name = self.bytes(end)?;
        self.skip(1)?;
        Ok(name)
    }
}

/// A message to the kernel. [`Message::finish`] fills in its header.
#[derive(Debug)]
pub struct Message(SmallVec<[u8; INLINE]>);

/// Size of the longest message of fixed size, in bytes: a header and a `fuse_statx_out`.
const INLINE: usize = OUT_HEADER + 32 + 256;

impl Default for Message {
    /// Creates an empty message with room for the header.
    fn default() -> Self {
        Self(SmallVec::from_slice(&[0; OUT_HEADER]))
    }
}

impl Message {
    /// Adds 16 bits.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    /// Adds 32 bits.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    /// Adds 64 bits.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    /// Adds bytes.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }

    /// Adds `count` zero bytes.
    pub fn zeros(&mut self, count: usize) -> &mut Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    /// Returns the number of bytes so far, including the header.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Fills in the header, and returns the bytes. `beside` is the number of bytes sent after them.
    pub fn finish(&mut self, unique: u64, error: i32, beside: usize) -> &[u8] {
        let header = header(self.0.len() + beside, unique, error);
        for (place, byte) in self.0.iter_mut().zip(header) {
            *place = byte;
        }
        &self.0
    }
}

/// Encodes a `fuse_out_header`.
pub fn header(len: usize, unique: u64, error: i32) -> [u8; OUT_HEADER] {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    let mut out = [0; OUT_HEADER];
    let fields = len.to_ne_bytes().into_iter().chain(error.to_ne_bytes());
    for (place, byte) in out.iter_mut().zip(fields.chain(unique.to_ne_bytes())) {
        *place = byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names() {
        let mut bytes = 7u32.to_ne_bytes().to_vec();
        bytes.extend(8u64.to_ne_bytes());
        bytes.extend(b"name\0rest");
        let mut input = Input::new(&bytes);
        assert_eq!(input.u32(), Ok(7));
        assert_eq!(input.u64(), Ok(8));
        assert_eq!(input.name(), Ok(&b"name"[..]));
        assert_eq!(input.name(), Err(Malformed), "without an end");
        assert_eq!(input.bytes(4), Ok(&b"rest"[..]));
        assert_eq!(input.u32(), Err(Malformed));
    }

    #[test]
    fn a_message_begins_with_its_header() {
        let mut message = Message::default();
        message.u32(9).zeros(4);
        let bytes = message.finish(77, -2, 100).to_vec();
        let mut input = Input::new(&bytes);
        assert_eq!(input.u32(), Ok(16 + 8 + 100), "length");
        assert_eq!(input.u32(), Ok((-2i32).cast_unsigned()), "error");
        assert_eq!(input.u64(), Ok(77), "unique");
        assert_eq!(input.u64(), Ok(9));
    }
}
