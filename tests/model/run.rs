//! A case: layers, operations, and the comparison after each.

use std::collections::HashMap;

use ovlmerge::config::{Config, IndexChoice, Permissions, RenameLower, UpperDirs};
use ovlmerge::error::Error;
use ovlmerge::id::Id as Owner;
use ovlmerge::sys::FileType;
use ovlmerge::sys::at::SetTime;
use ovlmerge::sys::stat::Time;
use ovlmerge::sys::xattr::SetMode;
use ovlmerge::vfs::{Body as NewBody, Change, NodeId, Privilege, Request, Write};

use crate::audit;
use crate::client::{Client, Seen};
use crate::disk::Disk;
use crate::op::{
    Attr, DEVICE, Make, OP_NAMES, OP_XATTRS, Op, Refusal, SYMLINK_TARGET, Set, UMASK, What,
};
use crate::snapshot;
use crate::spec::{Layers, OWNERS};
use crate::tree::{Body, Id, Mtime, Object, Tree};
use crate::which;

/// What the kernel remembers between operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Everything.
    Everything,
    /// Nothing: every node is forgotten after each comparison.
    Nothing,
}

/// How directories that lowers show through are renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renames {
    Copy,
    Redirect,
    /// EXDEV.
    Off,
}

impl Renames {
    pub const ALL: [Self; 3] = [Self::Copy, Self::Redirect, Self::Off];
}

/// How many forgotten nodes may wait for others to go first.
const LINGERING: usize = 64;

type Outcome = Result<(), String>;

/// What the engine says, and what the model says.
type Both = (Result<(), Error>, Result<(), Refusal>);

struct Case {
    client: Client,
    model: Tree,
    memory: Memory,
    kept: Permissions,
    renames: Renames,
    /// Numbers of objects, once seen.
    numbers: HashMap<Id, u64>,
    renamed_dir: bool,
}

/// With owners and modes in the inodes of the upper.
pub fn run(layers: &Layers, ops: &[Op], memory: Memory, renames: Renames) -> Outcome {
    run_kept(layers, ops, memory, renames, Permissions::Inode)
}

/// With owners and modes wherever the upper keeps them.
pub fn run_kept(
    layers: &Layers,
    ops: &[Op],
    memory: Memory,
    renames: Renames,
    kept: Permissions,
) -> Outcome {
    let disk = Disk::build(layers);
    let before: Vec<_> = disk.lowers.iter().map(|lower| snapshot::take(lower)).collect();
    let mut case = Case {
        client: open(&disk, renames, kept)?,
        model: Tree::merge(layers),
        memory,
        kept,
        renames,
        numbers: HashMap::new(),
        renamed_dir: false,
    };
    case.compare().map_err(|err| format!("as mounted: {err}"))?;
    case.explain().map_err(|err| format!("as mounted: {err}"))?;
    for (number, op) in ops.iter().enumerate() {
        case.step(op).map_err(|err| format!("operation {number}, {op:?}: {err}"))?;
        case.compare().map_err(|err| format!("after operation {number}, {op:?}: {err}"))?;
    }
    case.explain().map_err(|err| format!("in the end: {err}"))?;
    case.client.forget_all();
    let left = case.client.vfs.node_count();
    if left > LINGERING {
        return Err(format!("{left} nodes are left when all is forgotten"));
    }
    let renamed_dir = case.renamed_dir;
    drop(case.client);
    for (lower, before) in disk.lowers.iter().zip(&before) {
        snapshot::expect_same(before, lower)?;
    }
    audit::work(&disk.work)?;
    // Where a redirect leads the audit does not know.
    if layers.upper.is_none() && renames != Renames::Redirect {
        audit::upper(&disk.upper, &layers.lowers, renamed_dir)?;
    }
    case.client = open(&disk, renames, kept)?;
    case.numbers.clear();
    case.compare().map_err(|err| format!("after a remount: {err}"))
}

fn open(disk: &Disk, renames: Renames, permissions: Permissions) -> Result<Client, String> {
    let upper = UpperDirs { upper: disk.upper.clone(), work: disk.work.clone() };
    let config = Config::new(disk.lowers.clone(), Some(upper), "/nowhere".into());
    // Hard links of lowers are one file over remounts too.
    let mut config = Config { permissions, index: IndexChoice::Auto, ..config };
    match renames {
        Renames::Copy => {}
        Renames::Redirect => config.write_redirects = true,
        Renames::Off => config.rename_lower = RenameLower::Off,
    }
    Client::with(&config).map_err(|err| format!("open in {}: {err}", disk.home().display()))
}

impl Case {
    fn step(&mut self, op: &Op) -> Outcome {
        let Some((got, expected)) = self.perform(op).map_err(|err| format!("on the way: {err}"))?
        else {
            return Ok(());
        };
        match (got, expected) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(err), Err(reasons)) if reasons.contains(&err.errno()) => Ok(()),
            (got, expected) => Err(format!("{got:?} where the model has {expected:?}")),
        }
    }

    /// The operation on both; `None` for what never reaches a file system.
    fn perform(&mut self, op: &Op) -> Result<Option<Both>, Error> {
        Ok(Some(match *op {
            Op::Make { dir, name, what, mode, owner } => {
                // vfs_mkdir in fs/namei.c lets no more through.
                let mode = if matches!(what, What::Dir) { mode & 0o1777 } else { mode };
                let make = Make { name: OP_NAMES[usize::from(name)], what, mode, owner };
                let (path, id) = self.model.pick_dir(dir);
                let node = self.client.walk(&path)?;
                (self.make(node, &make), self.model.make(id, &make))
            }
            Op::Link { object, dir, name } => {
                let (path, id) = self.model.pick(object);
                let (dir_path, dir_id) = self.model.pick_dir(dir);
                let (node, parent) = (self.client.walk(&path)?, self.client.walk(&dir_path)?);
                let name = OP_NAMES[usize::from(name)];
                let got = self.client.vfs.link(node, parent, name);
                let got = got.map(|entry| {
                    self.client.note(entry);
                });
                (got, self.model.link(id, dir_id, name))
            }
            Op::Unlink { dir, name } => {
                let (path, id) = self.model.pick_dir(dir);
                let (node, name) = (self.client.walk(&path)?, OP_NAMES[usize::from(name)]);
                (self.client.vfs.unlink(node, name), self.model.unlink(id, name))
            }
            Op::Rmdir { dir, name } => {
                let (path, id) = self.model.pick_dir(dir);
                let (node, name) = (self.client.walk(&path)?, OP_NAMES[usize::from(name)]);
                (self.client.vfs.rmdir(node, name), self.model.rmdir(id, name))
            }
            Op::Rename { dir, name, to, new, mode } => {
                return self.rename((dir, name), (to, new), mode);
            }
            _ => return self.perform_on_object(op),
        }))
    }

    /// The same for operations on what a name stands for.
    fn perform_on_object(&mut self, op: &Op) -> Result<Option<Both>, Error> {
        Ok(Some(match *op {
            Op::Write { object, at, len, privileged } => {
                let (path, id) = self.model.pick(object);
                if !matches!(self.model.objects[id].body, Body::File(_)) {
                    return Ok(None);
                }
                let node = self.client.walk(&path)?;
                let data = vec![0x77; usize::from(len)];
                let privilege = privilege(privileged);
                let write = Write { offset: u64::from(at), data: &data, privilege, whole: false };
                let got = self.client.vfs.write(node, &write).map(drop);
                self.model.write(id, usize::from(at), &data, privileged);
                (got, Ok(()))
            }
            Op::SetAttr { object, attr } => {
                let (path, id) = self.model.pick(object);
                let symlink = self.model.objects[id].kind() == FileType::Symlink;
                if symlink && matches!(attr, Attr::Mode(_)) {
                    return Ok(None);
                }
                let node = self.client.walk(&path)?;
                let got = self.client.vfs.setattr(node, &change(attr), Privilege::KeepsSetId);
                (got.map(drop), self.model.set_attr(id, attr))
            }
            Op::SetXattr { object, name, value, set } => {
                let (path, id) = self.model.pick(object);
                let (node, name) = (self.client.walk(&path)?, OP_XATTRS[usize::from(name)]);
                if self.is_stopped_by_the_kernel(node, name)? {
                    return Ok(None);
                }
                let mode = match set {
                    Set::Any => SetMode::Any,
                    Set::Create => SetMode::Create,
                    Set::Replace => SetMode::Replace,
                };
                let got = self.client.vfs.setxattr(node, name, &[value], mode);
                (got, self.model.set_xattr(id, name, &[value], set))
            }
            Op::RemoveXattr { object, name } => {
                let (path, id) = self.model.pick(object);
                let (node, name) = (self.client.walk(&path)?, OP_XATTRS[usize::from(name)]);
                if self.is_stopped_by_the_kernel(node, name)? {
                    return Ok(None);
                }
                (self.client.vfs.removexattr(node, name), self.model.remove_xattr(id, name))
            }
            _ => return Ok(None),
        }))
    }

    /// A device whose real object is a file could have attributes of the user namespace; but the
    /// kernel stops that before it reaches a file system (xattr_permission, fs/xattr.c).
    fn is_stopped_by_the_kernel(&self, node: NodeId, name: &[u8]) -> Result<bool, Error> {
        let kind = self.client.vfs.getattr(node)?.kind();
        let may_have = matches!(kind, FileType::Regular | FileType::Directory);
        Ok(self.kept != Permissions::Inode && !may_have && name.starts_with(b"user."))
    }

    fn make(&self, parent: NodeId, make: &Make<'_>) -> Result<(), Error> {
        let body = match make.what {
            What::File => NewBody::File,
            What::Dir => NewBody::Dir,
            What::Symlink => NewBody::Symlink { target: SYMLINK_TARGET },
            What::Fifo => NewBody::Node { kind: libc::S_IFIFO, rdev: 0 },
            What::Device => NewBody::Node { kind: libc::S_IFCHR, rdev: DEVICE },
        };
        let (uid, gid) = OWNERS[usize::from(make.owner)];
        let (uid, gid) = (Owner::new(uid).unwrap(), Owner::new(gid).unwrap());
        let request = Request { uid, gid, mode: make.mode, umask: UMASK };
        self.client.vfs.create(parent, make.name, body, &request).map(|entry| {
            self.client.note(entry);
        })
    }

    fn rename(&mut self, from: (u16, u8), to: (u16, u8), mode: u8) -> Result<Option<Both>, Error> {
        let mode = Op::rename_mode(mode);
        let ((path, id), (to_path, to_id)) =
            (self.model.pick_dir(from.0), self.model.pick_dir(to.0));
        let (name, new) = (OP_NAMES[usize::from(from.1)], OP_NAMES[usize::from(to.1)]);
        // The kernel answers that itself (vfs_rename in fs/namei.c).
        if (id, name) == (to_id, new) {
            return Ok(None);
        }
        let (node, to_node) = (self.client.walk(&path)?, self.client.walk(&to_path)?);
        let got = self.client.vfs.rename(node, name, to_node, new, mode);
        let source = self.model.child(id, name);
        let target = self.model.child(to_id, new);
        self.renamed_dir |= got.is_ok()
            && [source, target].into_iter().flatten().any(|id| self.model.objects[id].is_dir());
        Ok(Some((got, self.model.rename((id, name), (to_id, new), mode, self.renames))))
    }

    /// The whole tree, and names that are not there.
    fn compare(&mut self) -> Outcome {
        let mut seen = self.client.tree().map_err(|err| err.to_string())?;
        let paths = self.model.paths();
        let links = count_links(&paths);
        for (path, id) in &paths {
            let shown = path.escape_ascii();
            let Some(got) = seen.remove(path) else { return Err(format!("/{shown} is missing")) };
            self.compare_one(*id, &got, links[id]).map_err(|err| format!("/{shown}: {err}"))?;
        }
        if let Some((path, got)) = seen.first_key_value() {
            return Err(format!("/{} should not be there: {got:?}", path.escape_ascii()));
        }
        self.compare_absent(&paths)?;
        if self.memory == Memory::Nothing {
            self.client.forget_all();
            self.numbers.clear();
        }
        Ok(())
    }

    /// What the engine says about where things come from.
    fn explain(&self) -> Outcome {
        let seen = self.client.tree().map_err(|err| err.to_string())?;
        which::agrees(&self.client, &seen)?;
        if self.memory == Memory::Nothing {
            self.client.forget_all();
        }
        Ok(())
    }

    fn compare_absent(&self, paths: &[(Vec<u8>, Id)]) -> Outcome {
        for (path, id) in paths {
            let Some(entries) = self.model.entries(*id) else { continue };
            let node = self.client.walk(path).map_err(|err| err.to_string())?;
            for name in OP_NAMES.iter().filter(|name| !entries.contains_key(**name)) {
                if let Ok(entry) = self.client.lookup(node, name) {
                    let (path, name) = (path.escape_ascii(), name.escape_ascii());
                    return Err(format!("/{path}/{name} is found though not listed: {entry:?}"));
                }
            }
        }
        Ok(())
    }

    fn compare_one(&mut self, id: Id, got: &Seen, links: u32) -> Outcome {
        let object = &self.model.objects[id];
        let (mode, uid, gid) = (object.mode, object.uid, object.gid);
        if (got.kind, got.mode, got.uid, got.gid) != (object.kind(), mode, uid, gid) {
            return Err(format!("{got:?} instead of {:?} {mode:o} {uid}:{gid}", object.kind()));
        }
        compare_body(object, got)?;
        if got.xattrs != object.xattrs {
            return Err(format!("attributes: {got:?} instead of {:?}", object.xattrs));
        }
        let time = match object.mtime {
            Mtime::Set(seconds) => got.mtime == (seconds, 7),
            Mtime::Now => got.mtime.0 > 1_000_000,
        };
        if !time {
            return Err(format!("mtime: {got:?} instead of {:?}", object.mtime));
        }
        if !object.from_layer && !object.is_dir() && got.nlink != links {
            return Err(format!("{} links instead of {links}", got.nlink));
        }
        if let Some((other, _)) = self.numbers.iter().find(|(_, number)| **number == got.ino)
            && *other != id
        {
            return Err(format!("number {} is that of another object too", got.ino));
        }
        let number = *self.numbers.entry(id).or_insert(got.ino);
        if number != got.ino {
            return Err(format!("its number was {number} and is {}", got.ino));
        }
        Ok(())
    }
}

fn compare_body(object: &Object, got: &Seen) -> Outcome {
    let fits = match &object.body {
        Body::File(content) => got.content == *content && got.size == content.len() as u64,
        Body::Symlink(target) => got.content == *target && got.size == target.len() as u64,
        Body::Node(_, rdev) => got.rdev == *rdev,
        Body::Dir(_) => true,
    };
    if fits { Ok(()) } else { Err(format!("{got:?} instead of {:?}", object.body)) }
}

fn count_links(paths: &[(Vec<u8>, Id)]) -> HashMap<Id, u32> {
    let mut links = HashMap::new();
    for (_, id) in paths {
        *links.entry(*id).or_insert(0) += 1;
    }
    links
}

fn privilege(privileged: bool) -> Privilege {
    if privileged { Privilege::KeepsSetId } else { Privilege::LosesSetId }
}

fn change(attr: Attr) -> Change {
    match attr {
        Attr::Mode(mode) => Change { mode: Some(mode), ..Change::NONE },
        Attr::Owner(owner) => {
            let (uid, gid) = OWNERS[usize::from(owner)];
            Change { uid: Owner::new(uid), gid: Owner::new(gid), ..Change::NONE }
        }
        Attr::Mtime(time) => {
            let time = Time { sec: 1000 + i64::from(time), nsec: 7 };
            Change { mtime: SetTime::At(time), ..Change::NONE }
        }
        Attr::Size(size) => Change { size: Some(u64::from(size)), ..Change::NONE },
    }
}
