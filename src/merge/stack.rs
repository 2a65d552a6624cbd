//! A merged directory: the directories of the layers that show through one another.

use std::sync::Arc;

use crate::error::{Errno, Result};
use crate::layer::{LayerDir, LowerDir, Stack, UpperDir};
use crate::merge::key::Key;
use crate::sys::Stat;

/// The directory of the stack that lends its owner, mode, times, attributes and ACLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaSource {
    /// The topmost directory, as in any overlay.
    Top,
    /// The lower at this position: all directories above it are marked `dirmeta_delegate`.
    Lower(usize),
}

/// The parts of one merged directory, topmost first. There is at least one.
#[derive(Clone, Debug)]
pub struct DirStack {
    /// The part in the upper, if there is one.
    pub upper: Option<UpperDir>,
    /// The parts in the lowers, down to the first opaque one.
    pub lowers: Arc<[LowerDir]>,
    /// The part that lends the metadata.
    pub meta: MetaSource,
}

impl DirStack {
    /// The parts of the root of the mount.
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

    /// The topmost part.
    pub fn top(&self) -> Result<&Arc<LayerDir>> {
        self.levels().next().ok_or_else(|| Errno::EIO.into())
    }

    /// All parts, topmost first.
    pub fn levels(&self) -> impl Iterator<Item = &Arc<LayerDir>> {
        self.upper.iter().map(UpperDir::dir).chain(self.lowers.iter().map(LowerDir::dir))
    }

    /// Whether more than one layer contributes names.
    #[must_use]
    pub fn is_merged(&self) -> bool {
        usize::from(self.upper.is_some()) + self.lowers.len() > 1
    }

    /// The part that lends the metadata.
    pub fn meta_dir(&self) -> Result<&Arc<LayerDir>> {
        match self.meta {
            MetaSource::Top => self.top(),
            MetaSource::Lower(position) => {
                self.lowers.get(position).map(LowerDir::dir).ok_or_else(|| Errno::EIO.into())
            }
        }
    }

    /// Effective attributes, with the metadata of the part that lends it.
    pub fn stat(&self) -> Result<Stat> {
        let top = self.top()?.stat()?;
        match self.meta {
            MetaSource::Top => Ok(top),
            MetaSource::Lower(_) => Ok(lend(&top, &self.meta_dir()?.stat()?)),
        }
    }

    /// The part that gives the directory its number. It is the topmost one in a lower, so that a
    /// copy-up does not change the number.
    pub fn origin(&self) -> Result<Key> {
        let dir = match self.lowers.first() {
            Some(lower) => lower.dir(),
            None => self.top()?,
        };
        Ok(Key { dev: dir.dev()?, ino: dir.ino()?, layer: dir.layer() })
    }
}

/// The attributes of `top`, with the metadata of `from`.
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
