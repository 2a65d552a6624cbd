//! Checks and repairs an upper.
//!
//! [`scan`] goes through the upper and compares it with the lowers. [`leftovers`] and [`index`]
//! check the work directory. [`repair`] repairs what can be repaired without a guess.

mod forms;
mod index;
mod leftovers;
mod origin;
mod problem;
mod repair;
mod scan;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::config::NamespaceChoice;
use crate::error::{Errno, Error, Result};
use crate::format::overlay::Namespace;
use crate::layer::open::open_dir;
use crate::sys::{creds, file};
use crate::tools::mounted::{self, Role};
use crate::tools::views::Layers;

use forms::Asked;
use index::LinkIndex;
pub use problem::{Finding, Place, Problem};

/// An upper to check or repair.
#[derive(Clone, Debug)]
pub struct Task {
    /// The upper and the lowers.
    pub layers: Layers,
    /// The work directory. A repair needs it.
    pub work: Option<PathBuf>,
}

impl Task {
    /// Returns all problems, sorted by path. `progress` is called with the path of each directory.
    ///
    /// # Errors
    /// Those of the layers; EBUSY if the upper is in use.
    pub fn check(&self, progress: &mut dyn FnMut(&[u8])) -> Result<Vec<Finding>> {
        let upper = &self.layers.upper;
        if mounted::by_kernel(upper, Role::Upper) {
            return Err(in_use(upper));
        }
        let fd = open_dir("upperdir", upper)?;
        match file::lock_exclusive(fd.as_fd()) {
            Err(err) if err.errno() == Errno::EAGAIN => return Err(in_use(upper)),
            // Without locks it is unknown whether the upper is in use.
            Err(err) if !matches!(err.errno(), Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                return Err(err.context("locking the upper"));
            }
            _ => {}
        }
        let view = self.layers.open()?;
        let index = self.work.as_deref().map(LinkIndex::open).transpose()?.flatten();
        let config = &self.layers.config;
        let asked = Asked { namespace: config.namespace, whiteout: config.whiteout };
        let mut findings = scan::scan(&view, self.namespace()?, asked, index.as_ref(), progress)?;
        if let Some(work) = &self.work {
            findings.extend(leftovers::look(work)?);
        }
        findings.extend(leftovers::beside(upper)?);
        if let Some(index) = index {
            findings.extend(index.check(&view)?);
        }
        findings.sort();
        Ok(findings)
    }

    /// Repairs what it can. Returns the remaining problems, and the number of repaired ones.
    ///
    /// # Errors
    /// Those of [`Self::check`]; EINVAL without a work directory.
    pub fn repair(&self, progress: &mut dyn FnMut(&[u8])) -> Result<(Vec<Finding>, usize)> {
        let before = self.check(progress)?;
        let Some(work) = &self.work else {
            return Err(Error::new(Errno::EINVAL, "a repair needs workdir, as a mount does"));
        };
        if before.iter().any(|finding| finding.problem == Problem::Incompatible) {
            return Ok((before, 0));
        }
        let wanted: Vec<_> =
            before.iter().filter(|finding| finding.problem.is_repairable()).collect();
        if wanted.is_empty() {
            return Ok((before, 0));
        }
        repair::repair(&self.layers, work, self.namespace()?, &wanted)?;
        let after = self.check(progress)?;
        let mended = wanted.iter().filter(|finding| !after.contains(finding)).count();
        Ok((after, mended))
    }

    /// Returns the namespace for marks of this upper.
    fn namespace(&self) -> Result<Namespace> {
        Ok(match self.layers.config.namespace {
            NamespaceChoice::Trusted => Namespace::Trusted,
            NamespaceChoice::User => Namespace::User,
            NamespaceChoice::Auto if creds::may_trust()? => Namespace::Trusted,
            NamespaceChoice::Auto => Namespace::User,
        })
    }
}

fn in_use(upper: &Path) -> Error {
    let text = format!("upperdir={}: it is mounted; unmount it first", upper.display());
    Error::new(Errno::EBUSY, text)
}
