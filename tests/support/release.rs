//! What the running kernel can do, found out by trying.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::OnceLock;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// The release of the running kernel: the first two of its numbers.
pub fn running() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The minor version of its FUSE protocol, as the kernel says it when a file system is mounted
/// (`struct fuse_init_in`, linux/fuse.h).
pub fn fuse_minor() -> u32 {
    static MINOR: OnceLock<u32> = OnceLock::new();
    *MINOR.get_or_init(|| {
        let place = TempDir::with_prefix("ovlmerge-probe-").unwrap();
        let mut device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
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
pub fn overlay(options: &str, prepare: fn(&Path), look: fn(&Path) -> bool) -> bool {
    let home = TempDir::with_prefix("ovlmerge-probe-").unwrap();
    for name in ["l", "d", "u", "w", "m"] {
        std::fs::create_dir(home.path().join(name)).unwrap();
    }
    prepare(home.path());
    let data = options.replace('@', home.path().to_str().unwrap());
    let (kind, at) = (Some("overlay"), home.path().join("m"));
    if mount(kind, &at, kind, MsFlags::empty(), Some(data.as_str())).is_err() {
        return false;
    }
    let seen = look(home.path());
    umount2(&at, MntFlags::MNT_DETACH).unwrap();
    seen
}
