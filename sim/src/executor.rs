//! Tasks of one daemon: polled one after the other in the order in which they were woken.
//!
//! Must never poll a task inside another one, nor in an order that a seed does not decide.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use lockferry::node::host::{Spawned, Task};

/// Called when something becomes ready that was not before.
pub type Ring = Box<dyn Fn() + Send + Sync>;

/// The tasks of one daemon.
pub struct Executor {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    ring: Ring,
}

#[derive(Default)]
struct State {
    tasks: Vec<Option<Entry>>,
    free: Vec<usize>,
    ready: VecDeque<Arc<Mark>>,
    running: bool,
    over: bool,
}

struct Entry {
    task: Option<Task>,
    mark: Arc<Mark>,
}

/// A task, as its wakers know it.
struct Mark {
    at: usize,
    shared: std::sync::Weak<Shared>,
    queued: AtomicBool,
    aborted: AtomicBool,
}

impl Executor {
    /// Without tasks. `ring` is called when there is something to run.
    pub fn new(ring: Ring) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::default(), ring }) }
    }

    /// Adds a task.
    pub fn spawn(&self, task: Task) -> Spawned {
        let mut state = self.shared.lock();
        if state.over {
            return Spawned::new(|| {});
        }
        let at = state.free.pop().unwrap_or(state.tasks.len());
        let mark = Arc::new(Mark {
            at,
            shared: Arc::downgrade(&self.shared),
            queued: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
        });
        let entry = Some(Entry { task: Some(task), mark: mark.clone() });
        match state.tasks.get_mut(at) {
            Some(place) => *place = entry,
            None => state.tasks.push(entry),
        }
        drop(state);
        mark.enqueue();
        Spawned::new(move || {
            mark.aborted.store(true, Ordering::Relaxed);
            mark.enqueue();
        })
    }

    /// Runs until nothing is ready. Does nothing while it runs already, further out.
    pub fn run(&self) {
        {
            let mut state = self.shared.lock();
            if std::mem::replace(&mut state.running, true) {
                return;
            }
        }
        loop {
            let mut state = self.shared.lock();
            let Some(mark) = state.ready.pop_front() else {
                state.running = false;
                return;
            };
            mark.queued.store(false, Ordering::Relaxed);
            let entry = state.tasks.get_mut(mark.at).and_then(Option::as_mut);
            let Some(entry) = entry.filter(|entry| Arc::ptr_eq(&entry.mark, &mark)) else { continue };
            let Some(mut task) = entry.task.take() else { continue };
            drop(state);
            let aborted = mark.aborted.load(Ordering::Relaxed);
            let over = aborted || {
                let waker = Waker::from(mark.clone());
                task.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Ready(())
            };
            if over {
                drop(task);
                self.shared.lock().forget(&mark);
            } else {
                self.shared.lock().put_back(&mark, task);
            }
        }
    }

    /// Ends all tasks, and takes no more.
    pub fn end(&self) {
        let mut state = self.shared.lock();
        state.over = true;
        let tasks = std::mem::take(&mut state.tasks);
        state.ready.clear();
        drop(state);
        drop(tasks);
    }
}

impl State {
    fn forget(&mut self, mark: &Arc<Mark>) {
        if let Some(place) = self.tasks.get_mut(mark.at) {
            *place = None;
            self.free.push(mark.at);
        }
    }

    fn put_back(&mut self, mark: &Arc<Mark>, task: Task) {
        if let Some(Some(entry)) = self.tasks.get_mut(mark.at) {
            entry.task = Some(task);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mark {
    fn enqueue(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::Relaxed) {
            return;
        }
        let Some(shared) = self.shared.upgrade() else { return };
        let mut state = shared.lock();
        if state.over {
            return;
        }
        state.ready.push_back(self.clone());
        let quiet = state.ready.len() > 1 || state.running;
        drop(state);
        if !quiet {
            (shared.ring)();
        }
    }
}

impl Wake for Mark {
    fn wake(self: Arc<Self>) {
        self.enqueue();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.enqueue();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn tasks_run_when_woken_and_end_when_aborted() {
        let rung = Arc::new(AtomicU32::new(0));
        let bell = rung.clone();
        let executor = Executor::new(Box::new(move || {
            bell.fetch_add(1, Ordering::Relaxed);
        }));
        let (tell, told) = tokio::sync::oneshot::channel::<u32>();
        let got = Arc::new(AtomicU32::new(0));
        let put = got.clone();
        executor.spawn(Box::pin(async move { put.store(told.await.unwrap_or(1), Ordering::Relaxed) }));
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        let endless = executor.spawn(Box::pin(async move {
            let _held = held;
            std::future::pending::<()>().await;
        }));
        executor.run();
        assert_eq!((got.load(Ordering::Relaxed), rung.load(Ordering::Relaxed)), (0, 1));
        tell.send(7).unwrap();
        executor.run();
        assert_eq!((got.load(Ordering::Relaxed), rung.load(Ordering::Relaxed)), (7, 2));
        endless.abort();
        executor.run();
        assert!(dropped.blocking_recv().is_err(), "the task was dropped");
    }
}
