//! Which lower object a copy in the upper came from: `P origin`.
//!
//! The value is a file handle with a header in front (`struct ovl_fb`, fs/overlayfs/overlayfs.h),
//! or nothing for "copied up, from where is not known". We write it so that the kernel can go on
//! with the same inode numbers, and read the number out of it.

/// Version, magic, length, flags, type, UUID of the file system; in bytes.
const HEADER: usize = 21;
const VERSION: u8 = 0;
const MAGIC: u8 = 0xfb;
/// Set if the machine that wrote the handle was big-endian (`OVL_FH_FLAG_BIG_ENDIAN`).
const BIG_ENDIAN: u8 = 1;

// Kinds of handles, linux/exportfs.h.
/// 32 bits of inode number and a generation; on tmpfs the generation and 64 bits of number.
const INO32_GEN: u8 = 0x01;
/// 64 bits of inode number and a generation (xfs).
const INO64_GEN: u8 = 0x81;
/// Object id and tree (btrfs, without and with a parent).
const BTRFS: [u8; 3] = [0x4d, 0x4e, 0x4f];

/// The value for a handle, as the kernel writes it.
#[must_use]
pub fn encode(kind: u8, handle: &[u8]) -> Vec<u8> {
    let flags = if cfg!(target_endian = "big") { BIG_ENDIAN } else { 0 };
    let len = u8::try_from(HEADER + handle.len()).unwrap_or(0);
    if len == 0 {
        return Vec::new();
    }
    let mut out = vec![VERSION, MAGIC, len, flags, kind];
    // The UUID that the kernel leaves empty too when all layers lie on one file system.
    out.resize(HEADER, 0);
    out.extend_from_slice(handle);
    out
}

/// The inode number in a value; `None` for what is unknown, foreign or malformed, which all means
/// that nothing is known.
#[must_use]
pub fn inode(value: &[u8]) -> Option<u64> {
    let (&[version, magic, len, flags, kind], rest) = value.split_first_chunk::<5>()?;
    let here = if cfg!(target_endian = "big") { BIG_ENDIAN } else { 0 };
    let foreign = version != VERSION || magic != MAGIC || flags & BIG_ENDIAN != here;
    if foreign || usize::from(len) != value.len() {
        return None;
    }
    let handle = rest.get(HEADER - 5..)?;
    let word = |at: usize| Some(u32::from_ne_bytes(*handle.get(at..)?.first_chunk()?));
    let long = |at: usize| Some(u64::from_ne_bytes(*handle.get(at..)?.first_chunk()?));
    match (kind, handle.len()) {
        (INO32_GEN, 8) => Some(word(0)?.into()),
        (INO32_GEN, 12) => Some(u64::from(word(1)?) | u64::from(word(2)?) << 32),
        (INO64_GEN, _) => long(0),
        (kind, _) if BTRFS.contains(&kind) => long(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value that Linux 6.18 wrote on ext4.
    #[test]
    fn a_kernel_value() {
        let value = [
            0x00, 0xfb, 0x1d, 0x00, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x3d,
            0x43, 0x99, 0x00, 0x43, 0x17, 0x5f, 0xd1,
        ];
        assert_eq!(inode(&value), Some(0x0099_433d));
        assert_eq!(encode(1, &value[21..]), value);
    }

    #[test]
    fn rubbish_says_nothing() {
        let good = encode(1, &[1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(inode(&good), Some(1));
        for cut in 0..good.len() {
            assert_eq!(inode(&good[..cut]), None, "{cut}");
        }
        assert_eq!(inode(&[0xff; 29]), None);
        assert_eq!(inode(&encode(0x77, &[1; 8])), None, "an unknown kind");
        assert_eq!(inode(&encode(0x81, &[1; 4])), None, "too short");
        assert_eq!(encode(1, &[0; 300]), b"");
    }
}
