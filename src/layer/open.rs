//! From paths to layers: everything that can be wrong with them is found here, before the mount.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Stack;
use super::dir::LowerDir;
use super::fdcache::FdCache;
use super::filesystems::{FileSystem, FileSystems};
use super::keeping::Keeping;
use super::upper::Upper;
use super::work::Work;
use crate::config::{Config, UpperDirs};
use crate::error::{Context, Errno, Error, Result};
use crate::sys::{Target, at, file, stat};

/// Opens all layers of a mount.
///
/// # Errors
/// One that names the option and the path, says what is wrong with it and what to do.
pub fn open(config: &Config, cache: &Arc<FdCache>) -> Result<Stack> {
    let merged = config.lowers.iter().map(|path| ("lowerdir", path));
    let data_only = config.data_only.iter().map(|path| ("data-only lowerdir", path));
    let lowers = merged
        .chain(data_only)
        .map(|(option, path)| Ok(Opened { option, path, fd: open_dir(option, path)? }))
        .collect::<Result<Vec<_>>>()?;
    let layers: Vec<_> = lowers
        .iter()
        .take(config.lowers.len())
        .map(|lower| FileSystem::of(lower.fd.as_fd()))
        .collect::<Result<_>>()?;
    let upper = match &config.upper {
        Some(dirs) => Some(open_upper(dirs, &lowers, config, cache)?),
        None => None,
    };
    let aufs = config.whiteout.reads_aufs();
    let mut lowers = (1u16..)
        .zip(lowers)
        .map(|(layer, Opened { path, fd, .. })| {
            let keeping = Keeping::of_trusted_root(Target::Fd(fd.as_fd()))?;
            LowerDir::root(without_mounts(path, fd), layer, keeping, aufs, cache)
        })
        .collect::<Result<Vec<_>>>()?;
    let data_only = lowers.split_off(config.lowers.len());
    let top = upper.as_ref().map(Upper::file_system).transpose()?;
    Ok(Stack { upper, lowers, data_only, filesystems: FileSystems::new(top, layers) })
}

/// A lower layer, and how it was named.
struct Opened<'a> {
    option: &'static str,
    path: &'a Path,
    fd: OwnedFd,
}

/// A lower as the kernel's overlayfs sees it, without what is mounted below: our own mount may be,
/// and would lead into itself.
fn without_mounts(path: &Path, fd: OwnedFd) -> OwnedFd {
    match at::private_view(fd.as_fd()) {
        Ok(private) => private,
        Err(err) => {
            tracing::debug!("{}: mounts below are seen ({err})", path.display());
            fd
        }
    }
}

fn open_dir(option: &str, path: &Path) -> Result<OwnedFd> {
    at::open_root(path).map_err(|err| {
        let advice = match err.errno() {
            Errno::ENOENT => "it does not exist; create it or correct the path",
            Errno::ENOTDIR => "it is not a directory; a layer has to be one",
            Errno::EACCES => "it may not be read; check the permissions of it and of what is above",
            _ => "it cannot be opened",
        };
        err.context(format!("{option}={}: {advice}", path.display()))
    })
}

fn refuse(errno: Errno, text: String) -> Error {
    Error::new(errno, text)
}

fn open_upper(
    dirs: &UpperDirs,
    lowers: &[Opened<'_>],
    config: &Config,
    cache: &Arc<FdCache>,
) -> Result<Upper> {
    let upper = open_dir("upperdir", &dirs.upper)?;
    let work = open_dir("workdir", &dirs.work)?;
    let (up, wk) = (dirs.upper.display(), dirs.work.display());
    check_apart(dirs, &upper, &work)?;
    check_same_mount(dirs, &upper, &work)?;
    check_lowers_apart(dirs, &upper, &work, lowers)?;
    take(&upper, "upperdir", &dirs.upper)?;
    take(&work, "workdir", &dirs.work)?;
    let work = Work::prepare(work, config.durability).map_err(|err| {
        let advice = match err.errno() {
            Errno::EROFS => "its file system is read-only; use another, or mount without upperdir",
            Errno::EACCES | Errno::EPERM => "it may not be written; check its owner and mode",
            _ => "it cannot be used",
        };
        err.context(format!("workdir={wk}: {advice}"))
    })?;
    nix::unistd::faccessat(
        &upper,
        ".",
        nix::unistd::AccessFlags::W_OK,
        nix::fcntl::AtFlags::AT_EACCESS,
    )
    .map_err(Error::from)
    .context(|| {
        format!("upperdir={up}: it may not be written; check its owner, mode and file system")
    })?;
    Upper::new(upper, work, config, cache).map_err(|err| {
        let advice = match err.errno() {
            Errno::ENOSPC | Errno::EDQUOT => "its file system is full; make room",
            _ => "it cannot be used",
        };
        err.context(format!("upperdir={up}: {advice}"))
    })
}

/// How long a directory may stay locked: umount(8) returns before the server of the mount is gone.
const PATIENCE: Duration = Duration::from_secs(3);

/// Locks a directory for this mount alone.
fn take(dir: &OwnedFd, option: &str, path: &Path) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    let begun = Instant::now();
    let locked = loop {
        match file::lock_exclusive(dir.as_fd()) {
            Err(err) if err.errno() == Errno::EAGAIN && begun.elapsed() < PATIENCE => {
                std::thread::sleep(PAUSE);
            }
            other => break other,
        }
    };
    match locked {
        Err(err) if err.errno() == Errno::EAGAIN => Err(refuse(
            Errno::EBUSY,
            format!(
                "{option}={}: another mount is using it; unmount that one, or use another directory",
                path.display()
            ),
        )),
        // A file system without locks cannot tell us.
        Err(err) if matches!(err.errno(), Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EBADF) => {
            Ok(())
        }
        other => other,
    }
}

fn check_apart(dirs: &UpperDirs, upper: &OwnedFd, work: &OwnedFd) -> Result<()> {
    let (up, wk) = (dirs.upper.display(), dirs.work.display());
    let wrong = if same(upper, work)? {
        format!("upperdir and workdir are the same directory ({up})")
    } else if is_below(work.as_fd(), upper.as_fd())? {
        format!("workdir={wk} lies inside upperdir={up}")
    } else if is_below(upper.as_fd(), work.as_fd())? {
        format!("upperdir={up} lies inside workdir={wk}")
    } else {
        return Ok(());
    };
    Err(refuse(Errno::EINVAL, format!("{wrong}; use two directories side by side")))
}

fn check_same_mount(dirs: &UpperDirs, upper: &OwnedFd, work: &OwnedFd) -> Result<()> {
    let dev = |fd: &OwnedFd| Ok::<_, Error>(stat::fstat(fd.as_fd())?.dev);
    let mount = |fd: &OwnedFd| stat::mount_id(fd.as_fd());
    if dev(upper)? == dev(work)? && mount(upper)? == mount(work)? {
        return Ok(());
    }
    Err(refuse(
        Errno::EXDEV,
        format!(
            "workdir={} is not on the same file system and mount as upperdir={}; changes are moved \
             from one to the other, so put them side by side",
            dirs.work.display(),
            dirs.upper.display()
        ),
    ))
}

fn check_lowers_apart(
    dirs: &UpperDirs,
    upper: &OwnedFd,
    work: &OwnedFd,
    lowers: &[Opened<'_>],
) -> Result<()> {
    for Opened { option: name, path, fd: lower } in lowers {
        for (option, dir, dir_path) in
            [("upperdir", upper, &dirs.upper), ("workdir", work, &dirs.work)]
        {
            let relation = if same(lower, dir)? {
                "is the same directory as"
            } else if is_below(lower.as_fd(), dir.as_fd())? {
                "lies inside"
            } else {
                continue;
            };
            return Err(refuse(
                Errno::EINVAL,
                format!(
                    "{name}={} {relation} {option}={}; a layer that changes under the mount \
                     cannot be a lower one, so use another directory",
                    path.display(),
                    dir_path.display()
                ),
            ));
        }
    }
    Ok(())
}

fn same(a: &OwnedFd, b: &OwnedFd) -> Result<bool> {
    Ok(stat::fstat(a.as_fd())?.same_object(&stat::fstat(b.as_fd())?))
}

/// Whether `dir` lies somewhere below `above`.
fn is_below(dir: BorrowedFd<'_>, above: BorrowedFd<'_>) -> Result<bool> {
    let above = stat::fstat(above)?;
    let mut here = at::open_parent(dir)?;
    loop {
        let stat = stat::fstat(here.as_fd())?;
        if stat.same_object(&above) {
            return Ok(true);
        }
        let up = at::open_parent(here.as_fd())?;
        if stat::fstat(up.as_fd())?.same_object(&stat) {
            return Ok(false);
        }
        here = up;
    }
}
