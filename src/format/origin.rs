//! The lower object from which a copy in the upper was made: `P origin`.
//!
//! The value is a file handle with a header in front (`struct ovl_fb`, fs/overlayfs/overlayfs.h).
//! An empty value stands for a copy of unknown origin. The server writes the mark so that the
//! kernel can show the same inode numbers later, and reads the inode number from it.

use crate::sys::uuid::{UUID_LEN, Uuid};

/// Length of the header, in bytes: version, magic, length, flags, type, UUID of the file system.
const HEADER: usize = 21;
const VERSION: u8 = 0;
const MAGIC: u8 = 0xfb;
/// Set if the machine that wrote the handle was big-endian (`OVL_FH_FLAG_BIG_ENDIAN`).
const BIG_ENDIAN: u8 = 1;
/// Set on the handle of a directory of the upper (`OVL_FH_FLAG_PATH_UPPER`).
const PATH_UPPER: u8 = 4;

// Kinds of handles, linux/exportfs.h.
/// 32 bits of inode number and a generation. On tmpfs: a generation and 64 bits of inode number.
const INO32_GEN: u8 = 0x01;
/// 64 bits of inode number and a generation. xfs stores one number (`xfs_fid64`), others store the
/// higher half first (`erofs_encode_fh`, `fuse_encode_fh`).
const INO64_GEN: u8 = 0x81;
/// Object id and tree, as btrfs writes them: without a parent, with one, with one in another tree.
const BTRFS: [u8; 3] = [0x4d, 0x4e, 0x4f];

/// The layer of the object that a handle names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// An object of a lower.
    Lower,
    /// The root of the upper, in the mark on the directory of the index (`OVL_FH_FLAG_PATH_UPPER`).
    Upper,
}

/// Facts that a value states about the lower object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// UUID of the file system, if there is one and the writer of the value knew it.
    pub uuid: Option<Uuid>,
    /// Tree (subvolume) that the inode number belongs to; only btrfs has several.
    pub tree: Option<u64>,
    /// The inode number.
    pub ino: u64,
    /// The inode number consists of two halves, and some file systems store the higher one first.
    pub in_halves: bool,
}

impl Origin {
    /// Returns the inode number with its halves swapped.
    #[must_use]
    pub fn other_way_round(&self) -> u64 {
        self.ino.rotate_left(32)
    }
}

/// Encodes a handle as the kernel does; empty if the handle is too long for the length byte.
#[must_use]
pub fn encode(side: Side, uuid: Option<Uuid>, kind: u8, handle: &[u8]) -> Vec<u8> {
    let endian = if cfg!(target_endian = "big") { BIG_ENDIAN } else { 0 };
    let flags = endian | if side == Side::Upper { PATH_UPPER } else { 0 };
    let Ok(len) = u8::try_from(HEADER + handle.len()) else { return Vec::new() };
    let mut out = vec![VERSION, MAGIC, len, flags, kind];
    out.extend_from_slice(&Uuid::bytes(uuid));
    out.extend_from_slice(handle);
    out
}

/// Decodes a value; `None` if it is malformed, of another byte order or of an unknown kind.
#[must_use]
pub fn decode(value: &[u8]) -> Option<Origin> {
    let (&[version, magic, len, flags, kind], rest) = value.split_first_chunk::<5>()?;
    let here = if cfg!(target_endian = "big") { BIG_ENDIAN } else { 0 };
    let foreign = version != VERSION || magic != MAGIC || flags & BIG_ENDIAN != here;
    if foreign || usize::from(len) != value.len() {
        return None;
    }
    let (uuid, handle) = rest.split_first_chunk::<UUID_LEN>()?;
    let word = |at: usize| Some(u32::from_ne_bytes(*handle.get(at..)?.first_chunk()?));
    let long = |at: usize| Some(u64::from_ne_bytes(*handle.get(at..)?.first_chunk()?));
    let (ino, tree) = match (kind, handle.len()) {
        (INO32_GEN, 8) => (word(0)?.into(), None),
        (INO32_GEN, 12) => (u64::from(word(4)?) | u64::from(word(8)?) << 32, None),
        (INO64_GEN, _) => (long(0)?, None),
        (kind, _) if BTRFS.contains(&kind) => (long(0)?, Some(long(8)?)),
        _ => return None,
    };
    Some(Origin { uuid: Uuid::new(*uuid), tree, ino, in_halves: kind == INO64_GEN })
}

/// Whether a value has the form of a handle, of any kind (`ovl_check_fb_len`,
/// fs/overlayfs/namei.c).
#[must_use]
pub fn is_handle(value: &[u8]) -> bool {
    let header = matches!(*value, [VERSION, MAGIC, len, ..] if usize::from(len) == value.len());
    header && value.len() > HEADER
}

/// A value, classified as the kernel does (`ovl_check_fb_len`, fs/overlayfs/namei.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A handle that this machine can try to open.
    Handle {
        /// Type of the handle (`handle_type`, open_by_handle_at(2)).
        kind: u8,
        /// The bytes of the handle (`f_handle`, open_by_handle_at(2)).
        bytes: &'a [u8],
    },
    /// Empty, or well formed but of a later version, with unknown flags or of the other byte order.
    Unknown,
    /// A malformed value. The kernel warns and ignores it.
    Malformed,
}

/// Splits a value into its parts.
#[must_use]
pub fn read(value: &[u8]) -> Value<'_> {
    // OVL_FH_FLAG_ALL, and OVL_FH_FLAG_ANY_ENDIAN in it (fs/overlayfs/overlayfs.h).
    const ALL: u8 = 7;
    const ANY_ENDIAN: u8 = 2;
    if value.is_empty() {
        return Value::Unknown;
    }
    let Some((&[version, magic, len, flags, kind], _)) = value.split_first_chunk::<5>() else {
        return Value::Malformed;
    };
    let len = usize::from(len);
    if magic != MAGIC || value.len() < HEADER.max(len) {
        return Value::Malformed;
    }
    let here = if cfg!(target_endian = "big") { BIG_ENDIAN } else { 0 };
    let readable = flags & ANY_ENDIAN != 0 || flags & BIG_ENDIAN == here;
    match value.get(HEADER..len) {
        Some(bytes) if version == VERSION && flags & !ALL == 0 && readable && !bytes.is_empty() => {
            Value::Handle { kind, bytes }
        }
        _ => Value::Unknown,
    }
}

/// Whether the file system of a handle has inode numbers of at most 32 bits. The kernel composes
/// its own numbers accordingly (`ovl_can_decode_fh`, fs/overlayfs/util.c).
#[must_use]
pub fn has_short_numbers(kind: u8, handle: &[u8]) -> bool {
    kind == INO32_GEN && handle.len() == 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uuid() -> Option<Uuid> {
        Uuid::new([0x54; UUID_LEN])
    }

    fn ino(value: &[u8]) -> Option<u64> {
        decode(value).map(|origin| origin.ino)
    }

    /// Values that Linux 6.18 wrote on ext4: without a UUID, and with one.
    #[test]
    fn kernel_values() {
        let value = [
            0x00, 0xfb, 0x1d, 0x00, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x3d,
            0x43, 0x99, 0x00, 0x43, 0x17, 0x5f, 0xd1,
        ];
        assert_eq!(
            decode(&value),
            Some(Origin { uuid: None, tree: None, ino: 0x0099_433d, in_halves: false })
        );
        assert_eq!(encode(Side::Lower, None, 1, &value[21..]), value);
        let value = [
            0x00, 0xfb, 0x1d, 0x04, 0x01, 0x54, 0x94, 0xe7, 0x19, 0xa0, 0x05, 0x40, 0x4f, 0x93,
            0x1a, 0xd1, 0xfe, 0x05, 0xb3, 0xf5, 0x94, 0x01, 0x08, 0, 0, 0xea, 0xe7, 0x9b, 0x12,
        ];
        assert_eq!(ino(&value), Some(0x801));
        let uuid = Uuid::new(value[5..21].try_into().unwrap());
        assert_eq!(encode(Side::Upper, uuid, 1, &value[21..]), value);
    }

    /// tmpfs stores the generation first. The inode number was once read at bytes 1 and 2, so that
    /// no copy kept its number on tmpfs.
    #[test]
    fn a_value_of_tmpfs() {
        let handle = [0x17, 0x3c, 0x28, 0xc0, 0x3f, 0xa5, 0x76, 0, 1, 0, 0, 0];
        assert_eq!(ino(&encode(Side::Lower, uuid(), 1, &handle)), Some(0x1_0076_a53f));
    }

    #[test]
    fn trees_of_btrfs_are_told_apart() {
        let handle = [300u64.to_ne_bytes(), 256u64.to_ne_bytes()].concat();
        let value = encode(Side::Lower, uuid(), 0x4d, &[&handle[..], &[0; 4]].concat());
        assert_eq!(
            decode(&value),
            Some(Origin { uuid: uuid(), tree: Some(256), ino: 300, in_halves: false })
        );
    }

    #[test]
    fn values_as_the_kernel_takes_them() {
        let good = encode(Side::Lower, uuid(), 1, &[1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(read(&good), Value::Handle { kind: 1, bytes: &good[21..] });
        for cut in 1..good.len() {
            assert_eq!(read(&good[..cut]), Value::Malformed, "{cut}");
        }
        let with = |at: usize, byte: u8| {
            let mut value = good.clone();
            value[at] = byte;
            value
        };
        assert_eq!(read(b""), Value::Unknown);
        assert_eq!(read(&with(0, 1)), Value::Unknown, "a later version");
        assert_eq!(read(&with(3, 8)), Value::Unknown, "a later flag");
        assert_eq!(read(&with(3, good[3] ^ BIG_ENDIAN)), Value::Unknown, "the other byte order");
        assert_eq!(read(&with(1, 0)), Value::Malformed);
        assert_eq!(read(&with(2, 21)), Value::Unknown, "nothing behind the header");
    }

    #[test]
    fn rubbish_says_nothing() {
        let lower = |kind, handle: &[u8]| encode(Side::Lower, uuid(), kind, handle);
        let good = lower(1, &[1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(ino(&good), Some(1));
        for cut in 0..good.len() {
            assert_eq!(ino(&good[..cut]), None, "{cut}");
        }
        assert_eq!(ino(&[0xff; 29]), None);
        assert_eq!(ino(&lower(0x77, &[1; 8])), None, "an unknown kind");
        assert_eq!(ino(&lower(0x81, &[1; 4])), None, "too short");
        assert_eq!(lower(1, &[0; 300]), b"");
    }
}
