//! The layer in the making: finding places in it, and putting markers there.

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

/// How many symbolic links are followed on the way to one place (path_resolution(7)).
const MOST_LINKS: u32 = 40;

/// What a directory is given when all is in it.
#[derive(Clone, Debug, Default)]
pub(super) struct DirState {
    /// What its entry says; none if it is only implied by what is in it.
    pub given: Option<super::metadata::Later>,
    /// Nothing below it shows.
    pub opaque: bool,
}

/// What stands under a name.
pub(super) enum There {
    Nothing,
    Whiteout,
    Dir(Stat),
    Link,
    Other,
}

/// What is done about directories that are missing on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// They are made: an object is to be put there.
    Make,
    /// They are made, but not where the layers below do not show anyway: a marker is to be put
    /// there, and it would mean nothing.
    MakeForMarker,
    /// There is no such place.
    Fail,
}

/// One directory on the way to the current one.
struct Level {
    name: Box<[u8]>,
    dir: UpperDir,
    place: Place,
    /// Bytes of its path.
    len: usize,
    /// It, or one above it, hides what is below.
    opaque: bool,
}

pub(super) struct Tree<'a> {
    pub upper: &'a Upper,
    /// The way from the root to the current directory; the root is not in it.
    way: Vec<Level>,
    /// Every directory.
    pub dirs: FxHashMap<Place, DirState>,
    pub paths: Paths,
    /// How many were made for what is in them; some may have got an entry since, or have gone.
    pub implied: u64,
}

impl<'a> Tree<'a> {
    pub fn new(upper: &'a Upper) -> Self {
        let dirs = FxHashMap::from_iter([(None, DirState::default())]);
        Self { upper, way: Vec::new(), dirs, paths: Paths::default(), implied: 0 }
    }

    /// The current directory.
    pub fn here(&self) -> UpperDir {
        self.way.last().map_or_else(|| self.upper.root().clone(), |level| level.dir.clone())
    }

    /// Whether nothing of the layers below shows in the current directory.
    pub fn is_hidden(&self) -> bool {
        match self.way.last() {
            Some(level) => level.opaque,
            None => self.dirs.get(&None).is_some_and(|root| root.opaque),
        }
    }

    /// Which directory the current one is.
    pub fn place(&self) -> Place {
        self.way.last().and_then(|level| level.place)
    }

    /// What stands under a name of the current directory.
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

    /// Goes to a directory. Symbolic links of this layer are followed, but never out of it. Says
    /// whether the directory is there.
    ///
    /// # Errors
    /// ENOTDIR for a file on the way, ELOOP for too many links.
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
                // It hides the directory of the layers below that the marker is about.
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

    /// How long the path of an entry of the current directory is, in bytes.
    fn len_of(&self, name: Name<'_>) -> usize {
        self.way.last().map_or(0, |level| level.len + 1) + name.bytes().len()
    }

    /// Makes a directory in the current one, and goes there. Where a whiteout stood it hides what
    /// is below.
    ///
    /// # Errors
    /// ENAMETOOLONG for a place that no path names: links lead there, from one to the next.
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

    /// Removes a whiteout of the current directory.
    pub fn take_whiteout(&self, name: Name<'_>) -> Result<()> {
        let here = self.here();
        match self.upper.forms().whiteout {
            WhiteoutForm::Device | WhiteoutForm::Xattr => self.upper.unlink(&here, name),
            WhiteoutForm::Aufs => self.upper.remove_whiteout_file(&here, name),
        }
    }

    /// Makes the current directory hide what the layers below have there: marked, and without
    /// markers in it, which would mean nothing any more.
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

    /// Takes the markers out of a directory and all below it.
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

    /// Takes the mark from a directory that need not hide anything, as one above does.
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

    /// What is in a directory; whiteouts of the AUFS form under the names of their files.
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

    /// Puts a whiteout for `name` into the current directory. What this layer has under the name
    /// stays, and hides what is below by itself.
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

    /// The current directory goes, and all that are in it.
    fn discard_here(&mut self, name: Name<'_>, all: &[Place]) -> Result<()> {
        self.way.pop();
        for place in all {
            self.dirs.remove(place);
        }
        self.upper.take_out(&self.here(), name)?.discard()
    }

    /// Removes a directory of the current one that is there for nothing but markers, as what takes
    /// its place hides all that they are about. Says whether it was one.
    pub fn take_markers(&mut self, name: Name<'_>, stat: &Stat) -> Result<bool> {
        self.step(name, stat);
        if let Some(all) = self.only_markers(true)? {
            self.discard_here(name, &all)?;
            return Ok(true);
        }
        self.way.pop();
        Ok(false)
    }

    /// The current directory and all in it, if they are such that no entry described, with nothing
    /// but markers in them. An opaque one may be meant to be there, and empty, unless `opaque_too`.
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

    /// All directories, each after those in it, and neighbours after each other.
    pub fn innermost_first(&self) -> Vec<Place> {
        let mut within: FxHashMap<Place, Vec<Place>> = FxHashMap::default();
        for place in self.dirs.keys() {
            if let Some((above, _)) = self.paths.split(*place) {
                within.entry(above).or_default().push(*place);
            }
        }
        // Each before those in it, and then the other way round.
        let (mut found, mut open) = (Vec::new(), vec![None]);
        while let Some(place) = open.pop() {
            found.push(place);
            open.extend(within.remove(&place).unwrap_or_default());
        }
        found.reverse();
        found
    }
}

/// The components of a path; empty ones and `.` say nothing.
pub(super) fn parts_of(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect()
}
