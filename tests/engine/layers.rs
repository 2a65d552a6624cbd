//! Layers in a temporary directory, and what opens them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use ovlmerge::config::{Config, UpperDirs};

use crate::client::{Client, clear_umask};

/// `lower0` (the topmost), `lower1` and so on, `upper`, `work`. Paths are relative to their home.
#[derive(Debug)]
pub struct Layers {
    home: tempfile::TempDir,
    lowers: usize,
}

impl Layers {
    pub fn new(lowers: usize) -> Self {
        clear_umask();
        let home = tempfile::Builder::new().prefix("ovlmerge-engine-").tempdir().unwrap();
        let layers = Self { home, lowers };
        for name in ["upper", "work"] {
            layers.dir(name);
        }
        for number in 0..lowers {
            layers.dir(&format!("lower{number}"));
        }
        layers
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    pub fn config(&self) -> Config {
        let lowers = (0..self.lowers).map(|number| self.path(&format!("lower{number}")));
        let upper = UpperDirs { upper: self.path("upper"), work: self.path("work") };
        Config::new(lowers.collect(), Some(upper), "/nowhere".into())
    }

    pub fn open(&self) -> Client {
        Client::with(&self.config()).unwrap()
    }

    fn place(&self, path: &str) -> PathBuf {
        let full = self.path(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        full
    }

    pub fn dir(&self, path: &str) -> &Self {
        fs::create_dir_all(self.path(path)).unwrap();
        self
    }

    pub fn file(&self, path: &str, content: &str) -> &Self {
        fs::write(self.place(path), content).unwrap();
        self
    }

    pub fn link(&self, existing: &str, path: &str) -> &Self {
        fs::hard_link(self.path(existing), self.place(path)).unwrap();
        self
    }

    pub fn symlink(&self, path: &str, target: &str) -> &Self {
        std::os::unix::fs::symlink(target, self.place(path)).unwrap();
        self
    }

    pub fn node(&self, path: &str, kind: SFlag, rdev: u64) -> &Self {
        mknod(&self.place(path), kind, Mode::from_bits_truncate(0o640), rdev).unwrap();
        self
    }

    pub fn whiteout(&self, path: &str) -> &Self {
        self.node(path, SFlag::S_IFCHR, 0)
    }

    pub fn set(&self, path: &str, name: &str, value: impl AsRef<[u8]>) -> &Self {
        xattr::set(self.path(path), name, value.as_ref()).unwrap();
        self
    }

    pub fn mode(&self, path: &str, mode: u32) -> &Self {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub fn owner(&self, path: &str, uid: u32, gid: u32) -> &Self {
        std::os::unix::fs::lchown(self.path(path), Some(uid), Some(gid)).unwrap();
        self
    }

    pub fn time(&self, path: &str, seconds: i64) -> &Self {
        let time = TimeSpec::new(seconds, 5);
        let flags = UtimensatFlags::NoFollowSymlink;
        utimensat(nix::fcntl::AT_FDCWD, &self.path(path), &time, &time, flags).unwrap();
        self
    }

    /// Names on the disk, sorted.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    pub fn is_whiteout(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path))
            .is_ok_and(|meta| meta.mode() & libc::S_IFMT == libc::S_IFCHR && meta.rdev() == 0)
    }

    pub fn xattr(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        xattr::get(self.path(path), name).unwrap()
    }

    pub fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    pub fn metadata(&self, path: impl AsRef<Path>) -> fs::Metadata {
        fs::symlink_metadata(self.home.path().join(path)).unwrap()
    }
}
