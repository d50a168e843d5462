//! The threads that do file work. Each can act as the caller of the request it works on, which is why no
//! other thread may run such work. Must never make anybody wait: when the queue is full, it says so.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::cred_sys::ThreadCreds;
use super::table::ExportTable;

/// Requests that may wait. At 10,000 requests a second that is less than half a second of waiting.
const MAX_QUEUED: usize = 4_096;
/// Bytes of arguments that may wait (a WRITE brings up to 1 MiB).
const MAX_QUEUED_BYTES: usize = 32 << 20;
/// How often an idle thread closes descriptors that nobody uses.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// More threads than this only get in each other's way.
const MAX_THREADS: u32 = 512;

type Job = Box<dyn FnOnce(&ThreadCreds) + Send>;

/// The pool. Dropping it lets the threads finish what is queued and end.
pub struct FilePool {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(usize, Job)>,
    bytes: usize,
    closed: bool,
}

/// Room for one job in the queue.
pub struct Slot<'a> {
    pool: &'a FilePool,
    cost: usize,
    used: bool,
}

impl FilePool {
    /// Starts `threads` threads (at least 1) for the files of `table`. An error only if none can be started.
    pub fn start(threads: u32, table: &Arc<ExportTable>) -> std::io::Result<Arc<Self>> {
        let shared = Arc::new(Shared { queue: Mutex::default(), wake: Condvar::new() });
        let mut started = 0;
        for n in 0..threads.clamp(1, MAX_THREADS) {
            let (shared, table) = (shared.clone(), Arc::downgrade(table));
            match std::thread::Builder::new().name(format!("file-{n}")).spawn(move || work(&shared, &table)) {
                Ok(_) => started += 1,
                Err(error) if started == 0 => return Err(error),
                Err(error) => {
                    tracing::warn!("only {started} of {threads} file threads could be started: {error}");
                    break;
                }
            }
        }
        Ok(Arc::new(Self { shared }))
    }

    /// Reserves room for a job whose arguments take `cost` bytes. None: the queue is full. Never blocks.
    pub fn reserve(&self, cost: usize) -> Option<Slot<'_>> {
        let mut queue = self.shared.lock();
        let full = queue.jobs.len() >= MAX_QUEUED || queue.bytes + cost > MAX_QUEUED_BYTES;
        if full || queue.closed {
            return None;
        }
        queue.bytes += cost;
        Some(Slot { pool: self, cost, used: false })
    }
}

impl Slot<'_> {
    /// Hands the job to the threads.
    pub fn run(mut self, job: impl FnOnce(&ThreadCreds) + Send + 'static) {
        self.used = true;
        self.pool.shared.lock().jobs.push_back((self.cost, Box::new(job)));
        self.pool.shared.wake.notify_one();
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if !self.used {
            self.pool.shared.lock().bytes -= self.cost;
        }
    }
}

impl Drop for FilePool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Jobs run outside the lock, so a panic cannot leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job. Some(None): nothing to do for a while. None: the end.
    fn next(&self) -> Option<Option<Job>> {
        let mut queue = self.lock();
        if queue.jobs.is_empty() && !queue.closed {
            queue = self.wake.wait_timeout(queue, SWEEP_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
        match queue.jobs.pop_front() {
            Some((cost, job)) => {
                queue.bytes -= cost;
                Some(Some(job))
            }
            None if queue.closed => None,
            None => Some(None),
        }
    }
}

fn work(shared: &Shared, table: &Weak<ExportTable>) {
    let creds = ThreadCreds::take_over();
    while let Some(job) = shared.next() {
        match job {
            Some(job) => {
                // The job's responder is dropped on the way: the caller gets no answer and asks again.
                if catch_unwind(AssertUnwindSafe(|| job(&creds))).is_err() {
                    tracing::error!("a file request failed in a way it must not (a bug); it gets no answer");
                }
            }
            None => {
                if let Some(table) = table.upgrade() {
                    table.sweep();
                }
            }
        }
    }
}

impl std::fmt::Debug for FilePool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queue = self.shared.lock();
        write!(f, "FilePool({} jobs, {} bytes queued)", queue.jobs.len(), queue.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_full_queue_says_so_and_takes_jobs_again_when_it_has_drained() {
        let table = Arc::new(ExportTable::open(&[]));
        let pool = FilePool::start(1, &table).unwrap();
        let (release, gate) = mpsc::channel::<()>();
        let (done, all_done) = mpsc::channel();
        pool.reserve(0).unwrap().run(move |_| gate.recv().unwrap());
        let mut taken = 0;
        while let Some(slot) = pool.reserve(1 << 20) {
            let done = done.clone();
            slot.run(move |_| done.send(()).unwrap());
            taken += 1;
        }
        assert_eq!(taken, 32);
        release.send(()).unwrap();
        for _ in 0..taken {
            all_done.recv().unwrap();
        }
        assert!(pool.reserve(1 << 20).is_some());
    }

    #[test]
    fn a_panic_costs_one_request_and_not_the_thread() {
        let table = Arc::new(ExportTable::open(&[]));
        let pool = FilePool::start(1, &table).unwrap();
        let (done, all_done) = mpsc::channel();
        pool.reserve(0).unwrap().run(|_| panic!("on purpose"));
        pool.reserve(0).unwrap().run(move |_| done.send(()).unwrap());
        all_done.recv().unwrap();
    }
}
