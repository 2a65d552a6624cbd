//! The directory in which a layer is built, beside its destination.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::abandoned;
use crate::config::{Config, UpperDirs};
use crate::error::{Context, Errno, Error, Result, best_effort};
use crate::format::overlay::{ACL_ACCESS, ACL_DEFAULT};
use crate::layer::{FdCache, Upper, open, work};
use crate::sys::at::Replace;
use crate::sys::{Name, WritableFd, at, creds, dir, stat, xattr};

/// Names in the stage: the new layer, its work directory, and the files that AUFS kept for links.
const ROOT: &str = "root";
const WORK: &str = "work";
const LINKS: &str = "links";

/// A directory beside the destination. Dropping it removes all that was not published.
#[derive(Debug)]
pub(super) struct Stage {
    above: OwnedFd,
    /// Name of the stage in `above`.
    name: String,
    /// Name of the destination in `above`.
    wanted: Vec<u8>,
    path: PathBuf,
    dir: OwnedFd,
    links: OwnedFd,
    upper: Option<Upper>,
}

impl Stage {
    /// # Errors
    /// ENOTEMPTY or ENOTDIR if the destination is taken.
    pub fn new(path: &Path, config: &Config) -> Result<Self> {
        let what = || path.display().to_string();
        let (above_path, wanted) = match (path.parent(), path.file_name()) {
            (Some(above), Some(wanted)) if above.as_os_str().is_empty() => (Path::new("."), wanted),
            (Some(above), Some(wanted)) => (above, wanted),
            _ => {
                let text = format!("{}: give it a name, as in ./layer", what());
                return Err(Error::new(Errno::EINVAL, text));
            }
        };
        let wanted = wanted.as_bytes().to_vec();
        let above = at::open_root(above_path).map_err(|err| match err.errno() {
            Errno::ENOENT => err.context(format!(
                "{}: the directory {} does not exist; create it or correct the path",
                what(),
                above_path.display()
            )),
            _ => err.context(above_path.display()),
        })?;
        check_free(above.as_fd(), &wanted).context(what)?;
        let beside = WritableFd::vouch(above.as_fd());
        best_effort("removing what a killed run left", abandoned::sweep(beside));
        let (name, dir) = abandoned::make(beside).context(|| above_path.display().to_string())?;
        match Self::fill(&dir, config) {
            Ok((links, upper)) => {
                let path = path.to_owned();
                Ok(Self { above, name, wanted, path, dir, links, upper: Some(upper) })
            }
            Err(err) => {
                let removed =
                    Name::new(name.as_bytes()).and_then(|stage| work::remove_tree(beside, stage));
                best_effort("removing what was made", removed);
                Err(err.context(what()))
            }
        }
    }

    fn fill(dir: &OwnedFd, config: &Config) -> Result<(OwnedFd, Upper)> {
        let own = WritableFd::vouch(dir.as_fd());
        // The directory above may have passed on ACLs, which the layer must not have.
        for acl in [ACL_DEFAULT, ACL_ACCESS] {
            match xattr::remove(own.object(), acl) {
                Err(err) if xattr::is_absent(&err) => {}
                other => other?,
            }
        }
        at::chmod(own.object(), 0o700)?;
        for name in [ROOT, WORK, LINKS] {
            at::mkdir(own, Name::new(name.as_bytes())?, 0o700)?;
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let links = at::open(dir.as_fd(), Name::new(LINKS.as_bytes())?, flags)?;
        // By descriptor, as another program may put a different directory at the path.
        let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
        let dirs = UpperDirs { upper: path.join(ROOT), work: path.join(WORK) };
        let config = Config { lowers: Vec::new(), upper: Some(dirs), ..config.clone() };
        let cache = FdCache::for_open_files(creds::raise_open_files()?);
        let upper = open::open(&config, &cache)?.upper.ok_or(Errno::EIO)?;
        Ok((links, upper))
    }

    /// Returns the new layer.
    pub fn upper(&self) -> Result<&Upper> {
        self.upper.as_ref().ok_or_else(|| Errno::EIO.into())
    }

    /// Returns the directory for files that AUFS kept for their hard links.
    pub fn links(&self) -> WritableFd<'_> {
        WritableFd::vouch(self.links.as_fd())
    }

    /// Moves the layer to its destination.
    ///
    /// # Errors
    /// Those of rename(2), such as ENOTEMPTY if the destination was taken meanwhile.
    pub fn publish(mut self) -> Result<()> {
        self.upper = None;
        nix::unistd::syncfs(&self.dir).map_err(Error::from).context(|| "writing to the disk")?;
        self.move_root().context(|| self.path.display().to_string())
    }

    fn move_root(&self) -> Result<()> {
        let (root, wanted) = (Name::new(ROOT.as_bytes())?, Name::new(&self.wanted)?);
        let (from, above) =
            (WritableFd::vouch(self.dir.as_fd()), WritableFd::vouch(self.above.as_fd()));
        let call = || at::rename(from, root, above, wanted, Replace::Yes);
        match call() {
            Err(err) if err.errno() == Errno::EACCES => {}
            other => return other,
        }
        // Moving a directory changes its `..`, which takes write permission on it.
        let fd = at::open(self.dir.as_fd(), root, OFlag::O_PATH)?;
        let layer = WritableFd::vouch(fd.as_fd()).object();
        let mode = stat::stat(layer.target())?.permissions();
        at::chmod(layer, mode | 0o700)?;
        call()?;
        at::chmod(layer, mode)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.upper = None;
        let removed = Name::new(self.name.as_bytes())
            .and_then(|name| work::remove_tree(WritableFd::vouch(self.above.as_fd()), name));
        best_effort("removing what was made on the way", removed);
    }
}

/// Checks that the name is free, or an empty directory.
fn check_free(above: BorrowedFd<'_>, wanted: &[u8]) -> Result<()> {
    let wanted = Name::new(wanted)?;
    let here = match at::open(above, wanted, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Ok(here) => here,
        Err(err) if err.errno() == Errno::ENOENT => return Ok(()),
        Err(err) => return Err(err.context("it is to be a new directory")),
    };
    let mut count = 0;
    dir::for_each(here.as_fd(), |_| {
        count += 1;
        Ok(())
    })?;
    if count > 0 {
        return Err(Error::new(
            Errno::ENOTEMPTY,
            "a layer is unpacked into a new or empty directory; give another name",
        ));
    }
    Ok(())
}
