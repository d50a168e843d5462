//! File checks of LOCKs, on threads that may hang with their disk: a bounded number at once, a smaller one for each export,
//! and a queue for each export, as a client that locks a thousand files at once must get a thousand answers.
//!
//! Must never let one dead disk take the threads or the queue of the other exports, nor make the caller wait.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Checks under way at once, each on a thread that may hang.
const RUNNING: usize = 64;
/// Of those, on one export.
const RUNNING_PER_LANE: usize = 24;
/// Checks of one export that wait: several clients that each lock a thousand new files at once. Half of what the lock service lets
/// come in, so that the other exports find room.
const QUEUED_PER_LANE: usize = 8_192;

/// A check.
pub(super) type Job = Box<dyn FnOnce() + Send>;
/// Starts a thread that may block.
type Start = Box<dyn Fn(Job) + Send + Sync>;

/// The queues before the threads.
pub(super) struct FileChecks {
    start: Start,
    lanes: Mutex<Lanes>,
}

#[derive(Default)]
struct Lanes {
    running: usize,
    by_export: BTreeMap<u64, Lane>,
}

#[derive(Default)]
struct Lane {
    running: usize,
    queue: VecDeque<Job>,
}

impl FileChecks {
    /// Checks that run on threads which `start` starts.
    pub(super) fn new(start: impl Fn(Job) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { start: Box::new(start), lanes: Mutex::default() })
    }

    /// Runs a check of this export, or lets it wait. False: its queue is full.
    pub(super) fn submit(self: &Arc<Self>, export: u64, job: Job) -> bool {
        let mut lanes = self.lanes();
        let full = lanes.running >= RUNNING;
        let lane = lanes.by_export.entry(export).or_default();
        if full || lane.running >= RUNNING_PER_LANE {
            let room = lane.queue.len() < QUEUED_PER_LANE;
            if room {
                lane.queue.push_back(job);
            }
            return room;
        }
        lane.running += 1;
        lanes.running += 1;
        drop(lanes);
        let this = self.clone();
        (self.start)(Box::new(move || this.work(export, job)));
        true
    }

    fn work(&self, mut export: u64, mut job: Job) {
        loop {
            // The job's responder is dropped on the way: the client gets no answer and asks again.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a file check failed in a way it must not (a bug); it gets no answer");
            }
            match self.lanes().next(export) {
                Some(next) => (export, job) = next,
                None => return,
            }
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        // Jobs run outside the lock, so a panic cannot leave the lanes half changed.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    /// A thread is done with a check of `export`: what it does next. None: it ends.
    fn next(&mut self, export: u64) -> Option<(u64, Job)> {
        self.running -= 1;
        if let Some(lane) = self.by_export.get_mut(&export) {
            lane.running -= 1;
            if lane.running == 0 && lane.queue.is_empty() {
                self.by_export.remove(&export);
            }
        }
        // The export with the fewest threads first, so that a busy one cannot keep the others out.
        let waiting =
            |(_, lane): &(&u64, &mut Lane)| !lane.queue.is_empty() && lane.running < RUNNING_PER_LANE;
        let (export, lane) =
            self.by_export.iter_mut().filter(waiting).min_by_key(|(_, lane)| lane.running)?;
        let job = lane.queue.pop_front()?;
        lane.running += 1;
        self.running += 1;
        Some((*export, job))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn checks() -> Arc<FileChecks> {
        FileChecks::new(|job| drop(std::thread::spawn(job)))
    }

    #[test]
    fn a_burst_of_checks_waits_its_turn_and_none_is_lost() {
        let (checks, (done, all)) = (checks(), mpsc::channel());
        for n in 0..RUNNING_PER_LANE + QUEUED_PER_LANE {
            let done = done.clone();
            assert!(checks.submit(1, Box::new(move || done.send(n).unwrap())));
        }
        drop(done);
        assert_eq!(all.iter().count(), RUNNING_PER_LANE + QUEUED_PER_LANE);
    }

    #[test]
    fn a_dead_disk_takes_neither_threads_nor_queue_of_another_export() {
        let (checks, (hang, dead)) = (checks(), mpsc::channel::<()>());
        let dead = Arc::new(Mutex::new(dead));
        let mut taken = 0;
        loop {
            let dead = dead.clone();
            if !checks.submit(
                1,
                Box::new(move || {
                    let _ = dead.lock().unwrap().recv();
                }),
            ) {
                break;
            }
            taken += 1;
        }
        assert_eq!(taken, RUNNING_PER_LANE + QUEUED_PER_LANE);
        let (done, all) = mpsc::channel();
        for _ in 0..QUEUED_PER_LANE {
            let done = done.clone();
            assert!(checks.submit(2, Box::new(move || done.send(()).unwrap())));
        }
        drop(done);
        assert_eq!(all.iter().count(), QUEUED_PER_LANE);
        drop(hang);
    }

    #[test]
    fn a_panic_costs_one_check_and_not_its_place() {
        let (checks, (done, all)) = (checks(), mpsc::channel());
        for _ in 0..2 * RUNNING_PER_LANE {
            assert!(checks.submit(1, Box::new(|| panic!("on purpose"))));
        }
        assert!(checks.submit(1, Box::new(move || done.send(()).unwrap())));
        assert_eq!(all.iter().count(), 1);
    }
}
