//! UUIDs of file systems, also on kernels that do not tell them by one call (before Linux 6.9).
//!
//! The kernel's overlayfs knows the UUID of every file system, and writes it into layers. To take
//! over its layers, or to hand layers to it, we need the same UUIDs.
//!
//! # References
//! `FS_IOC_GETFSUUID` in linux/fs.h; `struct fsuuid` in fs/ext4/ext4.h; the superblock in
//! Documentation/filesystems/ext4/super.rst; ioctl_xfs_fsgeometry(2).

#![allow(unsafe_code)]

use std::fs::{self, File};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use nix::request_code_read;

use super::file::{FsKind, fs_kind};
use super::ioctl::number;
use super::result::check;
use super::stat;
use crate::error::Result;

/// Size of a UUID, in bytes.
pub const UUID_LEN: usize = 16;

/// `FS_IOC_GETFSUUID` of linux/fs.h (Linux 6.9): a length and up to 16 bytes.
const GETFSUUID: u32 = number(request_code_read!(0x15, 0, 1 + UUID_LEN));

/// The UUID of a file system. It is never all zeros, which say that there is no UUID
/// (`uuid_is_null`, linux/uuid.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uuid([u8; UUID_LEN]);

impl Uuid {
    /// The UUID of these bytes; `None` for zeros.
    #[must_use]
    pub fn new(bytes: [u8; UUID_LEN]) -> Option<Self> {
        (bytes != [0; UUID_LEN]).then_some(Self(bytes))
    }

    /// The bytes that the kernel writes for a UUID, or for none.
    #[must_use]
    pub fn bytes(uuid: Option<Self>) -> [u8; UUID_LEN] {
        uuid.map_or([0; UUID_LEN], |uuid| uuid.0)
    }
}

/// The UUID of a file system; `None` if it has none, or if it cannot be found out.
///
/// # Errors
/// Errors that may pass: EIO, ENOMEM.
pub fn fs_uuid(fd: BorrowedFd<'_>) -> Result<Option<Uuid>> {
    Ok(told(fd)?.or_else(|| by_kind(fd)).and_then(Uuid::new))
}

/// The UUID that the kernel tells; `None` if it tells none.
fn told(fd: BorrowedFd<'_>) -> Result<Option<[u8; UUID_LEN]>> {
    let mut out = [0u8; 1 + UUID_LEN];
    // SAFETY: the kernel writes one struct fsuuid2, for which there is room.
    match check(unsafe { libc::ioctl(fd.as_raw_fd(), GETFSUUID.into(), out.as_mut_ptr()) }) {
        Err(err) if err.errno().may_pass() => return Err(err),
        Err(_) => return Ok(None),
        Ok(_) => {}
    }
    let [len, uuid @ ..] = out;
    Ok((usize::from(len) == UUID_LEN).then_some(uuid))
}

/// The bytes of a UUID, which may be all zero.
type Bytes = [u8; UUID_LEN];

/// `EXT4_IOC_GETFSUUID` (Linux 6.0): two words, then room for the UUID.
const EXT4_GETFSUUID: u32 = number(request_code_read!(b'f', 44, 8));

/// `XFS_IOC_FSGEOMETRY_V1`, which every release has.
const XFS_FSGEOMETRY: u32 = number(request_code_read!(b'X', 100, GEOMETRY_LEN));
/// Size of `struct xfs_fsop_geom_v1`, in bytes.
const GEOMETRY_LEN: usize = 112;
/// Offset of the UUID in it, behind eight fields of four bytes and four of eight bytes.
const GEOMETRY_UUID: usize = 64;

/// Offset of the superblock of ext4 on its device, in bytes.
const SUPERBLOCK: u64 = 1024;
/// Offset of `s_magic` in it.
const SUPERBLOCK_MAGIC: usize = 0x38;
/// Offset of `s_uuid` in it.
const SUPERBLOCK_UUID: usize = 0x68;

/// The UUID of the file system of `fd`, in the ways that file systems of its kind have; `None` if
/// no way leads to it.
fn by_kind(fd: BorrowedFd<'_>) -> Option<Bytes> {
    match fs_kind(fd).ok()?.magic {
        FsKind::EXT4 => {
            let device = stat::fstat(fd).ok()?.dev;
            of_ext4(fd).or_else(|| on_device(device)).or_else(|| by_link(device))
        }
        FsKind::XFS => of_xfs(fd),
        _ => None,
    }
}

fn of_ext4(fd: BorrowedFd<'_>) -> Option<Bytes> {
    let mut out = [0u8; 8 + UUID_LEN];
    let room = u32::try_from(UUID_LEN).ok()?;
    out.get_mut(..4)?.copy_from_slice(&room.to_ne_bytes());
    // SAFETY: the kernel reads the two words and writes as many bytes behind them as they say.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), EXT4_GETFSUUID.into(), out.as_mut_ptr()) }).ok()?;
    uuid_at(&out, 8)
}

fn of_xfs(fd: BorrowedFd<'_>) -> Option<Bytes> {
    let mut out = [0u8; GEOMETRY_LEN];
    // SAFETY: the kernel writes one struct xfs_fsop_geom_v1, for which there is room.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), XFS_FSGEOMETRY.into(), out.as_mut_ptr()) }).ok()?;
    uuid_at(&out, GEOMETRY_UUID)
}

/// The UUID in the superblock of ext4, which is read from the device: that takes privilege.
fn on_device(device: u64) -> Option<Bytes> {
    let (major, minor) = (libc::major(device), libc::minor(device));
    let facts = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent")).ok()?;
    let name = facts.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    let path = Path::new("/dev").join(name);
    if !is_device(&path, device) {
        return None;
    }
    let mut block = [0u8; SUPERBLOCK_UUID + UUID_LEN];
    File::open(path).ok()?.read_exact_at(&mut block, SUPERBLOCK).ok()?;
    let magic = block.get(SUPERBLOCK_MAGIC..)?.first_chunk()?;
    let is_ext4 = u32::from(u16::from_le_bytes(*magic)) == FsKind::EXT4;
    is_ext4.then(|| uuid_at(&block, SUPERBLOCK_UUID)).flatten()
}

/// The UUID by which udev has named the device.
fn by_link(device: u64) -> Option<Bytes> {
    let links = fs::read_dir("/dev/disk/by-uuid").ok()?;
    let mut links = links.flatten().filter(|link| is_device(&link.path(), device));
    parse(links.next()?.file_name().to_str()?)
}

fn is_device(path: &Path, device: u64) -> bool {
    fs::metadata(path)
        .is_ok_and(|found| found.file_type().is_block_device() && found.rdev() == device)
}

/// The UUID of a text of 32 hexadecimal digits with hyphens between them.
fn parse(text: &str) -> Option<Bytes> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    bytes?.try_into().ok()
}

fn uuid_at(bytes: &[u8], offset: usize) -> Option<Bytes> {
    bytes.get(offset..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_name_of_udev() {
        let uuid = parse("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        assert_eq!((uuid[0], uuid[1], uuid[15]), (0, 0x11, 0xff));
        for text in ["", "1234-ABCD", "00112233-4455-6677-8899-aabbccddeefg"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    /// Where the kernel tells the UUID, all other ways lead to the same one.
    #[test]
    fn each_way_says_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let dir = File::open(dir.path()).unwrap();
        let Some(known) = fs_uuid(dir.as_fd()).unwrap() else { return };
        let known = Uuid::bytes(Some(known));
        assert!(by_kind(dir.as_fd()).is_none_or(|uuid| uuid == known));
        if fs_kind(dir.as_fd()).unwrap().magic != FsKind::EXT4 {
            return;
        }
        let device = stat::fstat(dir.as_fd()).unwrap().dev;
        assert!(of_ext4(dir.as_fd()).is_none_or(|uuid| uuid == known));
        for found in [on_device(device), by_link(device)].into_iter().flatten() {
            assert_eq!(found, known);
        }
    }
}
