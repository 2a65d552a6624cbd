//! The lookup of one name of a merged directory in its layers.

use smallvec::SmallVec;

use super::context::LookupContext;
use super::descent::{Descent, Place};
use super::found::{Contents, Found, Source, What};
use super::index::{Entry, InUpper, Index};
use super::key::Key;
use super::links::{self, InIndex};
use super::merging::{Merging, Shown, Top, shown};
use super::stack::{DirStack, MetaSource, lend};
use crate::error::{Context, Errno, Error, Result};
use crate::format::aufs::AufsName;
use crate::format::metacopy::FileMarks;
use crate::format::redirect::Redirect;
use crate::layer::LowerDir;
use crate::sys::{Name, Stat};

/// The layers in which a name has to be looked for, topmost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    upper: bool,
    lowers: SmallVec<[u16; 2]>,
}

impl Candidates {
    /// Returns the layers in which `dir` may have `name`; `None` if no layer may. A directory that
    /// several layers merge into needs its index.
    ///
    /// # Errors
    /// EIO if that index is missing.
    pub fn of(dir: &DirStack, index: Option<&Index>, name: Name<'_>) -> Result<Option<Self>> {
        if dir.top()?.classify(name.bytes()) != AufsName::Plain {
            return Ok(None);
        }
        match index {
            Some(index) => Ok(index.get(name).map(Self::of_entry)),
            None if dir.is_merged() => {
                Err(Error::new(Errno::EIO, "a merged directory without its index"))
            }
            None => Ok(Some(Self::single(dir))),
        }
    }

    /// Whether only lowers have to be asked for the name.
    #[must_use]
    pub fn only_in_lowers(&self) -> bool {
        !self.upper
    }

    fn of_entry(entry: Entry<'_>) -> Self {
        let (upper, cut) = match entry.upper {
            InUpper::Absent => (false, false),
            InUpper::Object { kind, cut, .. } => (true, cut || !kind.is_dir()),
            InUpper::Whiteout => (false, true),
        };
        let lowers = if cut { &[][..] } else { entry.lowers.levels };
        let lowers = SmallVec::from_slice(lowers);
        Self { upper, lowers }
    }

    /// The candidates in a directory of one layer: that layer.
    fn single(dir: &DirStack) -> Self {
        let upper = dir.upper.is_some();
        Self { upper, lowers: if upper { SmallVec::new() } else { SmallVec::from_slice(&[0]) } }
    }
}

/// Looks up `name`; `None` if it shows nothing. A merged directory needs its index.
///
/// # Errors
/// Those of the layers; EIO without that index; EINVAL for a malformed redirect, EPERM for one that
/// is not followed; ELOOP for the upper or the work directory inside a lower.
pub fn lookup(
    context: LookupContext<'_>,
    dir: &DirStack,
    index: Option<&Index>,
    name: Name<'_>,
) -> Result<Option<Found>> {
    let Some(candidates) = Candidates::of(dir, index, name)? else { return Ok(None) };
    let sighted = sight(context, dir, &candidates, name)?;
    sighted.map(|sighted| sighted.examine(Known::Nothing)).transpose()
}

/// Finds the topmost object of a name; `None` if it shows nothing. Takes one stat for each layer.
///
/// # Errors
/// Those of the layers.
pub fn sight<'a>(
    context: LookupContext<'a>,
    dir: &'a DirStack,
    candidates: &'a Candidates,
    name: Name<'a>,
) -> Result<Option<Sighted<'a>>> {
    let sighted = |stat, top, below| Sighted { context, dir, name, stat, top, below };
    if candidates.upper
        && let Some(upper) = &dir.upper
    {
        return Ok(match shown(upper.dir(), name)? {
            Some(Shown::Object(stat)) => Some(sighted(stat, Top::Upper(upper), &candidates.lowers)),
            Some(Shown::Whiteout) | None => None,
        });
    }
    let mut below = candidates.lowers.as_slice();
    while let Some((level, rest)) = below.split_first() {
        below = rest;
        let Some(lower) = dir.lowers.get(usize::from(*level)) else { break };
        match shown(lower.dir(), name)? {
            None => {}
            Some(Shown::Whiteout) => break,
            Some(Shown::Object(stat)) => return Ok(Some(sighted(stat, Top::Lower(lower), below))),
        }
    }
    Ok(None)
}

/// The knowledge of an object from an earlier lookup.
#[derive(Debug)]
pub enum Known {
    /// Nothing is known, so the marks have to be read.
    Nothing,
    /// The object is a non-directory without a mark that a lookup has to read.
    Unmarked {
        /// The object is known to have no extended attributes that users see.
        no_xattrs: bool,
    },
    /// The object is the topmost part of this directory.
    Dir(DirStack),
}

/// The topmost object of a name, of which only the attributes have been read.
#[derive(Debug)]
pub struct Sighted<'a> {
    context: LookupContext<'a>,
    dir: &'a DirStack,
    name: Name<'a>,
    stat: Stat,
    top: Top<'a>,
    /// The lowers below the object that may have the name, as positions in `dir.lowers`.
    below: &'a [u16],
}

impl Sighted<'_> {
    /// The identity of the object.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::of(&self.stat, self.top.above().layer())
    }

    /// Whether the object is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.stat.kind().is_dir()
    }

    /// Whether [`Known::Unmarked`] would spare a system call.
    ///
    /// # Errors
    /// Those of the layer.
    pub fn may_be_marked(&self) -> Result<bool> {
        // The index of hard links may know more by now of a file with several names.
        Ok(!self.is_dir() && self.stat.nlink == 1 && (self.has_origin()? || self.may_lack()))
    }

    /// Whether the object may be a copy that names its original. A file with several names always
    /// may: its number must not depend on the directory of one name.
    fn has_origin(&self) -> Result<bool> {
        let Top::Upper(upper) = self.top else { return Ok(false) };
        Ok(self.stat.nlink > 1 || upper.dir().is_impure()?)
    }

    fn may_lack(&self) -> bool {
        let layer = self.top.above().layer();
        may_lack_data(&self.stat)
            && (self.context.may_have_data_below(layer) || is_sparse(&self.stat))
    }

    /// Completes the lookup: reads the marks of a file, or merges the parts of a directory.
    ///
    /// # Errors
    /// As for [`lookup`].
    pub fn examine(self, known: Known) -> Result<Found> {
        if !self.is_dir() {
            return self.leaf(known);
        }
        if matches!(self.top, Top::Lower(_)) {
            self.context.traps.check(&self.stat).context(|| self.name.to_string())?;
        }
        match known {
            Known::Dir(dir) if self.is_top_of(&dir) => self.known_dir(dir),
            _ => Merging::new(self.context, self.dir, self.name)
                .merge(self.top, &self.stat, self.below),
        }
    }

    fn is_top_of(&self, dir: &DirStack) -> bool {
        dir.top().is_ok_and(|top| top.is_entry_of(self.top.above(), self.name))
    }

    fn known_dir(self, dir: DirStack) -> Result<Found> {
        let stat = match dir.meta {
            MetaSource::Top => self.stat,
            MetaSource::Lower(_) => lend(&self.stat, &dir.meta_dir()?.stat()?),
        };
        let origin = dir.origin()?;
        Ok(Found::new(stat, origin, What::Dir(dir)))
    }

    fn leaf(self, known: Known) -> Result<Found> {
        let what = match self.top {
            Top::Upper(_) => What::Upper,
            Top::Lower(lower) => What::Lower(lower.clone()),
        };
        let mut found = Found::new(self.stat, self.key(), what);
        let has_origin = self.has_origin()?;
        match known {
            Known::Unmarked { no_xattrs } => found.no_xattrs = no_xattrs,
            _ if has_origin || self.may_lack() => self.read_marks(&mut found, has_origin)?,
            _ => {}
        }
        if let Top::Lower(lower) = self.top {
            found.names = links::names_of(self.context, &self.stat);
            if found.names == links::Names::Together {
                self.join(lower, &mut found)?;
            }
        }
        Ok(found)
    }

    /// Replaces a name in a lower by the copy that its file has in the index of hard links.
    fn join(&self, dir: &LowerDir, found: &mut Found) -> Result<()> {
        let Some((indexed, linked)) = links::of_lower(self.context, dir, self.name, &found.stat)?
        else {
            return Ok(());
        };
        let blocks = found.stat.blocks;
        found.stat = Stat { nlink: linked.count, ..indexed.stat };
        found.data = match (indexed.marks.metacopy, std::mem::take(&mut found.data)) {
            (false, _) => Contents::Own,
            (true, Contents::Own) => {
                let name = self.name.bytes().into();
                Contents::Elsewhere(Box::new(Source { dir: dir.clone(), name }))
            }
            (true, further) => further,
        };
        if matches!(found.data, Contents::Elsewhere(_)) {
            found.stat.blocks = blocks;
        }
        (found.what, found.linked, found.no_xattrs) = (What::Linked, Some(Box::new(linked)), false);
        Ok(())
    }

    /// Reads the marks of a non-directory. Malformed marks cost it its data, and do not fail a
    /// listing.
    ///
    /// # Errors
    /// Those of reading the marks, which a later lookup reads again.
    fn read_marks(&self, found: &mut Found, has_origin: bool) -> Result<()> {
        let above = self.top.above();
        let source = |marks: FileMarks| match marks.metacopy {
            true => self.source(above.layer(), marks.redirect).map(Some),
            false => Ok(None),
        };
        let marks = above.file_marks(self.name);
        if let Ok(marks) = &marks {
            (found.no_xattrs, found.no_marks) = (marks.no_attributes, marks.no_attributes);
            if has_origin {
                self.read_origin(marks, found)?;
            }
        }
        found.data = match marks.and_then(source) {
            Ok(None) => Contents::Own,
            Ok(Some(place)) => {
                found.stat.blocks = place.stat.blocks;
                Contents::Elsewhere(Box::new(Source { dir: place.above, name: place.name }))
            }
            Err(err) if err.is_fact() => {
                tracing::warn!("{}: {err}", self.name);
                Contents::Missing
            }
            Err(err) => return Err(err),
        };
        Ok(())
    }

    /// Gives a copy the number of its original. If the original has several names, only the index
    /// of hard links can tell that no other copy has the same number (`ovl_getattr`,
    /// fs/overlayfs/inode.c).
    fn read_origin(&self, marks: &FileMarks, found: &mut Found) -> Result<()> {
        let in_index = match links::of_upper(self.context, &found.stat, marks) {
            Err(err) if err.is_fact() => InIndex::No,
            other => other?,
        };
        match in_index {
            InIndex::Counted(linked) => {
                found.stat.nlink = linked.count;
                found.linked = Some(Box::new(linked));
            }
            InIndex::No if marks.count.is_some() => return Ok(()),
            InIndex::No | InIndex::Uncounted => {}
        }
        if let Some(origin) = &marks.origin
            && let Some((dev, ino)) = self.context.filesystems.object_of(origin)
        {
            found.origin = Key { dev, ino, layer: 0 };
        }
        Ok(())
    }

    /// Finds the file that holds the data of a metacopy file.
    fn source(&self, layer: u16, redirect: Option<Redirect>) -> Result<Place> {
        let mut descent = Descent::new(self.context, self.dir, self.name, layer);
        if let Some(redirect) = redirect {
            let refused = self.context.check(&redirect);
            descent.redirect(&redirect);
            if refused.is_err() {
                // The kernel follows redirects into data-only layers, whatever the options say.
                return descent.in_data_only()?.map_or_else(|| Err(no_data(refused)), Ok);
            }
        }
        while let Some(place) = descent.step()? {
            if !place.stat.kind().is_file() {
                break;
            }
            let marks = place.above.dir().file_marks(Name::new(&place.name)?)?;
            if !marks.metacopy {
                return Ok(place);
            }
            if let Some(redirect) = marks.redirect {
                self.context.check(&redirect)?;
                descent.redirect(&redirect);
            }
        }
        descent.in_data_only()?.ok_or_else(|| no_data(Ok(())))
    }
}

/// The error for a file without data: that of the refused redirect, or EIO.
fn no_data(refused: Result<()>) -> Error {
    match refused {
        Err(err) => err,
        Ok(()) => Error::new(Errno::EIO, "a metacopy file, and no layer below has its data").fact(),
    }
}

/// Whether a file may lack data of its own. Only its marks tell: a tool that copied the layer may
/// have filled the hole with zeros.
fn may_lack_data(stat: &Stat) -> bool {
    stat.kind().is_file() && stat.size > 0
}

/// Whether a file lacks blocks. Then its marks are read even if no layer is below it: zeros must
/// not show in place of data that is elsewhere.
fn is_sparse(stat: &Stat) -> bool {
    /// Unit of `st_blocks` (stat(2)).
    const BLOCK: u64 = 512;
    /// Blocks that a file may take for its attributes alone (one block of ext4).
    const ATTRIBUTES: u64 = 8;
    stat.blocks <= ATTRIBUTES || stat.blocks.saturating_mul(BLOCK) < stat.size
}
