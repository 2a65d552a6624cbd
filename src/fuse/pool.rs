//! Threads for what may take long, so that whoever reads requests never waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// More jobs at a time than this wait for one another: copies and syncs compete for the disk
/// anyway.
const MOST_THREADS: usize = 32;

/// How long a thread waits for work before it goes.
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
    /// Runs a job on some other thread; on this one if none can be had.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        let (state, ready) = &*self.shared;
        let mut state = state.lock();
        if state.idle <= state.jobs.len() && state.threads < MOST_THREADS {
            let pool = self.clone();
            let thread = std::thread::Builder::new().name("slow".into());
            match thread.spawn(move || pool.work()) {
                Ok(_) => state.threads += 1,
                Err(err) if state.threads == 0 => {
                    tracing::warn!("no thread to be had ({err}); a slow request blocks others");
                    drop(state);
                    return job();
                }
                Err(_) => {}
            }
        }
        state.jobs.push_back(Box::new(job));
        ready.notify_one();
    }

    /// How many threads there are now, and how many there may be.
    pub fn fill(&self) -> (usize, usize) {
        (self.shared.0.lock().threads, MOST_THREADS)
    }

    fn work(&self) {
        let (state, ready) = &*self.shared;
        let mut state = state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn jobs_that_wait_for_one_another_all_run() {
        let pool = Pool::default();
        let together = Arc::new(Barrier::new(9));
        for _ in 0..8 {
            let together = Arc::clone(&together);
            pool.run(move || {
                together.wait();
            });
        }
        together.wait();
    }
}
