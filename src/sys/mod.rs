//! The system calls that the engine stands on.
//!
//! This is the only module with `unsafe` and with raw `libc` calls. A function that works on a
//! layer takes a descriptor and at most one [`Name`], and never a path with a slash in it, so no
//! symbolic link in a layer can lead it astray.
//!
//! Where `rustix` has a wrapper, it is used. It makes one system call and nothing else: its feature
//! `linux_4_11` has it take statx(2) for granted. Calls that it lacks are made through `libc`.

pub mod at;
pub mod backing;
pub mod commit;
pub mod copy;
pub mod creds;
pub mod daemon;
pub mod descriptors;
pub mod dir;
pub mod file;
pub mod fusermount;
pub mod handle;
pub mod ioctl;
pub mod locks;
pub mod memory;
pub mod mount;
pub mod mountinfo;
pub mod name;
pub mod overflow;
pub mod process;
mod result;
pub mod server;
pub mod stat;
pub mod trail;
pub mod uuid;
pub mod writable;
pub mod xattr;

pub use name::{Name, Target};
pub use stat::{FileType, Protection, Stat, Time};
pub use writable::{OwnedWritable, Writable, WritableFd};
