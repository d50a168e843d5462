//! Deadlock detection over the whole wait graph: cycles of any length, across files and clients.
//!
//! An edge goes from an owner that waits to each owner whose lock is in its way; the edges are read off the
//! tables at the time of asking, so they are never stale. A waiter needs *all* of those locks gone, so one
//! circle is a deadlock.

use std::collections::BTreeSet;

use super::table::LockTable;
use super::types::{FileId, LockId, Mode, OwnerId, Range};
use super::waiting::{How, Waiter, Waiters};

/// Locks and requests looked at in one search, 15 to 70 ms by the processor. Every request waits meanwhile, and clients can tie graphs in which
/// each of thousands of owners waits for thousands: past this the LOCK is refused, as nobody can say whether it may wait.
/// A circle of a hundred thousand owners that each wait for one is well within it.
pub(super) const STEPS_MAX: usize = 250_000;

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No circle: the LOCK may wait.
    Clear,
    /// The owner would wait for itself.
    Deadlock,
    /// The wait graph is too large to tell.
    TooLarge,
}

/// Whether `owner`, if it waited for this range, would wait for itself. Only locks that `counts` picks are in anybody's way.
pub(super) fn would_deadlock(
    locks: &LockTable,
    waiters: &Waiters,
    owner: OwnerId,
    file: FileId,
    range: Range,
    mode: Mode,
    counts: &dyn Fn(LockId) -> bool,
) -> Verdict {
    let mut search =
        Search { locks, waiters, owner, counts, seen: BTreeSet::new(), todo: Vec::new(), left: STEPS_MAX };
    if search.leads_to_owner(file, range, mode, owner) {
        return Verdict::Deadlock;
    }
    // Many who wait for the same bytes wait for the same locks, but for their own.
    let mut asked = BTreeSet::new();
    while let Some(next) = search.todo.pop() {
        if mutant!(DeadlockShortSearch) && search.seen.len() > 2 {
            break;
        }
        for w in blocked(waiters, next) {
            if !search.step() {
                return Verdict::TooLarge;
            }
            if asked.insert((w.file, w.range, w.mode)) && search.leads_to_owner(w.file, w.range, w.mode, next)
            {
                return Verdict::Deadlock;
            }
        }
    }
    if search.left == 0 { Verdict::TooLarge } else { Verdict::Clear }
}

struct Search<'a> {
    locks: &'a LockTable,
    waiters: &'a Waiters,
    counts: &'a dyn Fn(LockId) -> bool,
    /// Whom a circle would lead back to.
    owner: OwnerId,
    seen: BTreeSet<OwnerId>,
    todo: Vec<OwnerId>,
    /// Steps that may still be made.
    left: usize,
}

impl Search<'_> {
    /// Whether one more step may be made.
    fn step(&mut self) -> bool {
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }

    /// Whether a lock of the owner is in the way of this request of `waiting`. Notes the others that are and wait themselves.
    fn leads_to_owner(&mut self, file: FileId, range: Range, mode: Mode, waiting: OwnerId) -> bool {
        let locks = self.locks;
        for id in locks.conflicts(file, range, mode, Some(waiting)) {
            if !(self.counts)(id) {
                continue;
            }
            let holder = locks.get(id).owner;
            if holder == self.owner {
                return true;
            }
            if !self.step() {
                return false;
            }
            // An owner that does not wait itself is the end of a path.
            if blocked(self.waiters, holder).next().is_some() && self.seen.insert(holder) {
                self.todo.push(holder);
            }
        }
        false
    }
}

/// The owner's blocked LOCKs. Requests whose replies are held back do not count: they end by themselves.
fn blocked(waiters: &Waiters, owner: OwnerId) -> impl Iterator<Item = &Waiter> {
    waiters.of_owner(owner).map(|id| waiters.get(id)).filter(|w| matches!(w.how, How::Callback(_)))
}
