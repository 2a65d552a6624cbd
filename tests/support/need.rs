//! What a test needs from the machine.
//!
//! A test begins with `needs!(mount);` (or several of the functions below) and returns there,
//! after a line that says so, where the machine lacks it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use super::Engine;
use super::release;
use super::scratch::Dir;
use super::user::{NOBODY, as_user};

/// Returns from the test, saying why, unless the machine has all that is named.
#[macro_export]
macro_rules! needs {
    ($($what:ident),+ $(,)?) => {
        let test = $crate::test_name!();
        $(if !$crate::support::need::$what(test) { return; })+
    };
}

/// Returns from the test when the oracle is being run and what follows is not the oracle's
/// business.
#[macro_export]
macro_rules! not_the_kernels {
    ($why:expr) => {
        if $crate::support::Engine::current() == $crate::support::Engine::Kernel {
            println!("NOT FOR THE KERNEL {}: {}", $crate::test_name!(), $why);
            return;
        }
    };
}

/// The path of the function that this stands in.
#[macro_export]
macro_rules! test_name {
    () => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        name.strip_suffix("::here").unwrap_or(name)
    }};
}

/// Where a missing means is reported: one line, or a panic if nothing may be skipped.
pub fn lacks(test: &str, reason: &str) -> bool {
    let strict = std::env::var_os("OVLMERGE_NO_SKIP").is_some_and(|value| value == "1");
    assert!(!strict, "{test} cannot run here: {reason}");
    println!("SKIPPED {test}: {reason}");
    false
}

/// A feature that not every kernel has. Where the kernel is older than the feature that is no fault
/// of the machine, and `OVLMERGE_NO_SKIP=1` allows it. A younger one without it fails the test.
#[derive(Clone, Copy, Debug)]
struct Feature {
    /// The first release that has it.
    since: (u32, u32),
    /// As it stands behind "needs".
    what: &'static str,
}

/// Whether a test can use `feature`, which is `there` or not; says so if not.
fn has(test: &str, feature: Feature, there: impl FnOnce() -> bool) -> bool {
    let Feature { since: (major, minor), what } = feature;
    if there() {
        return true;
    }
    let reason = format!("needs {what} (Linux {major}.{minor})");
    if release::running() < (major, minor) {
        println!("SKIPPED {test}: {reason}");
        return false;
    }
    lacks(test, &reason)
}

fn check(test: &str, holds: bool, reason: &str) -> bool {
    holds || lacks(test, reason)
}

/// Mounting as root, by whichever engine is tested.
pub fn mount(test: &str) -> bool {
    root(test)
        && match Engine::current() {
            Engine::Program => fuse(test),
            Engine::Kernel => kernel_overlay(test),
        }
}

pub fn root(test: &str) -> bool {
    check(test, nix::unistd::geteuid().is_root(), "needs root")
}

pub fn fuse(test: &str) -> bool {
    let opened = std::fs::File::options().read(true).write(true).open("/dev/fuse");
    check(test, opened.is_ok(), "needs /dev/fuse, readable and writable")
}

/// A kernel that reads and writes files for a FUSE server.
pub fn passthrough(test: &str) -> bool {
    protocol(test, 40, (6, 9), "FUSE passthrough")
}

/// Files without a name through FUSE (`FUSE_TMPFILE`).
pub fn fuse_tmpfile(test: &str) -> bool {
    protocol(test, 37, (6, 1), "O_TMPFILE through FUSE")
}

/// `FALLOC_FL_ZERO_RANGE` through FUSE (it came with `FUSE_SYNCFS`).
pub fn fuse_zero_range(test: &str) -> bool {
    protocol(test, 34, (5, 14), "ranges of zeros through FUSE")
}

/// Times of birth through FUSE (`FUSE_STATX`).
pub fn fuse_birth(test: &str) -> bool {
    protocol(test, 39, (6, 6), "times of birth through FUSE")
}

/// What came with a version of the FUSE protocol (linux/fuse.h has the list).
fn protocol(test: &str, minor: u32, since: (u32, u32), what: &'static str) -> bool {
    fuse(test) && has(test, Feature { since, what }, || release::fuse_minor() >= minor)
}

/// Data-only layers in the kernel's overlayfs.
pub fn overlay_data_only(test: &str) -> bool {
    let feature = Feature { since: (6, 5), what: "data-only layers in the kernel's overlayfs" };
    let options = "lowerdir=@/l::@/d,redirect_dir=on,metacopy=on";
    has(test, feature, || release::overlay(options, |_| (), |_| true))
}

/// Data-only layers in the kernel's overlayfs, found by attributes of users.
pub fn overlay_data_only_of_users(test: &str) -> bool {
    let what = "data-only layers with userxattr in the kernel's overlayfs";
    let prepare = |base: &Path| {
        let base = Dir::new(base);
        base.file("d/o", "data").file("l/f", "....");
        base.xattr("l/f", "user.overlay.metacopy", "").xattr("l/f", "user.overlay.redirect", "/o");
    };
    let look = |base: &Path| std::fs::read(base.join("m/f")).is_ok_and(|data| data == b"data");
    has(test, Feature { since: (6, 16), what }, || {
        release::overlay("lowerdir=@/l::@/d,userxattr", prepare, look)
    })
}

/// Whiteouts by attributes in the kernel's overlayfs.
pub fn overlay_xattr_whiteouts(test: &str) -> bool {
    let what = "whiteouts by attributes in the kernel's overlayfs";
    let prepare = |base: &Path| {
        let base = Dir::new(base);
        base.file("d/f", "").file("l/f", "");
        base.xattr("l", "trusted.overlay.opaque", "x").xattr("l/f", "trusted.overlay.whiteout", "");
    };
    let there = || release::overlay("lowerdir=@/l:@/d", prepare, |base| !base.join("m/f").exists());
    has(test, Feature { since: (6, 7), what }, there)
}

/// Marks for what chattr(1) protects in the kernel's overlayfs.
pub fn overlay_protattr(test: &str) -> bool {
    /// `FS_IMMUTABLE_FL`, linux/fs.h.
    const IMMUTABLE: i32 = 0x10;
    let what = "marks of protected files in the kernel's overlayfs";
    let look = |base: &Path| {
        let base = Dir::new(base);
        let file = File::create(base.path("m/f")).unwrap();
        let marked = super::raw::set_flags(&file, IMMUTABLE).is_ok()
            && base.get_xattr("u/f", "trusted.overlay.protattr").is_some();
        super::raw::set_flags(&file, 0).unwrap();
        marked
    };
    let options = "lowerdir=@/l,upperdir=@/u,workdir=@/w";
    has(test, Feature { since: (5, 15), what }, || release::overlay(options, |_| (), look))
}

/// `FICLONE` between two mounts of one file system. Tried by nobody, as few file systems share
/// data.
/// Before it copy_file_range(2) shares them.
pub fn shares_between_mounts(test: &str) -> bool {
    let since = (5, 18);
    let feature = Feature { since, what: "FICLONE between two mounts" };
    has(test, feature, || release::running() >= since)
}

/// Mounts that show other owners (mount_setattr(2)).
pub fn idmapped_mounts(test: &str) -> bool {
    let feature = Feature { since: (5, 12), what: "id-mapped mounts" };
    has(test, feature, || release::running() >= feature.since)
}

/// Attributes `security.*` that an ordinary user may not set. Anybody may where the kernel has the
/// BPF security module and an older rule for who asks whom (`security_inode_setxattr`).
pub fn guarded_security_attributes(test: &str) -> bool {
    let feature = Feature { since: (6, 11), what: "security.* attributes that take privilege" };
    has(test, feature, || {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::os::unix::fs::chown(file.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        as_user(NOBODY, NOBODY, || xattr::set(file.path(), "security.ovlmerge.probe", b"").is_err())
    })
}

/// Extended attributes of users on tmpfs.
pub fn tmpfs_user_xattr(test: &str) -> bool {
    let feature = Feature { since: (6, 6), what: "user.* attributes on tmpfs" };
    has(test, feature, || {
        let home = tempfile::TempDir::with_prefix("ovlmerge-probe-").unwrap();
        let tmpfs = super::Kernel::tmpfs(&Dir::new(home.path()));
        xattr::set(tmpfs.root(), "user.probe", b"").is_ok()
    })
}

/// What an ordinary user needs for a mount of their own.
pub fn fuse_for_users(test: &str) -> bool {
    let open = std::fs::metadata("/dev/fuse").is_ok_and(|found| found.mode() & 0o6 == 0o6);
    check(test, open, "needs /dev/fuse, readable and writable by all (chmod 666 /dev/fuse)")
}

pub fn kernel_overlay(test: &str) -> bool {
    let known = std::fs::read_to_string("/proc/filesystems")
        .is_ok_and(|text| text.lines().any(|line| line.ends_with("\toverlay")));
    check(test, known, "needs the kernel's overlayfs")
}

/// An unprivileged user namespace with a mount namespace in it.
pub fn userns(test: &str) -> bool {
    let works = Command::new("unshare")
        .args(["-Urm", "true"])
        .output()
        .is_ok_and(|output| output.status.success());
    check(test, works, "needs unshare -Urm (user namespaces)")
}

/// Loop devices with ext4 on them.
pub fn loop_device(test: &str) -> bool {
    root(test)
        && check(test, Path::new("/dev/loop-control").exists(), "needs loop devices")
        && program(test, "mkfs.ext4")
}

/// POSIX ACLs on the temporary directory, and the programs for them.
pub fn acl(test: &str) -> bool {
    program(test, "setfacl") && program(test, "getfacl")
}

/// A program that packs and unpacks layers.
pub fn umoci(test: &str) -> bool {
    program(test, "umoci")
}

/// A terminal for a program.
pub fn script(test: &str) -> bool {
    program(test, "script")
}

/// The calls of a program, one by one.
pub fn strace(test: &str) -> bool {
    program(test, "strace")
}

/// The attributes that lsattr and chattr show, on the temporary directory.
pub fn file_flags(test: &str) -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    check(
        test,
        super::raw::get_flags(file.as_file()).is_ok(),
        "needs chattr attributes on the temporary directory",
    )
}

/// A compiler for programs of 32 bits, with the C library for them.
pub fn gcc_for_32_bits(test: &str) -> bool {
    let home = tempfile::TempDir::with_prefix("ovlmerge-probe-").unwrap();
    let [source, to] = ["probe.c", "probe"].map(|name| home.path().join(name));
    std::fs::write(&source, "int main(void) { return 0; }").unwrap();
    let mut compile = Command::new("gcc");
    compile.args(["-m32", "-static", "-o"]).arg(to).arg(source);
    let works = compile.output().is_ok_and(|output| output.status.success());
    check(test, works, "needs gcc -m32 -static (gcc-multilib)")
}

/// A program in PATH.
pub fn program(test: &str, name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = [Path::new("/usr/sbin"), Path::new("/sbin")].map(Path::to_owned);
    let found = std::env::split_paths(&path).chain(extra).any(|dir| dir.join(name).is_file());
    check(test, found, &format!("needs the program {name}"))
}
