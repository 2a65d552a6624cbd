//! Answers to requests.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use super::abi::{self, OUT_HEADER};
use super::device::Device;
use super::pipe::Pipe;
use super::wire::{self, Message};
use crate::error::{Errno, best_effort};
use crate::sys::file::FsStat;
use crate::sys::{FileType, Stat, Time};

/// Longest name, in bytes (`NAME_MAX`).
const NAME_LEN: u32 = 255;

/// The only answer to a request. If it is dropped unused, the answer is EIO, so that no caller
/// waits for ever.
#[derive(Debug)]
pub struct Reply {
    device: Arc<Device>,
    unique: u64,
    open: bool,
    /// Set if several threads may answer: decides which one does.
    claim: Option<Arc<dyn Claim>>,
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.open {
            self.message(Errno::EIO.raw(), &mut Message::default());
        }
    }
}

/// Decides which of several threads answers a request.
pub trait Claim: Send + Sync + std::fmt::Debug {
    /// Whether the caller may answer the request `unique`. Returns true only once.
    fn claim(&self, unique: u64) -> bool;
}

/// A name with its node, for answers to LOOKUP and the like.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Number by which the kernel refers to the node; never 0.
    pub node: u64,
    /// Distinguishes the node from an earlier one with the same number.
    pub generation: u32,
    /// Attributes of the node. `stat.ino` is the inode number that users see.
    pub stat: Stat,
}

/// One entry of a listing.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// Inode number that users see.
    pub number: u64,
    /// Type of the object.
    pub kind: FileType,
    /// Offset of the next entry.
    pub next: u64,
}

/// Answer to OPEN, OPENDIR and CREATE: how the kernel treats the opened object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenedAs {
    /// Flags from [`abi::open`].
    pub flags: u32,
    /// Id of the backing file, which the kernel reads and writes itself; 0 for none.
    pub backing: i32,
}

impl OpenedAs {
    /// The page cache survives the next open, because contents change only through the mount.
    pub const CACHED: Self = Self { flags: abi::open::KEEP_CACHE, backing: 0 };
}

/// How long the kernel may cache an answer.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    /// The mapping from the name to the node.
    pub name: Duration,
    /// Attributes of the node.
    pub attributes: Duration,
}

impl Lifetime {
    /// Uses one duration for both.
    pub fn of(time: Duration) -> Self {
        Self { name: time, attributes: time }
    }
}

impl Reply {
    /// Creates the answer to the request with this number.
    pub fn new(device: &Arc<Device>, unique: u64) -> Self {
        Self { device: Arc::clone(device), unique, open: true, claim: None }
    }

    /// Creates the answer to a request that other threads may answer too.
    pub fn claimed<C: Claim + 'static>(device: &Arc<Device>, unique: u64, claim: &Arc<C>) -> Self {
        let claim: Option<Arc<dyn Claim>> = Some(Arc::<C>::clone(claim));
        Self { device: Arc::clone(device), unique, open: true, claim }
    }

    /// Whether this thread may answer; if not, another thread has answered.
    fn claim(&mut self) -> bool {
        let claim = self.claim.as_ref();
        std::mem::replace(&mut self.open, false)
            && claim.is_none_or(|claim| claim.claim(self.unique))
    }

    /// Sends a message. False if another thread has answered.
    fn message(&mut self, errno: i32, message: &mut Message) -> bool {
        if !self.claim() {
            return false;
        }
        if errno != 0 {
            self.device.counters.failed(errno);
        }
        let sent = self.device.send(&[message.finish(self.unique, -errno, 0)]);
        best_effort("an answer is lost", sent);
        true
    }

    /// Answers with success and no data.
    pub fn ok(mut self) {
        self.message(0, &mut Message::default());
    }

    /// Drops the request without an answer, as FORGET has none.
    pub fn none(mut self) {
        self.open = false;
    }

    /// Answers with an error.
    pub fn error(self, errno: Errno) {
        self.refuse(errno);
    }

    /// Answers with an error. False if another thread has answered.
    pub fn refuse(mut self, errno: Errno) -> bool {
        self.message(errno.raw(), &mut Message::default())
    }

    /// Answers with a message.
    pub fn fields(mut self, mut message: Message) {
        self.message(0, &mut message);
    }

    /// Answers with bytes.
    pub fn data(mut self, data: &[u8]) {
        if !self.claim() {
            return;
        }
        let header = self.header(data.len());
        best_effort("an answer is lost", self.device.send(&[&header, data]));
    }

    /// Returns the header of an answer with `len` bytes.
    pub fn header(&self, len: usize) -> [u8; OUT_HEADER] {
        wire::header(OUT_HEADER + len, self.unique, 0)
    }

    /// Answers from a pipe with the header and `len` bytes. False if the pipe is unusable after it.
    pub fn piped(mut self, pipe: &Pipe, len: usize) -> bool {
        if !self.claim() {
            // The message stays in the pipe, so the pipe is lost.
            return false;
        }
        let sent = pipe.send(self.device.as_fd(), OUT_HEADER + len);
        let useful = matches!(sent, Ok(true));
        best_effort("an answer is lost", sent.map(drop));
        useful
    }

    /// Answers with a listing. False if another thread has answered: the kernel does not see it.
    pub fn listing(mut self, listing: Listing) -> bool {
        self.message(0, &mut { listing.message })
    }

    /// Answers with an entry. False if another thread has answered, as for [`Self::listing`].
    pub fn entry(mut self, entry: &Entry, lifetime: Lifetime) -> bool {
        let mut message = Message::default();
        put_entry(&mut message, entry, lifetime);
        self.message(0, &mut message)
    }

    /// Answers that a name does not exist, with an entry without a node, which the kernel caches.
    pub fn absent(self, lifetime: Lifetime) {
        let mut message = Message::default();
        put_no_node(&mut message, lifetime);
        self.fields(message);
    }

    /// Answers CREATE and TMPFILE: a new file, opened.
    pub fn created(self, entry: &Entry, lifetime: Lifetime, how: OpenedAs) {
        let mut message = Message::default();
        put_entry(&mut message, entry, lifetime);
        put_opened(&mut message, how);
        self.fields(message);
    }

    /// Answers OPEN and OPENDIR. False if another thread has answered; the object is not open then.
    pub fn opened(mut self, how: OpenedAs) -> bool {
        let mut message = Message::default();
        put_opened(&mut message, how);
        self.message(0, &mut message)
    }

    /// Answers with attributes.
    pub fn attributes(self, stat: &Stat, lifetime: Duration) {
        let mut message = Message::default();
        message.u64(lifetime.as_secs()).u32(lifetime.subsec_nanos()).zeros(4);
        put_attributes(&mut message, stat);
        self.fields(message);
    }

    /// Answers STATX: attributes, with the time of birth if the layer has it.
    pub fn statx(self, stat: &Stat, lifetime: Duration) {
        let mut message = Message::default();
        message.u64(lifetime.as_secs()).u32(lifetime.subsec_nanos()).zeros(4 + 16);
        put_statx(&mut message, stat);
        self.fields(message);
    }

    /// Answers with a number of bytes.
    pub fn written(self, len: usize) {
        let mut message = Message::default();
        message.u32(u32::try_from(len).unwrap_or(u32::MAX)).zeros(4);
        self.fields(message);
    }

    /// Answers with an offset.
    pub fn offset(self, offset: u64) {
        let mut message = Message::default();
        message.u64(offset);
        self.fields(message);
    }

    /// Answers with the value of an attribute or a list of attribute names. If `room` is 0, the
    /// answer is the size; if `room` is too small, it is ERANGE (getxattr(2)).
    pub fn attribute(self, bytes: &[u8], room: u32) {
        if room == 0 {
            // `fuse_getxattr_out` has the layout of `fuse_write_out`.
            return self.written(bytes.len());
        }
        if bytes.len() > room as usize {
            return self.error(Errno::ERANGE);
        }
        self.data(bytes);
    }

    /// Answers IOCTL with the bytes of its result.
    pub fn ioctl(self, bytes: &[u8]) {
        let mut message = Message::default();
        message.zeros(16).bytes(bytes);
        self.fields(message);
    }

    /// Answers STATFS.
    pub fn statfs(self, s: &FsStat) {
        let mut message = Message::default();
        for count in [s.blocks, s.bfree, s.bavail, s.files, s.ffree] {
            message.u64(count);
        }
        message.u32(s.bsize).u32(NAME_LEN).u32(s.frsize).zeros(28);
        self.fields(message);
    }
}

fn put_lifetimes(message: &mut Message, lifetime: Lifetime) {
    let Lifetime { name, attributes } = lifetime;
    message.u64(name.as_secs()).u64(attributes.as_secs());
    message.u32(name.subsec_nanos()).u32(attributes.subsec_nanos());
}

/// Writes a `fuse_entry_out`.
fn put_entry(message: &mut Message, entry: &Entry, lifetime: Lifetime) {
    // The kernel keeps the lower 32 bits (`i_generation`).
    message.u64(entry.node).u64(entry.generation.into());
    put_lifetimes(message, lifetime);
    put_attributes(message, &entry.stat);
}

/// Writes a `fuse_entry_out` without a node.
fn put_no_node(message: &mut Message, lifetime: Lifetime) {
    message.u64(0).u64(0);
    put_lifetimes(message, lifetime);
    message.zeros(ATTRIBUTES);
}

/// Writes a `fuse_open_out` without a handle: the server keeps nothing for an open file.
fn put_opened(message: &mut Message, how: OpenedAs) {
    message.u64(0).u32(how.flags).u32(how.backing.cast_unsigned());
}

/// Size of `fuse_attr`, in bytes.
const ATTRIBUTES: usize = 88;

/// The kernel's 32-bit encoding of a device number is the lower half of that of makedev(3).
fn device_number(stat: &Stat) -> u32 {
    u32::try_from(stat.rdev & u64::from(u32::MAX)).unwrap_or(0)
}

/// Writes a `fuse_attr`.
fn put_attributes(message: &mut Message, stat: &Stat) {
    message.u64(stat.ino).u64(stat.size).u64(stat.blocks);
    for time in [stat.atime, stat.mtime, stat.ctime] {
        // Seconds are signed, although the header file has them unsigned.
        message.u64(time.sec.cast_unsigned());
    }
    for time in [stat.atime, stat.mtime, stat.ctime] {
        message.u32(time.nsec);
    }
    message.u32(stat.mode).u32(stat.nlink).u32(stat.uid).u32(stat.gid);
    message.u32(device_number(stat)).u32(stat.blksize).u32(0);
}

/// Writes a `fuse_statx`.
fn put_statx(message: &mut Message, stat: &Stat) {
    let mask = match stat.btime {
        Some(_) => libc::STATX_BASIC_STATS | libc::STATX_BTIME,
        None => libc::STATX_BASIC_STATS,
    };
    message.u32(mask).u32(stat.blksize).u64(0);
    message.u32(stat.nlink).u32(stat.uid).u32(stat.gid);
    message.u16(u16::try_from(stat.mode).unwrap_or(0)).zeros(2);
    message.u64(stat.ino).u64(stat.size).u64(stat.blocks).u64(0);
    let born = stat.btime.unwrap_or_default();
    for Time { sec, nsec } in [stat.atime, born, stat.ctime, stat.mtime] {
        message.u64(sec.cast_unsigned()).u32(nsec).zeros(4);
    }
    message.u32(libc::major(stat.rdev)).u32(libc::minor(stat.rdev)).zeros(8 + 112);
}

/// Entries of a directory, as many as fit into the answer.
#[derive(Debug)]
pub struct Listing {
    message: Message,
    room: usize,
}

/// Sizes of `fuse_dirent` before the name, and of `fuse_entry_out`, in bytes.
const DIRENT: usize = 24;
const ENTRY: usize = 40 + ATTRIBUTES;

impl Listing {
    /// Creates an empty listing for `room` bytes.
    pub fn new(room: usize) -> Self {
        Self { message: Message::default(), room: room + OUT_HEADER }
    }

    /// Adds an entry. False if it does not fit.
    pub fn push(&mut self, entry: &DirEntry<'_>) -> bool {
        let fits = self.fits(DIRENT, entry.name);
        if fits {
            self.put_dirent(entry);
        }
        fits
    }

    /// Adds an entry with its node, if there is one to tell. False if it does not fit.
    pub fn push_plus(
        &mut self,
        entry: &DirEntry<'_>,
        node: Option<&Entry>,
        lifetime: Lifetime,
    ) -> bool {
        let fits = self.fits(ENTRY + DIRENT, entry.name);
        if fits {
            match node {
                Some(node) => put_entry(&mut self.message, node, lifetime),
                // The kernel treats this as a plain entry (fs/fuse/readdir.c).
                None => put_no_node(&mut self.message, Lifetime::of(Duration::ZERO)),
            }
            self.put_dirent(entry);
        }
        fits
    }

    fn fits(&self, before: usize, name: &[u8]) -> bool {
        self.message.size() + before + name.len().next_multiple_of(8) <= self.room
    }

    fn put_dirent(&mut self, entry: &DirEntry<'_>) {
        self.message.u64(entry.number).u64(entry.next);
        self.message.u32(u32::try_from(entry.name.len()).unwrap_or(0)).u32(type_of(entry.kind));
        let padding = entry.name.len().next_multiple_of(8) - entry.name.len();
        self.message.bytes(entry.name).zeros(padding);
    }
}

/// Returns the `d_type` of readdir(3).
fn type_of(kind: FileType) -> u32 {
    u32::from(kind as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat() -> Stat {
        let time = |sec| Time { sec, nsec: 7 };
        Stat {
            dev: 1,
            ino: 77,
            mode: libc::S_IFREG | 0o4755,
            nlink: 2,
            uid: 3,
            gid: 4,
            rdev: libc::makedev(8, 300),
            size: 5,
            blocks: 6,
            blksize: 4096,
            atime: time(-1),
            mtime: time(i64::MAX),
            ctime: time(9),
            btime: Some(time(-2)),
            protection: crate::sys::Protection::default(),
        }
    }

    /// The kernel requires these sizes to the byte (`fuse_copy_out_args`).
    #[test]
    fn structures_have_the_sizes_of_the_header_file() {
        let size = |put: &dyn Fn(&mut Message)| {
            let mut message = Message::default();
            put(&mut message);
            message.size() - OUT_HEADER
        };
        let entry = Entry { node: 5, generation: 0, stat: stat() };
        assert_eq!(size(&|m| put_attributes(m, &stat())), 88);
        assert_eq!(size(&|m| put_entry(m, &entry, Lifetime::of(Duration::ZERO))), 128);
        assert_eq!(size(&|m| put_no_node(m, Lifetime::of(Duration::ZERO))), 128);
        assert_eq!(size(&|m| put_opened(m, OpenedAs::default())), 16);
        assert_eq!(size(&|m| put_statx(m, &stat())), 256, "and 32 before it");
    }

    #[test]
    fn a_listing_stops_when_it_is_full() {
        let entry = DirEntry { name: b"name", number: 1, kind: FileType::Regular, next: 2 };
        let mut plain = Listing::new(2 * 32 + 31);
        assert!(plain.push(&entry) && plain.push(&entry));
        assert!(!plain.push(&entry));
        let zero = Lifetime::of(Duration::ZERO);
        let mut plus = Listing::new(128 + 32);
        assert!(plus.push_plus(&entry, None, zero));
        assert!(!plus.push_plus(&entry, None, zero));
        assert_eq!(plus.message.size(), OUT_HEADER + 160);
    }
}
