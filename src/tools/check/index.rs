//! Checks the index of hard links: its entries, and the names that it counts.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use rustc_hash::FxHashMap;

use super::origin::{self, Found};
use super::{Finding, Place, Problem};
use crate::error::{Context, Errno, Result};
use crate::format::metacopy::FileMarks;
use crate::format::nlink::{Count, handle_of};
use crate::format::origin::{Side, encode, is_handle};
use crate::format::overlay::{Mark, Namespace};
use crate::layer::open::open_dir;
use crate::layer::work;
use crate::merge::found::What;
use crate::merge::lookup::lookup;
use crate::merge::{DirStack, Index};
use crate::sys::xattr::SetMode;
use crate::sys::{FileType, Name, Stat, Target, WritableFd, at, dir, handle, stat, uuid, xattr};
use crate::tools::views::View;

/// Name of the index in WORKDIR.
const INDEX: &[u8] = b"index";

/// The index of hard links of an upper.
#[derive(Debug)]
pub(super) struct LinkIndex {
    fd: OwnedFd,
    entries: FxHashMap<Box<[u8]>, Stat>,
}

/// A problem of an entry.
#[derive(Debug)]
struct Verdict {
    name: Box<[u8]>,
    problem: Problem,
    /// Number of names of the file; 0 if they were not counted.
    names: u32,
}

impl LinkIndex {
    /// Opens the index in a work directory; `None` if there is none.
    pub fn open(work: &Path) -> Result<Option<Self>> {
        let root = open_dir("workdir", work)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let fd = match at::open(root.as_fd(), Name::new(INDEX)?, flags) {
            Err(err) if matches!(err.errno(), Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            other => other.context(|| "workdir: index".to_owned())?,
        };
        let mut entries = FxHashMap::default();
        dir::for_each(fd.as_fd(), |entry| {
            let target = Target::At(fd.as_fd(), Name::new(entry.name)?);
            if let Some(stat) = stat::stat_if_exists(target)? {
                entries.insert(entry.name.into(), stat);
            }
            Ok(())
        })?;
        Ok(Some(Self { fd, entries }))
    }

    /// Whether the entry `name` is this file.
    pub fn has(&self, name: &[u8], file: &Stat) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.same_object(file))
    }

    /// Returns the problems of the index.
    pub fn check(&self, view: &View) -> Result<Vec<Finding>> {
        let finding = |name: &[u8], problem| {
            let path = if name.is_empty() { INDEX.to_vec() } else { [INDEX, name].join(&b'/') };
            Finding { path, place: Place::Work, problem }
        };
        if self.is_foreign(view)? {
            // No entry can be right.
            return Ok(vec![finding(b"", Problem::ForeignIndex)]);
        }
        Ok(self.judge(view)?.iter().map(|it| finding(&it.name, it.problem)).collect())
    }

    /// Whether the mark names another upper (`ovl_verify_upper`, fs/overlayfs/super.c).
    fn is_foreign(&self, view: &View) -> Result<bool> {
        let Some(upper) = view.lookup_context().roots.first() else { return Ok(false) };
        let fd = upper.dir().fd()?;
        let Some(handle) = handle::of_open(fd.as_ref().as_fd())? else { return Ok(false) };
        let uuids = [uuid::fs_uuid(fd.as_ref().as_fd())?, None];
        let own = uuids.map(|uuid| encode(Side::Upper, uuid, handle.kind, &handle.bytes));
        for namespace in Namespace::BOTH {
            let key = namespace.key(Mark::Upper);
            let found = xattr::get_if_set(Target::Fd(self.fd.as_fd()), key)?;
            if found.is_some_and(|found| !own.contains(&found)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn marks(&self, name: Name<'_>) -> Result<FileMarks> {
        let target = Target::At(self.fd.as_fd(), name);
        let list = xattr::list(target)?;
        FileMarks::read(xattr::names(&list), |key| xattr::get(target, key))
    }

    fn judge(&self, view: &View) -> Result<Vec<Verdict>> {
        let lowers = view.lookup_context().roots.get(1..).unwrap_or_default();
        let mut verdicts = Vec::new();
        let mut counted = Vec::new();
        for (name, stat) in &self.entries {
            let mut wrong =
                |problem| verdicts.push(Verdict { name: name.clone(), problem, names: 0 });
            // The kernel keeps a whiteout here, to which all others are links (`ovl_whiteout`,
            // fs/overlayfs/dir.c). Whiteouts by other names are entries of nfs_export.
            if stat.is_whiteout_device() {
                continue;
            }
            let Some(value) = handle_of(name).filter(|value| is_handle(value)) else {
                let building = name.starts_with(b"#");
                wrong(if building { Problem::Leftover } else { Problem::NoIndexEntry });
                continue;
            };
            // Directories are entries of nfs_export.
            if stat.kind().is_dir() {
                continue;
            }
            let marks = self.marks(Name::new(name)?)?;
            if marks.handle != value {
                wrong(Problem::StaleIndexEntry);
                continue;
            }
            match origin::find(lowers, &value)? {
                Found::File(lower) if lower.kind() == stat.kind() => {
                    counted.push(Counted { name, stat, marks, lower, names: 0, in_lowers: 0 });
                }
                Found::File(_) | Found::Gone => wrong(Problem::LostIndexEntry),
                Found::Unknown | Found::Malformed => {}
            }
        }
        if !counted.is_empty() {
            count_names(view, &mut counted)?;
        }
        verdicts.extend(counted.iter().filter_map(Counted::verdict));
        Ok(verdicts)
    }

    /// Repairs the problems that can be repaired. The upper has to be locked.
    pub fn repair(&self, view: &View) -> Result<()> {
        if self.is_foreign(view)? {
            return Ok(());
        }
        for Verdict { name, problem, names } in self.judge(view)? {
            let name = Name::new(&name)?;
            match problem {
                Problem::Leftover => work::remove_tree(self.writable(), name)?,
                Problem::StaleIndexEntry | Problem::NamelessIndexEntry => {
                    at::unlink(self.writable(), name)?;
                }
                Problem::WrongCount => self.set_count(name, names)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn writable(&self) -> WritableFd<'_> {
        WritableFd::vouch(self.fd.as_fd())
    }

    /// Writes the count in each namespace that has the origin.
    fn set_count(&self, name: Name<'_>, names: u32) -> Result<()> {
        let entry = self.writable().entry(name);
        let target = entry.target();
        let count = Count::by_upper(names, stat::stat(target)?.nlink).to_string();
        for namespace in Namespace::BOTH {
            if xattr::get_if_set(target, namespace.key(Mark::Origin))?.is_some() {
                let key = namespace.key(Mark::Nlink);
                xattr::set(entry, key, count.as_bytes(), SetMode::Any)?;
            }
        }
        Ok(())
    }
}

/// An entry with a file in a lower, and the number of names that lead to it.
struct Counted<'a> {
    name: &'a [u8],
    stat: &'a Stat,
    marks: FileMarks,
    lower: Stat,
    /// Names in the upper.
    names: u32,
    /// Names in the lowers that nothing hides.
    in_lowers: u32,
}

impl Counted<'_> {
    fn verdict(&self) -> Option<Verdict> {
        let least = self.names + self.in_lowers;
        // Links of the lower file that are hidden, or outside of the layer, may still be counted.
        let most = self.names.saturating_add(self.lower.nlink.max(self.in_lowers));
        let told =
            self.marks.count.and_then(|it| it.resolve(self.stat.nlink, Some(self.lower.nlink)));
        let problem = match told {
            _ if least == 0 && self.stat.nlink == 1 => Problem::NamelessIndexEntry,
            Some(told) if (least..=most).contains(&told) => return None,
            _ if least == 0 => return None,
            _ => Problem::WrongCount,
        };
        Some(Verdict { name: self.name.into(), problem, names: least })
    }
}

/// Counts names in all that the layers show, as no layer lists the names of a file.
fn count_names(view: &View, counted: &mut [Counted<'_>]) -> Result<()> {
    let key = |stat: &Stat| (stat.dev, stat.ino);
    let places = 0..counted.len();
    let in_upper: FxHashMap<_, _> =
        counted.iter().map(|it| key(it.stat)).zip(places.clone()).collect();
    let in_lower: FxHashMap<_, _> = counted.iter().map(|it| key(&it.lower)).zip(places).collect();
    let mut open = vec![view.root()?];
    while let Some(dir) = open.pop() {
        let index = Index::build(&dir)?;
        for (name, entry) in index.iter() {
            let Some(lower) = entry.lowers.levels.first() else { continue };
            let Some(lower) = dir.lowers.get(usize::from(*lower)) else { continue };
            if entry.kind() == Some(FileType::Directory) {
                open.extend(below(view, &dir, &index, Name::new(name)?)?);
                continue;
            }
            let Some(ino) = entry.lowers.ino() else { continue };
            let (at, is_upper) = ((lower.dir().dev()?, ino), lower.dir().layer() == 1);
            let place = if is_upper { in_upper.get(&at) } else { in_lower.get(&at) };
            match place.and_then(|place| counted.get_mut(*place)) {
                Some(it) if is_upper => it.names += 1,
                Some(it) => it.in_lowers += 1,
                None => {}
            }
        }
    }
    Ok(())
}

fn below(view: &View, dir: &DirStack, index: &Index, name: Name<'_>) -> Result<Option<DirStack>> {
    match lookup(view.lookup_context(), dir, Some(index), name) {
        // A malformed redirect, which the scan reports.
        Err(err) if err.errno() == Errno::EINVAL => Ok(None),
        Err(err) => Err(err),
        Ok(found) => Ok(found.and_then(|found| match found.what {
            What::Dir(stack) => Some(stack),
            _ => None,
        })),
    }
}
