//! Answers about the mount itself, for those who may ask.

use std::sync::Arc;
use std::time::Instant;

use super::answer::guarded;
use super::asker::Askers;
use super::handler::{Handler, finish_with};
use super::negotiation;
use super::open_mode::OpenMode;
use super::translate::node;
use crate::config::Config;
use crate::control::stat::{self, Connection};
use crate::control::{Question, which};
use crate::error::Errno;
use crate::transport::abi::{self, capability};
use crate::transport::device::Device;
use crate::transport::init;
use crate::transport::reply::Reply;
use crate::transport::request::Header;

/// The sources of answers besides the tree.
#[derive(Debug)]
pub struct Desk {
    device: Arc<Device>,
    askers: Askers,
    begun: Instant,
}

impl Desk {
    /// A desk for a connection.
    pub fn new(device: &Arc<Device>, config: &Config) -> Self {
        Self { device: Arc::clone(device), askers: Askers::new(config), begun: Instant::now() }
    }

    /// The connection.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }
}

impl Handler {
    /// Answers a request for an attribute that is a question. Returns the reply for any other.
    ///
    /// # Errors
    /// To the caller: EACCES if it may not ask, ENODATA if the question is not valid.
    pub(super) fn tell(
        &self,
        header: &Header,
        name: &[u8],
        room: u32,
        reply: Reply,
    ) -> Option<Reply> {
        let question = match Question::parse(name) {
            None => return Some(reply),
            Some(_) if !self.desk.askers.may_ask(header) => {
                reply.error(Errno::EACCES);
                return None;
            }
            Some(Err(err)) => {
                reply.error(err.errno());
                return None;
            }
            Some(Ok(question)) => question,
        };
        let answer = self.run("telling", |vfs| {
            let answer = match question {
                Question::Stat => stat::summary(vfs, &self.config, &self.connection()),
                Question::Layers(from) => stat::layers(vfs, &self.config, from)?.into(),
                Question::Which(below) => which::answer(vfs, node(header), &below)?,
            };
            Ok(answer.to_string())
        });
        finish_with(answer, reply, |reply, text| reply.attribute(text.as_bytes(), room));
        None
    }

    /// All statistics, on one line.
    pub fn statistics(&self) -> Option<String> {
        let connection = self.connection();
        let all = guarded("statistics", || stat::whole(&self.vfs, &self.config, &connection));
        all.ok().map(|all| all.to_string())
    }

    fn connection(&self) -> Connection {
        let agreed = self.agreed();
        let granted = capability::NAMES.iter().filter(|(flag, _)| agreed.flags & flag != 0);
        let counters = &self.desk.device.counters;
        let errors = counters.errors().into_iter();
        Connection {
            up: self.desk.begun.elapsed(),
            protocol: (abi::MAJOR, agreed.minor),
            capabilities: granted.map(|(_, name)| *name).collect(),
            max_write: negotiation::max_write(&self.config),
            max_readahead: agreed.max_readahead,
            max_background: init::MAX_BACKGROUND,
            told_of_open: self.open_mode() != OpenMode::NotAsked,
            passthrough: agreed.passthrough,
            readers: self.crew.fill(),
            held_up: self.held_up(),
            requests: counters.requests(),
            errors: errors.map(|(errno, sum)| (Errno::from_raw(errno).to_string(), sum)).collect(),
        }
    }
}
