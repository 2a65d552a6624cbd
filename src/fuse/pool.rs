//! Threads for work that no request waits for: reading ahead, giving memory back, and telling the
//! kernel of lost pages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::answer::guarded;

/// One for each kind of work: one that hangs does not hold up the others.
const MOST_THREADS: usize = 3;

/// How long a thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

/// A pool that grows with the work and shrinks without it.
#[derive(Clone, Default)]
pub struct Pool {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.shared.0.lock().threads).finish()
    }
}

impl Pool {
    /// Runs a job on another thread, or on this one if there can be no other.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        let (state, ready) = &*self.shared;
        let mut state = state.lock();
        if state.idle <= state.jobs.len() && state.threads < MOST_THREADS {
            let pool = self.clone();
            let thread = std::thread::Builder::new().name("slow".into());
            match thread.spawn(move || pool.work()) {
                Ok(_) => state.threads += 1,
                Err(err) if state.threads == 0 => {
                    tracing::debug!("no thread to be had: {err}");
                    drop(state);
                    return run(job);
                }
                Err(_) => {}
            }
        }
        state.jobs.push_back(Box::new(job));
        ready.notify_one();
    }

    fn work(&self) {
        let (state, ready) = &*self.shared;
        let mut state = state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                run(job);
                state = self.shared.0.lock();
                continue;
            }
            state.idle += 1;
            let timed_out = ready.wait_for(&mut state, IDLE).timed_out();
            state.idle -= 1;
            if timed_out && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

/// Runs a job. A panic in it does not end the thread, or there would be fewer for ever.
fn run(job: impl FnOnce()) {
    let done = guarded("work in the background", || {
        job();
        Ok(())
    });
    // The log has the reason of a failure.
    done.ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::mpsc;

    #[test]
    fn a_job_that_panics_leaves_room_for_others() {
        let pool = Pool::default();
        for _ in 0..4 * MOST_THREADS {
            pool.run(|| panic!("a bug"));
        }
        let (done, wait) = mpsc::channel();
        pool.run(move || done.send(()).unwrap());
        wait.recv_timeout(IDLE / 2).unwrap();
        assert!(pool.shared.0.lock().threads > 0);
    }

    #[test]
    fn jobs_that_wait_for_one_another_all_run() {
        let pool = Pool::default();
        let together = Arc::new(Barrier::new(MOST_THREADS + 1));
        for _ in 0..MOST_THREADS {
            let together = Arc::clone(&together);
            pool.run(move || {
                together.wait();
            });
        }
        together.wait();
    }
}
