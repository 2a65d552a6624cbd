//! The file systems of the layers. They tell equal inode numbers apart, and lead from a handle in a
//! layer (`P origin`) back to its object.

use std::os::fd::BorrowedFd;

use crate::error::Result;
use crate::format::origin::{self, Origin, Side};
use crate::sys::uuid::{self, Uuid};
use crate::sys::{Name, file, handle, stat};

/// One file system; on btrfs one of its trees, each of which has its own inode numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// Device number.
    pub dev: u64,
    /// Its UUID, if it is known.
    pub uuid: Option<Uuid>,
    /// The tree, on btrfs.
    pub tree: Option<u64>,
    /// Its handles show that its inode numbers have no more than 32 bits.
    pub short_numbers: bool,
    /// Its handles have the higher half of an inode number first.
    pub high_first: bool,
    /// Its handles mean the same objects after the next mount. Those of FUSE do not, as they hold
    /// numbers that a server gives out.
    pub lasting_handles: bool,
}

impl FileSystem {
    /// The file system of an open directory.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn of(dir: BorrowedFd<'_>) -> Result<Self> {
        let dev = stat::fstat(dir)?.dev;
        let handle = handle::of_open(dir)?;
        let value = |h: &handle::Handle| origin::encode(Side::Lower, None, h.kind, &h.bytes);
        let origin = handle.as_ref().and_then(|handle| origin::decode(&value(handle)));
        Ok(Self {
            dev,
            uuid: uuid::fs_uuid(dir)?,
            tree: origin.and_then(|origin| origin.tree),
            // The inode number of a root is small, so the smaller reading is the right one.
            high_first: origin.is_some_and(|it| it.in_halves && it.other_way_round() < it.ino),
            lasting_handles: handle.is_some() && !file::fs_kind(dir)?.is_fuse(),
            short_numbers: handle.is_some_and(|h| origin::has_short_numbers(h.kind, &h.bytes)),
        })
    }
}

/// The file systems of a mount, with the numbers that the kernel's overlayfs gives them: 0 for that
/// of the upper, then those of the lowers, topmost first.
#[derive(Clone, Debug, Default)]
pub struct FileSystems {
    /// The file system of the upper, number 0; `None` in a mount without an upper.
    upper: Option<FileSystem>,
    /// The others, numbered from 1. Without an upper a single one has number 0.
    others: Vec<FileSystem>,
    /// The file systems of lowers, which handles can belong to.
    lowers: Vec<FileSystem>,
}

impl FileSystems {
    /// Numbers the file systems of the roots of the layers.
    #[must_use]
    pub fn new(upper: Option<FileSystem>, layers: impl IntoIterator<Item = FileSystem>) -> Self {
        let mut all = Self { upper, ..Self::default() };
        for fs in layers {
            if !all.lowers.iter().any(|known| known.dev == fs.dev) {
                all.lowers.push(fs);
            }
            if all.number(fs.dev).is_none() {
                all.others.push(fs);
            }
        }
        all
    }

    /// How many numbers there are, including that of the upper.
    #[must_use]
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// Whether all objects of the layers are on one file system, as far as the roots tell.
    #[must_use]
    pub fn is_single(&self) -> bool {
        usize::from(self.upper.is_some()) + self.others.len() <= 1
    }

    /// Whether the inode numbers of all file systems have no more than 32 bits, as handles show.
    #[must_use]
    pub fn have_short_numbers(&self) -> bool {
        self.upper.iter().chain(&self.others).all(|fs| fs.short_numbers)
    }

    /// The number of the file system of a device; `None` for one that no layer's root lies on.
    #[must_use]
    pub fn number(&self, dev: u64) -> Option<u64> {
        if self.upper.is_some_and(|fs| fs.dev == dev) || (self.upper.is_none() && self.is_only(dev))
        {
            return Some(0);
        }
        let position = self.others.iter().position(|fs| fs.dev == dev)?;
        u64::try_from(position + 1).ok()
    }

    fn is_only(&self, dev: u64) -> bool {
        matches!(self.others.as_slice(), [only] if only.dev == dev)
    }

    /// The device and inode number of the lower object that a handle belongs to. `None` if its file
    /// system is not one of ours, or is FUSE.
    #[must_use]
    pub fn object_of(&self, origin: &Origin) -> Option<(u64, u64)> {
        let fs = self.file_system_of(origin).filter(|fs| fs.lasting_handles)?;
        let is_turned = origin.in_halves && fs.high_first;
        Some((fs.dev, if is_turned { origin.other_way_round() } else { origin.ino }))
    }

    /// The file system of a lower that a handle belongs to. `None` if there is none, or if several
    /// have the same UUID (`ovl_lower_uuid_ok`, fs/overlayfs/super.c).
    fn file_system_of(&self, origin: &Origin) -> Option<&FileSystem> {
        let all_in_one = self.lowers.len() == 1;
        let mut candidates = self.lowers.iter().filter(|fs| {
            let same_tree = fs.tree == origin.tree || fs.tree.is_none() || origin.tree.is_none();
            match (fs.uuid, origin.uuid) {
                (Some(uuid), Some(of_origin)) => uuid == of_origin && same_tree,
                // Written without a UUID by a mount whose lowers were on one file system.
                (Some(_), None) => all_in_one,
                // btrfs gives the kernel no UUID (Linux 6.18), but handles have the tree.
                (None, None) => same_tree,
                (None, Some(_)) => same_tree && all_in_one,
            }
        });
        let found = candidates.next()?;
        candidates.next().is_none().then_some(found)
    }

    /// Whether handles identify the objects of a lower file system, now and after the next mount.
    /// One without a UUID counts only if the upper is on it too, or with `trusting`
    /// (`ovl_lower_uuid_ok`, fs/overlayfs/super.c): an exchange for another image would go
    /// unnoticed.
    #[must_use]
    pub fn has_sure_handles(&self, dev: u64, trusting: bool) -> bool {
        let Some(fs) = self.lowers.iter().find(|fs| fs.dev == dev) else { return false };
        let twins = self.lowers.iter().filter(|it| (it.uuid, it.tree) == (fs.uuid, fs.tree));
        let same_as_upper = self.upper.is_some_and(|upper| upper.dev == dev);
        let sure = twins.count() == 1 && (fs.uuid.is_some() || trusting || same_as_upper);
        sure && fs.lasting_handles
    }

    /// The value of `P origin` for the entry `name` of a directory of a lower on device `dev`. It
    /// is empty, which means an unknown origin, where there are no handles.
    ///
    /// # Errors
    /// Those of name_to_handle_at(2) that may pass: EIO, ENOMEM.
    pub fn origin(&self, dev: u64, dir: BorrowedFd<'_>, name: Name<'_>) -> Result<Vec<u8>> {
        let fs = self.lowers.iter().find(|fs| fs.dev == dev);
        let uuid = fs.and_then(|fs| fs.uuid);
        match handle::of(dir, name) {
            Ok(handle) => Ok(origin::encode(Side::Lower, uuid, handle.kind, &handle.bytes)),
            Err(err) if err.errno().may_pass() => Err(err),
            Err(_) => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::uuid::UUID_LEN;

    fn fs(dev: u64, uuid: u8) -> FileSystem {
        FileSystem {
            dev,
            uuid: Uuid::new([uuid; UUID_LEN]),
            tree: None,
            short_numbers: true,
            lasting_handles: true,
            ..FileSystem::default()
        }
    }

    fn dev((dev, _): (u64, u64)) -> u64 {
        dev
    }

    fn origin(uuid: u8) -> Origin {
        Origin { uuid: Uuid::new([uuid; UUID_LEN]), tree: None, ino: 9, in_halves: false }
    }

    #[test]
    fn numbered_as_the_kernel_does() {
        let all = FileSystems::new(Some(fs(1, 1)), [fs(2, 2), fs(1, 1), fs(3, 3), fs(2, 2)]);
        assert_eq!([1, 2, 3, 4].map(|dev| all.number(dev)), [Some(0), Some(1), Some(2), None]);
        assert_eq!((all.count(), all.is_single()), (3, false));
        let lowers = FileSystems::new(None, [fs(2, 2), fs(3, 3)]);
        assert_eq!([2, 3].map(|dev| lowers.number(dev)), [Some(1), Some(2)]);
        let one = FileSystems::new(None, [fs(2, 2), fs(2, 2)]);
        assert_eq!((one.number(2), one.is_single()), (Some(0), true));
    }

    /// The halves of EROFS numbers used to be swapped, which lost the files of an index, and
    /// numbers of a FUSE server used to count as those of its files.
    #[test]
    fn numbers_in_halves() {
        let turned = FileSystem { high_first: true, ..fs(2, 2) };
        let fuse = FileSystem { lasting_handles: false, ..fs(3, 3) };
        let all = FileSystems::new(Some(fs(1, 1)), [turned, fuse, fs(4, 4)]);
        let of = |uuid| Origin { ino: 9 << 32, in_halves: true, ..origin(uuid) };
        assert_eq!(all.object_of(&of(2)), Some((2, 9)));
        assert_eq!(all.object_of(&of(3)), None);
        assert_eq!(all.object_of(&of(4)), Some((4, 9 << 32)));
        assert_eq!([2, 3, 4].map(|dev| all.has_sure_handles(dev, true)), [true, false, true]);
    }

    #[test]
    fn handles_lead_back() {
        let all = FileSystems::new(Some(fs(1, 1)), [fs(2, 2), fs(3, 3), fs(4, 3), fs(5, 0)]);
        assert_eq!(all.object_of(&origin(2)).map(dev), Some(2));
        assert_eq!(all.object_of(&origin(1)).map(dev), None, "no lower is there");
        assert_eq!(all.object_of(&origin(3)).map(dev), None, "two have it");
        assert_eq!(all.object_of(&origin(0)).map(dev), Some(5), "the only one without");
        let one = FileSystems::new(None, [fs(2, 2)]);
        assert_eq!(
            [0, 2, 3].map(|uuid| one.object_of(&origin(uuid)).map(dev)),
            [Some(2), Some(2), None]
        );
    }

    #[test]
    fn handles_that_an_index_can_go_by() {
        let all = FileSystems::new(Some(fs(1, 0)), [fs(2, 2), fs(3, 3), fs(4, 3), fs(5, 0)]);
        let sure = |dev| [false, true].map(|trusting| all.has_sure_handles(dev, trusting));
        assert_eq!(sure(2), [true, true]);
        assert_eq!([sure(1), sure(3)], [[false, false]; 2], "no lower; not the only one");
        assert_eq!(sure(5), [false, true]);
        let same = FileSystems::new(Some(fs(1, 0)), [fs(1, 0), fs(1, 0)]);
        assert!(same.has_sure_handles(1, false));
    }

    #[test]
    fn trees_of_one_file_system() {
        for uuid in [0, 1] {
            let tree = |dev, tree| FileSystem { tree: Some(tree), ..fs(dev, uuid) };
            let all = FileSystems::new(None, [tree(1, 256), tree(2, 257)]);
            let at = |tree| all.object_of(&Origin { tree, ..origin(uuid) }).map(dev);
            let found = [Some(256), Some(257), Some(258), None].map(at);
            assert_eq!(found, [Some(1), Some(2), None, None]);
        }
    }
}
