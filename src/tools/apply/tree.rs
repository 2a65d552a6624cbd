//! The layer that is built: finds places in it, and writes markers.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use rustc_hash::FxHashMap;

use crate::error::{Errno, Error, Result};
use crate::format::aufs::{self, AufsName};
use crate::format::overlay::Mark;
use crate::layer::upper::{OpaqueForm, WhiteoutForm};
use crate::layer::{Over, Upper, UpperDir};
use crate::sys::xattr::SetMode;
use crate::sys::{FileType, Name, Stat, Target, at, xattr};
use crate::tools::oci::archive::LONGEST_PATH;
use crate::tools::paths::{Paths, Place};

/// Limit of symbolic links on the way to one place (path_resolution(7)).
const MOST_LINKS: u32 = 40;

/// State of a directory while the layer is built.
#[derive(Clone, Debug, Default)]
pub(super) struct DirState {
    /// Metadata of its entry; `None` if entries below it only imply the directory.
    pub given: Option<super::metadata::Later>,
    /// The directory hides what the layers below have at its path.
    pub opaque: bool,
}

/// Object at a name.
pub(super) enum There {
    Nothing,
    Whiteout,
    Dir(Stat),
    Link,
    Other,
}

/// Handling of missing directories in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// They are made, for an object at the path.
    Make,
    /// They are made for a marker, unless the layers below are hidden there, so that it would mean
    /// nothing.
    MakeForMarker,
    /// The path does not exist.
    Fail,
}

/// One directory in the path of the current one.
struct Level {
    name: Box<[u8]>,
    dir: UpperDir,
    place: Place,
    /// Length of the path of the directory, in bytes.
    len: usize,
    /// The directory, or one above it, hides the layers below.
    opaque: bool,
}

pub(super) struct Tree<'a> {
    pub upper: &'a Upper,
    /// Directories from the root to the current one, without the root.
    way: Vec<Level>,
    /// State of each directory.
    pub dirs: FxHashMap<Place, DirState>,
    pub paths: Paths,
    /// Directories made for their entries. Some may have got an entry since, or been removed.
    pub implied: u64,
}

impl<'a> Tree<'a> {
    pub fn new(upper: &'a Upper) -> Self {
        let dirs = FxHashMap::from_iter([(None, DirState::default())]);
        Self { upper, way: Vec::new(), dirs, paths: Paths::default(), implied: 0 }
    }

    /// Returns the current directory.
    pub fn here(&self) -> UpperDir {
        self.way.last().map_or_else(|| self.upper.root().clone(), |level| level.dir.clone())
    }

    /// Whether the layers below are hidden in the current directory.
    pub fn is_hidden(&self) -> bool {
        match self.way.last() {
            Some(level) => level.opaque,
            None => self.dirs.get(&None).is_some_and(|root| root.opaque),
        }
    }

    /// Returns the place of the current directory.
    pub fn place(&self) -> Place {
        self.way.last().and_then(|level| level.place)
    }

    /// Returns the kind of object at a name of the current directory.
    pub fn there(&self, name: Name<'_>) -> Result<There> {
        let here = self.here();
        let dir = here.dir();
        match dir.stat_entry(name)? {
            Some(stat) if dir.is_whiteout(name, &stat)? => Ok(There::Whiteout),
            Some(stat) if stat.kind().is_dir() => Ok(There::Dir(stat)),
            Some(stat) if stat.kind() == FileType::Symlink => Ok(There::Link),
            Some(_) => Ok(There::Other),
            None if self.upper.forms().whiteout == WhiteoutForm::Aufs => {
                let marker = aufs::whiteout_of(name.bytes());
                let found = dir.stat_entry(Name::new(&marker)?)?;
                Ok(if found.is_some() { There::Whiteout } else { There::Nothing })
            }
            None => Ok(There::Nothing),
        }
    }

    /// Makes the directory at `path` the current one. Follows symbolic links of this layer, but
    /// never out of it. Returns whether the directory exists, and with [`Missing::MakeForMarker`]
    /// whether a marker in it means something.
    ///
    /// # Errors
    /// ENOTDIR for a file in the path, ELOOP for too many links.
    pub fn go(&mut self, path: &[&[u8]], missing: Missing) -> Result<bool> {
        let same = self.way.iter().zip(path).take_while(|(level, part)| *level.name == ***part);
        let same = same.count();
        self.way.truncate(same);
        let mut todo: VecDeque<Vec<u8>> =
            path.iter().skip(same).map(|part| part.to_vec()).collect();
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == b".." {
                self.way.pop();
                continue;
            }
            let name = Name::new(&part)?;
            if aufs::is_reserved(&part) {
                let text = format!("a link to {name}, which is the name of a marker");
                return Err(Error::new(Errno::EINVAL, text));
            }
            match self.there(name)? {
                There::Dir(stat) => self.step(name, &stat),
                // The link hides the directory of the layers below to which the marker applies.
                There::Link if missing == Missing::MakeForMarker => return Ok(false),
                There::Link => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::ELOOP.into());
                    }
                    let fd = self.here().dir().fd()?;
                    let target = at::readlink(Target::At(fd.as_ref().as_fd(), name))?;
                    if target.starts_with(b"/") {
                        self.way.clear();
                    }
                    for part in parts_of(&target).into_iter().rev() {
                        todo.push_front(part.to_vec());
                    }
                }
                There::Nothing | There::Whiteout if missing == Missing::Make => {
                    self.make_dir(name)?;
                }
                There::Nothing if missing == Missing::MakeForMarker && !self.is_hidden() => {
                    self.make_dir(name)?;
                }
                There::Other if missing == Missing::Make => {
                    let text = format!("{name} is a file, and a directory of the same layer");
                    return Err(Error::new(Errno::ENOTDIR, text));
                }
                There::Nothing | There::Whiteout | There::Other => return Ok(false),
            }
        }
        Ok(missing != Missing::MakeForMarker || !self.is_hidden())
    }

    fn step(&mut self, name: Name<'_>, stat: &Stat) {
        let dir = self.here().child(name, stat);
        let place = self.paths.child(self.place(), name.bytes());
        let own = self.dirs.get(&place).is_some_and(|state| state.opaque);
        let (opaque, len) = (self.is_hidden() || own, self.len_of(name));
        self.way.push(Level { name: name.bytes().into(), dir, place, len, opaque });
    }

    /// Returns the length of the path of an entry of the current directory, in bytes.
    fn len_of(&self, name: Name<'_>) -> usize {
        self.way.last().map_or(0, |level| level.len + 1) + name.bytes().len()
    }

    /// Makes a directory in the current one, and goes there. If it replaces a whiteout, it is
    /// opaque.
    ///
    /// # Errors
    /// ENAMETOOLONG for a place too deep for a path, which a chain of links can reach.
    pub fn make_dir(&mut self, name: Name<'_>) -> Result<()> {
        if self.len_of(name) > LONGEST_PATH {
            return Err(Error::new(Errno::ENAMETOOLONG, "a path of more than 4096 bytes"));
        }
        let here = self.here();
        let over = matches!(self.there(name)?, There::Whiteout);
        if over {
            self.take_whiteout(name)?;
        }
        self.upper.mkdir(&here, name, 0o700)?;
        self.implied += 1;
        let stat = here.dir().stat_entry(name)?.ok_or(Errno::ESTALE)?;
        self.step(name, &stat);
        self.dirs.insert(self.place(), DirState::default());
        if over { self.hide_below() } else { Ok(()) }
    }

    /// Removes a whiteout from the current directory.
    pub fn take_whiteout(&self, name: Name<'_>) -> Result<()> {
        let here = self.here();
        match self.upper.forms().whiteout {
            WhiteoutForm::Device | WhiteoutForm::Xattr => self.upper.unlink(&here, name),
            WhiteoutForm::Aufs => self.upper.remove_whiteout_file(&here, name),
        }
    }

    /// Makes the current directory opaque, and removes the markers in it, which mean nothing then.
    pub fn hide_below(&mut self) -> Result<()> {
        if self.is_hidden() {
            return Ok(());
        }
        let here = self.here();
        self.sweep(&here, self.place())?;
        match self.upper.forms().opaque {
            OpaqueForm::Xattr(namespace) => self.upper.with_dir(&here, |target| {
                xattr::set(target, namespace.key(Mark::Opaque), b"y", SetMode::Any)
            })?,
            OpaqueForm::Aufs => {
                let mode = libc::S_IFREG | 0o600;
                self.upper.mknod(&here, Name::new(aufs::OPAQUE)?, mode, 0)?;
            }
        }
        self.dirs.entry(self.place()).or_default().opaque = true;
        if let Some(level) = self.way.last_mut() {
            level.opaque = true;
        }
        Ok(())
    }

    /// Removes the markers in a directory and all directories below it.
    fn sweep(&mut self, dir: &UpperDir, place: Place) -> Result<()> {
        let mut open = vec![(dir.clone(), place)];
        while let Some((dir, place)) = open.pop() {
            for (name, found) in self.entries(&dir)? {
                let name = Name::new(&name)?;
                match found {
                    There::Whiteout => self.upper.unlink(&dir, name)?,
                    There::Dir(stat) => {
                        let below = dir.child(name, &stat);
                        let place = self.paths.child(place, name.bytes());
                        self.show_below(&below, place)?;
                        open.push((below, place));
                    }
                    There::Nothing | There::Link | There::Other => {}
                }
            }
        }
        Ok(())
    }

    /// Removes the opaque mark of a directory that lies below an opaque one.
    fn show_below(&mut self, dir: &UpperDir, place: Place) -> Result<()> {
        let Some(state) = self.dirs.get_mut(&place).filter(|state| state.opaque) else {
            return Ok(());
        };
        state.opaque = false;
        match self.upper.forms().opaque {
            OpaqueForm::Xattr(namespace) => self
                .upper
                .with_dir(dir, |target| xattr::remove(target, namespace.key(Mark::Opaque))),
            OpaqueForm::Aufs => self.upper.unlink(dir, Name::new(aufs::OPAQUE)?),
        }
    }

    /// Lists a directory. Whiteouts of the AUFS form have the names of their files.
    fn entries(&self, dir: &UpperDir) -> Result<Vec<(Box<[u8]>, There)>> {
        let mut names: Vec<Box<[u8]>> = Vec::new();
        dir.dir().for_each(|entry| {
            names.push(entry.name.into());
            Ok(())
        })?;
        let dir = dir.dir();
        let found = names.into_iter().map(|bytes| {
            let name = Name::new(&bytes)?;
            let found = match (aufs::classify(&bytes), dir.stat_entry(name)?) {
                (AufsName::Whiteout(_), Some(_)) => There::Whiteout,
                (AufsName::Plain, Some(stat)) if dir.is_whiteout(name, &stat)? => There::Whiteout,
                (AufsName::Plain, Some(stat)) if stat.kind().is_dir() => There::Dir(stat),
                (AufsName::Plain, Some(_)) => There::Other,
                _ => There::Nothing,
            };
            Ok((bytes, found))
        });
        found.collect()
    }

    /// Writes a whiteout for `name` into the current directory. An object of this layer at the name
    /// stays, and hides the layers below by itself.
    pub fn whiteout(&mut self, name: Name<'_>) -> Result<()> {
        match self.there(name)? {
            There::Nothing => self.upper.whiteout(&self.here(), name, Over::Nothing),
            There::Whiteout | There::Link | There::Other => Ok(()),
            There::Dir(stat) => {
                self.step(name, &stat);
                if let Some(all) = self.only_markers(false)? {
                    self.discard_here(name, &all)?;
                    return self.upper.whiteout(&self.here(), name, Over::Nothing);
                }
                self.hide_below()?;
                self.way.pop();
                Ok(())
            }
        }
    }

    /// Removes the current directory. `all` are the places of it and of the directories below it.
    fn discard_here(&mut self, name: Name<'_>, all: &[Place]) -> Result<()> {
        self.way.pop();
        for place in all {
            self.dirs.remove(place);
        }
        self.upper.take_out(&self.here(), name)?.discard()
    }

    /// Removes a directory that exists only for the markers in it, because the object in its place
    /// hides the same. Returns whether it was such a directory.
    pub fn take_markers(&mut self, name: Name<'_>, stat: &Stat) -> Result<bool> {
        self.step(name, stat);
        if let Some(all) = self.only_markers(true)? {
            self.discard_here(name, &all)?;
            return Ok(true);
        }
        self.way.pop();
        Ok(false)
    }

    /// Returns the current directory and all below it if they hold only markers and none has an
    /// entry. An opaque directory, which may be meant as an empty one, counts only with
    /// `opaque_too`.
    fn only_markers(&mut self, opaque_too: bool) -> Result<Option<Vec<Place>>> {
        let mut all = Vec::new();
        let mut open = vec![(self.here(), self.place())];
        while let Some((dir, place)) = open.pop() {
            let state = self.dirs.get(&place);
            if !state.is_some_and(|it| it.given.is_none() && (opaque_too || !it.opaque)) {
                return Ok(None);
            }
            for (name, found) in self.entries(&dir)? {
                match found {
                    There::Dir(stat) => {
                        let child = dir.child(Name::new(&name)?, &stat);
                        open.push((child, self.paths.child(place, &name)));
                    }
                    There::Link | There::Other => return Ok(None),
                    There::Whiteout | There::Nothing => {}
                }
            }
            all.push(place);
        }
        Ok(Some(all))
    }

    /// Returns all directories, each after those in it, in the order of a walk through the tree.
    pub fn innermost_first(&self) -> Vec<Place> {
        let mut within: FxHashMap<Place, Vec<Place>> = FxHashMap::default();
        for place in self.dirs.keys() {
            if let Some((above, _)) = self.paths.split(*place) {
                within.entry(above).or_default().push(*place);
            }
        }
        // Collects each directory before those in it, and reverses the list.
        let (mut found, mut open) = (Vec::new(), vec![None]);
        while let Some(place) = open.pop() {
            found.push(place);
            open.extend(within.remove(&place).unwrap_or_default());
        }
        found.reverse();
        found
    }
}

/// Returns the components of a path, without empty ones and `.`.
pub(super) fn parts_of(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect()
}
