//! Goes through the upper, and compares it with the lowers.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::forms::{Asked, Forms};
use super::index::LinkIndex;
use super::origin::{self, Found, Marks};
use super::{Finding, Place, Problem};
use crate::error::{Context, Errno, Error, Result};
use crate::format::aufs::AufsName;
use crate::format::nlink::entry_name;
use crate::format::overlay::{FUSE_OVERLAYFS_OPAQUE, Mark, Namespace};
use crate::layer::LayerDir;
use crate::merge::found::{Contents, What};
use crate::merge::lookup::lookup;
use crate::merge::stack::MetaSource;
use crate::merge::{DirStack, Index};
use crate::sys::{Name, Stat, Target, xattr};
use crate::tools::oci::printable;
use crate::tools::views::View;
use crate::tools::way::push;

pub(super) fn scan(
    view: &View,
    namespace: Namespace,
    forms: Asked,
    index: Option<&LinkIndex>,
    progress: &mut dyn FnMut(&[u8]),
) -> Result<Vec<Finding>> {
    let root = Open { above: 0, name: Box::default(), stack: view.root()? };
    let mut scan = Scan {
        view,
        namespace,
        index,
        origins: FxHashMap::default(),
        findings: Vec::new(),
        forms: Forms::new(namespace),
        shown: FxHashSet::default(),
        open: vec![root],
    };
    scan.root_origin()?;
    let mut path = Vec::new();
    while let Some(Open { above, name, stack }) = scan.open.pop() {
        path.truncate(above);
        push(&mut path, &name);
        progress(&path);
        scan.dir(&mut path, &stack).context(|| printable(&path))?;
    }
    let foreign = scan.forms.foreign(forms);
    scan.findings.extend(foreign.map(|path| Finding {
        path,
        place: Place::Upper,
        problem: Problem::ForeignOpaque,
    }));
    Ok(scan.findings)
}

struct Scan<'a> {
    view: &'a View,
    namespace: Namespace,
    index: Option<&'a LinkIndex>,
    findings: Vec<Finding>,
    forms: Forms,
    /// Object that has each origin, by device and inode number.
    origins: FxHashMap<Vec<u8>, (u64, u64)>,
    /// Directories of lowers that are shown, by layer, device and inode number.
    shown: FxHashSet<(u16, u64, u64)>,
    open: Vec<Open>,
}

/// A directory that is still to be scanned.
struct Open {
    /// Length of the path of the directory above, in bytes.
    above: usize,
    name: Box<[u8]>,
    stack: DirStack,
}

impl Scan<'_> {
    fn found(&mut self, path: &[u8], problem: Problem) {
        self.findings.push(Finding { path: path.to_vec(), place: Place::Upper, problem });
    }

    /// Scans a directory of the upper, and its entries. Restores `path`.
    fn dir(&mut self, path: &mut Vec<u8>, stack: &DirStack) -> Result<()> {
        let upper = stack.top()?;
        self.own_marks(path, stack, upper)?;
        let mut names: BTreeSet<Box<[u8]>> = BTreeSet::new();
        upper.for_each(|entry| {
            names.insert(entry.name.into());
            Ok(())
        })?;
        let hidden = names.iter().map(|name| match upper.classify(name) {
            AufsName::Whiteout(name) => name,
            _ => name,
        });
        let lowers = stack.lowers.iter().skip(1).cloned().collect();
        let below = DirStack { upper: None, lowers, meta: MetaSource::Top };
        let below = Index::of_names(&below, hidden.clone())?;
        let merged = Index::of_names(stack, hidden)?;
        let above = path.len();
        for name in &names {
            path.truncate(above);
            push(path, name);
            let checked = Name::new(name)?;
            let Some(stat) = upper.stat_entry(checked)? else { continue };
            match upper.classify(name) {
                AufsName::Plain => {
                    let found = self.entry(path, stack, &merged, &below, checked, &stat)?;
                    let open = |stack| Open { above, name: name.clone(), stack };
                    self.open.extend(found.map(open));
                    self.copy_marks(path, upper, checked, &stat)?;
                }
                AufsName::Whiteout(of) => self.file(path, upper, &below, of, &stat)?,
                AufsName::Opaque | AufsName::Meta => {}
            }
        }
        path.truncate(above);
        Ok(())
    }

    /// Compares the origin of the root, as the kernel does with an index (`ovl_verify_origin`,
    /// fs/overlayfs/super.c).
    fn root_origin(&mut self) -> Result<()> {
        let [upper, lower, ..] = self.view.lookup_context().roots else { return Ok(()) };
        let fd = upper.dir().fd()?;
        let marks = Marks::read(Target::Fd(fd.as_ref().as_fd()))?;
        if let Some(value) = &marks.origin
            && origin::is_of_root(value, lower)? == Some(false)
        {
            self.found(b"", Problem::OtherLower);
        }
        Ok(())
    }

    /// Checks the marks of an entry about the object that it was copied from.
    fn copy_marks(
        &mut self,
        path: &[u8],
        upper: &Arc<LayerDir>,
        name: Name<'_>,
        stat: &Stat,
    ) -> Result<()> {
        let marks = {
            let fd = upper.fd()?;
            Marks::read(Target::At(fd.as_ref().as_fd(), name))?
        };
        if !marks.has_good_flags() {
            self.found(path, Problem::BadFlags);
        }
        // An empty mark means that the origin is not known.
        let Some(value) = &marks.origin else { return Ok(()) };
        let lowers = self.view.lookup_context().roots.get(1..).unwrap_or_default();
        match origin::find(lowers, value)? {
            Found::Malformed => {
                self.found(path, Problem::BadOrigin);
                return Ok(());
            }
            Found::Gone => self.found(path, Problem::LostOrigin),
            Found::File(lower) if lower.kind() != stat.kind() => {
                self.found(path, Problem::LostOrigin);
            }
            Found::File(_) | Found::Unknown => {
                let own = (stat.dev, stat.ino);
                if *self.origins.entry(value.clone()).or_insert(own) != own {
                    self.found(path, Problem::SharedOrigin);
                }
            }
        }
        if let Some(index) = self.index
            && marks.counted
            && !stat.kind().is_dir()
            && entry_name(value).is_none_or(|name| !index.has(&name, stat))
        {
            self.found(path, Problem::NotIndexed);
        }
        Ok(())
    }

    fn own_marks(&mut self, path: &[u8], stack: &DirStack, upper: &Arc<LayerDir>) -> Result<()> {
        self.forms.look_at(upper)?;
        match opaque_forms(upper, self.namespace)? {
            [true, false, false, false] | [false, false, false, false] => {}
            [false, true, false, false] => self.forms.of_namespace.push(path.to_vec()),
            [false, false, true, false] => self.found(path, Problem::ForeignOpaque),
            [false, false, false, true] => self.forms.of_aufs.push(path.to_vec()),
            _ => self.found(path, Problem::DoubleOpaque),
        }
        let marks = upper.marks()?;
        let alone = stack.meta == MetaSource::Top;
        if marks.dirmeta_delegate && alone && self.view.lookup_context().delegation {
            self.found(path, Problem::LostDelegation);
        }
        if let Some(lower) = stack.lowers.get(1) {
            let lower = lower.dir();
            let key = (lower.layer(), lower.dev()?, lower.ino()?);
            if !self.shown.insert(key) {
                self.found(path, Problem::SharedLower);
            }
        } else if marks.redirect.is_some() {
            self.found(path, Problem::LostRedirect);
        }
        Ok(())
    }

    /// Checks an entry with an ordinary name. Returns a directory, so that it is scanned.
    fn entry(
        &mut self,
        path: &[u8],
        stack: &DirStack,
        merged: &Index,
        below: &Index,
        name: Name<'_>,
        stat: &Stat,
    ) -> Result<Option<DirStack>> {
        if stack.top()?.is_whiteout(name, stat)? {
            self.forms.kernel_names = true;
            if below.get(name).is_none() {
                self.found(path, Problem::NeedlessWhiteout);
            }
            return Ok(None);
        }
        let found = match lookup(self.view.lookup_context(), stack, Some(merged), name) {
            // A malformed redirect (fs/overlayfs/namei.c).
            Err(err) if err.errno() == Errno::EINVAL => {
                self.found(path, Problem::BadRedirect);
                return Ok(None);
            }
            other => other.context(|| printable(path))?,
        };
        let gone = || Error::new(Errno::ESTALE, format!("{} went away", printable(path)));
        let found = found.ok_or_else(gone)?;
        if matches!(found.data, Contents::Missing) {
            self.found(path, Problem::LostData);
        }
        Ok(match found.what {
            What::Dir(stack) => Some(stack),
            _ => None,
        })
    }

    /// Checks a file `.wh.NAME`.
    fn file(
        &mut self,
        path: &[u8],
        upper: &Arc<LayerDir>,
        below: &Index,
        of: &[u8],
        stat: &Stat,
    ) -> Result<()> {
        let is_marker = (stat.kind().is_file() && stat.size == 0) || stat.is_whiteout_device();
        if !is_marker {
            self.found(path, Problem::NoMarker);
            return Ok(());
        }
        let of = Name::new(of)?;
        let beside = upper.stat_entry(of)?;
        let problem = match beside {
            // The file hides what would merge with the directory.
            Some(beside) if beside.kind().is_dir() => None,
            Some(_) => Some(Problem::DoubleWhiteout),
            None if below.get(of).is_some() => None,
            None if of.bytes() == b".opq" => Some(Problem::Debris),
            None => Some(Problem::NeedlessWhiteout),
        };
        if let Some(problem) = problem {
            self.found(path, problem);
        }
        Ok(())
    }
}

/// Returns the opaque marks: first that of this upper, then all others.
pub(super) fn opaque_keys(namespace: Namespace) -> [&'static CStr; 3] {
    let other = match namespace {
        Namespace::Trusted => Namespace::User,
        Namespace::User => Namespace::Trusted,
    };
    [namespace.key(Mark::Opaque), other.key(Mark::Opaque), FUSE_OVERLAYFS_OPAQUE]
}

/// Returns which of them are set. The last element stands for the file.
fn opaque_forms(dir: &Arc<LayerDir>, namespace: Namespace) -> Result<[bool; 4]> {
    let fd = dir.fd()?;
    let target = Target::Fd(fd.as_ref().as_fd());
    let is_set = |key| Ok::<_, Error>(xattr::get_if_set(target, key)?.as_deref() == Some(b"y"));
    let [own, other, fuse] = opaque_keys(namespace);
    Ok([is_set(own)?, is_set(other)?, is_set(fuse)?, dir.has_aufs_opaque()?])
}
