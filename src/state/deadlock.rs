//! Deadlock detection over the whole wait graph: cycles of any length, across files and clients.
//!
//! An edge goes from an owner that waits to each owner whose lock is in its way; the edges are read off the
//! tables at the time of asking, so they are never stale. A waiter needs *all* of those locks gone, so one
//! circle is a deadlock.

use std::collections::BTreeSet;

use super::table::LockTable;
use super::types::{FileId, Mode, OwnerId, Range};
use super::waiting::{How, Waiter, Waiters};

/// Whether `owner`, if it waited for this range, would wait for itself.
pub(super) fn would_deadlock(
    locks: &LockTable,
    waiters: &Waiters,
    owner: OwnerId,
    file: FileId,
    range: Range,
    mode: Mode,
) -> bool {
    let mut seen = BTreeSet::new();
    let mut todo: Vec<OwnerId> = Vec::new();
    let mut visit = |file, range, mode, waiting: OwnerId, todo: &mut Vec<OwnerId>| {
        for id in locks.conflicts(file, range, mode, Some(waiting)) {
            let holder = locks.get(id).owner;
            if holder == owner {
                return true;
            }
            // An owner that does not wait itself is the end of a path.
            if blocked(waiters, holder).next().is_some() && seen.insert(holder) {
                todo.push(holder);
            }
        }
        false
    };
    if visit(file, range, mode, owner, &mut todo) {
        return true;
    }
    while let Some(next) = todo.pop() {
        for w in blocked(waiters, next) {
            if visit(w.file, w.range, w.mode, next, &mut todo) {
                return true;
            }
        }
    }
    false
}

/// The owner's blocked LOCKs. Requests whose replies are held back do not count: they end by themselves.
fn blocked(waiters: &Waiters, owner: OwnerId) -> impl Iterator<Item = &Waiter> {
    waiters.of_owner(owner).map(|id| waiters.get(id)).filter(|w| matches!(w.how, How::Callback(_)))
}
