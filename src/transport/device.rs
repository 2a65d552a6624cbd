//! The connection to the kernel: each read(2) gives one request, each write(2) takes one answer
//! (fuse(4)).

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

/// An opened and mounted /dev/fuse. Any thread may read and write.
#[derive(Debug)]
pub struct Device {
    fd: OwnedFd,
    /// What went over it.
    pub counters: Counters,
    /// What is not finished of it.
    pub in_flight: Arc<InFlight>,
}

/// What there was to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A request of this length.
    Request(usize),
    /// Nothing yet.
    Nothing,
    /// The mount is gone.
    Gone,
}

impl Device {
    /// The connection of this descriptor, which does not block from now on.
    ///
    /// # Errors
    /// What fcntl(2) says.
    pub fn new(fd: OwnedFd) -> Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self { fd, counters: Counters::default(), in_flight: Arc::default() })
    }

    /// Takes the next request, if there is one.
    ///
    /// # Errors
    /// What fuse(4) names for a buffer that is too small (EIO), and anything unknown.
    pub fn take(&self, buffer: &mut [u8]) -> Result<Received> {
        loop {
            match read(&self.fd, buffer) {
                Ok(len) => return Ok(Received::Request(len)),
                Err(nix::errno::Errno::EAGAIN) => return Ok(Received::Nothing),
                Err(nix::errno::Errno::ENODEV) => return Ok(Received::Gone),
                // ENOENT: the caller gave up before we took the request.
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::ENOENT) => {}
                Err(err) => return Err(Error::from(err).context("reading from /dev/fuse")),
            }
        }
    }

    /// Whether there are requests that nobody has taken. What cannot be found out counts as no.
    pub fn has_requests(&self) -> bool {
        let mut device = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        poll(&mut device, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Sends one message. That nobody waits for it any more is not an error.
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

    /// Makes the kernel ask for the attributes of a node again. Its pages stay: an offset below
    /// zero leaves them (`fuse_reverse_inval_inode`, fs/fuse/inode.c).
    pub fn forget_attributes(&self, node: u64) -> Result<()> {
        self.forget(node, (-1i64).cast_unsigned(), 0)
    }

    /// Makes the kernel let go of pages of a file. It waits for those that others are reading or
    /// writing: not to be called by who has to answer these.
    pub fn forget_pages(&self, node: u64, offset: u64, length: usize) -> Result<()> {
        self.forget(node, offset, length as u64)
    }

    fn forget(&self, node: u64, offset: u64, length: u64) -> Result<()> {
        let mut message = Message::default();
        message.u64(node).u64(offset).u64(length);
        // ENOENT: the kernel does not know the node any more.
        self.send(&[message.finish(0, abi::NOTIFY_INVAL_INODE, 0)])
    }

    /// Makes the kernel look a name up again. Waits for whoever changes names in that directory
    /// (`fuse_reverse_inval_entry`, fs/fuse/dir.c), so it must not be called by a thread that they
    /// wait for.
    pub fn forget_name(&self, parent: u64, name: &[u8]) -> Result<()> {
        let mut message = Message::default();
        let len = u32::try_from(name.len()).map_err(|_| Errno::EINVAL)?;
        message.u64(parent).u32(len).zeros(4).bytes(name).zeros(1);
        // ENOENT: the kernel does not know the name.
        self.send(&[message.finish(0, abi::NOTIFY_INVAL_ENTRY, 0)])
    }
}

/// Whether an answer was not taken because the caller was killed, or the mount went.
pub fn nobody_waits(err: nix::errno::Errno) -> bool {
    matches!(err, nix::errno::Errno::ENOENT | nix::errno::Errno::ENODEV)
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
