//! A few threads that work for the control files. Must never let one job, however it ends, keep the others from their turn for
//! good, nor keep more jobs than its bound.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

/// The pool is full, or has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Threads and a queue. Its end ends the threads, each after the job it is at; nobody waits for them.
#[derive(Debug)]
pub(super) struct Pool {
    jobs: SyncSender<Job>,
}

impl Pool {
    /// A pool of `threads` threads before which `queue` jobs may wait.
    pub(super) fn start(name: &str, threads: usize, queue: usize) -> std::io::Result<Self> {
        let (jobs, waiting) = sync_channel::<Job>(queue);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..threads {
            let waiting = Arc::clone(&waiting);
            std::thread::Builder::new().name(name.into()).spawn(move || work(&waiting))?;
        }
        Ok(Self { jobs })
    }

    /// Hands over a job. Never waits.
    pub(super) fn submit(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Full> {
        self.jobs.try_send(Box::new(job)).map_err(|_| Full)
    }
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // The panic hook has told the log; whoever waits for the job's reply gets EIO, as the reply is dropped.
        let _ = std::panic::catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_job_past_the_bound_is_refused_and_a_panic_ends_no_thread() {
        let pool = Pool::start("test", 1, 1).unwrap();
        let (begun, has_begun) = channel();
        let (go, gate) = channel::<()>();
        pool.submit(move || {
            begun.send(()).unwrap();
            let _ = gate.recv();
            panic!("a fault in a job");
        })
        .unwrap();
        has_begun.recv().unwrap();
        let (done, is_done) = channel();
        pool.submit(move || done.send(7).unwrap()).unwrap();
        assert_eq!(pool.submit(|| {}), Err(Full));
        go.send(()).unwrap();
        assert_eq!(is_done.recv(), Ok(7));
    }
}
