//! A pipe that moves data from a file to the kernel without a copy in our memory.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::{pipe2, read, write};

use super::device::nobody_waits;
use crate::error::{Error, Result};
use crate::sys::descriptors::with_room;

/// Capacity, in bytes: 64 pages. An unprivileged user may have 256 such pipes before new ones get
/// smaller (`pipe-user-pages-soft`, pipe(7)). Each thread that reads requests has one.
const CAPACITY: libc::c_int = 256 << 10;

/// Most data that fits wherever it begins, in bytes. The header takes one page of the pipe, and a
/// beginning and an end within a page take two more.
pub const MOST: usize = 192 << 10;

/// A pipe that is empty or holds one message.
#[derive(Debug)]
pub struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

impl Pipe {
    /// Creates an empty pipe.
    ///
    /// # Errors
    /// EMFILE, ENFILE (pipe(2)); EPERM for a user with too many pipes (`F_SETPIPE_SZ`, fcntl(2)).
    pub fn new() -> Result<Self> {
        // A message that does not fit has to be an error instead of blocking.
        let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let (out, into) = with_room(|| pipe2(flags).map_err(Error::from))?;
        fcntl(&into, FcntlArg::F_SETPIPE_SZ(CAPACITY))?;
        Ok(Self { out, into })
    }

    /// Writes the header and `len` bytes of the file, at most [`MOST`]. Returns the number of bytes
    /// from the file, less than `len` at its end; `end` is its size, if known.
    ///
    /// # Errors
    /// EINVAL for a file that cannot be spliced (splice(2)), and those of reading it. The pipe is
    /// unusable after an error.
    pub fn fill(
        &self,
        header: &[u8],
        (from, end): (BorrowedFd<'_>, Option<u64>),
        offset: u64,
        len: usize,
    ) -> Result<usize> {
        write(&self.into, header)?;
        let mut at = i64::try_from(offset).map_err(|_| Errno::EFBIG)?;
        let mut left = len;
        while left > 0 {
            match splice(from, Some(&mut at), &self.into, None, left, SpliceFFlags::empty()) {
                Ok(0) => break,
                Ok(taken) => left = left.saturating_sub(taken),
                Err(Errno::EINTR) => continue,
                Err(err) => return Err(err.into()),
            }
            // A short splice before the end may hide an error, which the next call returns.
            if end == Some(at.cast_unsigned()) {
                break;
            }
        }
        Ok(len - left)
    }

    /// Sends the message, which has `len` bytes with its header. A message that nobody waits for is
    /// not an error. Returns false if the pipe is unusable after it.
    ///
    /// # Errors
    /// Those of fuse(4).
    pub fn send(&self, device: BorrowedFd<'_>, len: usize) -> Result<bool> {
        match splice(&self.out, None, device, None, len, SpliceFFlags::empty()) {
            Ok(sent) => Ok(sent == len),
            Err(err) if nobody_waits(err) => Ok(false),
            Err(err) => Err(err.into()),
        }
    }

    /// Empties the pipe into `buffer`. Returns the number of bytes.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn drain(&self, buffer: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match read(&self.out, rest) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(len) => done += len,
                Err(Errno::EINTR) => {}
                Err(err) => return Err(err.into()),
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write as _;
    use std::os::fd::AsFd as _;

    fn file(len: usize) -> (File, Vec<u8>) {
        let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        (file, bytes)
    }

    #[test]
    fn the_most_fits_wherever_it_begins() {
        let (file, bytes) = file(MOST + 9000);
        let (pipe, device) = (Pipe::new().unwrap(), Pipe::new().unwrap());
        for offset in [0, 1, 4095, 4097] {
            assert_eq!(pipe.fill(b"head", (file.as_fd(), None), offset, MOST).unwrap(), MOST);
            assert!(pipe.send(device.into.as_fd(), MOST + 4).unwrap());
            let mut message = vec![0; MOST + 100];
            assert_eq!(device.drain(&mut message).unwrap(), MOST + 4);
            assert_eq!(&message[..4], b"head");
            let from = usize::try_from(offset).unwrap();
            assert!(message[4..MOST + 4] == bytes[from..from + MOST], "at {offset}");
        }
    }

    #[test]
    fn a_file_that_ends_early_leaves_what_there_is() {
        let pipe = Pipe::new().unwrap();
        // The known size may be wrong.
        let ends = [None, Some(5000), Some(4000)];
        let places = [(0, 5000), (4090, 910), (5000, 0), (9999, 0)];
        for (end, (offset, len)) in ends.into_iter().flat_map(|e| places.map(|place| (e, place))) {
            let (file, bytes) = file(5000);
            assert_eq!(pipe.fill(b"head", (file.as_fd(), end), offset, MOST).unwrap(), len);
            let mut message = vec![0; MOST];
            assert_eq!(pipe.drain(&mut message).unwrap(), 4 + len);
            let from = usize::try_from(offset).unwrap();
            assert_eq!(message[4..4 + len], bytes[from.min(5000)..][..len], "at {offset}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let pipe = Pipe::new().unwrap();
        let dir = File::open("/").unwrap();
        assert!(pipe.fill(b"head", (dir.as_fd(), None), 0, MOST).is_err());
    }
}
