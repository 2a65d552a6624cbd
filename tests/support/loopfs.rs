//! A small file system of its own, in a file behind a loop device.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

use super::process::{output, run, wait_for};
use super::raw;
use super::scratch::Dir;

/// `_IOWR('X', 119, int)` and `_IOWR('X', 120, int)` of linux/fs.h.
const FIFREEZE: libc::c_ulong = 0xc004_5877;
const FITHAW: libc::c_ulong = 0xc004_5878;

/// A mounted file system that goes when this goes.
#[derive(Debug)]
pub struct LoopFs {
    dir: Dir,
    home: TempDir,
}

impl LoopFs {
    /// ext4 without reserved blocks.
    pub fn ext4(mebibytes: u64) -> Self {
        Self::new("mkfs.ext4", &["-q", "-m", "0"], mebibytes)
    }

    /// The same with a UUID that another may have too.
    pub fn ext4_with_uuid(mebibytes: u64, uuid: &str) -> Self {
        Self::new("mkfs.ext4", &["-q", "-m", "0", "-U", uuid], mebibytes)
    }

    /// XFS with reflinks; the smallest is 300 MiB.
    pub fn xfs(mebibytes: u64) -> Self {
        Self::new("mkfs.xfs", &["-q"], mebibytes)
    }

    /// btrfs; the smallest is 109 MiB.
    pub fn btrfs(mebibytes: u64) -> Self {
        Self::new("mkfs.btrfs", &["-q"], mebibytes)
    }

    /// A read-only copy of a tree in a squashfs image.
    pub fn squashfs(tree: &Path) -> Self {
        let home = TempDir::with_prefix("ovlmerge-loop-").unwrap();
        let image = home.path().join("image");
        let [from, to] = [tree, &image].map(|path| path.to_str().unwrap());
        run("mksquashfs", &[from, to, "-quiet", "-no-progress"]);
        Self::mount(home)
    }

    /// A read-only copy of a tree in an EROFS image.
    pub fn erofs(tree: &Path) -> Self {
        let home = TempDir::with_prefix("ovlmerge-loop-").unwrap();
        let image = home.path().join("image");
        let [from, to] = [tree, &image].map(|path| path.to_str().unwrap());
        run("mkfs.erofs", &["--quiet", to, from]);
        Self::mount(home)
    }

    fn new(mkfs: &str, args: &[&str], mebibytes: u64) -> Self {
        let home = TempDir::with_prefix("ovlmerge-loop-").unwrap();
        let image = home.path().join("image");
        File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        let mut args = args.to_vec();
        args.push(image.to_str().unwrap());
        run(mkfs, &args);
        Self::mount(home)
    }

    /// Mounts the file `image` of the directory beside it.
    fn mount(home: TempDir) -> Self {
        let [image, mnt] = ["image", "fs"].map(|name| home.path().join(name));
        std::fs::create_dir(&mnt).unwrap();
        run("mount", &["-o", "loop", image.to_str().unwrap(), mnt.to_str().unwrap()]);
        Self { dir: Dir::new(mnt), home }
    }

    /// What is on its disk at this moment, with nothing of what is in memory alone: what there
    /// would be after a power cut.
    pub fn on_disk(&self) -> Self {
        let home = TempDir::with_prefix("ovlmerge-loop-").unwrap();
        let [from, to] = [&self.home, &home].map(|home| home.path().join("image"));
        std::fs::copy(from, to).unwrap();
        Self::mount(home)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.root()
    }

    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// A file that was just closed may still be open below a mount, so this is given some time.
    pub fn remount_read_only(&self) {
        let mut remount = Command::new("mount");
        remount.args(["-o", "remount,ro"]).arg(self.path());
        let done = wait_for(Duration::from_secs(5), || output(&mut remount).status.success());
        assert!(done, "{} does not become read-only", self.path().display());
    }

    pub fn remount_writable(&self) {
        let path = self.path().to_str().unwrap();
        run("mount", &["-o", "remount,rw", path]);
    }

    /// Has all who write to it wait until the answer goes: a disk that takes its time.
    ///
    /// No program does that: what starts one closes our files once more, which waits for who
    /// writes to them before Linux 5.16.
    pub fn freeze(&self) -> Frozen {
        let root = File::open(self.path()).unwrap();
        raw::ioctl(&root, FIFREEZE).unwrap();
        Frozen(root)
    }

    /// Bytes that an ordinary user can still write.
    pub fn free_bytes(&self) -> u64 {
        let stat = nix::sys::statvfs::statvfs(self.path()).unwrap();
        stat.blocks_available() * stat.fragment_size()
    }

    /// Takes all but about `keep` bytes by a file of that name, and returns what was left.
    pub fn fill(&self, name: &str, keep: u64) -> u64 {
        let take = self.free_bytes().saturating_sub(keep);
        let file = File::create(self.dir.path(name)).unwrap();
        let take = i64::try_from(take).unwrap();
        let flags = nix::fcntl::FallocateFlags::empty();
        nix::fcntl::fallocate(&file, flags, 0, take).unwrap();
        file.sync_all().unwrap();
        self.free_bytes()
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        let path = self.path().to_owned();
        let gone = wait_for(Duration::from_secs(5), || umount2(&path, MntFlags::empty()).is_ok());
        if !gone && let Err(err) = umount2(&path, MntFlags::MNT_DETACH) {
            eprintln!("{} stays mounted: {err}", path.display());
        }
    }
}

/// A file system to which nobody can write.
#[derive(Debug)]
pub struct Frozen(File);

impl Drop for Frozen {
    fn drop(&mut self) {
        raw::ioctl(&self.0, FITHAW).unwrap();
    }
}
