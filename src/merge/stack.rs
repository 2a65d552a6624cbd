//! A merged directory: the directories of the layers that show through one another.

use std::sync::Arc;

use crate::error::{Errno, Result};
use crate::layer::{LayerDir, LowerDir, Stack, UpperDir};
use crate::merge::key::Key;
use crate::sys::Stat;

/// Which directory of the stack lends its owner, mode, times, attributes and ACLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaSource {
    /// The topmost, as in any overlay.
    Top,
    /// The lower of this position: all above it are marked `dirmeta_delegate`.
    Lower(usize),
}

/// The directories that make one merged directory, topmost first. Never all empty.
#[derive(Clone, Debug)]
pub struct DirStack {
    /// In the upper, if it is there.
    pub upper: Option<UpperDir>,
    /// In the lowers, down to the first opaque one.
    pub lowers: Arc<[LowerDir]>,
    /// Where the metadata comes from.
    pub meta: MetaSource,
}

impl DirStack {
    /// The root of the mount.
    pub fn root(stack: &Stack, delegation: bool) -> Result<Self> {
        let upper = stack.upper.as_ref().map(|upper| upper.root().clone());
        let mut dirs: Vec<&Arc<LayerDir>> = Vec::new();
        dirs.extend(upper.iter().map(UpperDir::dir));
        dirs.extend(stack.lowers.iter().map(LowerDir::dir));
        let mut kept = 0;
        let mut source = None;
        let count = dirs.len();
        for (position, dir) in dirs.into_iter().enumerate() {
            kept += 1;
            let marks = dir.marks()?;
            if source.is_none() && !(delegation && marks.dirmeta_delegate) {
                source = Some(position);
            }
            if position + 1 < count && (marks.opaque || dir.has_aufs_opaque()?) {
                break;
            }
        }
        let uppers = usize::from(upper.is_some());
        let meta = match source {
            Some(position) if position >= uppers && position > 0 => {
                MetaSource::Lower(position - uppers)
            }
            _ => MetaSource::Top,
        };
        let lowers = stack.lowers.iter().take(kept - uppers).cloned().collect();
        Ok(Self { upper, lowers, meta })
    }

    /// The topmost directory.
    pub fn top(&self) -> Result<&Arc<LayerDir>> {
        self.levels().next().ok_or_else(|| Errno::EIO.into())
    }

    /// All directories, topmost first.
    pub fn levels(&self) -> impl Iterator<Item = &Arc<LayerDir>> {
        self.upper.iter().map(UpperDir::dir).chain(self.lowers.iter().map(LowerDir::dir))
    }

    /// Whether more than one layer has a say in the names.
    #[must_use]
    pub fn is_merged(&self) -> bool {
        usize::from(self.upper.is_some()) + self.lowers.len() > 1
    }

    /// The directory that lends its metadata.
    pub fn meta_dir(&self) -> Result<&Arc<LayerDir>> {
        match self.meta {
            MetaSource::Top => self.top(),
            MetaSource::Lower(position) => {
                self.lowers.get(position).map(LowerDir::dir).ok_or_else(|| Errno::EIO.into())
            }
        }
    }

    /// Effective attributes: those of the directory that lends them.
    pub fn stat(&self) -> Result<Stat> {
        let top = self.top()?.stat()?;
        match self.meta {
            MetaSource::Top => Ok(top),
            MetaSource::Lower(_) => Ok(lend(&top, &self.meta_dir()?.stat()?)),
        }
    }

    /// The directory that gives this one its number: the topmost lower one, so that a copy-up does
    /// not change it.
    pub fn origin(&self) -> Result<Key> {
        let dir = match self.lowers.first() {
            Some(lower) => lower.dir(),
            None => self.top()?,
        };
        Ok(Key { dev: dir.dev()?, ino: dir.ino()?, layer: dir.layer() })
    }
}

/// The attributes of `top` with the metadata of `from`.
#[must_use]
pub fn lend(top: &Stat, from: &Stat) -> Stat {
    Stat {
        mode: from.mode,
        uid: from.uid,
        gid: from.gid,
        atime: from.atime,
        mtime: from.mtime,
        ctime: from.ctime,
        ..*top
    }
}
