//! The connection to the kernel: each read(2) of /dev/fuse returns one request, and each write(2)
//! takes one answer (fuse(4)).

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::uio::writev;
use nix::unistd::read;

use super::abi;
use super::counters::Counters;
use super::in_flight::InFlight;
use super::wire::Message;
use crate::error::{Errno, Error, Result};

/// A mounted /dev/fuse. Any thread may read and write it.
#[derive(Debug)]
pub struct Device {
    fd: OwnedFd,
    /// Requests and errors of this connection.
    pub counters: Counters,
    /// Requests that are not finished.
    pub in_flight: Arc<InFlight>,
}

/// Result of reading from the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A request of this length, in bytes.
    Request(usize),
    /// No request is waiting.
    Nothing,
    /// The file system is unmounted.
    Gone,
}

impl Device {
    /// Takes over a descriptor, and makes it non-blocking.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn new(fd: OwnedFd) -> Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self { fd, counters: Counters::default(), in_flight: Arc::default() })
    }

    /// Reads the next request, if there is one.
    ///
    /// # Errors
    /// EIO for a buffer that is too small (fuse(4)), and any unknown error.
    pub fn take(&self, buffer: &mut [u8]) -> Result<Received> {
        loop {
            match read(&self.fd, buffer) {
                Ok(len) => return Ok(Received::Request(len)),
                Err(nix::errno::Errno::EAGAIN) => return Ok(Received::Nothing),
                Err(nix::errno::Errno::ENODEV) => return Ok(Received::Gone),
                // ENOENT: the caller was interrupted before we read the request.
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::ENOENT) => {}
                Err(err) => return Err(Error::from(err).context("reading from /dev/fuse")),
            }
        }
    }

    /// Whether unread requests are waiting; false if poll(2) fails.
    pub fn has_requests(&self) -> bool {
        let mut device = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        poll(&mut device, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Sends one message of at most two parts. A message that nobody waits for is not an error.
    pub fn send(&self, parts: &[&[u8]]) -> Result<()> {
        let mut slices = [IoSlice::new(&[]), IoSlice::new(&[])];
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
        }
        let slices = slices.get(..parts.len()).ok_or(Errno::EINVAL)?;
        match writev(&self.fd, slices) {
            Ok(_) => Ok(()),
            Err(err) if nobody_waits(err) => Ok(()),
            Err(err) => Err(Error::from(err).context("writing to /dev/fuse")),
        }
    }

    /// Makes the kernel forget the attributes of a node. Its pages stay, as the offset is negative
    /// (`fuse_reverse_inval_inode`, fs/fuse/inode.c).
    pub fn forget_attributes(&self, node: u64) -> Result<()> {
        self.forget(node, (-1i64).cast_unsigned(), 0)
    }

    /// Makes the kernel drop pages of a file. The kernel waits for requests that read or write
    /// these pages, so a thread that has to answer one of these must not call this.
    pub fn forget_pages(&self, node: u64, offset: u64, length: usize) -> Result<()> {
        self.forget(node, offset, length as u64)
    }

    fn forget(&self, node: u64, offset: u64, length: u64) -> Result<()> {
        let mut message = Message::default();
        message.u64(node).u64(offset).u64(length);
        // `send` ignores ENOENT: the kernel does not know the node any more.
        self.send(&[message.finish(0, abi::NOTIFY_INVAL_INODE, 0)])
    }

    /// Makes the kernel look a name up again. The kernel waits for changes in that directory
    /// (`fuse_reverse_inval_entry`, fs/fuse/dir.c), so a thread that has to answer one of these
    /// must not call this.
    pub fn forget_name(&self, parent: u64, name: &[u8]) -> Result<()> {
        let mut message = Message::default();
        let len = u32::try_from(name.len()).map_err(|_| Errno::EINVAL)?;
        message.u64(parent).u32(len).zeros(4).bytes(name).zeros(1);
        // `send` ignores ENOENT: the kernel does not know the name.
        self.send(&[message.finish(0, abi::NOTIFY_INVAL_ENTRY, 0)])
    }
}

/// Whether the kernel refused an answer because the caller was killed or the mount has ended.
pub fn nobody_waits(err: nix::errno::Errno) -> bool {
    matches!(err, nix::errno::Errno::ENOENT | nix::errno::Errno::ENODEV)
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
