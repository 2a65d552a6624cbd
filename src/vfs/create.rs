//! Creating objects.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::dir_for_change::DirForChange;
use super::nodes::node::Node;
use super::protection::NameChange;
use super::{Entry, NodeId, Vfs};
use crate::error::{Errno, Result};
use crate::format::aufs::AufsName;
use crate::layer::Upper;
use crate::merge::create::{self, Body, Created, Parent, Request, Site};
use crate::merge::index::InUpper;
use crate::merge::key::Key;
use crate::merge::{DirStack, Found, What};
use crate::sys::Name;

impl Vfs {
    /// Makes an object and counts one lookup of it.
    ///
    /// # Errors
    /// EROFS; EEXIST; EPERM for a device 0:0, which is a whiteout (as in the kernel's overlayfs,
    /// dir.c); EINVAL for a name that begins with `.wh.`, which layers use for whiteouts; ENOENT in
    /// a removed directory; EPERM in an immutable one; EOVERFLOW for a caller who has no id on the
    /// layers; errors of [`create::create`].
    pub fn create(
        &self,
        parent: NodeId,
        name: &[u8],
        body: Body<'_>,
        request: &Request,
    ) -> Result<Entry> {
        let create = || self.create_named(parent, name, body, request);
        self.changing_names(&[(parent, name)], create)
    }

    fn create_named(
        &self,
        parent: NodeId,
        name: &[u8],
        body: Body<'_>,
        request: &Request,
    ) -> Result<Entry> {
        if let Body::Node { kind: libc::S_IFCHR, rdev: 0 } = body {
            return Err(Errno::EPERM.into());
        }
        let parent = self.node(parent)?;
        let name = self.new_name(name)?;
        let request = &self.owners.stored_request(request)?;
        parent.dir()?;
        self.check_names(&parent, NameChange::Made)?;
        let mut dir = self.dir_for_change(&parent)?;
        dir.check_alive()?;
        let (upper_dir, inherit) = (dir.upper.clone(), dir.inherited()?);
        let into = Parent { dir: &upper_dir, inherit };
        let made = self.make(&into, &dir, name, body, request)?;
        dir.has_put(name, made.stat.kind(), made.stat.ino);
        Ok(self.adopt(made, &parent, &into, name))
    }

    /// Makes a file without a name and counts one lookup of it. It inherits from `parent` as a file
    /// with a name does. [`Vfs::link`] may give it a name.
    ///
    /// # Errors
    /// EROFS; EOPNOTSUPP if the upper has no such files; ENOENT in a removed directory.
    pub fn create_unnamed(&self, parent: NodeId, request: &Request) -> Result<Entry> {
        self.with_room(|| self.make_unnamed(parent, request))
    }

    fn make_unnamed(&self, parent: NodeId, request: &Request) -> Result<Entry> {
        let parent = self.node(parent)?;
        let request = &self.owners.stored_request(request)?;
        let dir = parent.dir()?;
        // A removed directory of a lower is not copied up for what cannot be made.
        if dir.names.read().dead {
            return Err(Errno::ENOENT.into());
        }
        let upper_dir = self.dir_to_write(&parent)?;
        // No name in the directory changes, so it needs no index.
        let mut names = dir.names.write();
        if names.dead {
            return Err(Errno::ENOENT.into());
        }
        let into = Parent { dir: &upper_dir, inherit: names.inherited(&upper_dir)? };
        let made = create::unnamed(self.upper()?, &into, request)?;
        // Its room becomes free when it is closed, which no request tells.
        self.removals.note();
        let file = made.file.ok_or(Errno::EIO)?;
        let node = self.table.add_unnamed(&made.stat, file);
        Ok(self.entry(&node, self.shown(&node, made.stat)))
    }

    /// Checks a name that a user gives to an object: EINVAL for a reserved one.
    pub(super) fn new_name<'a>(&self, name: &'a [u8]) -> Result<Name<'a>> {
        if self.upper()?.root().dir().classify(name) != AufsName::Plain {
            return Err(Errno::EINVAL.into());
        }
        Name::new(name)
    }

    fn make(
        &self,
        into: &Parent<'_>,
        dir: &DirForChange<'_>,
        name: Name<'_>,
        body: Body<'_>,
        request: &Request,
    ) -> Result<Created> {
        let upper = self.upper()?;
        if dir.index().is_some() {
            let site = site(dir, name)?;
            return create::create(upper, into, name, body, request, site);
        }
        // With one layer the call itself tells whether the name is free. The object there may be a
        // whiteout that hides nothing.
        match create::create(upper, into, name, body, request, Site::FREE) {
            Err(err) if err.errno() == Errno::EEXIST => {
                let site = site(dir, name)?;
                create::create(upper, into, name, body, request, site)
            }
            other => other,
        }
    }

    /// Makes a node for a new object, and keeps its descriptor if it has one.
    fn adopt(&self, made: Created, parent: &Arc<Node>, into: &Parent<'_>, name: Name<'_>) -> Entry {
        let stat = made.stat;
        let what = if stat.kind().is_dir() {
            What::Dir(DirStack {
                upper: Some(into.dir.new_child(name, &stat)),
                lowers: Arc::new([]),
                meta: crate::merge::stack::MetaSource::Top,
            })
        } else {
            What::Upper
        };
        let origin = Key { dev: stat.dev, ino: stat.ino, layer: 0 };
        // Saves a look when the kernel asks for capabilities before the first write.
        let no_xattrs =
            !into.inherit.default_acl && self.upper().is_ok_and(Upper::makes_files_without_xattrs);
        let found = Found { no_xattrs, ..Found::new(stat, origin, what) };
        self.table.is_new(origin);
        let node = self.table.intern(found, parent, name.bytes(), 1);
        node.protection.set(stat.protection);
        if let Ok(dir) = node.dir() {
            dir.unified.store(true, Ordering::Relaxed);
            // No thread has met the node yet, because the directory above is locked.
            dir.names.write_another().inherit = Some(into.inherit.passed_on(&stat));
        }
        node.no_set_id.store(stat.mode & 0o6000 == 0, Ordering::Relaxed);
        if let (Some(file), Ok(leaf)) = (made.file, node.as_leaf()) {
            leaf.io.put(Arc::new(file.into()));
            let weak: std::sync::Weak<Node> = Arc::downgrade(&node);
            self.cache.opened(weak);
        }
        self.entry(&node, self.shown(&node, stat))
    }
}

/// Finds out what a new object replaces at its name; EEXIST if it is taken.
fn site(dir: &DirForChange<'_>, name: Name<'_>) -> Result<Site> {
    let found = dir.survey(name)?;
    match found.upper {
        InUpper::Object { .. } => Err(Errno::EEXIST.into()),
        InUpper::Absent if found.in_lowers => Err(Errno::EEXIST.into()),
        InUpper::Absent => Ok(Site::FREE),
        InUpper::Whiteout => {
            // An upper from elsewhere may hold either form, whichever we write.
            let stands_there = dir.is_whiteout_object(name)?;
            Ok(Site {
                over_whiteout: stands_there,
                beside_file: !stands_there,
                in_lowers: found.in_lowers,
            })
        }
    }
}
