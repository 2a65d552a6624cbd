//! Notes on modes that have to be restored.
//!
//! A note is a symbolic link in the work directory, because one call makes it. Its target holds the
//! owner's bits, the inode number of the object and its path in the upper. The next mount restores
//! the modes before it sweeps the work directory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::OFlag;

use super::OWNERS;
use crate::error::{Errno, Result, best_effort};
use crate::layer::dir::LayerDir;
use crate::layer::work::{WORK, Work};
use crate::sys::at::Replace;
use crate::sys::{FileType, Name, Stat, Target, WritableFd, at, creds, dir, stat};

/// How the names of notes begin.
const PREFIX: &str = "mode";
/// How the name of a note begins that is about to replace another.
const AMENDED: &str = "amended";

/// A note in the work directory, by its name.
#[derive(Debug)]
pub(super) struct Note(Vec<u8>);

/// The notes of one mount.
#[derive(Debug)]
pub(super) struct Notes {
    work: OwnedFd,
    /// A part of their names that no other name in the work directory has.
    ours: String,
    next: AtomicU64,
}

impl Notes {
    /// Prepares to leave notes in the work directory.
    ///
    /// # Errors
    /// Those of opening the work directory once more.
    pub fn new(work: &Work) -> Result<Self> {
        let (ours, next) = (work.fresh_name(), AtomicU64::new(1));
        Ok(Self { work: at::reopen_dir(work.fd().borrowed())?, ours, next })
    }

    /// Leaves a note. `None` if the path of the object is too long for a symbolic link.
    ///
    /// # Errors
    /// Those of symlinkat(2).
    pub fn leave(
        &self,
        found: &Stat,
        (above, name): (&Arc<LayerDir>, Option<Name<'_>>),
    ) -> Result<Option<Note>> {
        let mut path = above.path();
        if let Some(name) = name {
            path.push(b'/');
            path.extend(name.bytes());
        }
        let text = Said { bits: found.mode & OWNERS, ino: found.ino, path }.text();
        let note = Note(self.fresh_name(PREFIX));
        match at::symlink(&text, self.dir(), Name::new(&note.0)?) {
            Err(err) if err.errno() == Errno::ENAMETOOLONG => Ok(None),
            other => other.map(|()| Some(note)),
        }
    }

    /// Changes the bits of a note in one step: a crash leaves the old note or the new one.
    ///
    /// # Errors
    /// Those of symlinkat(2) and renameat(2).
    pub fn amend(&self, note: &Note, mode: u32) -> Result<()> {
        let name = Name::new(&note.0)?;
        let text = at::readlink(Target::At(self.work.as_fd(), name))?;
        let said = Said::read(&text).ok_or(Errno::EIO)?;
        let amended = self.fresh_name(AMENDED);
        let amended = Name::new(&amended)?;
        at::symlink(&Said { bits: mode & OWNERS, ..said }.text(), self.dir(), amended)?;
        at::rename(self.dir(), amended, self.dir(), name, Replace::Yes)
    }

    fn fresh_name(&self, prefix: &str) -> Vec<u8> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{prefix}{}.{number:x}", self.ours).into_bytes()
    }

    fn dir(&self) -> WritableFd<'_> {
        WritableFd::vouch(self.work.as_fd())
    }

    /// Removes a note.
    pub fn take_back(&self, note: &Note) {
        let taken = Name::new(&note.0).and_then(|name| at::unlink(self.dir(), name));
        best_effort("a note on a mode stays in work until the next mount", taken);
    }
}

/// The contents of a note.
struct Said {
    bits: u32,
    ino: u64,
    path: Vec<u8>,
}

impl Said {
    fn read(text: &[u8]) -> Option<Self> {
        let mut words = text.splitn(3, |&byte| byte == b' ');
        let bits = u32::from_str_radix(std::str::from_utf8(words.next()?).ok()?, 8).ok()?;
        let ino = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        Some(Self { bits: bits & OWNERS, ino, path: words.next()?.to_vec() })
    }

    fn text(&self) -> Vec<u8> {
        let mut text = format!("{:o} {} ", self.bits, self.ino).into_bytes();
        text.extend(&self.path);
        text
    }

    fn depth(&self) -> usize {
        self.path.iter().filter(|&&byte| byte == b'/').count()
    }
}

/// Restores the modes of objects of the upper `root` from the notes in the work directory. An
/// object that differs from its note has changed since, and is left alone.
///
/// # Errors
/// Those of listing the work directory.
pub fn repair(root: BorrowedFd<'_>, workdir: BorrowedFd<'_>) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let Ok(work) = at::open(workdir, Name::new(WORK)?, flags) else { return Ok(()) };
    let work = work.as_fd();
    let mut notes = Vec::new();
    dir::for_each(work, |entry| {
        if entry.name.starts_with(PREFIX.as_bytes())
            && entry.kind.is_none_or(|it| it == FileType::Symlink)
        {
            let text = Name::new(entry.name).and_then(|name| at::readlink(Target::At(work, name)));
            notes.extend(text.ok().and_then(|text| Said::read(&text)));
        }
        Ok(())
    })?;
    // The deepest first: a restored mode may close the way to them.
    notes.sort_by_key(|said| std::cmp::Reverse(said.depth()));
    for said in notes {
        best_effort("a mode that a crash has left", restore(root, &said));
    }
    Ok(())
}

fn restore(root: BorrowedFd<'_>, said: &Said) -> Result<()> {
    let mut here: OwnedFd = at::reopen_dir(root)?;
    for name in said.path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        here = match at::open(here.as_fd(), Name::new(name)?, OFlag::O_PATH) {
            Err(err) if matches!(err.errno(), Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
            other => other?,
        };
    }
    let found = stat::fstat(here.as_fd())?;
    let is_it = found.ino == said.ino && found.uid == creds::effective().uid.number();
    if is_it && found.mode & OWNERS == super::ALL && found.kind() != FileType::Symlink {
        at::chmod(super::ours(&here), found.permissions() & !OWNERS | said.bits)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    use super::*;

    fn open(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    /// A chmod that the program saw succeed was lost if the server was killed while it had rights
    /// to the directory: the note still told the mode from before.
    #[test]
    fn the_next_mount_restores_what_was_set_last() {
        let scratch = tempfile::tempdir().unwrap();
        let (upper, workdir) = (scratch.path().join("upper"), scratch.path().join("workdir"));
        let (dir, work) = (upper.join("d"), workdir.join(std::str::from_utf8(WORK).unwrap()));
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all(&work).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let ino = fs::metadata(&dir).unwrap().ino();
        let next = AtomicU64::new(1);
        let notes = Notes { work: open(&work), ours: "x".into(), next };
        let note = Note(b"modex.0".to_vec());
        symlink(format!("500 {ino} /d"), work.join("modex.0")).unwrap();
        notes.amend(&note, 0o40311).unwrap();
        assert_eq!(fs::read_dir(&work).unwrap().count(), 1);
        repair(open(&upper).as_fd(), open(&workdir).as_fd()).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o355);
    }
}
