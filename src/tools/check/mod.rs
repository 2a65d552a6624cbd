//! What is wrong with an upper, and what can be done about it.
//!
//! [`scan`] goes through the upper and compares it with the layers below; [`leftovers`] looks into
//! the work directory; [`repair`] mends what can be mended without a guess.

mod leftovers;
mod repair;
mod scan;

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::config::NamespaceChoice;
use crate::error::{Context, Errno, Error, Result};
use crate::format::overlay::Namespace;
use crate::sys::{at, creds, file};
use crate::tools::views::Layers;

/// What can be wrong. The numbers stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Problem {
    /// A whiteout for a name that no lower shows.
    NeedlessWhiteout,
    /// A whiteout file beside the whiteout device or the object of the same name.
    DoubleWhiteout,
    /// The file `.wh..opq` that releases of fuse-overlayfs leave beside opaque marks.
    Debris,
    /// More than one mark says that a directory is opaque.
    DoubleOpaque,
    /// A mark in a form that is not the one of this upper.
    ForeignOpaque,
    /// A redirect that leads to no directory.
    LostRedirect,
    /// Two directories show the same one of a lower.
    SharedLower,
    /// A redirect that is none.
    BadRedirect,
    /// A metacopy file without data.
    LostData,
    /// An entry has an origin, and its directory does not say that there are such.
    NotImpure,
    /// A directory that lends its names, and there is nobody to have the metadata from.
    LostDelegation,
    /// Something with the name of a whiteout that is none.
    NoMarker,
    /// Something that a mount did not finish.
    Leftover,
    /// A feature without which the upper must not be used.
    Incompatible,
}

impl Problem {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::NeedlessWhiteout,
        Self::DoubleWhiteout,
        Self::Debris,
        Self::DoubleOpaque,
        Self::ForeignOpaque,
        Self::LostRedirect,
        Self::SharedLower,
        Self::BadRedirect,
        Self::LostData,
        Self::NotImpure,
        Self::LostDelegation,
        Self::NoMarker,
        Self::Leftover,
        Self::Incompatible,
    ];

    /// `OVL001` and so on.
    #[must_use]
    pub fn id(self) -> String {
        let place = Self::ALL.iter().position(|problem| *problem == self).unwrap_or_default();
        format!("OVL{:03}", place + 1)
    }

    /// What is wrong, in a sentence.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NeedlessWhiteout => "a whiteout for a name that no lower layer shows",
            Self::DoubleWhiteout => "a whiteout file beside what says the same",
            Self::Debris => "a file .wh..opq, which old releases of fuse-overlayfs leave",
            Self::DoubleOpaque => "several marks say that the directory is opaque",
            Self::ForeignOpaque => {
                "the opaque mark is in a form that the kernel does not read here"
            }
            Self::LostRedirect => "the redirect leads to no directory of a lower layer",
            Self::SharedLower => "another directory shows the same one of a lower layer",
            Self::BadRedirect => "the redirect is neither a name nor an absolute path",
            Self::LostData => "a metadata-only copy, and no layer has its data",
            Self::NotImpure => "entries have an origin, and the directory is not marked impure",
            Self::LostDelegation => "marked dirmeta_delegate, and no layer below has the metadata",
            Self::NoMarker => "the name of a whiteout, but not an empty file; a mount hides it",
            Self::Leftover => "something that a mount did not finish",
            Self::Incompatible => "a feature that an earlier mount left behind; see the manual",
        }
    }

    /// Whether it can be mended without a guess and without changing what a mount shows.
    #[must_use]
    pub fn is_repairable(self) -> bool {
        match self {
            Self::NeedlessWhiteout
            | Self::DoubleWhiteout
            | Self::Debris
            | Self::DoubleOpaque
            | Self::ForeignOpaque
            | Self::NotImpure
            | Self::LostDelegation
            | Self::Leftover => true,
            Self::LostRedirect
            | Self::SharedLower
            | Self::BadRedirect
            | Self::LostData
            | Self::NoMarker
            | Self::Incompatible => false,
        }
    }
}

/// One problem, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Path from the root of the upper, or of the work directory.
    pub path: Vec<u8>,
    /// It is in the work directory.
    pub in_work: bool,
    /// What is wrong.
    pub problem: Problem,
}

/// What is to be checked.
#[derive(Clone, Debug)]
pub struct Task {
    /// The upper and the lowers.
    pub layers: Layers,
    /// The work directory; without it nothing can be repaired.
    pub work: Option<PathBuf>,
}

impl Task {
    /// Everything that is wrong, by path.
    ///
    /// # Errors
    /// Those of the layers; EBUSY if the upper is in use.
    pub fn check(&self) -> Result<Vec<Finding>> {
        let upper = &self.layers.upper;
        check_unmounted(upper)?;
        let fd = at::open_root(upper).context(|| format!("upperdir={}", upper.display()))?;
        match file::lock_exclusive(fd.as_fd()) {
            Err(err) if err.errno() == Errno::EAGAIN => return Err(in_use(upper)),
            // A file system without locks cannot tell.
            Err(err) if !matches!(err.errno(), Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                return Err(err.context("locking the upper"));
            }
            _ => {}
        }
        let mut findings = scan::scan(&self.layers, self.namespace()?)?;
        if let Some(work) = &self.work {
            findings.extend(leftovers::look(work)?);
        }
        findings.sort();
        Ok(findings)
    }

    /// Mends what can be mended; what is left, and how many there were.
    ///
    /// # Errors
    /// As [`Self::check`]; EINVAL without a work directory.
    pub fn repair(&self) -> Result<(Vec<Finding>, usize)> {
        let before = self.check()?;
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
        let after = self.check()?;
        let mended = wanted.iter().filter(|finding| !after.contains(finding)).count();
        Ok((after, mended))
    }

    /// The namespace that marks of this upper belong in.
    fn namespace(&self) -> Result<Namespace> {
        let privileged =
            creds::in_initial_user_namespace() && creds::has_capability(creds::CAP_SYS_ADMIN)?;
        Ok(match self.layers.config.namespace {
            NamespaceChoice::Trusted => Namespace::Trusted,
            NamespaceChoice::User => Namespace::User,
            NamespaceChoice::Auto if privileged => Namespace::Trusted,
            NamespaceChoice::Auto => Namespace::User,
        })
    }
}

fn in_use(upper: &Path) -> Error {
    let text = format!("upperdir={}: it is mounted; unmount it first", upper.display());
    Error::new(Errno::EBUSY, text)
}

/// The kernel's overlayfs does not lock its layers.
fn check_unmounted(upper: &Path) -> Result<()> {
    let Ok(upper) = upper.canonicalize() else { return Ok(()) };
    let wanted = [b"upperdir=", upper.as_os_str().as_bytes()].concat();
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mounted = table.split(|byte| *byte == b'\n').any(|line| {
        let words = line.split(|byte| matches!(byte, b' ' | b','));
        let is_overlay = line.windows(11).any(|window| window == b" - overlay ");
        is_overlay && words.into_iter().any(|word| word == wanted)
    });
    if mounted { Err(in_use(&upper)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_as_they_are() {
        let ids: Vec<_> = Problem::ALL.iter().map(|problem| problem.id()).collect();
        assert_eq!(ids.first().map(String::as_str), Some("OVL001"));
        assert_eq!(Problem::LostRedirect.id(), "OVL006");
        assert_eq!(Problem::Incompatible.id(), "OVL014");
    }
}
