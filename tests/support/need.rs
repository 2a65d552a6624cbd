//! What a test needs from the machine.
//!
//! A test begins with `needs!(mount);` (or several of the functions below) and returns there,
//! after a line that says so, where the machine lacks it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use super::Engine;

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
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    check(test, version >= (6, 9), "needs Linux 6.9 (FUSE passthrough)")
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

/// A program in PATH.
pub fn program(test: &str, name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = [Path::new("/usr/sbin"), Path::new("/sbin")].map(Path::to_owned);
    let found = std::env::split_paths(&path).chain(extra).any(|dir| dir.join(name).is_file());
    check(test, found, &format!("needs the program {name}"))
}
