//! What waits for the records of several lock managers: things to say ([`Joint`]), and entries ([`Barrier`]).
//!
//! Must never be held while a pipe's own mutex is taken from here.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::pipe::{Held, Pipe, Release};

/// Longest wait of one lock manager's entries for another's disk, 1 s: one that hangs must not silence the others. A crash in just that time
/// may leave a lock in two records; then it is loaded for who is loaded first.
pub(super) const LONGEST: Duration = Duration::from_secs(1);

/// Releases that wait for the entries of several lock managers. One that is given up takes its own with it and no other's: what was
/// granted in the record of another must be told, or its client waits for ever; but only once its record no longer says otherwise (see
/// [`Pipe::is_stray`]).
pub(super) struct Joint(Mutex<Waiting>);

struct Waiting {
    left: usize,
    releases: Vec<(Weak<Pipe>, Release)>,
}

impl Joint {
    /// For the records of `parts` lock managers; each release with the way out of the one that it speaks for.
    pub(super) fn new(parts: usize, releases: Vec<(Weak<Pipe>, Release)>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Waiting { left: parts, releases })))
    }

    /// The part of one lock manager is done. What comes back may leave: all that `here` may say by now, as it is the last one. What
    /// others say goes through them once more: they may have been given up, or lost to another node, since their own part was done.
    pub(super) fn arrived(&self, here: &Pipe, durable: bool) -> Vec<Release> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.left -= 1;
        if waiting.left > 0 {
            return Vec::new();
        }
        let releases = std::mem::take(&mut waiting.releases);
        drop(waiting);
        let mut own = Vec::new();
        for (of, release) in releases {
            match of.upgrade() {
                Some(of) if durable && std::ptr::eq(&*of, here) => own.push(release),
                Some(of) => of.push(Vec::new(), vec![Held::One(release)]),
                None => {}
            }
        }
        own
    }
}

/// Entries of one lock manager that must not be written before those of others are durable: a lock that is recorded here was freed there, and
/// a crash between the two would leave both in the records.
pub(super) struct Barrier {
    left: AtomicUsize,
    /// Whose entries wait.
    pipe: Weak<Pipe>,
}

impl Barrier {
    /// Before entries of `pipe`, until it was [`Held::Turn`] in `others` other pipes, or [`LONGEST`] is over.
    pub(super) fn new(pipe: &Arc<Pipe>, others: usize) -> Arc<Self> {
        let barrier = Arc::new(Self { left: AtomicUsize::new(others), pipe: Arc::downgrade(pipe) });
        let (host, late) = (pipe.host(), Arc::downgrade(&barrier));
        let sleep = host.sleep(LONGEST);
        host.spawn(Box::pin(async move {
            sleep.await;
            if let Some(barrier) = late.upgrade() {
                barrier.open(usize::MAX);
            }
        }));
        barrier
    }

    pub(super) fn is_open(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }

    /// So many of the others have come so far, or never will.
    pub(super) fn open(&self, by: usize) {
        let less = |left: usize| (left > 0).then(|| left.saturating_sub(by));
        let before = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        if before.is_ok_and(|before| before <= by)
            && let Some(pipe) = self.pipe.upgrade()
        {
            pipe.look_again();
        }
    }
}

/// Answers a caller once all that was decided so far about some lock managers is durable. If it cannot become so, the caller hears nothing, and asks
/// again.
pub(super) fn answer_when_durable(pipes: &[Arc<Pipe>], answer: impl FnOnce() + Send + 'static) {
    type Last = Mutex<Option<Box<dyn FnOnce() + Send>>>;
    let shared: Arc<(AtomicUsize, Last)> = Arc::new((AtomicUsize::new(pipes.len()), Mutex::new(None)));
    if pipes.is_empty() {
        return answer();
    }
    *shared.1.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(answer));
    for pipe in pipes {
        let shared = shared.clone();
        let arrived = move || {
            if shared.0.fetch_sub(1, Ordering::AcqRel) == 1
                && let Some(answer) = shared.1.lock().unwrap_or_else(PoisonError::into_inner).take()
            {
                answer();
            }
        };
        pipe.push(Vec::new(), vec![Held::One(Release::Tell(Box::new(arrived)))]);
    }
}
