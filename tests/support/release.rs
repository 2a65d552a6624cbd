//! What the running kernel can do, found out by trying.
//!
//! Kernels that people have lack things, and a test of such a thing cannot run there. That is no
//! fault of the machine, so `OVLMERGE_NO_SKIP=1` allows it; but only where the kernel is older
//! than the feature. A younger one without it fails the test.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use super::need::lacks;
use super::scratch::Dir;

/// A feature that not every kernel has.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// The first release that has it.
    pub since: (u32, u32),
    /// As it stands behind "needs".
    pub what: &'static str,
}

/// The release of the running kernel: the first two of its numbers.
pub fn running() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Whether a test can use `feature`, which is `there` or not; says so if not.
pub fn has(test: &str, feature: Feature, there: impl FnOnce() -> bool) -> bool {
    let Feature { since: (major, minor), what } = feature;
    if there() {
        return true;
    }
    let reason = format!("needs {what} (Linux {major}.{minor})");
    if running() < (major, minor) {
        println!("SKIPPED {test}: {reason}");
        return false;
    }
    lacks(test, &reason)
}

/// The minor version of its FUSE protocol, as the kernel says it when a file system is mounted
/// (`struct fuse_init_in`, linux/fuse.h).
pub fn fuse_minor() -> u32 {
    static MINOR: OnceLock<u32> = OnceLock::new();
    *MINOR.get_or_init(|| {
        let place = TempDir::with_prefix("ovlmerge-probe-").unwrap();
        let mut device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options =
            format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let kind = Some("fuse");
        mount(kind, place.path(), kind, MsFlags::empty(), Some(options.as_str())).unwrap();
        // More than the least that the kernel takes for a buffer (FUSE_MIN_READ_BUFFER).
        let mut request = [0; 16 << 10];
        let length = device.read(&mut request).unwrap();
        // Not answered, so that nobody can use it.
        drop(device);
        umount2(place.path(), MntFlags::MNT_DETACH).unwrap();
        // Behind a header of 40 bytes and the major version.
        assert!(length >= 48, "INIT has {length} bytes");
        u32::from_ne_bytes(request[44..48].try_into().unwrap())
    })
}

/// Mounts the kernel's overlayfs for a look at it: `prepare` gets a directory with `l`, `d`, `u`
/// and `w`, `@` in the options stands for its path, and `look` gets it once `m` in it is mounted.
/// False where it cannot be mounted.
pub fn overlay(options: &str, prepare: fn(&Dir), look: fn(&Dir) -> bool) -> bool {
    let home = TempDir::with_prefix("ovlmerge-probe-").unwrap();
    let base = Dir::new(home.path());
    for name in ["l", "d", "u", "w", "m"] {
        base.dir(name);
    }
    prepare(&base);
    let data = options.replace('@', home.path().to_str().unwrap());
    let (kind, at) = (Some("overlay"), base.path("m"));
    if mount(kind, &at, kind, MsFlags::empty(), Some(data.as_str())).is_err() {
        return false;
    }
    let seen = look(&base);
    umount2(&at, MntFlags::MNT_DETACH).unwrap();
    seen
}
