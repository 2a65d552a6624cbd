//! Opening and releasing files, and how much the kernel does by itself while they are open.

use std::sync::Arc;
use std::time::Duration;

use super::answer::{Answer, guarded};
use super::handler::{Handler, finish_with};
use super::open_mode::OpenMode;
use super::passthrough::Opener;
use super::translate::{entry as told, node};
use crate::config::CopyUpBy;
use crate::error::{Errno, Error};
use crate::format::capability;
use crate::sys::Stat;
use crate::transport::reply::OpenedAs;
use crate::transport::reply::{Lifetime, Reply};
use crate::transport::request::Header;
use crate::vfs::{Entry, NodeId, Privilege, Vfs};

impl Handler {
    /// How long the attributes of a node stay valid.
    pub(super) fn attributes_live(&self, id: NodeId, stat: &Stat) -> Duration {
        if stat.kind().is_dir() {
            return self
                .vfs
                .settles_in(id)
                .map_or(self.lifetime(), |time| time.min(self.lifetime()));
        }
        self.attributes_of_file_live(id)
    }

    pub(super) fn attributes_of_file_live(&self, id: NodeId) -> Duration {
        if self.passthrough.is_mappable(id) { Duration::ZERO } else { self.lifetime() }
    }

    pub(super) fn entry_lives(&self, entry: &Entry) -> Lifetime {
        let attributes = self.attributes_live(entry.node, &entry.stat);
        Lifetime { name: self.lifetime(), attributes }
    }

    /// The mode in which files are opened, after INIT.
    pub(super) fn open_mode(&self) -> OpenMode {
        match self.open_mode {
            OpenMode::PassedThrough if !self.agreed().passthrough => {
                OpenMode::without_passthrough(self.config.copy_up)
            }
            mode => mode,
        }
    }

    pub(super) fn finish_created(
        &self,
        header: &Header,
        flags: i32,
        answer: Answer<Entry>,
        reply: Reply,
    ) {
        let answer = answer.and_then(|entry| {
            let how = match self.open_mode() {
                OpenMode::NotAsked | OpenMode::Asked => OpenedAs::CACHED,
                OpenMode::Pinned => {
                    self.vfs.pin_created(entry.node);
                    OpenedAs::CACHED
                }
                OpenMode::PassedThrough => self.pass_through(header, entry.node, flags)?,
            };
            Ok((entry, how))
        });
        finish_with(answer, reply, |reply, (entry, how)| {
            reply.created(&told(&entry), self.entry_lives(&entry), how);
        });
    }

    pub(super) fn open(&self, header: &Header, flags: i32, kills_set_id: bool, reply: Reply) {
        let (id, mode) = (node(header), self.open_mode());
        if mode == OpenMode::NotAsked {
            return reply.error(Errno::ENOSYS);
        }
        let who = Opener { flags, loses_set_id: self.privilege(header) == Privilege::LosesSetId };
        let copies = self.config.copy_up == CopyUpBy::Open;
        let privilege = self.privilege_as_told(header, kills_set_id);
        let passthrough = Arc::clone(&self.passthrough);
        let act = move |vfs: &Vfs| {
            vfs.check_open(id, flags)?;
            match flags & libc::O_TRUNC {
                0 if copies && who.writes() => vfs.copy_up_to_write(id)?,
                // The kernel sends no other request to empty the file (`ATOMIC_O_TRUNC`).
                libc::O_TRUNC if copies => vfs.empty(id, privilege)?,
                _ => {}
            }
            match mode {
                OpenMode::NotAsked | OpenMode::Asked => Ok(OpenedAs::CACHED),
                OpenMode::Pinned => vfs.pin(id, who.writes()).map(|()| OpenedAs::CACHED),
                OpenMode::PassedThrough => {
                    let file = guarded("open", || vfs.direct_file(id, who.writes()));
                    passthrough.open(id, file, who).map_err(Error::from)
                }
            }
        };
        let answer = self.run("open", act);
        finish_with(answer, reply, |reply, how| {
            if !reply.opened(how) {
                self.release(id);
            }
        });
    }

    fn pass_through(&self, header: &Header, id: NodeId, flags: i32) -> Answer<OpenedAs> {
        let loses_set_id = self.privilege(header) == Privilege::LosesSetId;
        let who = Opener { flags, loses_set_id };
        let file = self.run("open", |vfs| vfs.direct_file(id, who.writes()));
        self.passthrough.open(id, file, who)
    }

    /// Prepares a write that does not come to us. The kernel asks for the attribute before it.
    pub(super) fn prepare_direct_write(&self, header: &Header, name: &[u8]) {
        let loses_set_id = self.privilege(header) == Privilege::LosesSetId;
        if name == capability::NAME
            && loses_set_id
            && self.passthrough.is_about_to_write(node(header))
        {
            // The error is in the log, and there is nobody else to tell.
            self.run("write", |vfs| vfs.before_direct_write(node(header))).ok();
        }
    }

    pub(super) fn release(&self, id: NodeId) {
        match self.open_mode() {
            OpenMode::NotAsked | OpenMode::Asked => {}
            OpenMode::Pinned => self.vfs.unpin(id),
            OpenMode::PassedThrough => self.passthrough.release(id),
        }
    }
}
