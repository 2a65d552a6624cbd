//! Opening the layers that the options name, with all checks of them, before anything is mounted.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Stack;
use super::claim::{self, Claims, let_in};
use super::dir::LowerDir;
use super::fdcache::FdCache;
use super::filesystems::{FileSystem, FileSystems};
use super::grants;
use super::idmapped::Mounts;
use super::overlap::{self, Opened};
use super::owner_storage::OwnerStorage;
use super::upper::Upper;
use super::work::{self, Claim, Work};
use crate::config::{Config, Frozen, IndexChoice, Permissions, UpperDirs};
use crate::error::{Context, Errno, Error, Result};
use crate::sys::{Target, at, creds, dir, stat};

/// Opens all layers of a mount.
///
/// # Errors
/// An error that names the option and the path, and says what is wrong and what to do.
pub fn open(config: &Config, cache: &Arc<FdCache>) -> Result<Stack> {
    open_for(config, cache, Reader::Mount)
}

/// Opens layers to look at them once. The upper, if it is one of them, is `frozen`.
///
/// # Errors
/// As [`open`], but a layer that is the upper of another mount only gives a warning.
pub fn open_to_look(config: &Config, cache: &Arc<FdCache>) -> Result<Stack> {
    open_for(config, cache, Reader::Tool)
}

/// Opens layers as [`open_to_look`] does, without its warnings, which the caller has given before.
///
/// # Errors
/// As [`open`].
pub fn open_again(config: &Config, cache: &Arc<FdCache>) -> Result<Stack> {
    open_for(config, cache, Reader::SameTool)
}

/// The kind of reader of layers, which decides on warnings about mounts that write to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// A mount.
    Mount,
    /// A tool.
    Tool,
    /// A tool for which the warnings were given before.
    SameTool,
}

fn open_for(config: &Config, cache: &Arc<FdCache>, reader: Reader) -> Result<Stack> {
    let lowers = open_lowers(config)?;
    let layers: Vec<_> = lowers
        .iter()
        .take(config.lowers.len())
        .map(|lower| FileSystem::of(lower.fd.as_fd()))
        .collect::<Result<_>>()?;
    let writable = config.upper.as_ref().map(open_writable).transpose()?;
    let overlaps =
        overlap::check(writable.as_ref().map_or(&[][..], |two| two.as_slice()), &lowers)?;
    let claims = Claims::begin(config.strict || config.index == IndexChoice::On);
    let is_upper = |position: usize| config.frozen.is_some() && position == 0;
    let told = |position: usize| reader == Reader::Tool || !is_upper(position);
    let held = overlaps.held.into_iter().filter(|(position, _)| told(*position));
    let held = held.filter_map(|(at, pid)| Some((lowers.get(at)?.named(), Some(pid))));
    let held: Vec<_> = held.collect();
    match reader {
        Reader::Mount => claims.of_lowers(&held)?,
        Reader::Tool => claim::warn_reader(&held),
        Reader::SameTool => {}
    }
    let upper = match writable {
        Some(two) => {
            let lower = lowers.first().map(|lower| lower.fd.as_fd());
            Some(take_upper(two, lower, claims, config, cache)?)
        }
        None => None,
    };
    if let Some(frozen) = &config.frozen {
        look_at_work(frozen, config)?;
    }
    let aufs = config.whiteout.reads_aufs();
    let mut lowers = (1u16..)
        .zip(lowers)
        .map(|(layer, Opened { path, fd, .. })| {
            let owner_storage = match config.frozen.is_some() && layer == 1 {
                true => owner_storage_of_frozen(&fd, config)?,
                false => OwnerStorage::of_trusted_root(Target::Fd(fd.as_fd()))?,
            };
            let settles = config.lowers_settle();
            let root = LowerDir::root(
                without_mounts(path, fd),
                layer,
                owner_storage,
                aufs,
                settles,
                cache,
            )?;
            // Read now: later the layer may hang, and nobody has to ask it.
            root.dir().dev()?;
            Ok(root)
        })
        .collect::<Result<Vec<_>>>()?;
    let data_only = lowers.split_off(config.lowers.len());
    let top = upper.as_ref().map(Upper::file_system).transpose()?;
    let filesystems = FileSystems::new(top, layers);
    Ok(Stack { upper, lowers, data_only, filesystems, traps: overlaps.traps })
}

fn open_lowers(config: &Config) -> Result<Vec<Opened<'_>>> {
    let frozen = config.frozen.is_some();
    let merged = config.lowers.iter().enumerate().map(|(position, path)| match position {
        0 if frozen => ("upperdir", path),
        _ => ("lowerdir", path),
    });
    let data_only = config.data_only.iter().map(|path| ("data-only lowerdir", path));
    let mounts = Mounts::for_owners(&config.owners);
    merged
        .chain(data_only)
        .enumerate()
        .map(|(position, (option, path))| {
            let lower = opened(option, path);
            let lower = lower.map_err(|err| or_cut(err, (option, path), config, position))?;
            Ok(Opened { fd: mounts.unmapped(path, lower.fd)?, ..lower })
        })
        .collect()
}

fn opened<'a>(option: &'static str, path: &'a Path) -> Result<Opened<'a>> {
    Ok(Opened { option, path, fd: open_dir(option, path)? })
}

/// The owner storage of an upper that is only read.
fn owner_storage_of_frozen(root: &OwnedFd, config: &Config) -> Result<OwnerStorage> {
    let root = Target::Fd(root.as_fd());
    match config.permissions {
        Permissions::Inode => OwnerStorage::of_trusted_root(root),
        Permissions::SecurityXattr | Permissions::UserXattr => OwnerStorage::of_root(root),
    }
}

/// Checks that the work directory of an upper that is only read does not forbid to read it.
fn look_at_work(frozen: &Frozen, config: &Config) -> Result<()> {
    let Some(path) = &frozen.work else { return Ok(()) };
    // It may be missing, as this mount makes and moves nothing.
    let Ok(work) = at::open_root(path) else { return Ok(()) };
    work::check_readable(work.as_fd()).context(|| format!("workdir={}", path.display()))?;
    if config.index != IndexChoice::Off {
        tracing::warn!("index: a mount that is `ro` has none; hard links of lowers stand alone");
    }
    Ok(())
}

/// A lower without the mounts below it, as the kernel's overlayfs sees it. Our own mount may be one
/// of them, and would lead into itself.
fn without_mounts(path: &Path, fd: OwnedFd) -> OwnedFd {
    match at::private_view(fd.as_fd()) {
        Ok(private) => private,
        Err(err) => {
            tracing::debug!("{}: mounts below are seen ({err})", path.display());
            fd
        }
    }
}

/// Opens the directory that an option names.
///
/// # Errors
/// Those of open(2), with the option, the path and what to do.
pub fn open_dir(option: &str, path: &Path) -> Result<OwnedFd> {
    at::open_root(path).map_err(|err| {
        let advice = match err.errno() {
            Errno::ENOENT => match name_that_was_cut(path, b',', |_| true) {
                Some(name) => unescaped(&name),
                None => "it does not exist; create it or correct the path".into(),
            },
            Errno::ENOTDIR => "it is not a directory; a layer has to be one".into(),
            Errno::EACCES => {
                "it may not be read; check the permissions of it and of what is above".into()
            }
            Errno::ENOTCONN => {
                "the server of the mount that it is on is dead; unmount that (ovlmerge umount, or \
                 umount -l)"
                    .into()
            }
            _ => "it cannot be opened".to_owned(),
        };
        err.context(format!("{option}={}: {advice}", path.display()))
    })
}

/// Adds advice to an error about a missing lower, if an unescaped colon may have cut a name. The
/// lower is then the beginning of that name, or the end of one that the lower before it begins.
fn or_cut(err: Error, (option, path): (&str, &Path), config: &Config, position: usize) -> Error {
    if err.errno() != Errno::ENOENT {
        return err;
    }
    let next = config.lowers.get(position + 1).map(|next| (path, next.as_path()));
    let before = position.checked_sub(1).and_then(|before| config.lowers.get(before));
    let before = before.map(|before| (before.as_path(), path));
    let cut = [next, before].into_iter().flatten().find_map(|(beginning, end)| {
        name_that_was_cut(beginning, b':', |rest| {
            let mut parts = rest.split(|byte| matches!(byte, b',' | b':'));
            let part = parts.next().map(OsStr::from_bytes);
            end.iter().any(|name| Some(name) == part)
        })
    });
    match cut {
        Some(name) => {
            let text = format!("{option}={}: {}", path.display(), unescaped(&name));
            Error::new(Errno::ENOENT, text)
        }
        None => err,
    }
}

fn unescaped(name: &Path) -> String {
    let name = name.display();
    format!("is {name} meant? write `\\,` for a comma and `\\:` for a colon in a name")
}

/// Finds an entry whose name is that of `path`, followed by `end` and a rest that `goes_on`
/// accepts. `end` is a comma or a colon, at which an option ends unless it is escaped.
fn name_that_was_cut(path: &Path, end: u8, goes_on: impl Fn(&[u8]) -> bool) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    let (above, name) = (path.parent()?, path.file_name()?.as_bytes());
    let mut found = None;
    let dir = at::open_root(above).ok()?;
    dir::for_each(dir.as_fd(), |entry| {
        let rest = entry.name.strip_prefix(name).and_then(|rest| rest.strip_prefix(&[end]));
        if found.is_none() && rest.is_some_and(&goes_on) {
            found = Some(above.join(OsStr::from_bytes(entry.name)));
        }
        Ok(())
    })
    .ok()?;
    found
}

fn refuse(errno: Errno, text: String) -> Error {
    Error::new(errno, text)
}

/// Opens the upper and its work directory, and checks that they fit together.
fn open_writable(dirs: &UpperDirs) -> Result<[Opened<'_>; 2]> {
    let upper = opened("upperdir", &dirs.upper)?;
    let work = opened("workdir", &dirs.work)?;
    check_apart(dirs, &upper, &work)?;
    check_same_mount(dirs, &upper.fd, &work.fd)?;
    Ok([upper, work])
}

fn take_upper(
    [upper, work]: [Opened<'_>; 2],
    lower: Option<BorrowedFd<'_>>,
    mut claims: Claims,
    config: &Config,
    cache: &Arc<FdCache>,
) -> Result<Upper> {
    let (up, wk) = (upper.named(), work.named());
    let at = work.fd.as_fd();
    let [of_upper, of_work] = [claims.take(&upper, at)?, claims.take(&work, at)?];
    claims.warn();
    let (upper, work) = (upper.fd, work.fd);
    if [of_upper, of_work] == [Claim::Alone; 2] {
        grants::repair(upper.as_fd(), work.as_fd())?;
    }
    let work = Work::prepare(work, config.durability, of_work).map_err(|err| {
        let advice = match err.errno() {
            Errno::EROFS => "its file system is read-only; use another, or mount without upperdir",
            Errno::EACCES | Errno::EPERM => "it may not be written; check its owner and mode",
            _ => "it cannot be used",
        };
        err.context(format!("{wk}: {advice}"))
    })?;
    let_in(work.above())?;
    let_in(upper.as_fd())?;
    check_writable(&upper).context(|| {
        format!("{up}: it may not be written; check its owner, mode and file system")
    })?;
    // Two servers do not see each other's entries of the index.
    let shared = [of_upper, of_work].contains(&Claim::Shared);
    let index = if shared { IndexChoice::Off } else { config.index };
    let config = &Config { index, ..config.clone() };
    Upper::new(upper, work, lower, config, cache).map_err(|err| {
        let advice = match err.errno() {
            Errno::ENOSPC | Errno::EDQUOT => "its file system is full; make room",
            _ => "it cannot be used",
        };
        err.context(format!("{up}: {advice}"))
    })
}

/// Checks that the upper may be written. The mode of a directory of ours does not count, here as
/// everywhere in the upper.
fn check_writable(upper: &OwnedFd) -> Result<()> {
    use nix::fcntl::AtFlags;
    use nix::unistd::{AccessFlags, faccessat};
    match faccessat(upper, ".", AccessFlags::W_OK, AtFlags::AT_EACCESS).map_err(Error::from) {
        Err(err) if err.errno() == Errno::EACCES => {
            let owner = stat::fstat(upper.as_fd())?.uid;
            if owner == creds::effective().uid.number() { Ok(()) } else { Err(err) }
        }
        other => other,
    }
}

fn check_apart(dirs: &UpperDirs, upper: &Opened<'_>, work: &Opened<'_>) -> Result<()> {
    let (up, wk) = (dirs.upper.display(), dirs.work.display());
    let wrong = if same(&upper.fd, &work.fd)? {
        format!("upperdir and workdir are the same directory ({up})")
    } else if is_below(work, upper)? {
        format!("workdir={wk} lies inside upperdir={up}")
    } else if is_below(upper, work)? {
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

fn same(a: &OwnedFd, b: &OwnedFd) -> Result<bool> {
    Ok(stat::fstat(a.as_fd())?.same_object(&stat::fstat(b.as_fd())?))
}

/// Whether `dir` lies somewhere below `above`.
fn is_below(dir: &Opened<'_>, above: &Opened<'_>) -> Result<bool> {
    let above = stat::fstat(above.fd.as_fd())?;
    let mut here = dir.above()?;
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
