//! Views of the layers: with the upper on top, and without it.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::config::{Config, Frozen};
use crate::error::{Errno, Error, Result};
use crate::layer::{FdCache, Stack, open};
use crate::merge::owner::Owners;
use crate::merge::{DirStack, LookupContext};
use crate::sys::overflow::Overflow;
use crate::sys::{Stat, at, creds, stat};

/// Layers to compare, and how they are read.
#[derive(Clone, Debug)]
pub struct Layers {
    /// The layer whose changes are wanted. It is only read.
    pub upper: PathBuf,
    /// The lowers, and the options for reading layers.
    pub config: Config,
}

/// A stack of layers that is only read.
#[derive(Debug)]
pub(super) struct View {
    stack: Stack,
    delegation: bool,
    follow: bool,
}

impl View {
    fn new(config: &Config, stack: Stack) -> Self {
        Self { stack, delegation: config.dirmeta_delegate, follow: config.follow_redirects }
    }

    /// Returns the context of lookups.
    pub fn lookup_context(&self) -> LookupContext<'_> {
        let Self { stack, delegation, follow } = self;
        LookupContext {
            roots: &stack.lowers,
            data_only: &stack.data_only,
            delegation: *delegation,
            follow: *follow,
            filesystems: &stack.filesystems,
            links: None,
            traps: &stack.traps,
            has_upper: false,
        }
    }

    /// Returns the root directory.
    pub fn root(&self) -> Result<DirStack> {
        DirStack::root(&self.stack, self.delegation)
    }
}

/// Both views.
#[derive(Debug)]
pub(super) struct Views {
    pub merged: View,
    pub below: View,
    /// Mapping of owners.
    pub owners: Owners,
    /// Owners that our user namespace lacks.
    pub overflow: Option<Overflow>,
}

impl Layers {
    /// Opens all layers, with the upper as the topmost lower, so that nothing can change it.
    ///
    /// # Errors
    /// A sentence that names the layer and its problem.
    pub(super) fn open(&self) -> Result<View> {
        let Self { upper, config } = self;
        check_upper(upper, &config.lowers)?;
        let cache = FdCache::for_open_files(creds::raise_open_files()?);
        let all = [std::slice::from_ref(upper), &config.lowers].concat();
        let frozen = Some(Frozen { work: None });
        let config = Config { lowers: all, upper: None, frozen, ..config.clone() };
        Ok(View::new(&config, open::open_to_look(&config, &cache)?))
    }
}

impl Views {
    /// Whether an object with these attributes on its layer may have an owner that our user
    /// namespace lacks.
    pub fn show_overflow(&self, stat: &Stat) -> bool {
        self.overflow.as_ref().is_some_and(|overflow| overflow.is_shown(stat))
    }

    /// # Errors
    /// Those of [`Layers::open`].
    pub fn open(layers: &Layers) -> Result<Self> {
        let config = &layers.config;
        let cache = FdCache::for_open_files(creds::raise_open_files()?);
        let below = Config { upper: None, ..config.clone() };
        Ok(Self {
            merged: layers.open()?,
            below: View::new(&below, open::open_again(&below, &cache)?),
            owners: Owners::new(&config.owners),
            overflow: Overflow::of_this_namespace(),
        })
    }
}

fn check_upper(path: &Path, lowers: &[PathBuf]) -> Result<()> {
    let what = || format!("upperdir={}", path.display());
    let upper = open::open_dir("upperdir", path)?;
    let upper = stat::fstat(upper.as_fd())?;
    for lower in lowers {
        // Opening the lower for reading reports its problem.
        let Ok(fd) = at::open_root(lower) else { continue };
        if stat::fstat(fd.as_fd())?.same_object(&upper) {
            let text = format!("{} is also a lowerdir; name the layers below it", what());
            return Err(Error::new(Errno::EINVAL, text));
        }
    }
    Ok(())
}
