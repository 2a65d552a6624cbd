//! The end of the process.
//!
//! Whatever ended the session, requests taken from the kernel are finished, and written data is
//! forced to the disk. Only then are the layers released, with their locks.
//!
//! The first SIGTERM, SIGINT or SIGHUP unmounts. A mount that is in use is detached, and served
//! until its last user leaves. A second signal, or requests that are stuck after the first one, end
//! it for those users too.

use std::sync::{Arc, Weak};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use super::handler::Handler;
use crate::error::{Context, Errno, Error, best_effort};
use crate::sys::daemon;
use crate::sys::mount::OwnMount;
use crate::transport::device::Device;
use crate::vfs::Vfs;

/// Requests count as stuck if none is finished for so long after a signal: a layer hangs. Less than
/// the 90 seconds after which systemd kills (`DefaultTimeoutStopSec`, systemd-system.conf(5)).
const STUCK: Duration = Duration::from_secs(30);

/// How long that takes after a second signal. Docker gives a container ten seconds.
const INSISTED: Duration = Duration::from_secs(5);

/// The signals that one thread waits for. To be blocked before any thread starts.
pub fn signals() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGUSR1);
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    // SIGHUP comes when a terminal is closed; nohup(1) has it ignored.
    if !daemon::is_ignored(Signal::SIGHUP) {
        set.add(Signal::SIGHUP);
    }
    set
}

/// Finishes the requests that were taken, forces the upper to the disk and releases the layers.
/// With `patience`, gives up when no request was finished for so long.
///
/// # Errors
/// EIO if requests are left, and those of syncfs(2). They are logged as well, as nobody sees how a
/// process in the background ends.
pub fn finish(device: &Device, vfs: &Vfs, patience: Option<Duration>) -> Result<(), Error> {
    vfs.announce_end();
    let left = device.in_flight.finish(patience);
    let synced = vfs.sync().context(|| "writing the upper to the disk at the end of the mount");
    let finished = match left {
        0 => {
            vfs.leave();
            Ok(())
        }
        left => {
            let text = format!("{left} requests hang and are given up: changes may be missing");
            Err(Error::new(Errno::EIO, text))
        }
    };
    finished.and(synced).inspect_err(|err| tracing::error!("{err}"))
}

/// Serves signals from now on, on a thread of its own. SIGUSR1 writes the statistics to the log.
/// `ours` is the mount. `None` stands for one that the caller has made: we do not know where it is,
/// and may not undo it.
///
/// # Errors
/// EAGAIN if no thread can be made.
pub fn take_signals(
    signals: SigSet,
    ours: Option<OwnMount>,
    device: &Arc<Device>,
    handler: &Arc<Handler>,
) -> Result<(), Error> {
    let mut exit = Exit {
        ours,
        device: Arc::clone(device),
        // The end of the session is the end of the layers, whatever this thread does.
        handler: Arc::downgrade(handler),
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while let Ok(signal) = signals.wait() {
            match signal {
                Signal::SIGUSR1 => log_statistics(&exit.handler),
                _ => exit.ask(signal),
            }
        }
    })?;
    Ok(())
}

/// The means to end the process from another thread than the one that began the session.
#[derive(Clone)]
struct Exit {
    /// Our own mount, until it is unmounted.
    ours: Option<OwnMount>,
    device: Arc<Device>,
    handler: Weak<Handler>,
}

impl Exit {
    fn ask(&mut self, signal: Signal) {
        if let Some(handler) = self.handler.upgrade() {
            handler.let_callers_go();
        }
        let Some(mount) = self.ours.take() else {
            tracing::info!("{signal}: leaving");
            return self.leave(INSISTED);
        };
        tracing::info!("{signal}: unmounting");
        if best_effort("unmounting", mount.unmount()) == Some(false) {
            tracing::warn!("it is not on top of its mountpoint any more; serving who is in it");
        }
        let exit = self.clone();
        let watch = std::thread::Builder::new().name("watch".into()).spawn(move || {
            exit.device.in_flight.wait_until_stuck(STUCK);
            exit.leave(Duration::ZERO);
        });
        best_effort("watching over the end", watch.map(drop).map_err(Error::from));
    }

    /// Ends the process, unless the session has ended already.
    fn leave(&self, patience: Duration) {
        let Some(handler) = self.handler.upgrade() else { return };
        let end = finish(&self.device, &handler.vfs, Some(patience));
        std::process::exit(i32::from(end.is_err()));
    }
}

fn log_statistics(handler: &Weak<Handler>) {
    if let Some(text) = handler.upgrade().and_then(|handler| handler.statistics()) {
        // The sender of the signal wants to see it, however little else is logged.
        tracing::info!(target: "statistics", "{text}");
    }
}
