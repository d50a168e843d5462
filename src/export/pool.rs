//! The threads that do file work. Each can act as the caller of the request it works on, which is why no
//! other thread may run such work. Must never make anybody wait: when the queue is full, it says so.
//!
//! Each export has a lane of its own, served in turn, and a few threads are kept from every single lane: where
//! the disk of one export hangs, the others go on.

use std::collections::{BTreeMap, VecDeque};
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

/// Threads beside those asked for, which no lane gets alone: two dead disks at once are borne.
const SPARE_THREADS: u32 = 2;

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
    /// Only lanes with jobs, waiting or running.
    lanes: BTreeMap<u64, Lane>,
    /// The lane that had its turn last.
    last: u64,
    jobs: usize,
    bytes: usize,
    closed: bool,
    /// Most jobs of one lane at a time.
    width: u32,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<(usize, Job)>,
    running: u32,
}

impl Queue {
    fn push(&mut self, lane: u64, cost: usize, job: Job) {
        self.jobs += 1;
        self.lanes.entry(lane).or_default().waiting.push_back((cost, job));
    }

    /// The next job of the lane whose turn it is.
    fn pop(&mut self) -> Option<(u64, Job)> {
        let width = self.width;
        let ready = |(number, lane): (&u64, &Lane)| {
            (!lane.waiting.is_empty() && lane.running < width).then_some(*number)
        };
        let after = self.lanes.range(self.last.saturating_add(1)..).find_map(ready);
        let number = after.or_else(|| self.lanes.iter().find_map(ready))?;
        let lane = self.lanes.get_mut(&number)?;
        let (cost, job) = lane.waiting.pop_front()?;
        lane.running += 1;
        self.last = number;
        self.jobs -= 1;
        self.bytes -= cost;
        Some((number, job))
    }

    /// Whether a further job of the lane can start now that one has ended.
    fn finish(&mut self, number: u64) -> bool {
        let Some(lane) = self.lanes.get_mut(&number) else { return false };
        lane.running -= 1;
        let more = !lane.waiting.is_empty();
        if !more && lane.running == 0 {
            self.lanes.remove(&number);
        }
        more
    }
}

/// Room for one job in the queue.
pub struct Slot<'a> {
    pool: &'a FilePool,
    lane: u64,
    cost: usize,
    used: bool,
}

impl FilePool {
    /// Starts threads for the files of `table`: one export gets `threads` of them (at least 1) at the most, all
    /// together two more. An error only if none can be started.
    pub fn start(threads: u32, table: &Arc<ExportTable>) -> std::io::Result<Arc<Self>> {
        let threads = threads.clamp(1, MAX_THREADS);
        let queue = Mutex::new(Queue { width: threads, ..Queue::default() });
        let shared = Arc::new(Shared { queue, wake: Condvar::new() });
        let mut started = 0;
        for n in 0..threads + SPARE_THREADS {
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

    /// Reserves room for a job in a lane (an export's, see `ExportTable::lane_of`) whose arguments take `cost`
    /// bytes. None: the queue is full. Never blocks.
    pub fn reserve(&self, lane: u64, cost: usize) -> Option<Slot<'_>> {
        let mut queue = self.shared.lock();
        let full = queue.jobs >= MAX_QUEUED || queue.bytes + cost > MAX_QUEUED_BYTES;
        if full || queue.closed {
            return None;
        }
        queue.bytes += cost;
        Some(Slot { pool: self, lane, cost, used: false })
    }
}

impl Slot<'_> {
    /// Hands the job to the threads.
    pub fn run(mut self, job: impl FnOnce(&ThreadCreds) + Send + 'static) {
        self.used = true;
        self.pool.shared.lock().push(self.lane, self.cost, Box::new(job));
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

    /// The next job and its lane. Some(None): nothing to do for a while. None: the end.
    fn next(&self) -> Option<Option<(u64, Job)>> {
        let mut queue = self.lock();
        if let Some(job) = queue.pop() {
            return Some(Some(job));
        }
        if !queue.closed || queue.jobs > 0 {
            queue = self.wake.wait_timeout(queue, SWEEP_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
        match queue.pop() {
            None if queue.closed && queue.jobs == 0 => None,
            job => Some(job),
        }
    }

    fn finish(&self, lane: u64) {
        if self.lock().finish(lane) {
            self.wake.notify_one();
        }
    }
}

fn work(shared: &Shared, table: &Weak<ExportTable>) {
    let creds = ThreadCreds::take_over();
    while let Some(job) = shared.next() {
        match job {
            Some((lane, job)) => {
                // The job's responder is dropped on the way: the caller gets no answer and asks again.
                if catch_unwind(AssertUnwindSafe(|| job(&creds))).is_err() {
                    tracing::error!("a file request failed in a way it must not (a bug); it gets no answer");
                }
                shared.finish(lane);
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
        write!(f, "FilePool({} jobs, {} bytes queued)", queue.jobs, queue.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Occupies every thread that `lane` gets, until the returned senders go.
    fn hang(pool: &FilePool, lane: u64, jobs: u32) -> Vec<mpsc::Sender<()>> {
        (0..jobs)
            .map(|_| {
                let (release, gate) = mpsc::channel::<()>();
                pool.reserve(lane, 0).unwrap().run(move |_| assert!(gate.recv().is_err()));
                release
            })
            .collect()
    }

    #[test]
    fn a_full_queue_says_so_and_takes_jobs_again_when_it_has_drained() {
        let table = Arc::new(ExportTable::open(&[]));
        let pool = FilePool::start(1, &table).unwrap();
        let hung = hang(&pool, 7, 1);
        let (done, all_done) = mpsc::channel();
        let mut taken = 0;
        while let Some(slot) = pool.reserve(7, 1 << 20) {
            let done = done.clone();
            slot.run(move |_| done.send(()).unwrap());
            taken += 1;
        }
        assert_eq!(taken, 32);
        drop(hung);
        for _ in 0..taken {
            all_done.recv().unwrap();
        }
        assert!(pool.reserve(7, 1 << 20).is_some());
    }

    #[test]
    fn a_hung_export_leaves_threads_to_the_others() {
        let table = Arc::new(ExportTable::open(&[]));
        let pool = FilePool::start(2, &table).unwrap();
        let hung = hang(&pool, 1, 50);
        let (done, all_done) = mpsc::channel();
        for lane in [0, 2, 3] {
            let done = done.clone();
            pool.reserve(lane, 0).unwrap().run(move |_| done.send(()).unwrap());
        }
        (0..3).for_each(|_| all_done.recv().unwrap());
        // And once it answers again, all it was asked is done.
        drop(hung);
        pool.reserve(1, 0).unwrap().run(move |_| done.send(()).unwrap());
        all_done.recv().unwrap();
    }

    #[test]
    fn what_is_queued_is_done_before_the_threads_end() {
        let table = Arc::new(ExportTable::open(&[]));
        let pool = FilePool::start(1, &table).unwrap();
        let hung = hang(&pool, 1, 1);
        let (done, all_done) = mpsc::channel();
        for _ in 0..10 {
            let done = done.clone();
            pool.reserve(1, 0).unwrap().run(move |_| done.send(()).unwrap());
        }
        drop(pool);
        drop(hung);
        (0..10).for_each(|_| all_done.recv().unwrap());
    }

    #[test]
    fn a_panic_costs_one_request_and_not_the_thread() {
        let table = Arc::new(ExportTable::open(&[]));
        let pool = FilePool::start(1, &table).unwrap();
        let (done, all_done) = mpsc::channel();
        for _ in 0..5 {
            pool.reserve(0, 0).unwrap().run(|_| panic!("on purpose"));
        }
        pool.reserve(0, 0).unwrap().run(move |_| done.send(()).unwrap());
        all_done.recv().unwrap();
    }
}
