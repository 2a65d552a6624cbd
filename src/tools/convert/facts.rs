//! The markers of one directory, independent of their form.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use crate::error::Result;
use crate::format::aufs::{self, AufsName};
use crate::format::overlay::{FUSE_OVERLAYFS_OPAQUE, Mark, Namespace};
use crate::sys::{FileType, Name, Stat, Target, dir, stat, xattr};

/// A directory of a layer, with its markers.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The directory is opaque.
    pub opaque: bool,
    /// The layers below are hidden, as the directory or one above it is opaque.
    pub hidden: bool,
    /// The root of the layer says that the layer has whiteouts by attribute.
    layer_has_xattr: bool,
    /// The directory has a file `.wh..wh..opq`.
    pub opaque_file: bool,
    /// Names with a whiteout, and the forms of the whiteout.
    pub whiteouts: BTreeMap<Box<[u8]>, Said>,
    /// Names of directories.
    pub dirs: Vec<Box<[u8]>>,
    /// Names of all objects that are no markers.
    pub objects: Vec<Box<[u8]>>,
    /// Names of the bookkeeping files of AUFS.
    pub housekeeping: Vec<Box<[u8]>>,
    /// Files with the name of a whiteout that are none.
    pub no_markers: Vec<Box<[u8]>>,
}

/// Forms in which a name has a whiteout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// A device 0:0 at the name.
    pub device: bool,
    /// An empty file with a mark at the name.
    pub attribute: bool,
    /// A file `.wh.NAME`.
    pub file: bool,
    /// Type of the object at the name, if there is one beside the file.
    pub beside: Option<FileType>,
}

impl Facts {
    /// Reads a directory. `above` describes the directory that holds it.
    pub fn read(fd: BorrowedFd<'_>, above: Option<&Self>) -> Result<Self> {
        let target = Target::Fd(fd);
        let is = |key, wanted: &[u8]| {
            Ok::<_, crate::error::Error>(xattr::get_if_set(target, key)?.as_deref() == Some(wanted))
        };
        let mut facts = Self::default();
        let mut xattr_whiteouts = false;
        for key in Namespace::BOTH.map(|namespace| namespace.key(Mark::Opaque)) {
            facts.opaque |= is(key, b"y")?;
            xattr_whiteouts |= is(key, b"x")?;
        }
        facts.opaque |= is(FUSE_OVERLAYFS_OPAQUE, b"y")?;
        facts.layer_has_xattr = above.map_or(xattr_whiteouts, |above| above.layer_has_xattr);
        let may_have_xattr = xattr_whiteouts && facts.layer_has_xattr;
        let mut names: Vec<Box<[u8]>> = Vec::new();
        dir::for_each(fd, |entry| {
            names.push(entry.name.into());
            Ok(())
        })?;
        names.sort();
        for name in names {
            let target = Target::At(fd, Name::new(&name)?);
            let Some(stat) = stat::stat_if_exists(target)? else { continue };
            facts.entry(&name, &stat, target, may_have_xattr)?;
        }
        facts.opaque |= facts.opaque_file;
        facts.hidden = facts.opaque || above.is_some_and(|above| above.hidden);
        for name in &facts.objects {
            if let Some(said) = facts.whiteouts.get_mut(name) {
                let kind = stat::stat(Target::At(fd, Name::new(name)?))?.kind();
                said.beside = Some(kind);
            }
        }
        Ok(facts)
    }

    fn entry(
        &mut self,
        name: &[u8],
        stat: &Stat,
        target: Target<'_>,
        may_have_xattr: bool,
    ) -> Result<()> {
        match aufs::classify(name) {
            AufsName::Opaque => self.opaque_file = true,
            AufsName::Meta => self.housekeeping.push(name.into()),
            AufsName::Whiteout(of) => {
                // fuse-overlayfs 1.10 makes `.wh..opq` a device.
                let empty = stat.kind().is_file() && stat.size == 0;
                if empty || stat.is_whiteout_device() {
                    self.whiteouts.entry(of.into()).or_default().file = true;
                } else {
                    self.no_markers.push(name.into());
                }
            }
            AufsName::Plain if stat.is_whiteout_device() => {
                self.whiteouts.entry(name.into()).or_default().device = true;
            }
            AufsName::Plain
                if may_have_xattr
                    && stat.kind().is_file()
                    && stat.size == 0
                    && has_whiteout_mark(target)? =>
            {
                self.whiteouts.entry(name.into()).or_default().attribute = true;
            }
            AufsName::Plain => {
                if stat.kind().is_dir() {
                    self.dirs.push(name.into());
                }
                self.objects.push(name.into());
            }
        }
        Ok(())
    }
}

fn has_whiteout_mark(target: Target<'_>) -> Result<bool> {
    for key in Namespace::BOTH.map(|namespace| namespace.key(Mark::Whiteout)) {
        if xattr::get_if_set(target, key)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
