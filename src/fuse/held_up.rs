//! Requests that wait for a layer, and the programs that wait for them.
//!
//! A layer may hang: a network is gone, a server is stopped. A request that waits for it is still
//! served, but nobody has to wait for it for ever:
//!
//! * The kernel keeps a program, even a killed one, until its request is answered. It tells us that
//!   a signal came (INTERRUPT). If the program is about to die, the request is answered EINTR and
//!   its reader goes on alone. Other signals have no effect: they do not interrupt calls on files,
//!   and few programs would know what to do.
//! * When the mount is to end, requests are answered ECONNABORTED, as the kernel answers those that
//!   it finds waiting at the end of a connection.
//!
//! For a program that is about to die, a request that changes something can be given up until its
//! first change (see [`crate::sys::commit`]). At the end of the mount it is never given up, as it
//! may carry data that a program has written long ago.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::handler::Handler;
use super::seat::{Call, Seat};
use crate::control::stat::HeldUp;
use crate::error::Errno;
use crate::format::text::printable;
use crate::sys::process;
use crate::transport::abi::opcode;
use crate::transport::reply::Reply;

/// A request that is served for so long is reported.
const SLOW: Duration = Duration::from_secs(1);
/// A request that is served for so long is logged: no disk takes as long.
const HANGS: Duration = Duration::from_secs(10);

/// The state of requests that wait.
#[derive(Debug, Default)]
pub struct Callers {
    /// The mount is to end.
    are_let_go: AtomicBool,
    /// The log says that requests hang.
    told: AtomicBool,
}

impl Handler {
    /// Answers for callers whose requests wait. To be called now and then.
    pub(super) fn look_after_callers(&self) {
        let calls = self.crew.calls();
        let leaves = self.callers.are_let_go.load(Ordering::SeqCst);
        let is_full = self.crew.is_full();
        for (seat, call) in calls.iter().filter(|(_, call)| call.is_waited_for()) {
            if leaves && call.only_reads && call.age() >= SLOW {
                self.answer_for(seat, call, Errno::ECONNABORTED);
            } else if call.is_interrupted() || (is_full && call.age() >= SLOW) {
                self.answer_the_dying(seat, call);
            }
        }
        self.tell_of_hanging(&calls);
    }

    /// Lets callers go whose requests wait, because the mount ends.
    pub(super) fn let_callers_go(&self) {
        self.callers.are_let_go.store(true, Ordering::SeqCst);
        self.crew.rouse();
    }

    /// Notes that the caller of a request got a signal.
    pub(super) fn interrupt(&self, unique: u64, reply: Reply) {
        let calls = self.crew.calls();
        let found = calls.iter().find(|(seat, _)| seat.interrupt(unique));
        match found {
            Some((seat, call)) => {
                self.answer_the_dying(seat, call);
                reply.none();
            }
            // The request was answered, or its reader is about to begin. The kernel asks again if
            // it still waits for the request (`fuse_dev_do_write`, fs/fuse/dev.c).
            None => reply.error(Errno::EAGAIN),
        }
    }

    fn answer_the_dying(&self, seat: &Arc<Seat>, call: &Call) {
        if process::is_dying(call.header.pid) && seat.give_up(call.header.unique) {
            self.answer_for(seat, call, Errno::EINTR);
        }
    }

    fn answer_for(&self, seat: &Arc<Seat>, call: &Call, errno: Errno) {
        let unique = call.header.unique;
        if Reply::claimed(self.desk.device(), unique, seat).refuse(errno) {
            seat.let_go(unique);
        }
    }

    /// The requests that wait for longer than a moment, with the layers that they wait for.
    pub(super) fn held_up(&self) -> Vec<HeldUp> {
        let calls = self.crew.calls();
        let slow: Vec<_> = calls.iter().filter(|(_, call)| call.age() >= SLOW).collect();
        if slow.is_empty() {
            return Vec::new();
        }
        let roots = self.layer_roots();
        slow.into_iter().map(|(seat, call)| held_up(seat, call, &roots)).collect()
    }

    /// The paths of the layers now, as the kernel names them.
    fn layer_roots(&self) -> Vec<(u16, PathBuf)> {
        let roots = self.vfs.layer_roots().into_iter();
        roots.filter_map(|(layer, fd)| Some((layer, process::path_of(&*fd)?))).collect()
    }

    /// Logs once that requests hang, and once that none hangs any more.
    fn tell_of_hanging(&self, calls: &[(Arc<Seat>, Call)]) {
        let hanging: Vec<_> = calls.iter().filter(|(_, call)| call.age() >= HANGS).collect();
        let told = self.callers.told.swap(!hanging.is_empty(), Ordering::Relaxed);
        match hanging.first() {
            Some((seat, call)) if !told => {
                let first = held_up(seat, call, &self.layer_roots());
                let others = hanging.len() - 1;
                tracing::warn!("{first}; {others} more requests hang; ovlmerge stat has all");
            }
            None if told => tracing::warn!("no request hangs any more"),
            _ => {}
        }
    }
}

fn held_up(seat: &Seat, call: &Call, roots: &[(u16, PathBuf)]) -> HeldUp {
    // Its thread is in a system call on a descriptor of the layer.
    let place = process::waits_for(seat.thread());
    let below = |(layer, root): &(u16, PathBuf)| {
        let path = place.as_ref()?.strip_prefix(root).ok()?;
        Some((*layer, root.components().count(), printable(path.as_os_str().as_bytes())))
    };
    // A layer may lie in another one.
    let found = roots.iter().filter_map(below).max_by_key(|(_, depth, _)| *depth);
    let (layer, path) = found.map(|(layer, _, path)| (layer, path)).unzip();
    HeldUp {
        request: opcode::name(call.header.opcode),
        program: call.header.pid,
        node: call.header.node,
        seconds: call.age().as_secs_f64(),
        layer,
        path,
    }
}
