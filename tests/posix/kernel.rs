//! The kernel's overlayfs beside the program under test, whatever that is.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A mounted kernel overlay that goes when this goes.
#[derive(Debug)]
pub struct KernelOverlay(PathBuf);

impl KernelOverlay {
    /// Mounts it with the options of mount(8).
    pub fn mount(options: &str, mountpoint: &Path) -> Self {
        let kind = Some("overlay");
        let mounted = mount(kind, mountpoint, kind, MsFlags::empty(), Some(options));
        mounted.unwrap_or_else(|err| panic!("mount -t overlay -o {options}: {err}"));
        Self(mountpoint.to_owned())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for KernelOverlay {
    fn drop(&mut self) {
        if let Err(err) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("{} stays mounted: {err}", self.0.display());
        }
    }
}
