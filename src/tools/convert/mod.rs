//! Rewrites the markers of a layer in place.
//!
//! It goes through the layer twice: first to check that all of it can be written in the new form,
//! then to write it. A new marker is written before the old one is removed, and a directory is done
//! after all below it. So the layer means the same at every moment, and a second run can complete
//! one that was stopped.

mod facts;
mod rewrite;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;

use crate::error::{Context, Errno, Error, Result};
use crate::format::overlay::Namespace;
use crate::sys::trail::Trail;
use crate::sys::{Name, WritableFd, at, creds, file};
use crate::tools::mounted::{self, Role};
use crate::tools::oci::printable;
use crate::tools::way::push;

use facts::Facts;

/// Error text if marks in `trusted.overlay.` cannot be set.
const UNTRUSTED: &str = "it needs an attribute in trusted.overlay., which only root of the initial \
                         user namespace can set; give --to kernel-user, for mounts with userxattr, \
                         or run it as root";

/// A form of markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Devices 0:0, and marks in this namespace, as in the kernel's overlayfs.
    Kernel(Namespace),
    /// Files `.wh.NAME` and `.wh..wh..opq`.
    Aufs,
    /// Devices 0:0 and `user.fuseoverlayfs.opaque`.
    FuseOverlayfs,
}

/// Options of a conversion.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// The form to write.
    pub to: Form,
    /// Whether to remove also marks that only an upper needs.
    pub seal: bool,
}

/// Numbers of what was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Directories that were visited.
    pub directories: u64,
    /// Markers that were written in the new form.
    pub written: u64,
    /// Markers that were removed, including those that were replaced.
    pub removed: u64,
}

/// A directory that is being visited.
struct Open {
    /// Length of the path of the directory above, in bytes.
    above: usize,
    facts: Facts,
    /// Names of directories in it that are still to be visited.
    left: Vec<Box<[u8]>>,
}

/// Rewrites the markers of the layer at `path`. `progress` is called with the path of each
/// directory.
///
/// # Errors
/// Those of the calls; EBUSY if the layer is in use; EINVAL if the new form cannot express the
/// layer. Nothing is changed after these two.
pub fn convert(path: &Path, task: Task, progress: &mut dyn FnMut(&[u8])) -> Result<Counts> {
    creds::raise_open_files()?;
    let what = || path.display().to_string();
    let root = at::open_root(path).context(what)?;
    let in_use = || {
        let text = format!("{}: it is mounted; unmount it first", what());
        Error::new(Errno::EBUSY, text)
    };
    if mounted::by_kernel(path, Role::Layer) {
        return Err(in_use());
    }
    match file::lock_exclusive(root.as_fd()) {
        Err(err) if err.errno() == Errno::EAGAIN => return Err(in_use()),
        // Without locks it is unknown whether the layer is in use.
        Err(err) if !matches!(err.errno(), Errno::EOPNOTSUPP | Errno::ENOSYS) => return Err(err),
        _ => {}
    }
    let may_mark = task.to != Form::Kernel(Namespace::Trusted) || creds::may_trust()?;
    let mut counts = Counts::default();
    walk(&root, |path, dir, facts| {
        progress(path);
        rewrite::check(dir, facts, task)?;
        if !may_mark && rewrite::needs_marks(dir, facts, task)? {
            return Err(Error::new(Errno::EPERM, UNTRUSTED));
        }
        Ok(())
    })?;
    walk(&root, |path, dir, facts| {
        progress(path);
        counts.directories += 1;
        // The layer may be changed: it is locked, and nobody has mounted it.
        rewrite::rewrite(WritableFd::vouch(dir), facts, task, &mut counts)
    })?;
    nix::unistd::syncfs(&root).map_err(Error::from).context(|| "writing to the disk")?;
    Ok(counts)
}

/// Calls `visit` for each directory, after those in it.
fn walk(
    root: &OwnedFd,
    mut visit: impl FnMut(&[u8], BorrowedFd<'_>, &Facts) -> Result<()>,
) -> Result<()> {
    let fd = at::reopen_dir(root.as_fd())?;
    let facts = Facts::read(fd.as_fd(), None)?;
    let mut trail = Trail::default();
    trail.enter(fd)?;
    let mut path: Vec<u8> = Vec::new();
    let mut open = vec![Open { above: 0, left: facts.dirs.clone(), facts }];
    while let (Some(dir), Some(fd)) = (open.last_mut(), trail.here()) {
        let Some(name) = dir.left.pop() else {
            visit(&path, fd, &dir.facts).context(|| format!("/{}", printable(&path)))?;
            path.truncate(dir.above);
            open.pop();
            trail.leave()?;
            continue;
        };
        let above = path.len();
        push(&mut path, &name);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let next = at::open(fd, Name::new(&name)?, flags)
            .and_then(|fd| Ok((Facts::read(fd.as_fd(), Some(&dir.facts))?, fd)));
        let (facts, fd) = next.context(|| format!("/{}", printable(&path)))?;
        trail.enter(fd)?;
        open.push(Open { above, left: facts.dirs.clone(), facts });
    }
    Ok(())
}
