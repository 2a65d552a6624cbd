//! The layers of one case.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;

use ovlmerge::config::{Config, IndexChoice, UpperDirs};

use crate::client::{Client, clear_umask};

/// `lower`, `upper` and `work`, in a directory that goes when this goes.
#[derive(Debug)]
pub struct Dirs {
    home: tempfile::TempDir,
    metacopy: Cell<bool>,
    redirects: Cell<bool>,
}

impl Dirs {
    /// Layers as `prepare` makes them, with all times long past.
    pub fn new(prepare: fn(&Self)) -> Self {
        clear_umask();
        let home = tempfile::Builder::new().prefix("ovlmerge-crash-").tempdir().unwrap();
        let dirs = Self { home, metacopy: Cell::new(false), redirects: Cell::new(false) };
        for name in ["lower", "upper", "work"] {
            dirs.dir(name);
        }
        prepare(&dirs);
        for name in ["lower", "upper"] {
            age(&dirs.path(name));
        }
        dirs
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    /// What opens them: can be sent to another thread.
    pub fn opener(&self) -> impl Fn() -> ovlmerge::error::Result<Client> + Send + 'static {
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| self.path(name));
        let (metacopy, write_redirects) = (self.metacopy.get(), self.redirects.get());
        move || {
            let upper = UpperDirs { upper: upper.clone(), work: work.clone() };
            let config = Config::new(vec![lower.clone()], Some(upper), "/nowhere".into());
            // With an index, or hard links that nobody has looked up would part.
            let index = IndexChoice::Auto;
            Client::with(&Config { metacopy, write_redirects, index, ..config })
        }
    }

    /// Directories of the lower are to move by redirects.
    pub fn redirects(&self) -> &Self {
        self.redirects.set(true);
        self
    }

    /// With `metacopy=on`.
    pub fn metacopy(&self) -> &Self {
        self.metacopy.set(true);
        self
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

    pub fn symlink(&self, path: &str, target: &str) -> &Self {
        std::os::unix::fs::symlink(target, self.place(path)).unwrap();
        self
    }

    pub fn link(&self, existing: &str, path: &str) -> &Self {
        fs::hard_link(self.path(existing), self.place(path)).unwrap();
        self
    }

    pub fn whiteout(&self, path: &str) -> &Self {
        mknod(&self.place(path), SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
        self
    }

    pub fn set(&self, path: &str, name: &str, value: &str) -> &Self {
        xattr::set(self.path(path), name, value.as_bytes()).unwrap();
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

    /// What is left in the work directory.
    pub fn leftovers(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("work/work")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

/// Sets all times below to one moment of the past.
fn age(path: &Path) {
    let meta = fs::symlink_metadata(path).unwrap();
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            age(&entry.unwrap().path());
        }
    }
    let time = TimeSpec::new(1000, 0);
    let flags = UtimensatFlags::NoFollowSymlink;
    utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, flags).unwrap();
}
