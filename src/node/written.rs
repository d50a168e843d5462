//! What the records have: marks on their way from the journals back to the lock core, see [`crate::state::Effects::marks`].
//!
//! Must never block, nor take the desk's mutex: the journals' threads come by here.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Marks that the core has not heard of yet.
#[derive(Default)]
pub(super) struct Written {
    marks: Mutex<Vec<(IpAddr, u64)>>,
    /// Whether there are any: looked at with every request.
    any: AtomicBool,
    nudge: Notify,
}

impl Written {
    /// A record has all up to this mark. Whoever takes the next command to the core takes it along: so a client that was told that
    /// something is free, and asks for it, finds it free. `soon`: somebody may wait for that, and no next command come.
    pub(super) fn add(&self, lm: IpAddr, mark: u64, soon: bool) {
        self.marks().push((lm, mark));
        self.any.store(true, Ordering::Release);
        if soon {
            self.nudge();
        }
    }

    /// All there are.
    pub(super) fn take(&self) -> Vec<(IpAddr, u64)> {
        // Whoever comes between the two lines leaves the flag set for the next.
        match self.any.swap(false, Ordering::AcqRel) {
            true => std::mem::take(&mut *self.marks()),
            false => Vec::new(),
        }
    }

    /// Wakes who does what is due.
    pub(super) fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Waits for that.
    pub(super) async fn nudged(&self) {
        self.nudge.notified().await;
    }

    fn marks(&self) -> MutexGuard<'_, Vec<(IpAddr, u64)>> {
        // Each change is whole before the guard goes.
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
