//! Operations as data, and what each does to the model.
//!
//! Objects and directories are chosen by number among those that there are at that moment, so that
//! a sequence makes sense whatever the layers are.

use std::collections::BTreeMap;

use ovlmerge::error::Errno;
use ovlmerge::sys::FileType;
use ovlmerge::vfs::RenameMode;
use proptest::prelude::*;

use crate::run::Renames;
use crate::spec::OWNERS;
use crate::tree::{Body, Id, Mtime, Object, ROOT, Tree};

/// Names that operations use: the alphabet, one that no layer has, and two that nobody may make.
pub const OP_NAMES: [&[u8]; 6] = [b"a", b"b", b"c\xff", b"d", b".wh.a", b".wh..wh..opq"];
/// Attributes that operations set, as users name them.
pub const OP_XATTRS: [&[u8]; 4] =
    [b"user.one", b"trusted.two", b"user.overlay.opaque", b"trusted.overlay.x"];

#[derive(Clone, Copy, Debug)]
pub enum What {
    File,
    Dir,
    Symlink,
    Fifo,
    Device,
}

#[derive(Clone, Copy, Debug)]
pub enum Attr {
    Mode(u32),
    Owner(u8),
    Mtime(u16),
    Size(u8),
}

/// How an attribute is set: see setxattr(2).
#[derive(Clone, Copy, Debug)]
pub enum Set {
    Any,
    Create,
    Replace,
}

#[derive(Clone, Debug)]
pub enum Op {
    Make { dir: u16, name: u8, what: What, mode: u32, owner: u8 },
    Link { object: u16, dir: u16, name: u8 },
    Unlink { dir: u16, name: u8 },
    Rmdir { dir: u16, name: u8 },
    Rename { dir: u16, name: u8, to: u16, new: u8, mode: u8 },
    Write { object: u16, at: u8, len: u8, privileged: bool },
    SetAttr { object: u16, attr: Attr },
    SetXattr { object: u16, name: u8, value: u8, set: Set },
    RemoveXattr { object: u16, name: u8 },
}

fn name() -> impl Strategy<Value = u8> {
    prop_oneof![20 => 0..3u8, 4 => Just(3u8), 1 => 4..6u8]
}

pub fn op() -> impl Strategy<Value = Op> {
    let pick = any::<u16>;
    let what = prop_oneof![
        3 => Just(What::File),
        4 => Just(What::Dir),
        1 => Just(What::Symlink),
        1 => Just(What::Fifo),
        1 => Just(What::Device),
    ];
    let modes = prop_oneof![Just(0o666), Just(0o777), Just(0o600), Just(0o4777)];
    let attr = prop_oneof![
        prop_oneof![Just(0o600), Just(0o777), Just(0o6755)].prop_map(Attr::Mode),
        (0..3u8).prop_map(Attr::Owner),
        (0..1000u16).prop_map(Attr::Mtime),
        (0..8u8).prop_map(Attr::Size),
    ];
    let set = prop_oneof![3 => Just(Set::Any), 1 => Just(Set::Create), 1 => Just(Set::Replace)];
    prop_oneof![
        5 => (pick(), name(), what, modes, 0..2u8)
            .prop_map(|(dir, name, what, mode, owner)| Op::Make { dir, name, what, mode, owner }),
        3 => (pick(), pick(), name()).prop_map(|(object, dir, name)| Op::Link { object, dir, name }),
        4 => (pick(), name()).prop_map(|(dir, name)| Op::Unlink { dir, name }),
        4 => (pick(), name()).prop_map(|(dir, name)| Op::Rmdir { dir, name }),
        7 => (pick(), name(), pick(), name(), 0..5u8)
            .prop_map(|(dir, name, to, new, mode)| Op::Rename { dir, name, to, new, mode }),
        4 => (pick(), 0..8u8, 1..4u8, any::<bool>())
            .prop_map(|(object, at, len, privileged)| Op::Write { object, at, len, privileged }),
        4 => (pick(), attr).prop_map(|(object, attr)| Op::SetAttr { object, attr }),
        2 => (pick(), 0..4u8, 0..3u8, set)
            .prop_map(|(object, name, value, set)| Op::SetXattr { object, name, value, set }),
        1 => (pick(), 0..4u8).prop_map(|(object, name)| Op::RemoveXattr { object, name }),
    ]
}

impl Op {
    pub fn rename_mode(mode: u8) -> RenameMode {
        match mode {
            0 => RenameMode::NoReplace,
            1 => RenameMode::Exchange,
            _ => RenameMode::Replace,
        }
    }
}

/// Why an operation must fail: any of these, if several hold.
pub type Refusal = Vec<Errno>;

fn refuse_unless_empty(reasons: Refusal) -> Result<(), Refusal> {
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(b".wh.")
}

/// A new object, as open(2), mkdir(2), mknod(2) and symlink(2) make it.
#[derive(Debug)]
pub struct Make<'a> {
    pub name: &'a [u8],
    pub what: What,
    pub mode: u32,
    pub owner: u8,
}

pub const UMASK: u32 = 0o022;
pub const SYMLINK_TARGET: &[u8] = b"some/where";
/// What a device node stands for: 1:3, /dev/null.
pub const DEVICE: u64 = 0x103;

impl Tree {
    fn new_name(&self, dir: Id, name: &[u8]) -> Result<(), Refusal> {
        if is_reserved(name) {
            return Err(vec![Errno::EINVAL]);
        }
        match self.child(dir, name) {
            Some(_) => Err(vec![Errno::EEXIST]),
            None => Ok(()),
        }
    }

    pub fn make(&mut self, dir: Id, make: &Make<'_>) -> Result<(), Refusal> {
        self.new_name(dir, make.name)?;
        let (uid, mut gid) = OWNERS[usize::from(make.owner)];
        let mut mode = make.mode & !UMASK;
        let body = match make.what {
            What::File => Body::File(Vec::new()),
            What::Dir => Body::Dir(BTreeMap::new()),
            What::Symlink => Body::Symlink(SYMLINK_TARGET.to_vec()),
            What::Fifo => Body::Node(FileType::Fifo, 0),
            What::Device => Body::Node(FileType::CharDevice, DEVICE),
        };
        let parent = &self.objects[dir];
        if parent.mode & libc::S_ISGID != 0 {
            gid = parent.gid;
            if matches!(make.what, What::Dir) {
                mode |= libc::S_ISGID;
            }
        }
        if matches!(make.what, What::Symlink) {
            mode = 0o777;
        }
        self.objects.push(Object {
            body,
            mode,
            uid,
            gid,
            mtime: Mtime::Now,
            xattrs: BTreeMap::new(),
            from_layer: false,
        });
        let id = self.objects.len() - 1;
        self.entries_mut(dir).insert(make.name.to_vec(), id);
        self.objects[dir].touch();
        Ok(())
    }

    pub fn link(&mut self, object: Id, dir: Id, name: &[u8]) -> Result<(), Refusal> {
        let mut reasons = Refusal::new();
        if self.objects[object].is_dir() {
            reasons.push(Errno::EPERM);
        }
        reasons.extend(self.new_name(dir, name).err().into_iter().flatten());
        refuse_unless_empty(reasons)?;
        self.entries_mut(dir).insert(name.to_vec(), object);
        self.objects[dir].touch();
        Ok(())
    }

    pub fn unlink(&mut self, dir: Id, name: &[u8]) -> Result<(), Refusal> {
        let id = self.child(dir, name).ok_or(vec![Errno::ENOENT])?;
        if self.objects[id].is_dir() {
            return Err(vec![Errno::EISDIR]);
        }
        self.entries_mut(dir).remove(name);
        self.objects[dir].touch();
        Ok(())
    }

    pub fn rmdir(&mut self, dir: Id, name: &[u8]) -> Result<(), Refusal> {
        let id = self.child(dir, name).ok_or(vec![Errno::ENOENT])?;
        match self.entries(id) {
            None => return Err(vec![Errno::ENOTDIR]),
            Some(entries) if !entries.is_empty() => return Err(vec![Errno::ENOTEMPTY]),
            Some(_) => {}
        }
        self.entries_mut(dir).remove(name);
        self.objects[dir].touch();
        Ok(())
    }

    pub fn rename(
        &mut self,
        from: (Id, &[u8]),
        to: (Id, &[u8]),
        mode: RenameMode,
        renames: Renames,
    ) -> Result<(), Refusal> {
        let mut reasons = Refusal::new();
        if is_reserved(to.1) {
            reasons.push(Errno::EINVAL);
        }
        let source = self.child(from.0, from.1);
        let target = self.child(to.0, to.1);
        if source.is_none() || (target.is_none() && mode == RenameMode::Exchange) {
            reasons.push(Errno::ENOENT);
        }
        let Some(source) = source else { return Err(reasons) };
        let stuck = |id: Id| self.objects[id].is_dir() && self.objects[id].from_layer;
        if renames == Renames::Off
            && (stuck(source) || (mode == RenameMode::Exchange && target.is_some_and(stuck)))
        {
            reasons.push(Errno::EXDEV);
        }
        if self.objects[source].is_dir() && self.is_within(to.0, source) {
            reasons.push(Errno::EINVAL);
        }
        let above =
            target.is_some_and(|id| self.objects[id].is_dir() && self.is_within(from.0, id));
        if above && mode == RenameMode::Exchange {
            reasons.push(Errno::EINVAL);
        }
        if target.is_some() && mode == RenameMode::NoReplace {
            reasons.push(Errno::EEXIST);
        }
        if target == Some(source) {
            return refuse_unless_empty(reasons);
        }
        if mode == RenameMode::Replace
            && let Some(target) = target
        {
            reasons.extend(self.cannot_replace(source, target));
        }
        refuse_unless_empty(reasons)?;
        let displaced = self.entries_mut(to.0).insert(to.1.to_vec(), source);
        match displaced.filter(|_| mode == RenameMode::Exchange) {
            Some(partner) => self.entries_mut(from.0).insert(from.1.to_vec(), partner),
            None => self.entries_mut(from.0).remove(from.1),
        };
        self.objects[from.0].touch();
        self.objects[to.0].touch();
        Ok(())
    }

    fn cannot_replace(&self, source: Id, target: Id) -> Option<Errno> {
        match (self.objects[source].is_dir(), self.entries(target)) {
            (true, None) => Some(Errno::ENOTDIR),
            (false, Some(_)) => Some(Errno::EISDIR),
            (true, Some(entries)) if !entries.is_empty() => Some(Errno::ENOTEMPTY),
            _ => None,
        }
    }

    /// Files only.
    pub fn write(&mut self, file: Id, at: usize, data: &[u8], privileged: bool) {
        let object = &mut self.objects[file];
        let Body::File(content) = &mut object.body else { panic!("{object:?} is not a file") };
        if content.len() < at + data.len() {
            content.resize(at + data.len(), 0);
        }
        content[at..at + data.len()].copy_from_slice(data);
        if !privileged {
            object.mode = without_set_id(object.mode);
        }
        object.touch();
    }

    pub fn set_attr(&mut self, id: Id, attr: Attr) -> Result<(), Refusal> {
        let object = &mut self.objects[id];
        let is_dir = object.is_dir();
        match attr {
            Attr::Size(_) if is_dir => return Err(vec![Errno::EISDIR]),
            Attr::Size(size) => match &mut object.body {
                Body::File(content) => {
                    content.resize(usize::from(size), 0);
                    object.mtime = Mtime::Now;
                }
                _ => return Err(vec![Errno::EINVAL]),
            },
            Attr::Mode(mode) => object.mode = mode,
            Attr::Owner(owner) => {
                (object.uid, object.gid) = OWNERS[usize::from(owner)];
                if !is_dir {
                    // chown_common in fs/open.c, for everybody.
                    object.mode = without_set_id(object.mode);
                }
            }
            Attr::Mtime(time) => object.mtime = Mtime::Set(1000 + i64::from(time)),
        }
        Ok(())
    }

    pub fn set_xattr(
        &mut self,
        id: Id,
        name: &[u8],
        value: &[u8],
        set: Set,
    ) -> Result<(), Refusal> {
        let object = &mut self.objects[id];
        if name.starts_with(b"user.") && !object.takes_user_xattrs() {
            return Err(vec![Errno::EPERM]);
        }
        match (set, object.xattrs.contains_key(name)) {
            (Set::Create, true) => return Err(vec![Errno::EEXIST]),
            (Set::Replace, false) => return Err(vec![Errno::ENODATA]),
            _ => {}
        }
        object.xattrs.insert(name.to_vec(), value.to_vec());
        Ok(())
    }

    pub fn remove_xattr(&mut self, id: Id, name: &[u8]) -> Result<(), Refusal> {
        let object = &mut self.objects[id];
        if object.xattrs.remove(name).is_none() {
            return Err(vec![Errno::ENODATA]);
        }
        Ok(())
    }

    /// An object that an operation picks.
    pub fn pick(&self, number: u16) -> (Vec<u8>, Id) {
        let paths = self.paths();
        paths[usize::from(number) % paths.len()].clone()
    }

    /// A directory that an operation picks.
    pub fn pick_dir(&self, number: u16) -> (Vec<u8>, Id) {
        let dirs: Vec<_> =
            self.paths().into_iter().filter(|(_, id)| self.objects[*id].is_dir()).collect();
        debug_assert_eq!(dirs[0].1, ROOT);
        dirs[usize::from(number) % dirs.len()].clone()
    }
}

/// setattr_should_drop_sgid in fs/attr.c: setgid stays where the group may not execute.
fn without_set_id(mode: u32) -> u32 {
    let dropped = if mode & libc::S_IXGRP != 0 { libc::S_ISGID } else { 0 };
    mode & !(libc::S_ISUID | dropped)
}
