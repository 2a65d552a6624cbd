//! Writes the markers of one directory in another form.

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use super::facts::{Facts, Said};
use super::{Counts, Form, Task};
use crate::error::{Context, Errno, Error, Result};
use crate::format::aufs;
use crate::format::overlay::{self, Dialect, FUSE_OVERLAYFS_OPAQUE, Mark, Namespace};
use crate::layer::work::remove_tree;
use crate::sys::at::SetTime;
use crate::sys::xattr::SetMode;
use crate::sys::{FileType, Name, Target, Writable, WritableFd, at, stat, xattr};

/// Marks about the layers below, or about the upper itself. A lower layer does not need them.
const OF_AN_UPPER: [&[u8]; 5] = [b"origin", b"impure", b"nlink", b"upper", b"uuid"];

/// Marks that only the kernel's form has.
const OF_THE_KERNEL: [&[u8]; 2] = [b"redirect", b"metacopy"];

/// Checks that all of a directory can be written in the new form.
pub(super) fn check(dir: BorrowedFd<'_>, facts: &Facts, task: Task) -> Result<()> {
    if let Some(name) = facts.no_markers.first() {
        let name = name.escape_ascii();
        let text = format!("{name} has the name of a marker and is none; rename it");
        return Err(Error::new(Errno::EINVAL, text));
    }
    if task.to == Form::Aufs && !facts.hidden {
        for name in facts.whiteouts.keys() {
            let marker = aufs::whiteout_of(name);
            Name::new(&marker).context(|| format!("no file can be called .wh. and {name:?}"))?;
        }
    }
    if matches!(task.to, Form::Kernel(_)) {
        return Ok(());
    }
    let mut targets = vec![Target::Fd(dir)];
    for name in &facts.objects {
        targets.push(Target::At(dir, Name::new(name)?));
    }
    for target in targets {
        for (_, mark, _) in marks(target)? {
            if OF_THE_KERNEL.contains(&&*mark) {
                let mark = mark.escape_ascii();
                let text = format!("a mark ({mark}) that only the form of the kernel has");
                return Err(Error::new(Errno::EINVAL, text));
            }
        }
    }
    Ok(())
}

/// Whether a directory, or an object in it, will get marks of the kernel's form that it lacks.
pub(super) fn needs_marks(dir: BorrowedFd<'_>, facts: &Facts, task: Task) -> Result<bool> {
    let Form::Kernel(wanted) = task.to else { return Ok(false) };
    let is_dir = |said: &Said| said.beside == Some(FileType::Directory);
    if !facts.hidden && facts.whiteouts.values().any(is_dir) {
        return Ok(true);
    }
    let target = Target::Fd(dir);
    if facts.opaque && xattr::get_if_set(target, wanted.key(Mark::Opaque))?.as_deref() != Some(b"y")
    {
        return Ok(true);
    }
    let mut targets = vec![target];
    for name in &facts.objects {
        targets.push(Target::At(dir, Name::new(name)?));
    }
    for target in targets {
        let goes = |mark: &[u8]| task.seal && OF_AN_UPPER.contains(&mark);
        if marks(target)?.iter().any(|(at, mark, _)| *at != wanted && !goes(mark)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes the markers of a directory, then restores its times.
pub(super) fn rewrite(
    dir: WritableFd<'_>,
    facts: &Facts,
    task: Task,
    counts: &mut Counts,
) -> Result<()> {
    let was = stat::fstat(dir.borrowed())?;
    let before = (counts.written, counts.removed);
    let mut rewrite = Rewrite { dir, task, counts };
    for (name, said) in &facts.whiteouts {
        rewrite.whiteout(facts, Name::new(name)?, *said)?;
    }
    for name in &facts.objects {
        rewrite.other_marks(dir.entry(Name::new(name)?))?;
    }
    rewrite.opaque(facts)?;
    rewrite.other_marks(dir.object())?;
    if task.seal {
        for name in &facts.housekeeping {
            rewrite.counts.removed += 1;
            let name = Name::new(name)?;
            whatever_its_mode(dir.object(), || remove_tree(dir, name))?;
        }
    }
    if before == (counts.written, counts.removed) {
        return Ok(());
    }
    at::set_times(dir.object(), SetTime::At(was.atime), SetTime::At(was.mtime))
}

struct Rewrite<'a> {
    dir: WritableFd<'a>,
    task: Task,
    counts: &'a mut Counts,
}

impl Rewrite<'_> {
    fn unlink(&mut self, name: Name<'_>) -> Result<()> {
        self.counts.removed += 1;
        self.in_dir(|dir| at::unlink(dir, name))
    }

    /// Changes names in the directory.
    fn in_dir(&self, mut change: impl FnMut(WritableFd<'_>) -> Result<()>) -> Result<()> {
        whatever_its_mode(self.dir.object(), || change(self.dir))
    }

    fn whiteout(&mut self, facts: &Facts, name: Name<'_>, said: Said) -> Result<()> {
        let marker = aufs::whiteout_of(name.bytes());
        let marker = Name::new(&marker);
        if facts.hidden || said.beside.is_some() {
            // Nothing is hidden, or the object hides it; a directory does so only if it is opaque.
            if let Some(FileType::Directory) = said.beside
                && !facts.hidden
            {
                self.set_opaque(self.dir.entry(name))?;
            }
            if said.device || said.attribute {
                self.unlink(name)?;
            }
            return if said.file { self.unlink(marker?) } else { Ok(()) };
        }
        if self.task.to == Form::Aufs {
            if !said.file {
                self.counts.written += 1;
                let marker = marker?;
                self.in_dir(|dir| at::mknod(dir, marker, libc::S_IFREG | 0o600, 0))?;
            }
            return if said.device || said.attribute { self.unlink(name) } else { Ok(()) };
        }
        if said.attribute {
            // A device replaces the empty file by a rename.
            self.counts.removed += 1;
            let temporary = Name::new(b".wh..wh.ovlmerge-convert")?;
            self.device(temporary)?;
            self.in_dir(|dir| at::rename(dir, temporary, dir, name, at::Replace::Yes))?;
        } else if !said.device {
            self.device(name)?;
        }
        if said.file { self.unlink(marker?) } else { Ok(()) }
    }

    fn device(&mut self, name: Name<'_>) -> Result<()> {
        self.counts.written += 1;
        match self.in_dir(|dir| at::mknod(dir, name, libc::S_IFCHR, 0)) {
            // A run that was stopped has left it.
            Err(err) if err.errno() == Errno::EEXIST => Ok(()),
            other => other.context(|| format!("a whiteout device for {name}")),
        }
    }

    /// Makes a directory opaque: this one, or one in it.
    fn set_opaque(&mut self, dir: Writable<'_>) -> Result<()> {
        self.counts.written += 1;
        if let Some(key) = self.opaque_key() {
            return whatever_its_mode(dir, || xattr::set(dir, key, b"y", SetMode::Any));
        }
        let (opened, name) = (at::open_writable_dir(dir)?, Name::new(aufs::OPAQUE)?);
        let make = || at::mknod(opened.writable(), name, libc::S_IFREG | 0o600, 0);
        match whatever_its_mode(dir, make) {
            Err(err) if err.errno() == Errno::EEXIST => Ok(()),
            other => other,
        }
    }

    /// Returns the opaque attribute of the new form; `None` if it is a file.
    fn opaque_key(&self) -> Option<&'static CStr> {
        match self.task.to {
            Form::Kernel(namespace) => Some(namespace.key(Mark::Opaque)),
            Form::FuseOverlayfs => Some(FUSE_OVERLAYFS_OPAQUE),
            Form::Aufs => None,
        }
    }

    fn opaque(&mut self, facts: &Facts) -> Result<()> {
        let dir = self.dir.object();
        let wanted = self.opaque_key();
        let is_set = match wanted {
            Some(key) => xattr::get_if_set(dir.target(), key)?.as_deref() == Some(b"y"),
            None => facts.opaque_file,
        };
        if facts.opaque && !is_set {
            self.set_opaque(dir)?;
        }
        let [one, other] = Namespace::BOTH.map(|namespace| namespace.key(Mark::Opaque));
        for key in [one, other, FUSE_OVERLAYFS_OPAQUE] {
            // Also `x`, as no whiteout by attribute is left.
            let keep = facts.opaque && wanted == Some(key);
            if !keep && xattr::get_if_set(dir.target(), key)?.is_some() {
                self.counts.removed += 1;
                whatever_its_mode(dir, || xattr::remove(dir, key))?;
            }
        }
        if facts.opaque_file && wanted.is_some() {
            self.unlink(Name::new(aufs::OPAQUE)?)?;
        }
        Ok(())
    }

    /// Moves marks that are not about names to the new namespace, or removes them.
    fn other_marks(&mut self, object: Writable<'_>) -> Result<()> {
        for (namespace, mark, value) in marks(object.target())? {
            let old = key(namespace, &mark)?;
            let of_upper = OF_AN_UPPER.contains(&&*mark);
            let wanted = match self.task.to {
                _ if of_upper && self.task.seal => None,
                Form::Kernel(wanted) if wanted == namespace => continue,
                Form::Kernel(wanted) => Some(wanted),
                Form::Aufs | Form::FuseOverlayfs if of_upper => None,
                // ovlmerge reads them in either namespace, and nobody else does.
                Form::Aufs | Form::FuseOverlayfs => continue,
            };
            if let Some(wanted) = wanted {
                let new = key(wanted, &mark)?;
                let set = || xattr::set(object, &new, &value, SetMode::Create);
                match whatever_its_mode(object, set) {
                    // Both namespaces have the mark.
                    Err(err) if err.errno() == Errno::EEXIST => {}
                    // Links and devices have no attributes of users, and no other marks than these.
                    Err(err) if err.errno() == Errno::EPERM && of_upper => {}
                    other => {
                        other?;
                        self.counts.written += 1;
                    }
                }
            }
            self.counts.removed += 1;
            whatever_its_mode(object, || xattr::remove(object, &old))?;
        }
        Ok(())
    }
}

/// Runs a change of an object that its mode may forbid its owner, who may change the mode. Nobody
/// else is given anything.
fn whatever_its_mode(object: Writable<'_>, mut change: impl FnMut() -> Result<()>) -> Result<()> {
    match change() {
        Err(err) if err.errno() == Errno::EACCES => {}
        other => return other,
    }
    let was = stat::stat(object.target())?;
    let needed = if was.kind().is_dir() { libc::S_IWUSR | libc::S_IXUSR } else { libc::S_IWUSR };
    at::chmod(object, was.permissions() | needed)?;
    let done = change();
    at::chmod(object, was.permissions())?;
    done
}

fn key(namespace: Namespace, mark: &[u8]) -> Result<CString> {
    CString::new([namespace.prefix(), mark].concat()).map_err(|_| Errno::EINVAL.into())
}

/// Namespace, name and value of a mark.
type Marked = (Namespace, Vec<u8>, Vec<u8>);

/// Returns the marks of an object that are not about names, without attributes that users have set.
fn marks(target: Target<'_>) -> Result<Vec<Marked>> {
    let list = xattr::list(target)?;
    let mut found = Vec::new();
    for name in xattr::names(&list).filter(|name| overlay::shown(name, Dialect::Plain).is_none()) {
        for namespace in Namespace::BOTH {
            let Some(mark) = name.strip_prefix(namespace.prefix()) else { continue };
            if matches!(mark, b"opaque" | b"whiteout") {
                continue;
            }
            let value = xattr::get(target, &key(namespace, mark)?)?;
            found.push((namespace, mark.to_vec(), value));
        }
    }
    Ok(found)
}
