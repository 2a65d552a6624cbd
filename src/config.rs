//! Verified options of a mount, as data.
//!
//! The command line fills a [`Config`], and all modules below read it. A [`Config`] opens nothing:
//! whether a layer exists, and which marks an upper can hold, is checked when layers are opened.

use std::path::PathBuf;
use std::time::Duration;

use crate::id::Id;

/// All options of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Read-only layers, topmost first; at least one.
    pub lowers: Vec<PathBuf>,
    /// Data-only layers, in the order in which they are searched. They are below all others, and
    /// provide data for metacopy files but no names.
    pub data_only: Vec<PathBuf>,
    /// The writable layer. Without it the mount is read-only.
    pub upper: Option<UpperDirs>,
    /// Set if the topmost of `lowers` is an upper that this mount, with `ro`, only reads.
    pub frozen: Option<Frozen>,
    /// Whether the mount is refused if anything about the layers is doubtful.
    pub strict: bool,
    /// Directory on which the file system is mounted.
    pub mountpoint: PathBuf,
    /// Descriptor of /dev/fuse, if the caller has mounted it already. It replaces `mountpoint`.
    pub device: Option<i32>,
    /// Flags and options for mount(2) or fusermount3.
    pub mount: MountOptions,
    /// How long names, attributes and data of the layers may be cached. The default is for ever, as
    /// they change only through the mount.
    pub timeout: Duration,
    /// Namespace of the marks that the mount writes.
    pub namespace: NamespaceChoice,
    /// Form of new whiteouts, and whether `.wh.` names are marks.
    pub whiteout: WhiteoutChoice,
    /// When data reaches the disk.
    pub durability: Durability,
    /// Whether directories marked `dirmeta_delegate` contribute only their names.
    pub dirmeta_delegate: bool,
    /// Whether redirects on the layers are followed.
    pub follow_redirects: bool,
    /// Whether a change of metadata leaves the data of a file in its lower, where the kernel's
    /// overlayfs could read the result.
    pub metacopy: bool,
    /// Mapping of owners between the layers and the mount.
    pub owners: Owners,
    /// Composition of inode numbers.
    pub numbers: Numbers,
    /// Where the upper stores owners and modes.
    pub permissions: Permissions,
    /// Extended attributes that the mount supports.
    pub xattrs: Xattrs,
    /// Whether a directory that lowers show through is renamed by a redirect. Implies
    /// `follow_redirects`.
    pub write_redirects: bool,
    /// How such a directory is renamed without a redirect.
    pub rename_lower: RenameLower,
    /// Whether hard links of lowers stay one file.
    pub index: IndexChoice,
    /// How data of files is read and written.
    pub io: Io,
    /// When a file of a lower is copied up for writing.
    pub copy_up: CopyUpBy,
    /// Whether file handles last as long as the mount, even if the kernel has forgotten the node.
    pub nfs_export: bool,
    /// Whether the kernel gathers small writes before it sends them (FUSE writeback cache).
    pub writeback: bool,
    /// Largest WRITE and READ request, in bytes.
    pub max_write: u32,
    /// Number of threads that read requests; `None` to choose it from the machine.
    pub threads: Option<u32>,
    /// Time for which a thread polls for the next request before it sleeps.
    pub spin: Duration,
}

/// Directories of the writable layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpperDirs {
    /// The layer itself.
    pub upper: PathBuf,
    /// Work directory on the same file system, where changes are built before they are published.
    pub work: PathBuf,
}

/// Facts about an upper that is only read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// Work directory of the upper, if one was named. It need not exist.
    pub work: Option<PathBuf>,
}

/// Flags and options of the mount itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// `ro`: refuses all changes.
    pub read_only: bool,
    /// `suid` or `nosuid`. If `None`: on for a mount by user 0, else off.
    pub suid: Option<bool>,
    /// `dev` or `nodev`. If `None`: off, as device nodes of an image are seldom wanted on the host.
    pub dev: Option<bool>,
    /// `exec` or `noexec`.
    pub exec: bool,
    /// `atime` or `noatime`, as mount flags. The layers never store access times.
    pub atime: bool,
    /// `diratime` or `nodiratime`.
    pub diratime: bool,
    /// `sync`: each write reaches the disk before it returns.
    pub sync: bool,
    /// `dirsync`: each change of a directory reaches the disk before it returns.
    pub dirsync: bool,
    /// Users who may use the mount. If `None`: everybody for a mount by user 0, else its owner.
    pub access: Option<Access>,
    /// Whether the kernel checks permissions by mode, owner and ACL. Nothing else is sound, so no
    /// option turns it off.
    pub default_permissions: bool,
    /// First column of /proc/mounts.
    pub fsname: String,
    /// What follows `fuse.` in the type column of /proc/mounts.
    pub subtype: String,
    /// Names and values of security labels, as in `context=u:r:t:s0`.
    pub labels: Vec<(&'static str, String)>,
    /// `max_read`: largest READ request in bytes, as a mount option.
    pub max_read: Option<u32>,
    /// `auto_unmount`: fusermount3 stays, and unmounts if this process dies.
    pub auto_unmount: bool,
}

/// Users who may use the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only the user who mounted it.
    Owner,
    /// `allow_root`: the user who mounted it, and root.
    OwnerAndRoot,
    /// `allow_other`: everybody, subject to modes and owners.
    Everybody,
}

/// How a directory that lowers show through is renamed if no redirect is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameLower {
    /// It is not renamed: EXDEV, as in the kernel's overlayfs.
    Off,
    /// All that it shows is copied up first; EXDEV if that exceeds the limit.
    Copy(CopyLimit),
}

/// Limit of what one rename may copy up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyLimit {
    /// Number of names below the directory.
    pub entries: u64,
    /// Bytes that files of lowers take on disk.
    pub bytes: u64,
}

impl CopyLimit {
    /// Default limit, by the time that a program may have to wait for a rename. 100,000 files and 4
    /// GiB take about as long as unpacking a package. That is enough for the largest packages: a
    /// Rust toolchain with its documentation has 60,000 files and 2 GiB. The index of so many names
    /// takes about 20 MiB of memory.
    pub const DEFAULT: Self = Self { entries: 100_000, bytes: 4 << 30 };
}

/// Namespace of the marks that the mount writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NamespaceChoice {
    /// `trusted.overlay.` if the server may set it, else `user.overlay.`.
    #[default]
    Auto,
    /// `xattr=trusted`.
    Trusted,
    /// `xattr=user` or `userxattr`.
    User,
}

/// Form of whiteouts in the upper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhiteoutChoice {
    /// The first of the forms below that the upper can hold. All forms are read.
    #[default]
    Auto,
    /// `whiteout=char`: devices 0:0. Names that begin with `.wh.` are ordinary.
    Device,
    /// `whiteout=xattr`: empty files with an attribute. Names that begin with `.wh.` are ordinary.
    Xattr,
    /// `whiteout=aufs`: files `.wh.NAME` and `.wh..wh..opq`. All forms are read.
    Aufs,
}

impl WhiteoutChoice {
    /// Whether names that begin with `.wh.` are marks.
    #[must_use]
    pub fn reads_aufs(self) -> bool {
        matches!(self, Self::Auto | Self::Aufs)
    }
}

/// Mapping of owners between the layers and the mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owners {
    /// Mapping of user ids.
    pub uids: IdView,
    /// Mapping of group ids.
    pub gids: IdView,
}

/// Mapping of ids between the layers and the mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum IdView {
    /// Ids are the same on both sides.
    #[default]
    Same,
    /// Ids are mapped by ranges, which do not overlap on either side.
    Mapped(Vec<IdRange>),
    /// All ids of the layers appear as this one.
    All(Id),
}

/// A range of ids on the layers, and its counterpart in the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id on the layers.
    pub stored: u32,
    /// First id in the mount.
    pub shown: u32,
    /// Number of ids; never 0. Both ranges end below `u32::MAX`.
    pub len: u32,
}

/// Whether the index of hard links keeps hard links of lowers one file when they change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IndexChoice {
    /// The index is used if the file systems allow it.
    #[default]
    Auto,
    /// `index=on`: the mount is refused if the index cannot be trusted.
    On,
    /// `index=off`: the index is neither read nor written.
    Off,
}

/// Composition of inode numbers if layers are on several file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbers {
    /// `xino=on`, `xino=auto`: upper bits tell the file system, as in the kernel.
    #[default]
    Tagged,
    /// `xino=off`: no bits are added. Objects of all file systems except the first get numbers that
    /// hold as long as the kernel knows them.
    Plain,
    /// `ino32_t`: numbers have at most 32 bits.
    Short,
}

/// Where the upper stores owners and modes. An upper that already uses attributes stays with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Permissions {
    /// `xattr_permissions=0`: in inodes.
    #[default]
    Inode,
    /// `xattr_permissions=1`: in an attribute that takes privilege to set.
    SecurityXattr,
    /// `xattr_permissions=2`: in an attribute that everybody can set.
    UserXattr,
}

/// Extended attributes that the mount supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Xattrs {
    /// All attributes of the layers.
    #[default]
    All,
    /// `noacl`: all but POSIX ACLs.
    WithoutAcls,
    /// `noxattrs=1`: none, as on a file system without extended attributes.
    None,
}

/// How data of files is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Io {
    /// `io=auto`: same as cached, by the measurements in src/docs/performance.md.
    #[default]
    Auto,
    /// `io=cached`: by requests to the server; the kernel caches the pages.
    Cached,
    /// `io=passthrough`: the kernel reads and writes files of the upper. Each open is a request.
    Passthrough,
}

/// When data reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// As in the kernel's overlayfs: copied-up data before its name, other data at fsync(2).
    #[default]
    Normal,
    /// `fsync=strict`: also directories and copies of metadata before their names. This is for
    /// upper file systems that do not order changes of metadata, such as ubifs.
    Strict,
    /// `volatile`, `fsync=volatile` or `fsync=0`: nothing is forced to the disk. After a crash of
    /// the machine the upper must be thrown away.
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

/// When a file of a lower is copied up for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyUpBy {
    /// At the first change.
    Write,
    /// When it is opened for writing, as in the kernel's overlayfs. A failure is then reported
    /// before a program stores anything through a mapping. Each open and close is a request.
    Open,
}

impl Config {
    /// Returns how long knowledge of the lowers stays valid; `None` for ever, as nobody changes
    /// them.
    #[must_use]
    pub fn lowers_settle(&self) -> Option<Duration> {
        (self.timeout < Self::FOREVER).then_some(self.timeout)
    }

    /// Default of [`Self::timeout`]: as close to for ever as the seconds of FUSE and the jiffies of
    /// the kernel allow without overflow (about 31 years).
    pub const FOREVER: Duration = Duration::from_secs(1_000_000_000);

    /// Default of [`Self::timeout`] for an upper that is only read: another mount may write to it.
    pub const OF_FROZEN: Duration = Duration::from_secs(1);

    /// Largest request that Linux sends, in bytes (`fs.fuse.max_pages_limit`, 256 pages of 4 KiB).
    pub const MAX_WRITE: u32 = 1 << 20;
    /// Default of [`Self::spin`]: twice the time to wake a thread on a virtual processor.
    pub const SPIN: Duration = Duration::from_micros(50);
    /// Largest value of [`Self::spin`], in microseconds: no thread holds a processor for longer
    /// than a tick of the scheduler.
    pub const LONGEST_SPIN: u32 = 1000;

    /// Builds a mount of `lowers` on `mountpoint` with default options.
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
