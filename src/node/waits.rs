//! What waits for the records of several lock managers: things to say ([`Joint`]), and entries ([`Barrier`]).
//!
//! Must never be held while a pipe's own mutex is taken from here.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::pipe::{Pipe, Release};

/// Longest wait of one lock manager's entries for another's disk, 1 s: one that hangs must not silence the others. A crash in just that time
/// may leave a lock in two records; then it is loaded for who is loaded first.
const LONGEST: Duration = Duration::from_secs(1);

/// Releases that wait for the entries of several lock managers. One that can go on no longer takes its own with it and no other's: what was
/// granted in the record of another must be told, or its client waits for ever.
pub(super) struct Joint(Mutex<Waiting>);

struct Waiting {
    left: usize,
    failed: Vec<IpAddr>,
    releases: Vec<(IpAddr, Release)>,
}

impl Joint {
    /// For `parts` lock managers; each release with the one that it speaks for.
    pub(super) fn new(parts: usize, releases: Vec<(IpAddr, Release)>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Waiting { left: parts, failed: Vec::new(), releases })))
    }

    /// One lock manager's part is done. What comes back may leave.
    pub(super) fn arrived(&self, lm: IpAddr, durable: bool) -> Vec<Release> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.left -= 1;
        if !durable {
            waiting.failed.push(lm);
        }
        if waiting.left > 0 {
            return Vec::new();
        }
        let (failed, releases) = (std::mem::take(&mut waiting.failed), std::mem::take(&mut waiting.releases));
        drop(waiting);
        releases.into_iter().filter(|(lm, _)| !failed.contains(lm)).map(|(_, release)| release).collect()
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
