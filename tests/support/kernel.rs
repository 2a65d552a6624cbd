//! What the kernel mounts itself: its overlayfs, and file systems in memory.

use std::ops::Deref;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::scratch::Dir;

/// A mount of the kernel that goes when it is dropped.
#[derive(Debug)]
pub struct Kernel(Dir);

impl Kernel {
    /// An overlay with these options besides its layers.
    pub fn overlay(lowers: &[Dir], upper: Option<(&Dir, &Dir)>, at: &Dir, options: &str) -> Self {
        Self::try_overlay(lowers, upper, at, options)
            .unwrap_or_else(|err| panic!("overlay {lowers:?} {options}: {err}"))
    }

    /// The same, where the kernel may refuse it.
    pub fn try_overlay(
        lowers: &[Dir],
        upper: Option<(&Dir, &Dir)>,
        at: &Dir,
        options: &str,
    ) -> nix::Result<Self> {
        let lowers: Vec<_> = lowers.iter().map(|dir| dir.root().to_str().unwrap()).collect();
        let mut data = format!("lowerdir={}", lowers.join(":"));
        if let Some((upper, work)) = upper {
            let [upper, work] = [upper, work].map(|dir| dir.root().display().to_string());
            data += &format!(",upperdir={upper},workdir={work}");
        }
        Self::try_new("overlay", at, &format!("{data},{options}"))
    }

    /// A file system that has large extended attributes.
    pub fn tmpfs(at: &Dir) -> Self {
        Self::new("tmpfs", at, "mode=755,size=16m")
    }

    /// A file system that has no extended attributes at all.
    pub fn ramfs(at: &Dir) -> Self {
        Self::new("ramfs", at, "mode=755")
    }

    /// A mount of any kind.
    pub fn new(kind: &str, at: &Dir, data: &str) -> Self {
        Self::try_new(kind, at, data).unwrap_or_else(|err| panic!("{kind} {data}: {err}"))
    }

    /// The same, where the kernel may refuse it.
    pub fn try_new(kind: &str, at: &Dir, data: &str) -> nix::Result<Self> {
        mount(Some(kind), at.root(), Some(kind), MsFlags::MS_NOATIME, Some(data))?;
        Ok(Self(at.clone()))
    }
}

impl Deref for Kernel {
    type Target = Dir;

    fn deref(&self) -> &Dir {
        &self.0
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let gone = umount2(self.root(), MntFlags::UMOUNT_NOFOLLOW)
            .or_else(|_| umount2(self.root(), MntFlags::MNT_DETACH));
        if let Err(err) = gone {
            eprintln!("{} stays mounted: {err}", self.root().display());
        }
    }
}
