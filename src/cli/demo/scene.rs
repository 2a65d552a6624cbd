//! The layers of the demo.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::listing::tree;
use super::{Doing, Stop};
use crate::cli::escape::{escape_path, escape_paths};

/// A folder with two lower layers, an upper, a work directory and a mountpoint.
#[derive(Debug)]
pub struct Scene {
    folder: TempDir,
    /// The lower layer at the bottom.
    pub base: PathBuf,
    /// The lower layer above it.
    pub app: PathBuf,
    /// The writable layer.
    pub upper: PathBuf,
    /// The work directory.
    pub work: PathBuf,
    /// The mountpoint.
    pub merged: PathBuf,
}

impl Scene {
    /// Makes the folder and fills the lower layers.
    pub fn build() -> Result<Self, Stop> {
        let folder = tempfile::Builder::new().prefix("ovlmerge-demo-").tempdir();
        let folder = folder.doing("cannot make a temporary folder (TMPDIR, else /tmp)")?;
        let at = |name: &str| folder.path().join(name);
        let scene = Self {
            base: at("base"),
            app: at("app"),
            upper: at("upper"),
            work: at("work"),
            merged: at("merged"),
            folder,
        };
        scene.fill()?;
        Ok(scene)
    }

    fn fill(&self) -> Result<(), Stop> {
        for dir in [&self.upper, &self.work, &self.merged] {
            make_dir(dir)?;
        }
        for dir in ["etc", "cache", "tmp"] {
            make_dir(&self.base.join(dir))?;
        }
        write(&self.base.join("etc/hosts"), "127.0.0.1 localhost\n")?;
        write(&self.base.join("etc/motd"), "hello from base\n")?;
        write(&self.base.join("cache/old-1"), "1\n")?;
        write(&self.base.join("cache/old-2"), "2\n")?;
        write(&self.base.join("tmp/session"), "base\n")?;
        set_mode(&self.base.join("tmp"), 0o1777)?;

        for dir in ["etc", "tmp"] {
            make_dir(&self.app.join(dir))?;
        }
        write(&self.app.join("etc/motd"), "hello from app\n")?;
        write(&self.app.join("etc/app.conf"), "verbose = yes\n")?;
        write(&self.app.join("tmp/app.lock"), "app\n")?;
        set_mode(&self.app.join("tmp"), 0o755)?;
        mark_delegated(&self.app.join("tmp"))
    }

    /// The folder that holds the layers and the mountpoint.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// The lower layers as they are on disk.
    pub fn describe(&self) -> Result<String, Stop> {
        Ok(format!("  base/  {}\n  app/   {}\n", tree(&self.base)?, tree(&self.app)?))
    }

    /// The value of `-o` for the mount.
    pub fn options(&self) -> std::ffi::OsString {
        let mut options = std::ffi::OsString::from("lowerdir=");
        options.push(escape_paths(&[&self.app, &self.base]));
        options.push(",upperdir=");
        options.push(escape_path(&self.upper));
        options.push(",workdir=");
        options.push(escape_path(&self.work));
        options
    }

    /// The command that makes the same mount, if it is typed in the folder.
    pub fn command_line(&self) -> String {
        "ovlmerge -o lowerdir=app:base,upperdir=upper,workdir=work merged".into()
    }

    /// Removes the folder, and returns its path.
    pub fn remove(self) -> Result<PathBuf, Stop> {
        let path = self.folder.path().to_owned();
        self.folder.close().doing(format_args!("cannot remove {}", path.display()))?;
        Ok(path)
    }
}

/// Marks a directory as delegated, as an unpacker does with one that it had to invent.
fn mark_delegated(dir: &Path) -> Result<(), Stop> {
    let trusted = xattr::set(dir, "trusted.overlay.dirmeta_delegate", b"y");
    if trusted.is_ok() {
        return Ok(());
    }
    xattr::set(dir, "user.overlay.dirmeta_delegate", b"y").doing(format_args!(
        "cannot set an extended attribute on {}; set TMPDIR to a directory on ext4, xfs or btrfs",
        dir.display()
    ))
}

fn make_dir(path: &Path) -> Result<(), Stop> {
    fs::create_dir_all(path).doing(format_args!("cannot make {}", path.display()))?;
    set_mode(path, 0o755)
}

fn write(path: &Path, text: &str) -> Result<(), Stop> {
    fs::write(path, text).doing(format_args!("cannot write {}", path.display()))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Stop> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .doing(format_args!("cannot change the mode of {}", path.display()))
}
