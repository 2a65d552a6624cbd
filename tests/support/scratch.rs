//! Directories for one test: layers, a work directory, a mountpoint.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;
use tempfile::TempDir;

use super::mount::{Mount, Setup};

/// A directory, with short ways to fill it and to look into it. Paths are relative to it.
///
/// What fills it makes missing parents, and fails the test if it cannot do its work.
#[derive(Clone, Debug)]
pub struct Dir(PathBuf);

impl Dir {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path)
    }

    /// The same on the directory `path`.
    pub fn sub(&self, path: impl AsRef<Path>) -> Self {
        Self(self.path(path))
    }

    fn place(&self, path: impl AsRef<Path>) -> PathBuf {
        let full = self.path(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        full
    }

    // Filling.

    pub fn file(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> &Self {
        let full = self.place(path);
        fs::write(&full, content).unwrap_or_else(|err| panic!("{}: {err}", full.display()));
        self
    }

    pub fn dir(&self, path: impl AsRef<Path>) -> &Self {
        fs::create_dir_all(self.path(path)).unwrap();
        self
    }

    pub fn symlink(&self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> &Self {
        std::os::unix::fs::symlink(target, self.place(path)).unwrap();
        self
    }

    pub fn hard_link(&self, path: impl AsRef<Path>, existing: impl AsRef<Path>) -> &Self {
        fs::hard_link(self.path(existing), self.place(path)).unwrap();
        self
    }

    /// A FIFO, socket or device.
    pub fn node(&self, path: impl AsRef<Path>, kind: SFlag, major: u64, minor: u64) -> &Self {
        let mode = Mode::from_bits_truncate(0o644);
        mknod(&self.place(path), kind, mode, makedev(major, minor)).unwrap();
        self
    }

    /// The mark that hides `path` of the layers below: a character device 0:0.
    pub fn whiteout(&self, path: impl AsRef<Path>) -> &Self {
        self.node(path, SFlag::S_IFCHR, 0, 0)
    }

    /// A directory that hides what the layers below have in it.
    pub fn opaque_dir(&self, path: impl AsRef<Path>) -> &Self {
        self.dir(&path).xattr(path, "trusted.overlay.opaque", "y")
    }

    pub fn xattr(
        &self,
        path: impl AsRef<Path>,
        name: impl AsRef<OsStr>,
        value: impl AsRef<[u8]>,
    ) -> &Self {
        let full = self.path(path);
        xattr::set(&full, name.as_ref(), value.as_ref())
            .unwrap_or_else(|err| panic!("{} {:?}: {err}", full.display(), name.as_ref()));
        self
    }

    pub fn mode(&self, path: impl AsRef<Path>, mode: u32) -> &Self {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub fn owner(&self, path: impl AsRef<Path>, uid: u32, gid: u32) -> &Self {
        std::os::unix::fs::lchown(self.path(path), Some(uid), Some(gid)).unwrap();
        self
    }

    /// Both times, in seconds and nanoseconds.
    pub fn times(&self, path: impl AsRef<Path>, seconds: i64, nanoseconds: i64) -> &Self {
        let time = TimeSpec::new(seconds, nanoseconds);
        let flags = UtimensatFlags::NoFollowSymlink;
        utimensat(nix::fcntl::AT_FDCWD, &self.path(path), &time, &time, flags).unwrap();
        self
    }

    // Looking.

    pub fn stat(&self, path: impl AsRef<Path>) -> Metadata {
        let full = self.path(path);
        fs::symlink_metadata(&full).unwrap_or_else(|err| panic!("{}: {err}", full.display()))
    }

    /// The permission bits, with setuid, setgid and sticky.
    pub fn mode_of(&self, path: impl AsRef<Path>) -> u32 {
        self.stat(path).mode() & 0o7777
    }

    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        match fs::symlink_metadata(self.path(&path)) {
            Ok(_) => true,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => false,
            Err(err) => panic!("{}: {err}", self.path(path).display()),
        }
    }

    pub fn read(&self, path: impl AsRef<Path>) -> String {
        let full = self.path(path);
        let bytes = fs::read(&full).unwrap_or_else(|err| panic!("{}: {err}", full.display()));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The names in a directory, sorted; `.` and `..` left out, none filtered or merged.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let full = self.path(path);
        let entries = fs::read_dir(&full).unwrap_or_else(|err| panic!("{}: {err}", full.display()));
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    pub fn get_xattr(&self, path: impl AsRef<Path>, name: impl AsRef<OsStr>) -> Option<Vec<u8>> {
        xattr::get(self.path(path), name).unwrap()
    }

    /// The names of the extended attributes, sorted, without those of security modules.
    pub fn xattr_names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let mut names: Vec<_> = xattr::list(self.path(path))
            .unwrap()
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| name != "security.selinux")
            .collect();
        names.sort();
        names
    }

    /// Whether the layer has the mark that hides `path`.
    pub fn is_whiteout(&self, path: impl AsRef<Path>) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok_and(|meta| {
            meta.mode() & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits() && meta.rdev() == 0
        })
    }
}

/// A name that is not text in any encoding.
pub fn not_text(prefix: &str) -> PathBuf {
    let mut bytes = prefix.as_bytes().to_vec();
    bytes.extend_from_slice(b"\xff\xfe\x80");
    OsStr::from_bytes(&bytes).into()
}

/// The directories of one overlay. They go when this goes, so it must outlive the [`Mount`].
#[derive(Debug)]
pub struct Scratch {
    _home: TempDir,
    base: Dir,
    lowers: Vec<Dir>,
    pub upper: Dir,
    pub work: Dir,
    pub mnt: Dir,
}

impl Scratch {
    /// One lower layer, an upper, a work directory and a mountpoint.
    pub fn new() -> Self {
        Self::with_lowers(1)
    }

    /// Several lower layers, of which number 0 is the topmost.
    pub fn with_lowers(count: usize) -> Self {
        Self::in_dir(&std::env::temp_dir(), count)
    }

    /// The same on another file system.
    pub fn in_dir(place: &Path, count: usize) -> Self {
        let home = TempDir::with_prefix_in("ovlmerge-test-", place).unwrap();
        // Other users come here too.
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let base = Dir::new(fs::canonicalize(home.path()).unwrap());
        let lowers: Vec<_> = (0..count).map(|number| base.sub(format!("lower{number}"))).collect();
        let [upper, work, mnt] = ["upper", "work", "mnt"].map(|name| base.sub(name));
        for dir in lowers.iter().chain([&upper, &work, &mnt]) {
            dir.dir("");
        }
        Self { _home: home, base, lowers, upper, work, mnt }
    }

    /// The program, where users can start it who may not enter the directory it was built in.
    pub fn program(&self) -> PathBuf {
        let copy = self.base.path("ovlmerge");
        // By a program: a process that another test starts meanwhile would have our copy open to
        // write, and a file that somebody has open so cannot be run (ETXTBSY).
        let copied = Command::new("cp").arg(super::binary()).arg(&copy).status().unwrap();
        assert!(copied.success());
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        copy
    }

    /// What a shell says that runs `script` as a user who owns nothing else, started by `wrapper`
    /// (nothing, or a program that makes namespaces). `$1` is the program, `$2` the value of `-o`
    /// that mounts these layers, `$3` the mountpoint.
    pub fn shell_of_nobody(&self, wrapper: &[&str], script: &str) -> Output {
        super::process::output(
            Command::new("setpriv")
                .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
                .args(wrapper)
                .args(["sh", "-c", script, "sh"])
                .arg(self.program())
                .arg(self.setup().option_string())
                .arg(self.mnt.root()),
        )
    }

    /// The directory that holds all the others.
    pub fn base(&self) -> &Dir {
        &self.base
    }

    /// Lower layer `number`; 0 is the topmost.
    pub fn lower(&self, number: usize) -> &Dir {
        &self.lowers[number]
    }

    /// All lower layers, the topmost first.
    pub fn lowers(&self) -> &[Dir] {
        &self.lowers
    }

    /// Mounts all of it with no further options.
    pub fn mount(&self) -> Mount {
        self.setup().mount()
    }

    /// A mount of all of it, to be changed before it is made.
    pub fn setup(&self) -> Setup {
        let lowers = self.lowers.iter().map(|dir| dir.root().to_owned());
        Setup::new(lowers.collect(), self.mnt.root())
            .upper(self.upper.root())
            .work(self.work.root())
    }

    /// What changes under way, or forgotten, left in the work directory.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for name in self.work.names("") {
            let inner = self.work.sub(&name);
            if matches!(name.as_str(), "work" | "index") && inner.root().is_dir() {
                found.extend(inner.names("").into_iter().map(|n| format!("{name}/{n}")));
            } else {
                found.push(name);
            }
        }
        // The one file that the kernel keeps there: all its whiteouts are hard links to it.
        found.retain(|name| !self.work.is_whiteout(name));
        found
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Mount {
    type Target = Dir;

    fn deref(&self) -> &Dir {
        self.place()
    }
}
