//! Our types in the transport's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::Error;
use crate::sys::at::SetTime;
use crate::sys::{FileType, Stat, Time};

/// An errno for a reply.
pub fn errno(err: &Error) -> fuser::Errno {
    fuser::Errno::from_i32(err.errno().raw())
}

/// A type for a reply.
pub fn kind(kind: FileType) -> fuser::FileType {
    match kind {
        FileType::Regular => fuser::FileType::RegularFile,
        FileType::Directory => fuser::FileType::Directory,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::CharDevice => fuser::FileType::CharDevice,
        FileType::BlockDevice => fuser::FileType::BlockDevice,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::Socket => fuser::FileType::Socket,
    }
}

/// Attributes for a reply.
pub fn attr(stat: &Stat) -> fuser::FileAttr {
    fuser::FileAttr {
        ino: fuser::INodeNo(stat.ino),
        size: stat.size,
        blocks: stat.blocks,
        atime: system_time(stat.atime),
        mtime: system_time(stat.mtime),
        ctime: system_time(stat.ctime),
        crtime: UNIX_EPOCH,
        kind: kind(stat.kind()),
        perm: u16::try_from(stat.permissions()).unwrap_or(0),
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        // The kernel's 32-bit encoding is the lower half of makedev(3)'s.
        rdev: u32::try_from(stat.rdev & u64::from(u32::MAX)).unwrap_or(0),
        blksize: stat.blksize,
        flags: 0,
    }
}

/// A time as the standard library counts it; one that it cannot hold becomes 1970.
fn system_time(time: Time) -> SystemTime {
    let nanos = Duration::from_nanos(time.nsec.into());
    let whole = match u64::try_from(time.sec) {
        Ok(sec) => UNIX_EPOCH.checked_add(Duration::from_secs(sec)),
        Err(_) => UNIX_EPOCH.checked_sub(Duration::from_secs(time.sec.unsigned_abs())),
    };
    whole.and_then(|whole| whole.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

/// A time to set, as it comes in a request.
pub fn set_time(time: Option<fuser::TimeOrNow>) -> SetTime {
    match time {
        None => SetTime::Omit,
        Some(fuser::TimeOrNow::Now) => SetTime::Now,
        Some(fuser::TimeOrNow::SpecificTime(time)) => SetTime::At(requested(time)),
    }
}

/// The seconds and nanoseconds that the kernel sent.
///
/// For times before 1970 fuser 0.18 goes back by the seconds *and* by the nanoseconds, which the
/// kernel meant to go forward; the two numbers themselves arrive unharmed.
fn requested(time: SystemTime) -> Time {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Time {
            sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nsec: since.subsec_nanos(),
        },
        Err(before) => {
            let before = before.duration();
            let sec = i64::try_from(before.as_secs()).map_or(i64::MIN, |sec| -sec);
            Time { sec, nsec: before.subsec_nanos() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_survive() {
        for (sec, nsec) in
            [(0, 0), (5, 7), (-1, 0), (-2, 800_000_000), (i64::MAX, 0), (i64::MIN, 0)]
        {
            let shown = system_time(Time { sec, nsec });
            let expected = if sec >= 0 {
                UNIX_EPOCH + Duration::new(sec.unsigned_abs(), nsec)
            } else {
                UNIX_EPOCH - Duration::from_secs(sec.unsigned_abs())
                    + Duration::from_nanos(nsec.into())
            };
            assert_eq!(shown, expected);
        }
        // As fuser makes it of (-2 s, +800 ms).
        let sent = UNIX_EPOCH - Duration::new(2, 800_000_000);
        assert_eq!(requested(sent), Time { sec: -2, nsec: 800_000_000 });
    }
}
