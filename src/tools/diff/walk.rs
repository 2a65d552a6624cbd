//! Goes through the upper, and finds what it changes.
//!
//! If a directory merges with what the lowers have at its path, only the names that the upper has
//! in it are compared. If it hides that, merges with something else (a redirect), or the lowers
//! have no directory there, it is new as a whole, and all that it shows is reported.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Sink;
use super::object::Object;
use crate::error::{Context, Errno, Error, Result};
use crate::format::aufs::AufsName;
use crate::layer::LayerDir;
use crate::merge::found::{Found, What};
use crate::merge::lookup::lookup;
use crate::merge::{DirStack, Index};
use crate::sys::{FileType, Name, Stat};
use crate::tools::oci::printable;
use crate::tools::views::{Layers, Views};
use crate::tools::way::push;

/// How an opaque directory is reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpaqueAs {
    /// By a whiteout for each name of the lowers that it does not show.
    #[default]
    Whiteouts,
    /// By one opaque marker.
    Marker,
}

/// Whether directories that only contain changes are reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parents {
    /// All of them, with their metadata, so that no reader has to invent it.
    #[default]
    All,
    /// None of them.
    Changed,
}

/// Rules for reporting changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// How an opaque directory is reported.
    pub opaque: OpaqueAs,
    /// Whether directories that only contain changes are reported.
    pub parents: Parents,
}

/// Reports to `sink` what the upper changes.
///
/// # Errors
/// Those of the layers and of the sink; EINVAL for an entry of the upper that has the name of a
/// marker but is none.
pub fn walk(layers: &Layers, rules: Rules, sink: &mut dyn Sink) -> Result<()> {
    let views = Views::open(layers)?;
    let mut walk = Walk { views: &views, rules, sink, open: Vec::new(), path: Vec::new() };
    walk.root()?;
    while walk.step()? {}
    Ok(())
}

/// A directory that is being visited.
struct Open {
    /// Length of the path of the directory above, in bytes.
    above: usize,
    merged: DirStack,
    index: Index,
    /// The directory of the lowers at this path, unless it is hidden or there is none.
    below: Option<(DirStack, Index)>,
    /// The directory is new as a whole.
    whole: bool,
    /// Names that are still to be compared, in order.
    names: std::vec::IntoIter<Box<[u8]>>,
}

struct Walk<'a> {
    views: &'a Views,
    rules: Rules,
    sink: &'a mut dyn Sink,
    open: Vec<Open>,
    /// Path of the innermost open directory.
    path: Vec<u8>,
}

impl Walk<'_> {
    fn root(&mut self) -> Result<()> {
        let (merged, below) = (self.views.merged.root()?, self.views.below.root()?);
        let (stat, was) = (merged.stat()?, below.stat()?);
        let object = Object::root(stat, &merged, self.views);
        object.owner().context(|| "the root directory")?;
        let whole = !merges_with(&merged, &below)?;
        let all = self.rules.parents == Parents::All || self.needs_marker(&merged, &below)?;
        if all || !object.same_metadata(&was, &below)? {
            self.sink.object(&object)?;
        }
        let open = self.enter(b"", merged, Some(below), whole)?;
        self.open.push(open);
        Ok(())
    }

    /// Handles the next name. Returns false at the end.
    fn step(&mut self) -> Result<bool> {
        // Taken out while its entry is handled, as a directory is pushed above it.
        let Some(mut dir) = self.open.pop() else { return Ok(false) };
        let Some(name) = dir.names.next() else {
            self.path.truncate(dir.above);
            return Ok(true);
        };
        let above = self.path.len();
        let mut path = std::mem::take(&mut self.path);
        push(&mut path, &name);
        let result = self.entry(&dir, &path, Name::new(&name)?);
        let found = result.context(|| printable(&path))?;
        let whole = dir.whole;
        self.open.push(dir);
        if let Some((merged, below)) = found {
            let whole = match &below {
                Some(below) if !whole => !merges_with(&merged, below)?,
                _ => true,
            };
            let open = self.enter(&path, merged, below, whole)?;
            self.open.push(Open { above, ..open });
        } else {
            path.truncate(above);
        }
        self.path = path;
        Ok(true)
    }

    /// Reports one object. Returns a directory, with the directory of the lowers at its path.
    fn entry(
        &mut self,
        dir: &Open,
        path: &[u8],
        name: Name<'_>,
    ) -> Result<Option<(DirStack, Option<DirStack>)>> {
        let gone = || Error::new(Errno::ESTALE, "it went away while it was being read");
        let found =
            lookup(self.views.merged.lookup_context(), &dir.merged, Some(&dir.index), name)?;
        let found = found.ok_or_else(gone)?;
        let below = match &dir.below {
            Some((below, index)) => {
                lookup(self.views.below.lookup_context(), below, Some(index), name)?
            }
            None => None,
        };
        let object = Object::found(path, name, &found, below.is_some(), self.views)?;
        object.owner()?;
        if found.stat.kind() == FileType::Socket {
            self.sink.skipped(path, "a socket");
            return Ok(None);
        }
        if !self.is_unchanged(&object, &found, below.as_ref())? {
            warn_of_index(&object);
            self.sink.object(&object)?;
        }
        let below = below.and_then(|below| match below.what {
            What::Dir(stack) => Some(stack),
            _ => None,
        });
        Ok(match found.what {
            What::Dir(stack) => Some((stack, below)),
            _ => None,
        })
    }

    /// Whether this is a directory that need not be reported.
    fn is_unchanged(
        &self,
        object: &Object<'_>,
        found: &Found,
        below: Option<&Found>,
    ) -> Result<bool> {
        let (What::Dir(stack), Some(below)) = (&found.what, below) else { return Ok(false) };
        let What::Dir(was) = &below.what else { return Ok(false) };
        // Without an entry, the metadata of a directory with a marker would be left to chance.
        Ok(self.rules.parents == Parents::Changed
            && object.same_metadata(&below.stat, was)?
            && !self.needs_marker(stack, was)?)
    }

    /// Whether the directory will be reported as opaque by a marker.
    fn needs_marker(&self, merged: &DirStack, below: &DirStack) -> Result<bool> {
        let may_hide = self.rules.opaque == OpaqueAs::Marker;
        Ok(may_hide && !merges_with(merged, below)? && !Index::build(below)?.is_empty())
    }

    /// Lists a directory, and reports its whiteouts.
    fn enter(
        &mut self,
        path: &[u8],
        merged: DirStack,
        below: Option<DirStack>,
        whole: bool,
    ) -> Result<Open> {
        let open = self.list(path, merged, below, whole);
        let mut open = open.context(|| printable(path))?;
        let mut names: BTreeSet<&[u8]> = open.index.iter().map(|(name, _)| name).collect();
        if let Some((_, below)) = &open.below {
            let hides = below.iter().map(|(name, _)| name);
            if whole && self.rules.opaque == OpaqueAs::Marker {
                if hides.count() > 0 {
                    self.sink.opaque(path)?;
                }
            } else {
                let socket = |name: &&[u8]| is_socket(&open.index, name);
                let gone: BTreeSet<_> =
                    hides.filter(|name| !names.contains(name) || socket(name)).collect();
                for name in gone {
                    self.sink.whiteout(path, name)?;
                }
            }
        }
        let names: Vec<Box<[u8]>> = std::mem::take(&mut names).into_iter().map(Box::from).collect();
        if whole && self.rules.opaque == OpaqueAs::Marker {
            open.below = None;
        }
        Ok(Open { names: names.into_iter(), ..open })
    }

    fn list(
        &self,
        path: &[u8],
        merged: DirStack,
        below: Option<DirStack>,
        whole: bool,
    ) -> Result<Open> {
        let (index, below) = if whole {
            if is_of_upper(&merged) {
                names_of(merged.top()?, path)?;
            }
            let index = Index::build(&merged)?;
            (index, below.map(|below| Ok::<_, Error>((Index::build(&below)?, below))).transpose()?)
        } else {
            let names = names_of(merged.top()?, path)?;
            let names = names.iter().map(|name| &**name);
            let index = Index::of_names(&merged, names.clone())?;
            let of = |below| Ok::<_, Error>((Index::of_names(&below, names.clone())?, below));
            (index, below.map(of).transpose()?)
        };
        let below = below.map(|(index, below)| (below, index));
        Ok(Open { above: 0, merged, index, below, whole, names: Vec::new().into_iter() })
    }
}

/// Warns of other names that show the object only on a mount with the index of hard links.
fn warn_of_index(object: &Object<'_>) {
    let others = object.names_by_index();
    if others > 0 {
        tracing::warn!(
            "{}: {others} more names of the lowers show this file where it is mounted with index=on, \
             and what they had where it is not; the layer tells of this name alone",
            printable(object.path)
        );
    }
}

/// Number of the upper in the merged view, where it is the topmost lower.
const UPPER: u16 = 1;

fn is_of_upper(merged: &DirStack) -> bool {
    merged.top().is_ok_and(|top| top.layer() == UPPER)
}

/// Whether the directories below the topmost one of `merged` are those of `below`.
///
/// # Errors
/// Those of looking at them.
fn merges_with(merged: &DirStack, below: &DirStack) -> Result<bool> {
    let facts = |dir: &Arc<LayerDir>, layer: u16| Ok((layer, dir.dev()?, dir.ino()?));
    if !is_of_upper(merged) {
        return Ok(false);
    }
    // The merged view has the upper as well, so its lowers have numbers higher by one.
    let ours = merged.levels().skip(1).map(|dir| facts(dir, dir.layer()));
    let theirs = below.levels().map(|dir| facts(dir, dir.layer() + UPPER));
    Ok(ours.collect::<Result<Vec<_>>>()? == theirs.collect::<Result<Vec<_>>>()?)
}

fn is_socket(index: &Index, name: &[u8]) -> bool {
    let entry = Name::new(name).ok().and_then(|name| index.get(name));
    entry.is_some_and(|entry| entry.kind() == Some(FileType::Socket))
}

/// Returns the names of the entries and whiteouts in a directory of the upper.
fn names_of(dir: &Arc<LayerDir>, path: &[u8]) -> Result<BTreeSet<Box<[u8]>>> {
    let mut names = BTreeSet::new();
    let mut markers: Vec<Box<[u8]>> = Vec::new();
    dir.for_each(|entry| {
        match dir.classify(entry.name) {
            AufsName::Plain => {
                names.insert(entry.name.into());
            }
            AufsName::Whiteout(name) => {
                markers.push(entry.name.into());
                names.insert(name.into());
            }
            AufsName::Opaque | AufsName::Meta => {}
        }
        Ok(())
    })?;
    for marker in markers {
        if let Some(stat) = dir.stat_entry(Name::new(&marker)?)? {
            check_marker(&stat).context(|| {
                let mut path = path.to_vec();
                push(&mut path, &marker);
                printable(&path)
            })?;
        }
    }
    Ok(names)
}

/// Checks that an object with the name of a whiteout is one.
fn check_marker(stat: &Stat) -> Result<()> {
    if (stat.kind().is_file() && stat.size == 0) || stat.is_whiteout_device() {
        return Ok(());
    }
    Err(Error::new(
        Errno::EINVAL,
        "names that begin with .wh. are markers in a layer, and this is no marker; rename it",
    ))
}
