//! A walk down all layers at once, including those that do not show.
//!
//! [`lookup`] tells what shows. The trace adds, for each object that does not show, what hides it.
//! It answers questions of people, and takes its time: some calls for each layer and each component
//! of the path, and a listing of the upper's directories.

use std::sync::Arc;

use super::context::LookupContext;
use super::found::{Contents, Found, What};
use super::index::Index;
use super::lookup;
use super::signs::Signs;
use super::stack::DirStack;
use super::which::{Cause, Level, Part, Which, Whiteout, Why};
use crate::error::Result;
use crate::format::aufs::AufsName;
use crate::layer::{LayerDir, LowerDir, UpperDir};
use crate::sys::{FileType, Name, Stat};

/// A directory of a layer of either kind.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Upper(UpperDir),
    Lower(LowerDir),
}

impl Place {
    fn dir(&self) -> &Arc<LayerDir> {
        match self {
            Self::Upper(upper) => upper.dir(),
            Self::Lower(lower) => lower.dir(),
        }
    }

    fn child(&self, name: Name<'_>, stat: &Stat) -> Self {
        match self {
            Self::Upper(upper) => Self::Upper(upper.child(name, stat)),
            Self::Lower(lower) => Self::Lower(lower.child(name, stat)),
        }
    }

    /// Whether both are the same directory of the same layer. False if one cannot be looked at.
    fn is(&self, other: &Self) -> bool {
        let key = |place: &Self| {
            let dir = place.dir();
            Some((dir.layer(), dir.dev().ok()?, dir.ino().ok()?))
        };
        key(self).is_some_and(|this| key(other) == Some(this))
    }

    /// The parts of a directory of the mount.
    fn all_of(stack: &DirStack) -> impl Iterator<Item = Self> {
        let upper = stack.upper.iter().cloned().map(Self::Upper);
        upper.chain(stack.lowers.iter().cloned().map(Self::Lower))
    }
}

/// A directory of a layer in which names are looked for, whether or not it shows.
struct Here {
    place: Place,
    /// Its path in its layer.
    path: Vec<u8>,
    hidden: Option<Cause>,
}

impl Here {
    fn of(level: &Level) -> Option<Self> {
        let hidden = match &level.part {
            Part::Hidden(cause) => Some(cause.clone()),
            _ => None,
        };
        Some(Self { place: level.dir.clone()?, path: level.path.clone(), hidden })
    }
}

/// The walk along one path, from the root of the mount down.
pub struct Trace<'a> {
    context: LookupContext<'a>,
    /// The parts of the directory that shows so far, if it is one.
    shown: Option<DirStack>,
    here: Vec<Here>,
    which: Which,
}

impl std::fmt::Debug for Trace<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.which.fmt(f)
    }
}

impl<'a> Trace<'a> {
    /// Begins at the root of the mount, which has the parts `root`.
    ///
    /// # Errors
    /// None so far: an error of a layer becomes part of the answer.
    pub fn new(context: LookupContext<'a>, root: DirStack) -> Result<Self> {
        let mut levels: Vec<Level> = Vec::new();
        let mut cut = None;
        let upper = root.upper.iter().cloned().map(Place::Upper);
        for place in upper.chain(context.roots.iter().cloned().map(Place::Lower)) {
            let dir = place.dir();
            // The root of a layer merges with the other roots, even if it has a redirect.
            let signs = Signs { redirect: None, ..Signs::of_dir(dir) };
            let part = match (&cut, levels.is_empty()) {
                (Some(cause), _) => Part::Hidden(Cause::clone(cause)),
                (None, true) => Part::Shown,
                (None, false) => Part::Merged,
            };
            if cut.is_none() && signs.opaque.is_some() {
                cut = Some(Cause { layer: dir.layer(), path: b"/".to_vec(), why: Why::Opaque });
            }
            let kind = Some(FileType::Directory);
            let (layer, path) = (dir.layer(), b"/".to_vec());
            levels.push(Level { layer, path, kind, part, signs, dir: Some(place) });
        }
        let found = found_root(&root).map(Some);
        let which = Which { path: b"/".to_vec(), found, levels };
        let here = which.levels.iter().filter_map(Here::of).collect();
        Ok(Self { context, shown: Some(root), here, which })
    }

    /// Goes on to the entry `name`.
    ///
    /// # Errors
    /// Those of looking at the entry in a layer. An error of the lookup becomes part of the answer.
    pub fn step(&mut self, name: Name<'_>) -> Result<()> {
        let found = self.look_up(name);
        let mut levels = Levels::new(&found);
        for here in &self.here {
            levels.add(here, name)?;
        }
        let levels = levels.finish();
        self.shown = match &found {
            Ok(Some(Found { what: What::Dir(stack), .. })) => Some(stack.clone()),
            _ => None,
        };
        self.here = levels.iter().filter_map(Here::of).collect();
        let path = below(&self.which.path, name);
        self.which = Which { path, found, levels };
        Ok(())
    }

    fn look_up(&self, name: Name<'_>) -> Result<Option<Found>> {
        let Some(stack) = &self.shown else { return Ok(None) };
        let names = std::iter::once(name.bytes());
        let index = stack.is_merged().then(|| Index::of_names(stack, names)).transpose()?;
        lookup::lookup(self.context, stack, index.as_ref(), name)
    }

    /// The answer for the path that was walked.
    #[must_use]
    pub fn finish(self) -> Which {
        self.which
    }
}

fn found_root(root: &DirStack) -> Result<Found> {
    Ok(Found::new(root.stat()?, root.origin()?, What::Dir(root.clone())))
}

/// The path of the entry `name` of a directory.
fn below(path: &[u8], name: Name<'_>) -> Vec<u8> {
    let slash: &[u8] = if path.ends_with(b"/") { b"" } else { b"/" };
    [path, slash, name.bytes()].concat()
}

/// The objects of all layers under one name, which are added from the top down.
struct Levels {
    /// The directories that show, as the lookup found them.
    showing: Vec<Place>,
    /// The file that holds the data: its layer and its path.
    data: Option<(u16, Vec<u8>)>,
    list: Vec<Level>,
    /// The cause that hides everything further down.
    cut: Option<Cause>,
}

impl Levels {
    fn new(found: &Result<Option<Found>>) -> Self {
        let (mut showing, mut data) = (Vec::new(), None);
        if let Ok(Some(found)) = found {
            if let What::Dir(stack) = &found.what {
                showing.extend(Place::all_of(stack));
            }
            if let Contents::Elsewhere(source) = &found.data
                && let Ok(name) = Name::new(&source.name)
            {
                let dir = source.dir.dir();
                data = Some((dir.layer(), below(&dir.path(), name)));
            }
        }
        Self { showing, data, list: Vec::new(), cut: None }
    }

    fn add(&mut self, here: &Here, name: Name<'_>) -> Result<()> {
        let dir = here.place.dir();
        if dir.classify(name.bytes()) != AufsName::Plain {
            return Ok(());
        }
        let path = below(&here.path, name);
        let hidden = here.hidden.clone().or_else(|| self.cut.clone());
        match dir.stat_entry(name)? {
            None => {}
            Some(stat) if dir.is_whiteout(name, &stat)? => {
                let device = stat.is_whiteout_device();
                let form = if device { Whiteout::Device } else { Whiteout::Xattr };
                self.add_whiteout(dir.layer(), &path, form, hidden.as_ref());
            }
            Some(stat) => self.add_object(here, (name, &path), &stat, hidden.clone()),
        }
        if dir.has_whiteout_file(name)? {
            self.add_whiteout(dir.layer(), &path, Whiteout::File, hidden.as_ref());
        }
        Ok(())
    }

    fn add_whiteout(&mut self, layer: u16, path: &[u8], form: Whiteout, hidden: Option<&Cause>) {
        let part = match hidden {
            Some(cause) => Part::Hidden(cause.clone()),
            None => Part::Whiteout(form),
        };
        if hidden.is_none() {
            // An object beside a whiteout file shows, and hides too: the first cause counts.
            let why = Why::Whiteout(form);
            self.cut.get_or_insert(Cause { layer, path: path.to_vec(), why });
        }
        let signs = Signs::default();
        self.list.push(Level { layer, path: path.to_vec(), kind: None, part, signs, dir: None });
    }

    fn add_object(
        &mut self,
        here: &Here,
        (name, path): (Name<'_>, &[u8]),
        stat: &Stat,
        hidden: Option<Cause>,
    ) {
        let (layer, is_dir) = (here.place.dir().layer(), stat.kind().is_dir());
        let dir = is_dir.then(|| here.place.child(name, stat));
        let signs = match &dir {
            Some(dir) => Signs::of_dir(dir.dir()),
            None => Signs::of_other(here.place.dir(), name),
        };
        let cause = |why| Cause { layer, path: path.to_vec(), why };
        let top = self.list.iter().find(|level| level.part == Part::Shown);
        let part = match (hidden, top) {
            (Some(cause), _) => Part::Hidden(cause),
            (None, None) => Part::Shown,
            (None, Some(top)) if is_dir && top.kind == Some(FileType::Directory) => Part::Merged,
            (None, Some(top)) => {
                let (layer, path) = (top.layer, top.path.clone());
                Part::Hidden(Cause { layer, path, why: Why::Object })
            }
        };
        if here.hidden.is_none() && self.cut.is_none() {
            self.cut = match (&part, &signs) {
                (Part::Hidden(cause), _) => Some(cause.clone()),
                _ if !is_dir => Some(cause(Why::Object)),
                (_, Signs { opaque: Some(_), .. }) => Some(cause(Why::Opaque)),
                (_, Signs { redirect: Some(_), .. }) => Some(cause(Why::Redirect)),
                _ => None,
            };
        }
        let part = if self.data.as_ref().is_some_and(|(of, at)| (*of, &**at) == (layer, path)) {
            Part::Data
        } else {
            part
        };
        let kind = Some(stat.kind());
        self.list.push(Level { layer, path: path.to_vec(), kind, part, signs, dir });
    }

    /// Adds the objects that show because of a redirect.
    fn finish(mut self) -> Vec<Level> {
        for place in std::mem::take(&mut self.showing) {
            let same = |level: &&mut Level| level.dir.as_ref().is_some_and(|dir| dir.is(&place));
            match self.list.iter_mut().find(same) {
                Some(Level { part: Part::Shown | Part::Merged, .. }) => {}
                Some(level) => level.part = Part::Merged,
                None => {
                    let (layer, path) = (place.dir().layer(), place.dir().path());
                    let (kind, signs) = (Some(FileType::Directory), Signs::of_dir(place.dir()));
                    let (part, dir) = (Part::Merged, Some(place));
                    self.list.push(Level { layer, path, kind, part, signs, dir });
                }
            }
        }
        if let Some((layer, path)) = self.data.take()
            && !self.list.iter().any(|level| level.part == Part::Data)
        {
            let (kind, signs) = (Some(FileType::Regular), Signs::default());
            self.list.push(Level { layer, path, kind, part: Part::Data, signs, dir: None });
        }
        self.list.sort_by_key(|level| level.layer);
        self.list
    }
}
