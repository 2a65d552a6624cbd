//! What a mount was asked to be: verified options as data.
//!
//! [`Config`] is filled by the command line and read by everything below it. It holds no file
//! descriptors and does nothing; whether a layer exists or an upper can hold a marker is found out
//! when the layers are opened.

use std::path::PathBuf;
use std::time::Duration;

use crate::id::Id;

/// Everything that a mount needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The read-only layers, topmost first. Never empty.
    pub lowers: Vec<PathBuf>,
    /// Layers below all others that lend data to metacopy files and no names, the first to be
    /// searched first.
    pub data_only: Vec<PathBuf>,
    /// Where changes go. Without it the mount is read-only.
    pub upper: Option<UpperDirs>,
    /// The topmost of `lowers` is an upper, which a mount with `ro` only reads.
    pub frozen: Option<Frozen>,
    /// Refuse what is doubtful.
    pub strict: bool,
    /// The directory to mount on.
    pub mountpoint: PathBuf,
    /// A descriptor of /dev/fuse on which the caller has made the mount already, in place of
    /// `mountpoint`.
    pub device: Option<i32>,
    /// Flags and words that go to mount(2) or to fusermount3.
    pub mount: MountOptions,
    /// How long names, attributes and data of the layers may be believed. They change only through
    /// the mount, so by default for ever.
    pub timeout: Duration,
    /// Which extended attribute namespace carries our markers.
    pub namespace: NamespaceChoice,
    /// How names that are gone are marked, and whether `.wh.` names mark any.
    pub whiteout: WhiteoutChoice,
    /// What reaches the disk, and when.
    pub durability: Durability,
    /// Whether directories marked `dirmeta_delegate` lend only their names.
    pub dirmeta_delegate: bool,
    /// Whether redirects that layers carry are followed.
    pub follow_redirects: bool,
    /// Changes of metadata leave the data of a file below, where the kernel's overlayfs could go on
    /// with that.
    pub metacopy: bool,
    /// How the owners on the layers appear in the mount.
    pub owners: Owners,
    /// How inode numbers are put together.
    pub numbers: Numbers,
    /// Where the upper keeps owners and modes.
    pub permissions: Permissions,
    /// Which extended attributes there are in the mount.
    pub xattrs: Xattrs,
    /// Whether a directory that lowers show through is renamed by a redirect. They are followed
    /// then.
    pub write_redirects: bool,
    /// What is done to rename such a directory without one.
    pub rename_lower: RenameLower,
    /// Whether hard links of lowers stay together.
    pub index: IndexChoice,
    /// How the contents of files are read and written.
    pub io: Io,
    /// When a file of a lower is copied up to be written.
    pub copy_up: CopyUpBy,
    /// File handles last as long as the mount, also of what the kernel has forgotten.
    pub nfs_export: bool,
    /// Let the kernel gather small writes before it sends them (FUSE writeback cache).
    pub writeback: bool,
    /// The largest WRITE and READ request, in bytes.
    pub max_write: u32,
    /// How many threads read requests. `None`: chosen from the machine.
    pub threads: Option<u32>,
    /// For how long a thread looks for the next request before it sleeps.
    pub spin: Duration,
}

/// The two directories of the writable layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpperDirs {
    /// The writable layer itself.
    pub upper: PathBuf,
    /// Scratch space on the same file system; changes are built here and then moved into place.
    pub work: PathBuf,
}

/// The surroundings of an upper that is only read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// Its work directory, if one was named. It need not be there.
    pub work: Option<PathBuf>,
}

/// Flags and words for the mount itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// `ro`: refuse all changes, whatever the layers allow.
    pub read_only: bool,
    /// `suid` or `nosuid`. `None`: on for a mount by user 0, off otherwise.
    pub suid: Option<bool>,
    /// `dev` or `nodev`. `None`: off, as device nodes of an image are seldom wanted on the host.
    pub dev: Option<bool>,
    /// `exec` or `noexec`.
    pub exec: bool,
    /// `atime` or `noatime`. Access times are never kept on the layers; this is the mount flag.
    pub atime: bool,
    /// `diratime` or `nodiratime`.
    pub diratime: bool,
    /// `sync`: every write reaches the disk before it returns.
    pub sync: bool,
    /// `dirsync`: every change to a directory reaches the disk before it returns.
    pub dirsync: bool,
    /// The users who may use the mount. `None`: everybody for a mount by user 0, else its owner.
    pub access: Option<Access>,
    /// Let the kernel check permissions from mode, owner and ACL. `None` (and the only sound
    /// choice) is yes.
    pub default_permissions: bool,
    /// First column of /proc/mounts.
    pub fsname: String,
    /// What follows `fuse.` in the type column of /proc/mounts.
    pub subtype: String,
    /// Security labels, as in `context=u:r:t:s0`: name and value.
    pub labels: Vec<(&'static str, String)>,
    /// `max_read`: the largest READ request in bytes, by a word of the mount itself.
    pub max_read: Option<u32>,
    /// `auto_unmount`: fusermount3 stays and unmounts should this process die.
    pub auto_unmount: bool,
}

/// Who may use the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only the user that mounted it.
    Owner,
    /// `allow_root`: that user and root.
    OwnerAndRoot,
    /// `allow_other`: everybody, subject to modes and owners.
    Everybody,
}

/// How a directory that lowers show through is renamed where no redirect is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameLower {
    /// Not at all: EXDEV, as the kernel's overlayfs says.
    Off,
    /// All that it shows is copied up first. Beyond the limit EXDEV.
    Copy(CopyLimit),
}

/// How much may be copied up for one rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyLimit {
    /// Names below the directory.
    pub entries: u64,
    /// Bytes that the files of lowers take on their disks.
    pub bytes: u64,
}

impl CopyLimit {
    /// A program waits for its rename, and cannot be told how far it is. 100,000 files and 4 GiB
    /// take about as long as programs wait for a package to be unpacked, and hold for the largest
    /// of packages (a Rust toolchain with its documentation has 60,000 files and 2 GiB). The index
    /// of so many names takes some 20 MiB of memory.
    pub const DEFAULT: Self = Self { entries: 100_000, bytes: 4 << 30 };
}

/// Which namespace carries the markers that we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NamespaceChoice {
    /// `trusted.overlay.` where we may, else `user.overlay.`.
    #[default]
    Auto,
    /// `xattr=trusted`.
    Trusted,
    /// `xattr=user` or `userxattr`.
    User,
}

/// How names that are gone are marked in the upper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhiteoutChoice {
    /// By the first of the forms below that the upper can hold. All are read.
    #[default]
    Auto,
    /// `whiteout=char`: devices 0:0. Names that begin with `.wh.` are ordinary.
    Device,
    /// `whiteout=xattr`: empty files with an attribute. Names that begin with `.wh.` are ordinary.
    Xattr,
    /// `whiteout=aufs`: files `.wh.NAME` and `.wh..wh..opq`. All are read.
    Aufs,
}

impl WhiteoutChoice {
    /// Whether names that begin with `.wh.` are marks.
    #[must_use]
    pub fn reads_aufs(self) -> bool {
        matches!(self, Self::Auto | Self::Aufs)
    }
}

/// How the owners on the layers appear in the mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owners {
    /// Users.
    pub uids: IdView,
    /// Groups.
    pub gids: IdView,
}

/// How ids on the layers appear in the mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum IdView {
    /// As they are.
    #[default]
    Same,
    /// By ranges, which do not overlap on either side.
    Mapped(Vec<IdRange>),
    /// All as this one.
    All(Id),
}

/// Ids that follow one another, on the layers and in the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first on the layers.
    pub stored: u32,
    /// The first in the mount.
    pub shown: u32,
    /// How many; never 0, and both sides end below `u32::MAX`.
    pub len: u32,
}

/// Whether hard links of lowers stay one file when they change, by the index in the work directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IndexChoice {
    /// Where the file systems allow it.
    #[default]
    Auto,
    /// `index=on`: what cannot be trusted refuses the mount.
    On,
    /// `index=off`: the index is neither read nor written.
    Off,
}

/// How the numbers that stat(2) shows are put together, where layers lie on several file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbers {
    /// `xino=on`, `xino=auto`: the file system in the upper bits, as in the kernel.
    #[default]
    Tagged,
    /// `xino=off`: no bits are added; objects of other file systems than the first get numbers for
    /// as long as the kernel knows them.
    Plain,
    /// `ino32_t`: no more than 32 bits.
    Short,
}

/// Where the upper keeps owners and modes. One that keeps them in attributes already goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Permissions {
    /// `xattr_permissions=0`: in its inodes.
    #[default]
    Inode,
    /// `xattr_permissions=1`: in an attribute that takes privilege to set.
    SecurityXattr,
    /// `xattr_permissions=2`: in an attribute that everybody can set.
    UserXattr,
}

/// Which extended attributes there are in the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Xattrs {
    /// Those of the layers.
    #[default]
    All,
    /// `noacl`: the same without POSIX ACLs.
    WithoutAcls,
    /// `noxattrs=1`: none, as on a file system that has none.
    None,
}

/// How the contents of files are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Io {
    /// `io=auto`: cached; src/docs/performance.md has the measurements that say so.
    #[default]
    Auto,
    /// `io=cached`: by requests; the kernel keeps the pages.
    Cached,
    /// `io=passthrough`: files of the upper directly by the kernel. Each open is a request.
    Passthrough,
}

/// What reaches the disk, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// As the kernel's overlayfs: copied-up data is on disk before its name is, and fsync(2) works.
    #[default]
    Normal,
    /// `fsync=strict`: directories and copies of metadata alone are on disk before their names are
    /// as well, for upper file systems that keep no order between changes of metadata, as ubifs.
    Strict,
    /// `volatile`, `fsync=volatile` or `fsync=0`: nothing is forced out. After a crash of the
    /// machine the upper must be thrown away.
    Volatile,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            suid: None,
            dev: None,
            exec: true,
            atime: false,
            diratime: true,
            sync: false,
            dirsync: false,
            access: None,
            default_permissions: true,
            fsname: "ovlmerge".into(),
            subtype: "ovlmerge".into(),
            labels: Vec::new(),
            max_read: None,
            auto_unmount: false,
        }
    }
}

/// When a file of a lower is copied up to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyUpBy {
    /// The first change.
    Write,
    /// Opening it to write, as in the kernel's overlayfs: what keeps it from being copied is known
    /// before a program stores anything through a mapping. Each open and close is a request.
    Open,
}

impl Config {
    /// How long what is known of the lowers may be believed; `None` for ever, as nobody changes
    /// them.
    #[must_use]
    pub fn lowers_settle(&self) -> Option<Duration> {
        (self.timeout < Self::FOREVER).then_some(self.timeout)
    }

    /// How long the kernel believes what it was told when nothing else is asked for: as near to for
    /// ever as FUSE's seconds and the kernel's jiffies allow without overflow (about 31 years).
    pub const FOREVER: Duration = Duration::from_secs(1_000_000_000);

    /// The default where an upper is only read: the mount that writes it may be there, or may come.
    pub const OF_FROZEN: Duration = Duration::from_secs(1);

    /// The largest request that Linux sends (`fs.fuse.max_pages_limit`, 256 pages of 4 KiB).
    pub const MAX_WRITE: u32 = 1 << 20;
    /// The default of [`Self::spin`]: twice what waking a thread on a virtual processor takes.
    pub const SPIN: Duration = Duration::from_micros(50);
    /// The largest value of [`Self::spin`], in microseconds: a processor is not to be held for
    /// longer than a tick of the scheduler.
    pub const LONGEST_SPIN: u32 = 1000;

    /// A mount of `lowers` on `mountpoint` with the default of every option.
    #[must_use]
    pub fn new(lowers: Vec<PathBuf>, upper: Option<UpperDirs>, mountpoint: PathBuf) -> Self {
        Self {
            lowers,
            data_only: Vec::new(),
            upper,
            frozen: None,
            strict: false,
            mountpoint,
            device: None,
            mount: MountOptions::default(),
            timeout: Self::FOREVER,
            namespace: NamespaceChoice::Auto,
            whiteout: WhiteoutChoice::Auto,
            durability: Durability::Normal,
            dirmeta_delegate: true,
            follow_redirects: true,
            metacopy: false,
            owners: Owners::default(),
            numbers: Numbers::Tagged,
            permissions: Permissions::Inode,
            xattrs: Xattrs::All,
            write_redirects: false,
            rename_lower: RenameLower::Copy(CopyLimit::DEFAULT),
            index: IndexChoice::Off,
            io: Io::Auto,
            copy_up: CopyUpBy::Write,
            nfs_export: false,
            writeback: false,
            max_write: Self::MAX_WRITE,
            threads: None,
            spin: Self::SPIN,
        }
    }
}
