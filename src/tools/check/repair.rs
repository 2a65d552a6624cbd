//! Repairs what can be repaired without a guess.
//!
//! No step changes what a mount shows, so that a repair may stop anywhere.

use std::path::Path;

use super::index::LinkIndex;
use super::{Finding, Place, Problem, leftovers, scan};
use crate::config::{Config, UpperDirs};
use crate::error::{Context, Errno, Error, Result};
use crate::format::aufs;
use crate::format::overlay::{Mark, Namespace};
use crate::layer::{FdCache, Upper, UpperDir, open};
use crate::sys::at::SetTime;
use crate::sys::xattr::SetMode;
use crate::sys::{Name, Writable, at, creds, xattr};
use crate::tools::oci::printable;
use crate::tools::views::Layers;

/// Repairs all `findings`. Opening the upper locks it and empties the work directory.
pub(super) fn repair(
    layers: &Layers,
    work: &Path,
    namespace: Namespace,
    findings: &[&Finding],
) -> Result<()> {
    let dirs = UpperDirs { upper: layers.upper.clone(), work: work.to_owned() };
    // `strict` refuses an upper that is in use.
    let config = Config { upper: Some(dirs), strict: true, ..layers.config.clone() };
    let cache = FdCache::for_open_files(creds::raise_open_files()?);
    let upper = open::open(&config, &cache)?.upper.ok_or(Errno::EIO)?;
    for finding in findings.iter().filter(|finding| finding.place == Place::Upper) {
        mend(&upper, namespace, finding).context(|| printable(&finding.path))?;
    }
    if findings.iter().any(|finding| finding.problem == Problem::Abandoned) {
        leftovers::remove_beside(&layers.upper)?;
    }
    match LinkIndex::open(work)? {
        Some(index) => index.repair(&layers.open()?).context(|| "workdir: index".to_owned()),
        None => Ok(()),
    }
}

fn mend(upper: &Upper, namespace: Namespace, finding: &Finding) -> Result<()> {
    let (above, last) = match finding.path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (finding.path.get(..slash), finding.path.get(slash + 1..)),
        None => (Some(&b""[..]), Some(finding.path.as_slice())),
    };
    let (above, last) = (above.unwrap_or_default(), last.unwrap_or_default());
    match finding.problem {
        Problem::NeedlessWhiteout | Problem::DoubleWhiteout | Problem::Debris => {
            let dir = walk(upper, above)?;
            keeping_times(upper, &dir, || upper.unlink(&dir, Name::new(last)?))
        }
        Problem::DoubleOpaque | Problem::ForeignOpaque => {
            let dir = walk(upper, &finding.path)?;
            keeping_times(upper, &dir, || one_opaque_mark(upper, namespace, &dir))
        }
        Problem::BadOrigin => {
            let dir = walk(upper, above)?;
            upper.with_entry(&dir, Name::new(last)?, |target| {
                Namespace::BOTH.into_iter().try_for_each(|ns| remove(target, ns.key(Mark::Origin)))
            })
        }
        Problem::LostDelegation => {
            let dir = walk(upper, &finding.path)?;
            upper.with_dir(&dir, |target| {
                for namespace in Namespace::BOTH {
                    remove(target, namespace.key(Mark::DirmetaDelegate))?;
                }
                Ok(())
            })
        }
        _ => Ok(()),
    }
}

/// The mark of this upper is set first, so that the directory stays opaque all the time.
fn one_opaque_mark(upper: &Upper, namespace: Namespace, dir: &UpperDir) -> Result<()> {
    let [own, others @ ..] = scan::opaque_keys(namespace);
    upper.with_dir(dir, |target| {
        xattr::set(target, own, b"y", SetMode::Any)?;
        others.into_iter().try_for_each(|key| remove(target, key))
    })?;
    match upper.unlink(dir, Name::new(aufs::OPAQUE)?) {
        Err(err) if err.errno() == Errno::ENOENT => Ok(()),
        other => other,
    }
}

/// Removes a mark if it is there: who may not set marks of root is told EPERM of those that are not
/// there, too (`xattr_permission`, fs/xattr.c).
fn remove(object: Writable<'_>, key: &std::ffi::CStr) -> Result<()> {
    match xattr::get_if_set(object.target(), key)? {
        Some(_) => xattr::remove(object, key),
        None => Ok(()),
    }
}

/// Markers are invisible, so the directory keeps its times.
fn keeping_times(upper: &Upper, dir: &UpperDir, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let was = dir.dir().stat()?;
    act()?;
    upper.with_dir(dir, |target| {
        at::set_times(target, SetTime::At(was.atime), SetTime::At(was.mtime))
    })
}

/// Returns the directory of the upper at this path.
fn walk(upper: &Upper, path: &[u8]) -> Result<UpperDir> {
    let mut here = upper.root().clone();
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        let name = Name::new(part)?;
        let stat = here.dir().stat_entry(name)?.filter(|stat| stat.kind().is_dir());
        let gone = || Error::new(Errno::ESTALE, "it went away");
        here = here.child(name, &stat.ok_or_else(gone)?);
    }
    Ok(here)
}
