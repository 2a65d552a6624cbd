//! Serving a mount in the foreground or in the background.
//!
//! A caller takes exit status 0 for "the mount can be used", and may read our stderr to its end
//! before it goes on. So the parent waits until the child says that the mount is ready. The child
//! gives up the standard descriptors before that.

use std::os::fd::RawFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

use super::{Exit, complain};
use crate::config::Config;
use crate::fuse;
use crate::sys::daemon::{self, End, Fork, Signals};

/// Serves until the mount goes away.
pub fn serve_in_foreground(config: &Config) -> Exit {
    daemon::reset_signals(Signals::KeepTerminal);
    prepare();
    serve(config, || {})
}

/// Serves in a child process. Returns in the parent when the mount can be used or has failed, and
/// in the child when the mount is gone. `log` is the descriptor of a log file, which stays open.
pub fn serve_in_background(config: &Config, log: Option<RawFd>) -> Exit {
    daemon::reset_signals(Signals::All);
    let keep: Vec<RawFd> = config.device.into_iter().chain(log).collect();
    match daemon::fork(&keep) {
        Ok(Fork::Child(parent)) => {
            prepare();
            serve(config, || parent.tell_ready())
        }
        Ok(Fork::Parent(child)) => match child.wait_until_ready() {
            End::Ready => Exit::Done,
            // The child has reported the reason.
            End::Exited(1..) => Exit::Failed,
            End::Exited(_) => {
                complain("the background process ended before the mount could be used");
                Exit::Failed
            }
            End::Killed(signal) => {
                complain(format_args!(
                    "the background process was killed by {signal} before the mount could be \
                     used; try again with -f -d to see how far it comes"
                ));
                Exit::Failed
            }
        },
        Err(err) => {
            complain(format_args!("cannot go to the background: {err}; use -f to stay in front"));
            Exit::Failed
        }
    }
}

/// Sets the umask and the limit of open files that a server of files needs.
fn prepare() {
    // The modes in requests are final: the kernel has applied the umask of the caller.
    umask(Mode::empty());
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(err) = raised {
        tracing::warn!("the limit of open files stays as it is: {err}");
    }
}

fn serve(config: &Config, ready: impl FnOnce()) -> Exit {
    match fuse::serve(config, ready) {
        Ok(()) => Exit::Done,
        Err(err) => {
            complain(err);
            Exit::Failed
        }
    }
}
