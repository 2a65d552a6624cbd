//! Finds leftovers in the work directory and beside the upper.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;

use super::{Finding, Place, Problem};
use crate::error::{Errno, Result};
use crate::layer::open::open_dir;
use crate::sys::{Name, Target, WritableFd, at, dir, stat};
use crate::tools::apply::abandoned;

/// Directory in WORKDIR where objects are built, and the one in it that lists required features.
const WORK: &[u8] = b"work";
const INCOMPAT: &[u8] = b"incompat";

pub(super) fn look(work: &Path) -> Result<Vec<Finding>> {
    let root = open_dir("workdir", work)?;
    let mut findings = Vec::new();
    let Some(inner) = open(&root, WORK)? else { return Ok(findings) };
    for name in names(&inner)? {
        if *name == *INCOMPAT {
            let Some(features) = open(&inner, INCOMPAT)? else { continue };
            for feature in names(&features)? {
                let path = [WORK, INCOMPAT, &feature].join(&b'/');
                findings.push(Finding { path, place: Place::Work, problem: Problem::Incompatible });
            }
        } else if !is_whiteout(&inner, &name)? {
            let path = [WORK, &name].join(&b'/');
            findings.push(Finding { path, place: Place::Work, problem: Problem::Leftover });
        }
    }
    Ok(findings)
}

/// Finds abandoned directories of `ovlmerge apply` beside the upper.
pub(super) fn beside(upper: &Path) -> Result<Vec<Finding>> {
    let Some(above) = above(upper)? else { return Ok(Vec::new()) };
    let found = abandoned::find(above.as_fd())?.into_iter();
    let finding = |(name, _): (Box<[u8]>, OwnedFd)| Finding {
        path: name.into(),
        place: Place::Beside,
        problem: Problem::Abandoned,
    };
    Ok(found.map(finding).collect())
}

/// Removes the abandoned directories beside the upper.
pub(super) fn remove_beside(upper: &Path) -> Result<()> {
    let Some(above) = above(upper)? else { return Ok(()) };
    abandoned::sweep(WritableFd::vouch(above.as_fd())).map(drop)
}

/// Opens the directory that holds the upper; `None` if we may not read it.
fn above(upper: &Path) -> Result<Option<OwnedFd>> {
    let upper = open_dir("upperdir", upper)?;
    match at::open_parent(upper.as_fd()) {
        Ok(above) => Ok(Some(above)),
        Err(err) if err.errno() == Errno::EACCES => Ok(None),
        Err(err) => Err(err),
    }
}

fn open(above: &OwnedFd, name: &[u8]) -> Result<Option<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    match at::open(above.as_fd(), Name::new(name)?, flags) {
        Ok(fd) => Ok(Some(fd)),
        Err(err) if matches!(err.errno(), Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(err) => Err(err.context(format!("workdir: {}", name.escape_ascii()))),
    }
}

/// A mount keeps a whiteout here, to which others are links (`ovl_whiteout`, fs/overlayfs/dir.c).
fn is_whiteout(fd: &OwnedFd, name: &[u8]) -> Result<bool> {
    let found = stat::stat_if_exists(Target::At(fd.as_fd(), Name::new(name)?))?;
    Ok(found.is_some_and(|found| found.is_whiteout_device()))
}

fn names(fd: &OwnedFd) -> Result<Vec<Box<[u8]>>> {
    let mut names = Vec::new();
    dir::for_each(fd.as_fd(), |entry| {
        names.push(entry.name.into());
        Ok(())
    })?;
    Ok(names)
}
