//! Owner, mode and type of an object in an extended attribute instead of its inode.
//!
//! This is for file systems that cannot store the real ones, and for users who may not set them.
//! The value is `UID:GID:MODE` or `UID:GID:MODE:TYPE`. Ids are decimal, the mode is octal, the type
//! is one of `file`, `dir`, `symlink`, `pipe`, `socket`, `block-MAJOR-MINOR`, `char-MAJOR-MINOR`. A
//! layer whose root has the attribute has it on files and directories. A regular file may stand for
//! any type except a directory. One that stands for a symbolic link contains the target.
//!
//! containers/storage writes the longer form. fuse-overlayfs writes the shorter one, with the type
//! of the object in the mode (`0:0:100644`). The server writes the longer form.

use std::ffi::CStr;

use crate::id::Id;
use crate::sys::creds::Owner;
use crate::sys::{FileType, Stat};

/// Name of the attribute in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// `security.fuseoverlayfs.override_stat`, which takes privilege to set.
    Security,
    /// `user.containers.override_stat`.
    Containers,
    /// `user.fuseoverlayfs.override_stat`, which older releases of fuse-overlayfs write.
    FuseOverlayfs,
}

impl Spelling {
    /// All names, in order of precedence: a layer uses the first that its root has.
    pub const ALL: [Self; 3] = [Self::Security, Self::Containers, Self::FuseOverlayfs];

    /// Full name of the attribute.
    #[must_use]
    pub const fn key(self) -> &'static CStr {
        match self {
            Self::Security => c"security.fuseoverlayfs.override_stat",
            Self::Containers => c"user.containers.override_stat",
            Self::FuseOverlayfs => c"user.fuseoverlayfs.override_stat",
        }
    }
}

/// Limits of device numbers: `MINORBITS`, and the bits that it leaves of 32 (linux/kdev_t.h).
const MAJORS: u32 = 1 << 12;
const MINORS: u32 = 1 << 20;

/// A parsed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Override {
    uid: Id,
    gid: Id,
    mode: u32,
    kind: Option<FileType>,
    rdev: u64,
}

/// Returns the attributes that `real` stands for; `None` if `value` is malformed, or gives a type
/// that an object of this type cannot stand for.
#[must_use]
pub fn apply(real: &Stat, value: &[u8]) -> Option<Stat> {
    let Override { uid, gid, mode, kind, rdev } = parse(value)?;
    let kind = match (real.kind(), kind.unwrap_or(real.kind())) {
        (FileType::Directory, FileType::Directory) => FileType::Directory,
        (FileType::Regular, kind) if kind != FileType::Directory => kind,
        _ => return None,
    };
    let (uid, gid) = (uid.number(), gid.number());
    Some(Stat { uid, gid, mode: kind.mode() | mode, rdev, ..*real })
}

fn parse(value: &[u8]) -> Option<Override> {
    let mut words = std::str::from_utf8(value).ok()?.split(':');
    let (uid, gid) = (number(words.next()?, 10)?, number(words.next()?, 10)?);
    let (uid, gid) = (Id::new(uid)?, Id::new(gid)?);
    let mode = number(words.next()?, 8)?;
    if mode & !(libc::S_IFMT | 0o7777) != 0 {
        return None;
    }
    let (kind, rdev) = match (words.next(), mode & libc::S_IFMT) {
        (Some(word), _) => parse_type(word)?,
        (None, 0) => (None, 0),
        // The shorter form can hold no other types.
        (None, libc::S_IFREG) => (Some(FileType::Regular), 0),
        (None, libc::S_IFDIR) => (Some(FileType::Directory), 0),
        (None, _) => return None,
    };
    if words.next().is_some() {
        return None;
    }
    Some(Override { uid, gid, mode: mode & 0o7777, kind, rdev })
}

fn parse_type(word: &str) -> Option<(Option<FileType>, u64)> {
    let kind = match word {
        "file" => FileType::Regular,
        "dir" => FileType::Directory,
        "symlink" => FileType::Symlink,
        "pipe" => FileType::Fifo,
        "socket" => FileType::Socket,
        _ => {
            let (word, numbers) = word.split_once('-')?;
            let (major, minor) = numbers.split_once('-')?;
            let (major, minor) = (number(major, 10)?, number(minor, 10)?);
            let kind = match word {
                "block" => FileType::BlockDevice,
                // A device 0:0 would be a whiteout, and no user can make one.
                "char" if (major, minor) == (0, 0) => return None,
                "char" => FileType::CharDevice,
                _ => return None,
            };
            let fits = major < MAJORS && minor < MINORS;
            return fits.then(|| (Some(kind), libc::makedev(major, minor)));
        }
    };
    Some((Some(kind), 0))
}

/// Parses a number without sign.
fn number(word: &str, radix: u32) -> Option<u32> {
    let digits = !word.is_empty() && word.chars().all(|c| c.is_digit(radix));
    if digits { u32::from_str_radix(word, radix).ok() } else { None }
}

/// Encodes `stat` as a value; `None` if an owner has no number.
#[must_use]
pub fn value(stat: &Stat) -> Option<Vec<u8>> {
    let Owner { uid, gid } = stat.owner()?;
    let (major, minor) = (libc::major(stat.rdev), libc::minor(stat.rdev));
    let kind = match stat.kind() {
        FileType::Regular => "file".to_owned(),
        FileType::Directory => "dir".to_owned(),
        FileType::Symlink => "symlink".to_owned(),
        FileType::Fifo => "pipe".to_owned(),
        FileType::Socket => "socket".to_owned(),
        FileType::BlockDevice => format!("block-{major}-{minor}"),
        FileType::CharDevice => format!("char-{major}-{minor}"),
    };
    Some(format!("{uid}:{gid}:{:04o}:{kind}", stat.permissions()).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Time;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn real(mode: u32) -> Stat {
        let time = Time { sec: 1, nsec: 2 };
        Stat {
            dev: 1,
            ino: 2,
            mode,
            nlink: 1,
            uid: 1000,
            gid: 1000,
            rdev: 0,
            size: 3,
            blocks: 8,
            blksize: 4096,
            atime: time,
            mtime: time,
            ctime: time,
            btime: None,
            protection: crate::sys::Protection::default(),
        }
    }

    fn of_file(value: &str) -> Option<Stat> {
        apply(&real(libc::S_IFREG | 0o600), value.as_bytes())
    }

    #[test]
    fn what_each_writer_writes() {
        for (value, uid, gid, mode, rdev) in [
            ("0:0:100644", 0, 0, 0o100_644, 0),
            ("5:6:4755", 5, 6, 0o104_755, 0),
            ("1000:1011:0644:file", 1000, 1011, 0o100_644, 0),
            ("1:2:0777:symlink", 1, 2, 0o120_777, 0),
            ("1003:1014:0666:pipe", 1003, 1014, 0o010_666, 0),
            ("1:2:0700:socket", 1, 2, 0o140_700, 0),
            ("1:2:0600:block-8-1", 1, 2, 0o060_600, libc::makedev(8, 1)),
            ("1:2:20600:char-1-3", 1, 2, 0o020_600, libc::makedev(1, 3)),
            ("4294967294:0:0", 4_294_967_294, 0, 0o100_000, 0),
        ] {
            let stat = of_file(value).unwrap();
            assert_eq!(
                (stat.uid, stat.gid, stat.mode, stat.rdev),
                (uid, gid, mode, rdev),
                "{value}"
            );
            assert_eq!((stat.ino, stat.size), (2, 3), "the rest is real");
        }
        let dir = real(libc::S_IFDIR | 0o700);
        for value in ["7:8:40755", "7:8:0755:dir", "7:8:755"] {
            let stat = apply(&dir, value.as_bytes()).unwrap();
            assert_eq!((stat.uid, stat.gid, stat.mode), (7, 8, 0o040_755), "{value}");
        }
    }

    #[test]
    fn nobody_gets_no_value() {
        let real = real(libc::S_IFREG | 0o600);
        assert_eq!(value(&real).unwrap(), b"1000:1000:0600:file");
        assert_eq!(value(&Stat { uid: u32::MAX, ..real }), None);
        assert_eq!(value(&Stat { gid: u32::MAX, ..real }), None);
    }

    #[test]
    fn what_makes_no_sense_says_nothing() {
        for value in [
            "",
            ":",
            "0",
            "0:0",
            "0:0:",
            "0:0:9",
            "0:0:0644:",
            "0:0:0644:file:",
            "0:0:0644:disk",
            "-1:0:0644",
            "+1:0:0644",
            " 1:0:0644",
            "0x1:0:0644",
            "1:4294967295:0644",
            "4294967296:0:0644",
            "4294967295:0:0644",
            "0:0:7777777",
            "0:0:1000644",
            "0:0:0644:dir",
            "0:0:40755",
            "0:0:20644",
            "0:0:10644",
            "0:0:0644:char",
            "0:0:0:char-1",
            "0:0:0644:char-1-",
            "0:0:0644:char-1-3-5",
            "0:0:0644:char-4096-0",
            "0:0:0644:block-0-1048576",
            "0:0:0644:char-0-0",
            "0:0:0644:block--1-0",
            "0:0:0644\0",
            "0:0:٣:file",
        ] {
            assert_eq!(of_file(value), None, "{value:?}");
        }
        let dir = real(libc::S_IFDIR | 0o700);
        for value in ["0:0:0644:file", "0:0:100644", "0:0:0644:symlink", "0:0:0600:char-1-3"] {
            assert_eq!(apply(&dir, value.as_bytes()), None, "a directory stays one: {value}");
        }
        for kind in [libc::S_IFLNK, libc::S_IFCHR, libc::S_IFIFO] {
            assert_eq!(apply(&real(kind | 0o777), b"0:0:0644:file"), None, "{kind:o}");
        }
        assert_eq!(apply(&dir, b"\xff:0:0755:dir"), None);
    }

    proptest! {
        // Each run tests the same cases.
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(1),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn what_is_written_is_read(
            ids in (0..u32::MAX, 0..u32::MAX),
            perm in 0u32..0o10000,
            kind in 0usize..7,
            device in (0..MAJORS, 1..MINORS),
        ) {
            let kind = [
                libc::S_IFREG, libc::S_IFDIR, libc::S_IFLNK, libc::S_IFIFO, libc::S_IFSOCK,
                libc::S_IFBLK, libc::S_IFCHR,
            ][kind];
            let is_device = matches!(kind, libc::S_IFBLK | libc::S_IFCHR);
            let rdev = if is_device { libc::makedev(device.0, device.1) } else { 0 };
            let meant = Stat { uid: ids.0, gid: ids.1, rdev, ..real(kind | perm) };
            let is_dir = kind == libc::S_IFDIR;
            let bare = real(if is_dir { libc::S_IFDIR | 0o700 } else { libc::S_IFREG | 0o600 });
            prop_assert_eq!(apply(&bare, &value(&meant).unwrap()), Some(meant));
        }

        /// No value makes a directory of a file, makes a whiteout of anything, or causes a panic.
        #[test]
        fn hostile_values_are_harmless(value in "[0-9:a-z-]{0,24}|.*") {
            if let Some(stat) = of_file(&value) {
                prop_assert!(stat.kind() != FileType::Directory && !stat.is_whiteout_device());
            }
        }
    }
}
