//! The root file system: made once with debootstrap, kept as a tar file in the user's cache.
//!
//! The file holds a minimal Debian, apt's lists and the packages that the test installs, so that
//! with a warm cache nothing is fetched.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const SUITE: &str = "bookworm";
/// Changes when what is in the cached file changes.
const EDITION: &str = "1";

/// Installed in the chroot; with what they depend on, well over 20 packages.
pub const PACKAGES: &str = "gcc libc6-dev make file less sudo cron procps \
                            iputils-ping attr acl libcap2-bin tree bc ed nano";
/// Of these, removed again.
pub const PURGE: &str = "nano ed tree";

/// The tar file, made now if the cache does not hold it.
pub fn cached() -> Result<PathBuf, String> {
    let dir = cache_dir()?;
    let file = dir.join(format!("{SUITE}-{}-{EDITION}.tar", env::consts::ARCH));
    if !file.exists() {
        fs::create_dir_all(&dir).map_err(|err| format!("{}: {err}", dir.display()))?;
        let building = tempfile::Builder::new()
            .prefix("building-")
            .tempdir_in(&dir)
            .map_err(|err| format!("{}: {err}", dir.display()))?;
        let made = build(building.path())?;
        fs::rename(made, &file).map_err(|err| format!("{}: {err}", file.display()))?;
    }
    Ok(file)
}

/// Unpacks the image into `into`, which must exist.
pub fn unpack(image: &Path, into: &Path) {
    let tar = tar().args(["--extract", "--file"]).arg(image).arg("--directory").arg(into).status();
    assert!(tar.unwrap().success(), "tar could not unpack {}", image.display());
}

fn cache_dir() -> Result<PathBuf, String> {
    let base = env::var_os("XDG_CACHE_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(base.join("ovlmerge-tests"))
}

fn build(dir: &Path) -> Result<PathBuf, String> {
    let (root, file) = (dir.join("root"), dir.join("image.tar"));
    println!("making {SUITE} with debootstrap in {}, as the cache does not hold it", dir.display());
    // What debootstrap mounts in there goes with the namespace, whatever happens to debootstrap.
    let isolated = || {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child"]);
        command
    };
    let mut debootstrap = isolated();
    debootstrap.args(["debootstrap", "--variant=minbase", SUITE]).arg(&root).arg(mirror()?);
    run(&mut debootstrap)?;
    // The packages that debootstrap has installed are not needed again.
    let fetch = "apt-get clean && apt-get update -qq -o Acquire::Retries=3 && \
                 apt-get install -y -qq -o Acquire::Retries=3 --no-install-recommends \
                 --download-only $PACKAGES";
    let mut download = isolated();
    download.arg("chroot").arg(&root).args(["sh", "-c", fetch]).env("PACKAGES", PACKAGES);
    run(&mut download)?;
    run(tar().args(["--create", "--file"]).arg(&file).arg("--directory").arg(&root).arg("."))?;
    Ok(file)
}

/// tar, with all that a root file system needs kept.
fn tar() -> Command {
    let mut tar = Command::new("tar");
    tar.args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls", "--sparse"]);
    tar
}

/// The Debian mirror that this machine's own apt uses.
fn mirror() -> Result<String, String> {
    let format = "$(REPO_URI) $(RELEASE)";
    let apt = Command::new("apt-get")
        .args(["indextargets", "--format", format, "Created-By: Packages", "Component: main"])
        .output()
        .map_err(|err| format!("apt-get: {err}"))?;
    let sources = String::from_utf8_lossy(&apt.stdout).into_owned();
    // `bookworm`, not `bookworm-updates` or `bookworm-security`.
    let main = sources
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(_, suite)| !suite.contains('-'));
    main.map(|(uri, _)| uri.to_owned())
        .ok_or_else(|| "apt's sources name no Debian mirror".to_owned())
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|err| format!("{command:?}: {err}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let tail: Vec<_> = text.lines().rev().take(8).collect();
    Err(format!(
        "{command:?}: {}: {}",
        output.status,
        tail.into_iter().rev().collect::<Vec<_>>().join(" | ")
    ))
}
