//! gzip on all processors, with a result that does not depend on their number.
//!
//! The input is cut into blocks of one size. Each is compressed separately, with the end of the
//! block before as dictionary, and ends at a byte boundary ("sync flush"). So the results form one
//! stream (RFC 1951), as in pigz(1). The output is one gzip member (RFC 1952), which every reader
//! accepts.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use parking_lot::Mutex;

/// Size of a block, in bytes: large enough that threads seldom synchronize, small enough that two
/// for each thread take little memory. pigz(1) uses 128 KiB.
const BLOCK: usize = 1 << 20;
/// Size of the window of deflate, in bytes (RFC 1951).
const WINDOW: usize = 1 << 15;
/// Magic, deflate, no flags, no time, no hints, unknown operating system. Other values would depend
/// on when and where the file was made.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// An empty last block with the fixed codes.
const END: [u8; 2] = [3, 0];

struct Job {
    dictionary: Vec<u8>,
    block: Vec<u8>,
    answer: SyncSender<io::Result<Vec<u8>>>,
}

/// Compresses the bytes written to it.
pub(super) struct Gzip<W: Write> {
    to: W,
    crc: Crc,
    /// Bytes of the block that is not full yet.
    block: Vec<u8>,
    /// End of the previous block.
    dictionary: Vec<u8>,
    jobs: Sender<Job>,
    /// Blocks that are being compressed, in order.
    pending: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    most_pending: usize,
}

impl<W: Write> Gzip<W> {
    /// Starts `threads` threads, which end when the value is dropped.
    pub fn new(mut to: W, threads: usize) -> io::Result<Self> {
        to.write_all(&HEADER)?;
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name("gzip".to_owned()).spawn(move || work(&queue))?;
        }
        Ok(Self {
            to,
            crc: Crc::new(),
            block: Vec::with_capacity(BLOCK),
            dictionary: Vec::new(),
            jobs,
            pending: VecDeque::new(),
            most_pending: 2 * threads.max(1),
        })
    }

    fn send(&mut self) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        self.crc.update(&block);
        let tail = block.get(block.len().saturating_sub(WINDOW)..).unwrap_or_default().to_vec();
        let dictionary = std::mem::replace(&mut self.dictionary, tail);
        let (answer, wanted) = sync_channel(1);
        self.jobs.send(Job { dictionary, block, answer }).map_err(|_| gone())?;
        self.pending.push_back(wanted);
        while self.pending.len() >= self.most_pending {
            self.take()?;
        }
        Ok(())
    }

    /// Writes the oldest pending block.
    fn take(&mut self) -> io::Result<()> {
        let Some(next) = self.pending.pop_front() else { return Ok(()) };
        self.to.write_all(&next.recv().map_err(|_| gone())??)
    }

    /// Writes the remaining blocks and the check sum.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            self.send()?;
        }
        while !self.pending.is_empty() {
            self.take()?;
        }
        self.to.write_all(&END)?;
        self.to.write_all(&self.crc.sum().to_le_bytes())?;
        // The length modulo 2^32 (RFC 1952).
        self.to.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.to)
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BLOCK - self.block.len();
        let part = bytes.get(..room).unwrap_or(bytes);
        self.block.extend_from_slice(part);
        if self.block.len() == BLOCK {
            self.send()?;
        }
        Ok(part.len())
    }

    /// A partial block is not written, as the result must not depend on flushes.
    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn gone() -> io::Error {
    io::Error::other("a thread that compresses is gone")
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is released before the work begins.
        let job = queue.lock().recv();
        let Ok(Job { dictionary, block, answer }) = job else { return };
        // A failure means that the writer is gone and does not need the block.
        answer.send(compress(&dictionary, &block)).ok();
    }
}

fn compress(dictionary: &[u8], block: &[u8]) -> io::Result<Vec<u8>> {
    let mut deflate = Compress::new(Compression::default(), false);
    if !dictionary.is_empty() {
        deflate.set_dictionary(dictionary)?;
    }
    let mut out = Vec::with_capacity(block.len() / 2);
    loop {
        // The flush is complete once it leaves room (`deflate`, zlib.h).
        out.reserve(WINDOW);
        let read = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let rest = block.get(read..).unwrap_or_default();
        match deflate.compress_vec(rest, &mut out, FlushCompress::Sync)? {
            Status::Ok | Status::BufError if out.len() == out.capacity() => {}
            _ => break,
        }
    }
    if usize::try_from(deflate.total_in()) == Ok(block.len()) { Ok(out) } else { Err(gone()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn pack(data: &[u8], threads: usize, piece: usize) -> Vec<u8> {
        let mut writer = Gzip::new(Vec::new(), threads).unwrap();
        for piece in data.chunks(piece) {
            writer.write_all(piece).unwrap();
            writer.flush().unwrap();
        }
        writer.finish().unwrap()
    }

    /// Returns repetitive text, followed by bytes that cannot be compressed.
    fn data(len: usize) -> Vec<u8> {
        let mut state = 1u64;
        let noise = std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        });
        b"some text, some more "
            .iter()
            .copied()
            .cycle()
            .take(len / 2)
            .chain(noise)
            .take(len)
            .collect()
    }

    #[test]
    fn the_bytes_do_not_depend_on_threads_and_pieces() {
        for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 17] {
            let data = data(len);
            let once = pack(&data, 1, len.max(1));
            assert!(once == pack(&data, 3, 70_001), "{len}");
            assert!(once == pack(&data, 8, 1 << 16), "{len}");
            let mut back = Vec::new();
            // There is one member, and nothing after it.
            let mut reader = flate2::bufread::GzDecoder::new(&*once);
            reader.read_to_end(&mut back).unwrap();
            assert!(back == data && reader.into_inner().is_empty(), "{len}");
        }
    }

    /// The dictionary makes up for the cuts.
    #[test]
    fn not_longer_than_in_one_piece() {
        let data = data(6 * BLOCK);
        let mut whole = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
        whole.write_all(&data).unwrap();
        let (whole, cut) = (whole.finish().unwrap().len(), pack(&data, 2, BLOCK).len());
        assert!(cut <= whole + whole / 200, "{cut}, and {whole} in one piece");
    }

    #[test]
    fn an_error_of_the_writer_is_told_and_the_threads_end() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = Gzip::new(Full(BLOCK), 2).unwrap();
        let err = writer.write_all(&data(40 * BLOCK)).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::StorageFull);
    }
}
