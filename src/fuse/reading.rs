//! READ: from a file to the pages of the kernel.
//!
//! Short reads go through a buffer. Long ones go through a pipe, which takes references to the
//! pages of the file. The kernel copies from these to the pages of the reader, so data is copied
//! once instead of twice.

use std::cell::RefCell;
use std::os::fd::AsFd;

use super::handler::{Handler, finish_with};
use crate::error::Errno;
use crate::sys::memory;
use crate::transport::abi::OUT_HEADER;
use crate::transport::pipe::{self, Pipe};
use crate::transport::reply::Reply;
use crate::vfs::NodeId;

/// From so many bytes on, three calls and one copy are cheaper than two calls and two copies.
/// Measured with 128 KiB, the most that the kernel reads ahead: four fifths of the time.
const WORTH: usize = 64 << 10;

thread_local! {
    static ROOM: RefCell<Room> = RefCell::new(Room { buffer: memory::ready(WORTH), pipe: None });
}

/// The buffer and the pipe of a thread that reads.
struct Room {
    buffer: Vec<u8>,
    /// Empty between two reads. `None` before the first long read, and after one that failed.
    pipe: Option<Pipe>,
}

impl Room {
    /// The buffer, with at least so many bytes.
    fn buffer(&mut self, size: usize) -> &mut [u8] {
        if self.buffer.len() < size {
            self.buffer.resize(size, 0);
        }
        &mut self.buffer
    }
}

/// The part of a file that a request asks for.
#[derive(Clone, Copy)]
struct Wanted {
    id: NodeId,
    offset: u64,
    size: usize,
}

impl Handler {
    pub(super) fn read(&self, id: NodeId, offset: u64, size: usize, reply: Reply) {
        let wanted = Wanted { id, offset, size };
        ROOM.with_borrow_mut(|room| {
            let unanswered = match size {
                WORTH..=pipe::MOST => self.read_by_pipe(room, wanted, reply),
                _ => Some(reply),
            };
            if let Some(reply) = unanswered {
                self.read_by_buffer(room, wanted, reply);
            }
        });
    }

    fn read_by_buffer(&self, room: &mut Room, wanted: Wanted, reply: Reply) {
        let Wanted { id, offset, size } = wanted;
        let buffer = room.buffer(size);
        let answer = self
            .run("read", |vfs| vfs.read(id, offset, buffer.get_mut(..size).ok_or(Errno::EINVAL)?));
        finish_with(answer, reply, |reply, len| {
            reply.data(buffer.get(..len).unwrap_or_default());
        });
    }

    /// Reads by a pipe. Returns the reply if there is no pipe, or if it cannot take the file:
    /// reading by the buffer then finds out why.
    fn read_by_pipe(&self, room: &mut Room, wanted: Wanted, reply: Reply) -> Option<Reply> {
        let Wanted { id, offset, size } = wanted;
        let Some(pipe) = room.pipe.take().or_else(|| Pipe::new().ok()) else { return Some(reply) };
        let filled = self.run("read", |vfs| {
            let from = vfs.file_to_read(id)?;
            pipe.fill(&reply.header(size), (from.as_fd(), from.end()), offset, size)
        });
        match filled {
            Ok(len) if len == size => {
                if reply.piped(&pipe, size) {
                    room.pipe = Some(pipe);
                }
                None
            }
            // The header in the pipe announces too many bytes.
            Ok(len) => {
                let buffer = room.buffer(OUT_HEADER + size);
                let drained = self.run("read", |_| pipe.drain(buffer));
                if drained != Ok(OUT_HEADER + len) {
                    return Some(reply);
                }
                reply.data(buffer.get(OUT_HEADER..OUT_HEADER + len).unwrap_or_default());
                room.pipe = Some(pipe);
                None
            }
            Err(_) => Some(reply),
        }
    }
}
