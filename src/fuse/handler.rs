//! From requests to operations, and from results to answers.
//!
//! The thread that read a request answers it. A panic in an operation becomes EIO for that request
//! and a line in the log; the mount lives on.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::answer::{Answer, guarded};
use super::crew::Crew;
use super::held_up::Callers;
use super::inode_flags;
use super::negotiation;
use super::open_mode::OpenMode;
use super::passthrough::Passthrough;
use super::pool::Pool;
use super::readdirplus_policy::ReaddirplusPolicy;
use super::tell::Desk;
use super::translate::{self, dir_entry, node};
use crate::config::{Access, Config};
use crate::control;
use crate::error::{Errno, Result, best_effort};
use crate::format::overlay::ACL_ACCESS;
use crate::id::Id;
use crate::sys::creds;
use crate::sys::xattr::SetMode;
use crate::transport::abi::{flag, open};
use crate::transport::device::Device;
use crate::transport::init::{self, Agreed, Offer};
use crate::transport::reply::{Lifetime, Listing, OpenedAs, Reply};
use crate::transport::request::{Header, Operation, Request};
use crate::vfs::{
    Body, Change, Entry, NodeId, Plus, Privilege, RenameMode, Request as Wanted, Vfs, Write,
};

/// Answers requests.
#[derive(Debug)]
pub struct Handler {
    pub(super) vfs: Arc<Vfs>,
    pub(super) config: Config,
    pub(super) crew: Arc<Crew>,
    pub(super) callers: Callers,
    pool: Pool,
    pub(super) open_mode: OpenMode,
    pub(super) desk: Desk,
    pub(super) passthrough: Arc<Passthrough>,
    device: Arc<Device>,
    agreed: OnceLock<Agreed>,
    readdirplus: ReaddirplusPolicy,
    /// The only user besides root who may use the mount, with `allow_root`.
    only: Option<u32>,
    /// The server, and so the mount, is in the initial user namespace.
    initial_namespace: bool,
    /// Whether FSYNC may have an effect.
    can_sync: bool,
}

impl Handler {
    /// A handler of requests to `vfs`.
    pub fn new(
        vfs: Arc<Vfs>,
        config: &Config,
        open_mode: OpenMode,
        device: &Arc<Device>,
        crew: &Arc<Crew>,
        desk: Desk,
    ) -> Self {
        let owner = || nix::unistd::geteuid().as_raw();
        // If that is not known, each FSYNC finds out by itself.
        let can_sync = vfs.can_sync().unwrap_or(true);
        Self {
            vfs,
            can_sync,
            config: config.clone(),
            crew: Arc::clone(crew),
            callers: Callers::default(),
            pool: Pool::default(),
            open_mode,
            desk,
            passthrough: Arc::new(Passthrough::new(device)),
            device: Arc::clone(device),
            agreed: OnceLock::new(),
            readdirplus: ReaddirplusPolicy::default(),
            only: (config.mount.access == Some(Access::OwnerAndRoot)).then(owner),
            initial_namespace: creds::in_initial_user_namespace(),
        }
    }

    /// The agreement of server and kernel at INIT; empty before INIT.
    pub fn agreed(&self) -> Agreed {
        self.agreed.get().copied().unwrap_or_default()
    }

    /// Serves one request, and answers it before this returns.
    pub fn handle(&self, request: &Request<'_>, reply: Reply) {
        let header = &request.header;
        if self.is_stranger(header, &request.operation) {
            return reply.error(Errno::EACCES);
        }
        let id = node(header);
        match request.operation {
            Operation::Lookup { name } => self.lookup(header, name, reply),
            Operation::GetAttr => self.get_attr(id, reply),
            Operation::Statx => self.statx(id, reply),
            Operation::SetAttr { change, kills_set_id } => {
                self.set_attr(header, &translate::change(&change), kills_set_id, reply);
            }
            Operation::ReadLink => match self.run("readlink", |vfs| vfs.readlink(id)) {
                Ok(target) => reply.data(&target),
                Err(errno) => reply.error(errno),
            },
            Operation::Symlink { .. } | Operation::MakeNode { .. } | Operation::MakeDir { .. } => {
                self.make(header, &request.operation, reply);
            }
            // The kernel then sends MKNOD, and has nothing to release when the file is closed.
            Operation::Create { .. } if self.open_mode() == OpenMode::NotAsked => {
                reply.error(Errno::ENOSYS);
            }
            Operation::Create { name, flags, mode, umask } => {
                self.create(header, name, flags, (mode, umask), reply);
            }
            Operation::TmpFile { flags, mode, umask } => {
                self.create_unnamed(header, flags, (mode, umask), reply);
            }
            Operation::Unlink { name } => finish(self.run("unlink", |v| v.unlink(id, name)), reply),
            Operation::RemoveDir { name } => {
                finish(self.run("rmdir", |vfs| vfs.rmdir(id, name)), reply);
            }
            Operation::Rename { name, parent, new_name, flags } => {
                self.rename((id, name), (NodeId(parent), new_name), flags, reply);
            }
            Operation::Link { node, name } => self.link(NodeId(node), id, name, reply),
            Operation::Open { flags, kills_set_id } => {
                self.open(header, flags, kills_set_id, reply);
            }
            Operation::Release => {
                self.release(id);
                reply.ok();
            }
            Operation::OpenDir => self.open_dir(reply),
            Operation::ReleaseDir | Operation::Destroy => reply.ok(),
            Operation::ReadDir { offset, size, plus } => {
                self.read_dir(header, offset, size, plus, reply);
            }
            Operation::StatFs => match self.run("statfs", Vfs::statfs) {
                Ok(space) => reply.statfs(&space),
                Err(errno) => reply.error(errno),
            },
            _ => self.handle_data(header, &request.operation, reply),
        }
    }

    /// Serves a request about contents or extended attributes.
    fn handle_data(&self, header: &Header, operation: &Operation<'_>, reply: Reply) {
        let id = node(header);
        match *operation {
            Operation::Read { offset, size } => self.read(id, offset, size, reply),
            Operation::Write { offset, data, flags } => self.write(id, offset, data, flags, reply),
            // The kernel asks once for files and once for directories, then syncs without us.
            Operation::Fsync { .. } if !self.can_sync => reply.error(Errno::ENOSYS),
            Operation::Fsync { data_only } => {
                finish(self.run("fsync", |vfs| vfs.fsync(id, data_only)), reply);
            }
            // The errno of the kernel for attributes that can only be read (fs/xattr.c).
            Operation::SetXattr { name, .. } | Operation::RemoveXattr { name }
                if control::is_ours(name) =>
            {
                reply.error(Errno::EOPNOTSUPP);
            }
            Operation::SetXattr { name, value, flags, kills_setgid } => {
                self.set_xattr(header, (name, value), flags, kills_setgid, reply);
            }
            Operation::GetXattr { name, size } => {
                let Some(reply) = self.tell(header, name, size, reply) else { return };
                self.prepare_direct_write(header, name);
                let answer = self.run("getxattr", |vfs| vfs.getxattr(id, name));
                finish_with(answer, reply, |reply, bytes| reply.attribute(&bytes, size));
            }
            Operation::ListXattr { size } => {
                let answer = self.run("listxattr", |vfs| vfs.listxattr(id));
                finish_with(answer, reply, |reply, bytes| reply.attribute(&bytes, size));
            }
            Operation::RemoveXattr { name } => {
                finish(self.run("removexattr", |vfs| vfs.removexattr(id, name)), reply);
            }
            Operation::Ioctl { command, data, room } => {
                self.ioctl(id, command, data, room, reply);
            }
            Operation::Fallocate { offset, length, mode } => {
                let who = self.privilege(header);
                let act = |vfs: &Vfs| vfs.fallocate(id, mode, offset, length, who);
                finish(self.run("fallocate", act), reply);
            }
            Operation::Seek { offset, whence } => {
                let answer = self.run("lseek", |vfs| vfs.seek(id, offset, whence));
                finish_with(answer, reply, Reply::offset);
            }
            Operation::CopyRange { offset, to, to_offset, length } => {
                // The most that one answer can count (a 32-bit number, in whole pages).
                let length = length.min(1 << 30);
                let who = self.privilege(header);
                let act =
                    |vfs: &Vfs| vfs.copy_range((id, offset), (NodeId(to), to_offset), length, who);
                let answer = self.run("copy_file_range", act);
                finish_with(answer, reply, Reply::written);
            }
            // With FLUSH the kernel waits for the writes before it, which it does not do by itself.
            Operation::Flush if !self.agreed().writes_at_close => reply.ok(),
            Operation::Interrupt { unique } => self.interrupt(unique, reply),
            // ENOSYS means "never ask again". FLUSH: a write is answered when it has reached the
            // layer. ACCESS: with default_permissions the kernel decides by itself.
            _ => reply.error(Errno::ENOSYS),
        }
    }

    /// Takes back references of the kernel to nodes.
    pub fn forget(&self, forgets: impl IntoIterator<Item = (NodeId, u64)>) {
        for (id, count) in forgets {
            self.forget_one(id, count);
        }
        if self.vfs.has_slack() {
            let vfs = Arc::clone(&self.vfs);
            self.pool.run(move || vfs.give_back());
        }
    }

    fn forget_one(&self, id: NodeId, count: u64) {
        self.vfs.forget(id, count);
        self.passthrough.forget(id, || !self.vfs.knows(id));
    }

    /// Answers INIT, before which nothing else is answered.
    ///
    /// # Errors
    /// EPROTO if the kernel is too old.
    pub fn init(&self, offer: &Offer, reply: Reply) -> Result<()> {
        match init::agree(&negotiation::wanted(&self.config, self.open_mode), offer) {
            Ok((agreed, fields)) => {
                if let Some(agreed) = agreed {
                    let agreed = self.agreed.get_or_init(|| agreed);
                    negotiation::warn_of_what_is_missing(&self.config, self.open_mode, agreed);
                }
                reply.fields(fields);
                Ok(())
            }
            Err(err) => {
                reply.error(Errno::EPROTO);
                Err(err)
            }
        }
    }

    /// Runs one operation on this thread.
    pub(super) fn run<T>(
        &self,
        name: &'static str,
        act: impl FnOnce(&Vfs) -> Result<T>,
    ) -> Answer<T> {
        guarded(name, || act(&self.vfs))
    }

    /// How long the kernel may cache answers. It would serve everybody from its caches, so with
    /// `allow_root` it may not cache at all.
    pub(super) fn lifetime(&self) -> Duration {
        if self.only.is_some() { Duration::ZERO } else { self.config.timeout }
    }

    /// Whether `allow_root` keeps this caller out. Requests on open files, and those that the
    /// kernel sends by itself, go on.
    fn is_stranger(&self, header: &Header, operation: &Operation<'_>) -> bool {
        let goes_on = matches!(
            operation,
            Operation::Read { .. }
                | Operation::Write { .. }
                | Operation::Flush
                | Operation::Release
                | Operation::ReleaseDir
                | Operation::Fsync { .. }
                | Operation::Destroy
        );
        !goes_on && header.uid != 0 && self.only.is_some_and(|only| only != header.uid)
    }

    /// Whether a caller keeps set-id bits, for a request that names only the user. The kernel asks
    /// for CAP_FSETID in the initial user namespace (`setattr_should_drop_suidgid`, fs/attr.c).
    pub(super) fn privilege(&self, header: &Header) -> Privilege {
        if header.uid == 0 && self.initial_namespace {
            Privilege::KeepsSetId
        } else {
            Privilege::LosesSetId
        }
    }

    /// Whether a caller keeps set-id bits, for a request that tells, as since Linux 5.12
    /// (`FUSE_HANDLE_KILLPRIV_V2`).
    pub(super) fn privilege_as_told(&self, header: &Header, kills_set_id: bool) -> Privilege {
        match (self.agreed().says_who_kills, kills_set_id) {
            (true, false) => Privilege::KeepsSetId,
            (true, true) => Privilege::LosesSetId,
            (false, _) => self.privilege(header),
        }
    }

    fn lookup(&self, header: &Header, name: &[u8], reply: Reply) {
        match self.run("lookup", |vfs| vfs.lookup(node(header), name)) {
            Ok(entry) => {
                self.readdirplus.looked_up(header.pid);
                if !reply.entry(&translate::entry(&entry), self.entry_lives(&entry)) {
                    self.forget_one(entry.node, 1);
                }
            }
            // The kernel may cache an absent name too.
            Err(Errno::ENOENT) if !self.lifetime().is_zero() => {
                reply.absent(Lifetime::of(self.lifetime()));
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn get_attr(&self, id: NodeId, reply: Reply) {
        let answer = self.run("getattr", |vfs| vfs.getattr(id));
        finish_with(answer, reply, |reply, stat| {
            reply.attributes(&stat, self.attributes_live(id, &stat));
        });
    }

    fn statx(&self, id: NodeId, reply: Reply) {
        let answer = self.run("statx", |vfs| vfs.getattr(id));
        finish_with(answer, reply, |reply, stat| {
            reply.statx(&stat, self.attributes_live(id, &stat));
        });
    }

    fn set_attr(&self, header: &Header, change: &Change, kills_set_id: bool, reply: Reply) {
        let (id, lifetime) = (node(header), self.attributes_of_file_live(node(header)));
        let who = self.privilege_as_told(header, kills_set_id);
        let answer = self.run("setattr", |vfs| {
            let stat = vfs.setattr(id, change, who)?;
            Ok((stat, vfs.settles_in(id).map_or(lifetime, |time| time.min(lifetime))))
        });
        finish_with(answer, reply, |reply, (stat, lives)| reply.attributes(&stat, lives));
    }

    fn create_entry(
        &self,
        header: &Header,
        name: &[u8],
        (mode, umask): (u32, u32),
        body: Body<'_>,
    ) -> Answer<Entry> {
        let wanted = wanted(header, mode, umask)?;
        self.run("create", |vfs| vfs.create(node(header), name, body, &wanted))
    }

    fn make(&self, header: &Header, operation: &Operation<'_>, reply: Reply) {
        let answer = match *operation {
            Operation::Symlink { name, target } => {
                self.create_entry(header, name, (0o777, 0), Body::Symlink { target })
            }
            Operation::MakeNode { name, mode, umask, rdev } => {
                let body = match mode & libc::S_IFMT {
                    libc::S_IFREG | 0 => Body::File,
                    kind => Body::Node { kind, rdev: rdev.into() },
                };
                self.create_entry(header, name, (mode, umask), body)
            }
            Operation::MakeDir { name, mode, umask } => {
                self.create_entry(header, name, (mode, umask), Body::Dir)
            }
            _ => Err(Errno::ENOSYS),
        };
        finish_with(answer, reply, |reply, entry| {
            reply.entry(&translate::entry(&entry), self.entry_lives(&entry));
        });
    }

    fn create(&self, header: &Header, name: &[u8], flags: i32, mode: (u32, u32), reply: Reply) {
        let answer = self.create_entry(header, name, mode, Body::File);
        self.finish_created(header, flags, answer, reply);
    }

    fn create_unnamed(&self, header: &Header, flags: i32, mode: (u32, u32), reply: Reply) {
        let (mode, umask) = mode;
        let answer = wanted(header, mode, umask).and_then(|wanted| {
            self.run("tmpfile", |vfs| vfs.create_unnamed(node(header), &wanted))
        });
        self.finish_created(header, flags, answer, reply);
    }

    fn rename(&self, from: (NodeId, &[u8]), to: (NodeId, &[u8]), flags: u32, reply: Reply) {
        let mode = match flags {
            0 => RenameMode::Replace,
            libc::RENAME_NOREPLACE => RenameMode::NoReplace,
            libc::RENAME_EXCHANGE => RenameMode::Exchange,
            // Only we make whiteouts, as in the kernel's overlayfs.
            _ => return reply.error(Errno::EINVAL),
        };
        finish(self.run("rename", |vfs| vfs.rename(from.0, from.1, to.0, to.1, mode)), reply);
    }

    fn link(&self, id: NodeId, parent: NodeId, name: &[u8], reply: Reply) {
        let attributes = self.attributes_of_file_live(id);
        let lifetime = Lifetime { name: self.lifetime(), attributes };
        let answer = self.run("link", |vfs| vfs.link(id, parent, name));
        finish_with(answer, reply, |reply, entry| {
            reply.entry(&translate::entry(&entry), lifetime);
        });
    }

    fn open_dir(&self, reply: Reply) {
        // The kernel would keep a listing until the times of the topmost directory change.
        if self.lifetime().is_zero() || self.config.lowers_settle().is_some() {
            reply.opened(OpenedAs::default());
            return;
        }
        if self.agreed().no_opendir {
            // The kernel keeps listings, and readers are known by their position. There is nothing
            // to open or to close, and the kernel need not ask again.
            return reply.error(Errno::ENOSYS);
        }
        reply.opened(OpenedAs { flags: open::CACHE_DIR | open::KEEP_CACHE, backing: 0 });
    }

    fn read_dir(&self, header: &Header, offset: u64, size: usize, plus: bool, reply: Reply) {
        let id = node(header);
        let mut listing = Listing::new(size);
        let mut told = Vec::new();
        let answer = if plus {
            let attributes = self.readdirplus.want(header.pid);
            let mut by_name = 0;
            let answer = self.run("readdirplus", |vfs| {
                vfs.readdir_plus(id, offset, attributes, |entry, given| match given {
                    Plus::Known(node) => {
                        let lives = self.entry_lives(&node);
                        let fits = listing.push_plus(
                            &dir_entry(&entry),
                            Some(&translate::entry(&node)),
                            lives,
                        );
                        told.extend(fits.then_some((node.node, 1)));
                        fits
                    }
                    Plus::NameOnly => {
                        by_name += u32::from(!matches!(entry.name, b"." | b".."));
                        listing.push_plus(&dir_entry(&entry), None, Lifetime::of(Duration::ZERO))
                    }
                })
            });
            self.readdirplus.listed(header.pid, by_name);
            answer
        } else {
            self.run("readdir", |vfs| {
                vfs.readdir(id, offset, |entry| listing.push(&dir_entry(&entry)))
            })
        };
        finish_with(answer, reply, |reply, ()| {
            if !reply.listing(listing) {
                self.forget(told);
            }
        });
        if self.vfs.may_read_ahead() {
            let vfs = Arc::clone(&self.vfs);
            self.pool.run(move || vfs.read_ahead());
        }
    }

    fn write(&self, id: NodeId, offset: u64, data: &[u8], flags: u32, reply: Reply) {
        // The kernel sets the flag if it knows the writer; a delayed write has none.
        let kill = flags & flag::WRITE_KILL_SUIDGID != 0;
        let privilege = if kill { Privilege::LosesSetId } else { Privilege::KeepsSetId };
        let whole = flags & flag::WRITE_CACHE != 0;
        let pages = whole.then(|| Pages { device: Arc::clone(&self.device), id, offset });
        let write = Write { offset, data, privilege, whole };
        let length = data.len();
        let answer = self.run("write", |vfs| vfs.write(id, &write));
        let failed = answer.is_err();
        finish_with(answer, reply, Reply::written);
        if let Some(pages) = pages.filter(|_| failed) {
            // The kernel may have to write some of them again before it lets them go.
            self.pool.run(move || pages.are_not_kept(length));
        }
    }

    fn set_xattr(
        &self,
        header: &Header,
        (name, value): (&[u8], &[u8]),
        flags: i32,
        kills_setgid: bool,
        reply: Reply,
    ) {
        let mode = match flags {
            0 => SetMode::Any,
            libc::XATTR_CREATE => SetMode::Create,
            libc::XATTR_REPLACE => SetMode::Replace,
            _ => return reply.error(Errno::EINVAL),
        };
        let id = node(header);
        // An older kernel does not tell whether the caller loses the setgid bit.
        let asked = !self.agreed().setxattr_ext && name == ACL_ACCESS.to_bytes() && header.uid != 0;
        let (pid, gid) = (header.pid, header.gid);
        let groups = asked.then(|| creds::groups_of(pid, gid));
        let groups = groups.or(kills_setgid.then(Vec::new));
        let act = |vfs: &Vfs| {
            vfs.setxattr(id, name, value, mode)?;
            match groups {
                Some(groups) => vfs.drop_foreign_setgid(id, &groups),
                None => Ok(()),
            }
        };
        finish(self.run("setxattr", act), reply);
    }

    fn ioctl(&self, id: NodeId, command: u32, data: &[u8], room: usize, reply: Reply) {
        let act = |vfs: &Vfs| inode_flags::run(vfs, id, command, data);
        let answer = self.run("ioctl", act);
        finish_with(answer, reply, |reply, out| reply.ioctl(out.get(..room).unwrap_or(&out)));
    }
}

/// Pages of a file that the kernel writes back.
struct Pages {
    device: Arc<Device>,
    id: NodeId,
    offset: u64,
}

impl Pages {
    /// Drops the pages after a failed write, which the kernel knows of by now. It would go on
    /// showing them to everybody until it needs the memory.
    fn are_not_kept(self, length: usize) {
        let told = self.device.forget_pages(self.id.0, self.offset, length);
        best_effort("telling the kernel of pages that are lost", told);
    }
}

/// The object that the caller wants to make. The kernel sends no ids that the mount lacks.
fn wanted(header: &Header, mode: u32, umask: u32) -> Answer<Wanted> {
    let (uid, gid) = (Id::new(header.uid), Id::new(header.gid));
    let (Some(uid), Some(gid)) = (uid, gid) else { return Err(Errno::EOVERFLOW) };
    Ok(Wanted { uid, gid, mode, umask })
}

/// Answers a request that has no result.
fn finish(answer: Answer<()>, reply: Reply) {
    finish_with(answer, reply, |reply, ()| reply.ok());
}

/// Answers a request with its result or its error.
pub(super) fn finish_with<T>(answer: Answer<T>, reply: Reply, give: impl FnOnce(Reply, T)) {
    match answer {
        Ok(value) => give(reply, value),
        Err(errno) => reply.error(errno),
    }
}
