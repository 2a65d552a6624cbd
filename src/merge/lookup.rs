//! One name of a merged directory: what it stands for, and in which layers.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use smallvec::SmallVec;

use super::descent::{Descent, Place, Rules};
use super::index::{Entry, InUpper, Index};
use super::links::{self, InIndex, Linked};
use super::stack::{DirStack, MetaSource, lend};
use crate::error::{Context, Errno, Error, Result};
use crate::format::aufs::AufsName;
use crate::format::dirmark::DirMarks;
use crate::format::metacopy::FileMarks;
use crate::format::redirect::Redirect;
use crate::layer::{LayerDir, LowerDir, UpperDir};
use crate::sys::{Name, Stat};

/// What a name stands for.
#[derive(Clone, Debug)]
pub struct Found {
    /// Effective attributes; number and device are those of the topmost object.
    pub stat: Stat,
    /// The object that it gets its number from.
    pub origin: Key,
    /// Where it is.
    pub what: What,
    /// Where its data is.
    pub data: Contents,
    /// Known to have no extended attributes at all.
    pub no_xattrs: bool,
    /// Where it stands in the index of hard links.
    pub linked: Option<Box<Linked>>,
    /// If it is in a lower: whether its other names, if any, stand for it too.
    pub names: links::Names,
}

/// One object of one layer. The same inode may be met in two layers, as two objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Device number of the file system.
    pub dev: u64,
    /// Inode number there.
    pub ino: u64,
    /// Number of the layer: 0 is the upper.
    pub layer: u16,
}

impl Key {
    /// The object with these attributes.
    #[must_use]
    pub fn of(stat: &Stat, layer: u16) -> Self {
        Self { dev: stat.dev, ino: stat.ino, layer }
    }
}

impl Found {
    /// With its data, and with nothing else to know of it.
    #[must_use]
    pub fn new(stat: Stat, origin: Key, what: What) -> Self {
        let (data, names) = (Contents::Own, links::Names::One);
        Self { stat, origin, what, data, no_xattrs: false, linked: None, names }
    }

    /// What tells the object from every other: in the upper the inode itself, elsewhere the origin.
    #[must_use]
    pub fn identity(&self) -> Key {
        match self.what {
            What::Upper | What::Linked => Key { dev: self.stat.dev, ino: self.stat.ino, layer: 0 },
            _ => self.origin,
        }
    }
}

/// Where the data of an object is.
#[derive(Clone, Debug, Default)]
pub enum Contents {
    /// With the rest of it.
    #[default]
    Own,
    /// In another file (metacopy).
    Elsewhere(Box<Source>),
    /// In another file, which is not there, or which the marks do not tell: reading is EIO. Never
    /// because of an error that may pass.
    Missing,
}

/// A file of a lower that holds the data of another.
#[derive(Clone, Debug)]
pub struct Source {
    /// The directory that holds it.
    pub dir: LowerDir,
    /// Its name there.
    pub name: Box<[u8]>,
}

impl Source {
    /// A descriptor to read it.
    ///
    /// # Errors
    /// Those of openat(2).
    pub fn open(&self) -> Result<OwnedFd> {
        self.dir.dir().open_to_read(Name::new(&self.name)?)
    }
}

/// Where an object is.
#[derive(Clone, Debug)]
pub enum What {
    /// A directory, with all that merges into it.
    Dir(DirStack),
    /// Something else, in the upper.
    Upper,
    /// Something else, in the upper, where only the index of hard links has it: the name is in a
    /// lower.
    Linked,
    /// Something else, in this directory of a lower, under the name that was looked up.
    Lower(LowerDir),
}

/// Where to look for a name, topmost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    upper: bool,
    lowers: SmallVec<[u16; 2]>,
}

impl Candidates {
    /// Where a directory may have `name`; `None` if nowhere. One that several layers merge into
    /// needs its index.
    ///
    /// # Errors
    /// EIO without that index.
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

    /// Whether only lowers may have the name. What they have stays.
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

    /// In a directory of one layer there is only one place.
    fn single(dir: &DirStack) -> Self {
        let upper = dir.upper.is_some();
        Self { upper, lowers: if upper { SmallVec::new() } else { SmallVec::from_slice(&[0]) } }
    }
}

/// Looks up `name`. A directory that several layers merge into needs its index.
///
/// # Errors
/// Those of the layers; EINVAL for a directory with a redirect that is none. A name that shows
/// nothing is `None`.
pub fn lookup(
    rules: Rules<'_>,
    dir: &DirStack,
    index: Option<&Index>,
    name: Name<'_>,
) -> Result<Option<Found>> {
    match Candidates::of(dir, index, name)? {
        Some(candidates) => look(rules, dir, &candidates, name),
        None => Ok(None),
    }
}

/// Looks up `name` where it may be.
///
/// # Errors
/// As [`lookup`].
pub fn look(
    rules: Rules<'_>,
    dir: &DirStack,
    candidates: &Candidates,
    name: Name<'_>,
) -> Result<Option<Found>> {
    Search { rules, dir, name, gathered: Gathered::default() }.run(candidates)
}

struct Search<'a> {
    rules: Rules<'a>,
    dir: &'a DirStack,
    name: Name<'a>,
    gathered: Gathered,
}

impl Search<'_> {
    fn run(mut self, candidates: &Candidates) -> Result<Option<Found>> {
        let mut left = usize::from(candidates.upper) + candidates.lowers.len();
        if candidates.upper
            && let Some(upper) = &self.dir.upper
        {
            left -= 1;
            let above = upper.dir();
            match above.stat_entry(self.name)? {
                None => return Ok(None),
                Some(stat) if above.is_whiteout(self.name, &stat)? => return Ok(None),
                Some(stat) if !stat.kind().is_dir() => return self.leaf(stat, above, What::Upper),
                Some(stat) => {
                    if let Some(known) = self.remembered(&stat, above)? {
                        return Ok(Some(known));
                    }
                    self.gathered.upper = Some(upper.child(self.name, &stat));
                    self.add(above, self.name, Some(stat), left > 0)?;
                }
            }
        }
        for &level in &candidates.lowers {
            if self.gathered.closed || self.gathered.redirect.is_some() {
                break;
            }
            left -= 1;
            let Some(lower) = self.dir.lowers.get(usize::from(level)) else { break };
            let above = lower.dir();
            // What follows the topmost directory is known from the listing to be one, and nothing
            // else that could be learned of it is asked for.
            if above.settles().is_none()
                && !self.gathered.lowers.is_empty()
                && !self.is_undecided()
                && self.rules.traps.is_empty()
            {
                self.gathered.lowers.push(lower.child_as_listed(self.name));
                self.add(above, self.name, None, left > 0)?;
                continue;
            }
            match above.stat_entry(self.name)? {
                None => {}
                Some(stat) if above.is_whiteout(self.name, &stat)? => break,
                Some(stat) if stat.kind().is_dir() => {
                    self.rules.traps.check(&stat).context(|| self.name.to_string())?;
                    if self.gathered.top.is_none()
                        && let Some(known) = self.remembered(&stat, above)?
                    {
                        return Ok(Some(known));
                    }
                    self.gathered.lowers.push(lower.child(self.name, &stat));
                    self.add(above, self.name, Some(stat), left > 0)?;
                }
                Some(stat) if self.gathered.top.is_none() => {
                    return self.leaf(stat, above, What::Lower(lower.clone()));
                }
                Some(_) => break,
            }
        }
        if let Some((layer, redirect)) = self.gathered.redirect.take() {
            self.follow(layer, &redirect)?;
        }
        self.gathered.finish()
    }

    /// A directory that was met before, whose topmost part has these attributes.
    fn remembered(&self, top: &Stat, above: &Arc<LayerDir>) -> Result<Option<Found>> {
        let part = Key::of(top, above.layer());
        let known = self.rules.known_objects.and_then(|known| known.directory(part));
        let is_it =
            |dir: &DirStack| dir.top().is_ok_and(|highest| highest.is_entry_of(above, self.name));
        let Some(dir) = known.filter(is_it) else { return Ok(None) };
        let stat = match dir.meta {
            MetaSource::Top => *top,
            MetaSource::Lower(_) => lend(top, &dir.meta_dir()?.stat()?),
        };
        let origin = dir.origin()?;
        Ok(Some(Found::new(stat, origin, What::Dir(dir))))
    }

    /// Goes on below a directory that had another name when the layers below were made.
    fn follow(&mut self, layer: u16, redirect: &Redirect) -> Result<()> {
        let mut descent = Descent::new(self.rules, self.dir, self.name, layer);
        descent.redirect(redirect);
        while let Some(place) = descent.step()? {
            if !place.stat.kind().is_dir() {
                break;
            }
            self.rules.traps.check(&place.stat).context(|| self.name.to_string())?;
            let name = Name::new(&place.name)?;
            self.gathered.lowers.push(place.above.child(name, &place.stat));
            self.add(place.above.dir(), name, Some(place.stat), true)?;
            if self.gathered.closed {
                break;
            }
            if let Some((_, redirect)) = self.gathered.redirect.take() {
                descent.redirect(&redirect);
            }
        }
        Ok(())
    }

    /// Takes one directory in. Its marks are read only if they can mean something: opacity where
    /// something may follow, delegation as long as no source is known and this is not the only one,
    /// a redirect where it may lead somewhere. `stat` may be left out of what is not the first if
    /// the source is known.
    fn add(
        &mut self,
        above: &Arc<LayerDir>,
        name: Name<'_>,
        stat: Option<Stat>,
        more: bool,
    ) -> Result<()> {
        let undecided = self.is_undecided();
        let gathered = &mut self.gathered;
        let first = gathered.top.is_none();
        let may_redirect = self.rules.has_below(above.layer());
        let wanted = more || may_redirect || (undecided && !first);
        let marks = if wanted { above.marks_of(name)? } else { DirMarks::default() };
        gathered.top = gathered.top.or(stat);
        if let Some(stat) = stat
            && gathered.source.is_none()
            && !(undecided && marks.dirmeta_delegate)
        {
            let position = match gathered.lowers.len() {
                _ if first => MetaSource::Top,
                count => MetaSource::Lower(count.saturating_sub(1)),
            };
            gathered.source = Some((stat, position));
        }
        if more {
            gathered.closed = marks.opaque || gathered.newest()?.has_aufs_opaque()?;
        }
        gathered.closed |= marks.opaque;
        // That of an opaque directory, or of the lowest layer, leads nowhere, whatever it says.
        if may_redirect
            && !gathered.closed
            && let Some(redirect) = marks.redirect_to_follow()?
        {
            self.rules.check(&redirect)?;
            gathered.redirect = Some((above.layer(), redirect));
        }
        Ok(())
    }

    /// Whether the directory that lends its metadata is still looked for.
    fn is_undecided(&self) -> bool {
        self.rules.delegation && self.gathered.source.is_none()
    }

    fn leaf(&self, stat: Stat, above: &Arc<LayerDir>, what: What) -> Result<Option<Found>> {
        let origin = Key { dev: stat.dev, ino: stat.ino, layer: above.layer() };
        let mut found = Found::new(stat, origin, what);
        // The number of what has several names may not depend on the directory of one of them.
        let has_origin =
            matches!(found.what, What::Upper) && (stat.nlink > 1 || above.is_impure()?);
        let may_lack = may_lack_data(&stat)
            && (self.rules.may_have_data_below(above.layer()) || is_sparse(&stat));
        if has_origin || may_lack {
            // Of one with more names the index of hard links may have learned meanwhile.
            let known = self.rules.known_objects.filter(|_| stat.nlink == 1);
            match known.and_then(|known| known.unmarked(origin)) {
                Some(known) => found.no_xattrs = known.no_xattrs,
                None => self.read_marks(above, &mut found, has_origin)?,
            }
        }
        if let What::Lower(dir) = &found.what {
            found.names = links::names_of(self.rules, &stat);
            if found.names == links::Names::Together {
                self.join(&dir.clone(), &mut found)?;
            }
        }
        Ok(Some(found))
    }

    /// A name in a lower of a file that was copied up under another name: it is that file.
    fn join(&self, dir: &LowerDir, found: &mut Found) -> Result<()> {
        let Some((indexed, linked)) = links::of_lower(self.rules, dir, self.name, &found.stat)?
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

    /// What the marks of a non-directory say. Marks that make no sense cost the object its data,
    /// not its directory the listing.
    ///
    /// # Errors
    /// What keeps them from being read: the object is not found then, and looked up again later.
    fn read_marks(&self, above: &Arc<LayerDir>, found: &mut Found, has_origin: bool) -> Result<()> {
        let source = |marks: FileMarks| match marks.metacopy {
            true => self.source(above.layer(), marks.redirect).map(Some),
            false => Ok(None),
        };
        let marks = above.file_marks(self.name);
        if let Ok(marks) = &marks {
            found.no_xattrs = marks.no_attributes;
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

    /// A copy has the number of its original. Of one that has other names in its lower only the
    /// index knows that no other copy has it too (`ovl_getattr`, fs/overlayfs/inode.c).
    fn read_origin(&self, marks: &FileMarks, found: &mut Found) -> Result<()> {
        let in_index = match links::of_upper(self.rules, &found.stat, marks) {
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
            && let Some((dev, ino)) = self.rules.filesystems.object_of(origin)
        {
            found.origin = Key { dev, ino, layer: 0 };
        }
        Ok(())
    }

    /// The file that holds the data of a metacopy file.
    fn source(&self, layer: u16, redirect: Option<Redirect>) -> Result<Place> {
        let mut descent = Descent::new(self.rules, self.dir, self.name, layer);
        if let Some(redirect) = redirect {
            let refused = self.rules.check(&redirect);
            descent.redirect(&redirect);
            if refused.is_err() {
                // Into data-only layers redirects lead in any case, as in the kernel.
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
                self.rules.check(&redirect)?;
                descent.redirect(&redirect);
            }
        }
        descent.in_data_only()?.ok_or_else(|| no_data(Ok(())))
    }
}

/// Why a file has no data.
fn no_data(refused: Result<()>) -> Error {
    match refused {
        Err(err) => err,
        Ok(()) => Error::new(Errno::EIO, "a metacopy file, and no layer below has its data").fact(),
    }
}

/// Whether a file may be without data of its own. Nothing but its marks tells: a copy of a layer
/// may have filled the hole with zeros.
fn may_lack_data(stat: &Stat) -> bool {
    stat.kind().is_file() && stat.size > 0
}

/// Whether blocks are missing, so that even a file with no layer below it is asked: showing zeros
/// for data that is elsewhere would be wrong.
fn is_sparse(stat: &Stat) -> bool {
    /// Unit of `st_blocks` (stat(2)).
    const BLOCK: u64 = 512;
    /// What a file may take up for its attributes alone (one block of ext4).
    const ATTRIBUTES: u64 = 8;
    stat.blocks <= ATTRIBUTES || stat.blocks.saturating_mul(BLOCK) < stat.size
}

/// The directories of one name, as they are found from the top down.
#[derive(Default)]
struct Gathered {
    upper: Option<UpperDir>,
    lowers: Vec<LowerDir>,
    top: Option<Stat>,
    /// Attributes and position of the first directory that is not marked as delegating.
    source: Option<(Stat, MetaSource)>,
    /// The newest directory is opaque.
    closed: bool,
    /// The newest directory has this redirect; with the number of its layer.
    redirect: Option<(u16, Redirect)>,
}

impl Gathered {
    fn newest(&self) -> Result<&Arc<LayerDir>> {
        let newest = self.lowers.last().map(LowerDir::dir);
        newest.or(self.upper.as_ref().map(UpperDir::dir)).ok_or_else(|| Errno::EIO.into())
    }

    fn finish(self) -> Result<Option<Found>> {
        let Some(top) = self.top else { return Ok(None) };
        let (stat, meta) = match self.source {
            None | Some((_, MetaSource::Top)) => (top, MetaSource::Top),
            Some((source, meta)) => (lend(&top, &source), meta),
        };
        let dir = DirStack { upper: self.upper, lowers: self.lowers.into(), meta };
        let origin = dir.origin()?;
        Ok(Some(Found::new(stat, origin, What::Dir(dir))))
    }
}
