//! Interprets the entries of an archive, and applies them to the new layer.

use std::io::Read;

use nix::fcntl::OFlag;

use super::metadata::{Later, Metadata};
use super::stage::Stage;
use super::tree::{Missing, There, Tree, parts_of};
use super::{Counts, Options};
use crate::error::{Context, Errno, Error, Result};
use crate::format::aufs::{self, AufsName};
use crate::format::overlay::Mark;
use crate::layer::UpperDir;
use crate::layer::owner_storage::OwnerStorage;
use crate::layer::upper::OpaqueForm;
use crate::sys::stat::Time;
use crate::sys::xattr::SetMode;
use crate::sys::{Name, WritableFd, at, file, xattr};
use crate::tools::oci::entry::{Entry, Kind};
use crate::tools::oci::printable;

/// Directory in which AUFS kept files with several names. Entries of a layer may link to them.
const AUFS_LINKS: &[u8] = b".wh..wh.plnk";

/// Size of the pieces in which data is written, in bytes: large enough to make the calls cheap.
const PIECE: usize = 1 << 18;

/// Metadata of implied directories. The time is constant, so that results are reproducible.
const IMPLIED: Later = Later { mode: 0o755, mtime: Time { sec: 0, nsec: 0 }, acls: Vec::new() };

pub(super) struct Unpack<'a> {
    stage: &'a Stage,
    options: &'a Options,
    tree: Tree<'a>,
    metadata: Metadata<'a>,
    counts: Counts,
    buffer: Vec<u8>,
    progress: &'a mut dyn FnMut(&[u8], u64),
}

fn refuse(text: impl std::fmt::Display) -> Error {
    Error::new(Errno::EINVAL, text)
}

fn check_most(count: u64, most: Option<u64>, what: &str, option: &str) -> Result<()> {
    match most.filter(|most| count > *most) {
        Some(most) => Err(Error::new(
            Errno::EFBIG,
            format!("more than {most} {what}; if that is meant, call with another {option}"),
        )),
        None => Ok(()),
    }
}

/// Splits a path from the archive, which is not trusted, into its components.
fn checked_parts(path: &[u8]) -> Result<Vec<&[u8]>> {
    let parts = parts_of(path);
    for part in &parts {
        if *part == b".." {
            return Err(refuse("a path that leads out of the layer"));
        }
        Name::new(part).context(|| "a path that is none")?;
    }
    Ok(parts)
}

impl<'a> Unpack<'a> {
    pub fn new(
        stage: &'a Stage,
        options: &'a Options,
        progress: &'a mut dyn FnMut(&[u8], u64),
    ) -> Result<Self> {
        let metadata = Metadata::new(stage.upper()?, &options.config.owners);
        let (counts, buffer) = (Counts::default(), Vec::new());
        let tree = Tree::new(stage.upper()?);
        Ok(Self { stage, options, tree, metadata, counts, buffer, progress })
    }

    /// Applies one entry. Its data comes from `data`.
    pub fn entry(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        self.count(entry)?;
        (self.progress)(&entry.path, 0);
        let parts = checked_parts(&entry.path)?;
        let Some((last, above)) = parts.split_last() else {
            return self.root(entry);
        };
        if let Some(reserved) = above.iter().find(|part| aufs::is_reserved(part)) {
            return match aufs::classify(reserved) {
                AufsName::Meta if *reserved != aufs::PREFIX => {
                    self.housekeeping(&parts, entry, data)
                }
                _ => Err(refuse("a whiteout is no directory")),
            };
        }
        match aufs::classify(last) {
            AufsName::Plain => self.object(above, last, entry, data),
            AufsName::Whiteout(name) => {
                let name = Name::new(name).context(|| "a whiteout of a name that is none")?;
                self.counts.markers += 1;
                let tree = &mut self.tree;
                if tree.go(above, Missing::MakeForMarker)? { tree.whiteout(name) } else { Ok(()) }
            }
            AufsName::Opaque => {
                self.counts.markers += 1;
                let tree = &mut self.tree;
                if tree.go(above, Missing::MakeForMarker)? { tree.hide_below() } else { Ok(()) }
            }
            AufsName::Meta if *last == aufs::PREFIX => Err(refuse("a whiteout without a name")),
            AufsName::Meta => Ok(()),
        }
    }

    fn count(&mut self, entry: &Entry) -> Result<()> {
        self.counts.entries += 1;
        self.counts.bytes = self.counts.bytes.saturating_add(entry.size);
        let limits = self.options.limits;
        // One path may imply two thousand directories, so these count as well.
        let made = self.counts.entries.saturating_add(self.tree.implied);
        check_most(made, limits.entries, "entries and implied directories", "--max-entries")?;
        check_most(self.counts.bytes, limits.bytes, "bytes of data", "--max-size")
    }

    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(refuse("the root of a layer is a directory"));
        }
        let upper = self.tree.upper;
        let metadata = &mut self.metadata;
        let later = upper.with_dir(upper.root(), |target| metadata.begin(target, entry))?;
        self.tree.dirs.entry(None).or_default().given = Some(later);
        Ok(())
    }

    /// Ignores the bookkeeping of AUFS, except for files to which entries may link.
    fn housekeeping(&mut self, parts: &[&[u8]], entry: &Entry, data: &mut dyn Read) -> Result<()> {
        let &[AUFS_LINKS, name] = parts else { return Ok(()) };
        if entry.kind != Kind::File {
            return Ok(());
        }
        let name = Name::new(name)?;
        let file = at::create(self.stage.links(), name, OFlag::empty(), 0o600)?;
        self.data(file.writable(), entry, data)?;
        self.metadata.give(file.writable().object(), entry, libc::S_IFREG)
    }

    fn object(
        &mut self,
        above: &[&[u8]],
        last: &[u8],
        entry: &Entry,
        data: &mut dyn Read,
    ) -> Result<()> {
        let name = Name::new(last)?;
        // Before `go` below, because finding the source changes the current directory.
        let source = match entry.kind {
            Kind::HardLink => Some(self.link_source(&entry.link)?),
            _ => None,
        };
        let tree = &mut self.tree;
        tree.go(above, Missing::Make)?;
        match (tree.there(name)?, entry.kind) {
            (There::Dir(_), Kind::Directory) => {}
            (There::Nothing | There::Whiteout, Kind::Directory) => {
                tree.make_dir(name)?;
                tree.implied = tree.implied.saturating_sub(1);
            }
            (There::Whiteout, _) => tree.take_whiteout(name)?,
            (There::Nothing, _) => {}
            (There::Dir(stat), _) if tree.take_markers(name, &stat)? => {}
            _ => return Err(Error::new(Errno::EEXIST, "two entries for one path")),
        }
        if entry.kind == Kind::Directory {
            return self.directory(&[above, &[last]].concat(), entry);
        }
        let here = self.tree.here();
        match source {
            Some(source) => source.link(self.stage, &here, name),
            None => self.make(&here, name, entry, data),
        }
    }

    fn directory(&mut self, path: &[&[u8]], entry: &Entry) -> Result<()> {
        let tree = &mut self.tree;
        tree.go(path, Missing::Fail)?;
        let (here, known, upper) = (tree.here(), tree.place(), tree.upper);
        let metadata = &mut self.metadata;
        let later = upper.with_dir(&here, |target| metadata.begin(target, entry))?;
        self.tree.dirs.entry(known).or_default().given = Some(later);
        Ok(())
    }

    /// Makes an object that is neither a directory nor a hard link.
    fn make(
        &mut self,
        here: &UpperDir,
        name: Name<'_>,
        entry: &Entry,
        data: &mut dyn Read,
    ) -> Result<()> {
        let upper = self.tree.upper;
        let node = |kind: u32| {
            // If types are stored in attributes, a file stands for the object.
            let ((major, minor), real) = match upper.owner_storage() {
                OwnerStorage::Inode => (entry.device, kind),
                OwnerStorage::Xattr(_) => ((0, 0), libc::S_IFREG),
            };
            let made = upper.mknod(here, name, real | 0o600, libc::makedev(major, minor));
            made.map_err(|err| match err.errno() {
                Errno::EPERM => err.context(
                    "devices need root; call this as root, or with -o xattr_permissions=2",
                ),
                _ => err,
            })?;
            Ok::<_, Error>(kind)
        };
        let kind = match entry.kind {
            Kind::File => {
                let file = upper.create(here, name, 0o600)?;
                self.data(file.writable(), entry, data)?;
                return self.metadata.give(file.writable().object(), entry, libc::S_IFREG);
            }
            Kind::Symlink if entry.link.contains(&0) || entry.link.is_empty() => {
                return Err(refuse("a symbolic link to nowhere"));
            }
            Kind::Symlink => {
                upper.symlink(here, name, &entry.link)?;
                libc::S_IFLNK
            }
            Kind::CharDevice if entry.device == (0, 0) => {
                return Err(refuse("a device 0:0, which is a whiteout on a layer"));
            }
            Kind::CharDevice => node(libc::S_IFCHR)?,
            Kind::BlockDevice => node(libc::S_IFBLK)?,
            Kind::Fifo => node(libc::S_IFIFO)?,
            Kind::Directory | Kind::HardLink => return Err(Errno::EIO.into()),
        };
        let metadata = &mut self.metadata;
        upper.with_entry(here, name, |target| metadata.give(target, entry, kind))
    }

    fn data(&mut self, file: WritableFd<'_>, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(PIECE, 0);
        let mut at = 0;
        while at < entry.size {
            let read = match data.read(&mut buffer) {
                Err(err) if err.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.map_err(Error::from).context(|| "reading the layer")?,
            };
            let piece = buffer.get(..read).filter(|piece| !piece.is_empty());
            let piece = piece.ok_or_else(|| refuse("the data is cut off"))?;
            if file::write_at(file, piece, at)? < piece.len() {
                return Err(Errno::ENOSPC.into());
            }
            at += read as u64;
            (self.progress)(&entry.path, read as u64);
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Finds the file to which a hard link leads.
    fn link_source(&mut self, link: &[u8]) -> Result<Source> {
        let parts = checked_parts(link).context(|| format!("link to {}", printable(link)))?;
        let missing = || {
            let text = "the layer has no such file before; a link to a file of another layer \
                        cannot be made";
            Error::new(Errno::ENOENT, format!("link to {}: {text}", printable(link)))
        };
        if let &[AUFS_LINKS, name] = parts.as_slice() {
            return Ok(Source { dir: None, name: name.to_vec() });
        }
        let (last, above) = parts.split_last().ok_or_else(missing)?;
        if parts.iter().any(|part| aufs::is_reserved(part)) {
            return Err(missing());
        }
        let tree = &mut self.tree;
        if !tree.go(above, Missing::Fail)? {
            return Err(missing());
        }
        match tree.there(Name::new(last)?)? {
            There::Link | There::Other => {
                Ok(Source { dir: Some(tree.here()), name: last.to_vec() })
            }
            There::Dir(_) => Err(refuse("a hard link to a directory")),
            There::Nothing | There::Whiteout => Err(missing()),
        }
    }

    /// Completes the metadata of all directories, innermost first.
    pub fn finish(mut self) -> Result<Counts> {
        let upper = self.tree.upper;
        self.counts.implied =
            self.tree.dirs.values().filter(|state| state.given.is_none()).count() as u64;
        let mark = match upper.forms().opaque {
            OpaqueForm::Xattr(ns) if self.options.config.dirmeta_delegate => {
                Some(ns.key(Mark::DirmetaDelegate))
            }
            _ => None,
        };
        for place in self.tree.innermost_first() {
            let path = self.tree.paths.get(place);
            self.tree.go(&parts_of(&path), Missing::Fail)?;
            let (here, hidden) = (self.tree.here(), self.tree.is_hidden());
            let given = self.tree.dirs.remove(&place).and_then(|state| state.given);
            let metadata = &mut self.metadata;
            let finished = upper.with_dir(&here, |target| {
                if let Some(later) = &given {
                    return metadata.end(target, later);
                }
                metadata.make_up(target, IMPLIED.mode)?;
                if let (Some(mark), false) = (mark, hidden) {
                    xattr::set(target, mark, b"y", SetMode::Any)?;
                }
                metadata.end(target, &IMPLIED)
            });
            finished.context(|| printable(&path))?;
        }
        self.counts.attributes_left_out = self.metadata.left_out;
        Ok(self.counts)
    }
}

/// An existing name of a file.
struct Source {
    /// Directory of the name; `None` for a file that AUFS kept for links.
    dir: Option<UpperDir>,
    name: Vec<u8>,
}

impl Source {
    fn link(&self, stage: &Stage, to: &UpperDir, name: Name<'_>) -> Result<()> {
        let from = Name::new(&self.name)?;
        match &self.dir {
            Some(dir) => stage.upper()?.link(dir, from, to, name),
            None => to.reach(|to| at::link(stage.links(), from, to, name)),
        }
    }
}
