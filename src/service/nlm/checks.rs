//! LOCKs whose file is being looked at on another thread. A CANCEL or UNLOCK of the same owner that comes meanwhile
//! must win: otherwise a slow disk would grant a lock that the client has given up already.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::state::Range;

/// File checks under way at once, about 1 KiB each. They take microseconds unless a disk hangs; then the rest is refused.
const CHECKS_MAX: usize = 16_384;

/// Whose LOCK on what bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// The address it came to: equal numbers through two are two owners.
    pub(super) lm: IpAddr,
    pub(super) address: IpAddr,
    pub(super) name: Box<[u8]>,
    pub(super) oh: Box<[u8]>,
    pub(super) svid: u32,
    pub(super) handle: Box<[u8]>,
    pub(super) range: Range,
}

impl Subject {
    /// Whether an UNLOCK or CANCEL of `given_up` is about this LOCK. Other bytes of the owner are another thread's.
    fn is_part_of(&self, given_up: &Subject) -> bool {
        let same = |s: &Subject| (s.lm, s.address, s.svid);
        same(self) == same(given_up)
            && self.range.overlaps(given_up.range)
            && self.name == given_up.name
            && self.oh == given_up.oh
            && self.handle == given_up.handle
    }
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    running: BTreeMap<u64, Option<Subject>>,
}

#[derive(Debug, Default)]
pub(super) struct Checks {
    table: Mutex<Table>,
    /// Length of the table, so that UNLOCK need not take the mutex when nothing is being checked.
    len: AtomicUsize,
}

impl Checks {
    /// Notes a check. `None`: too many are under way.
    pub(super) fn begin(&self, subject: Option<Subject>) -> Option<u64> {
        let mut table = self.table();
        if table.running.len() >= CHECKS_MAX {
            return None;
        }
        table.next += 1;
        let id = table.next;
        table.running.insert(id, subject);
        self.len.store(table.running.len(), Ordering::Release);
        Some(id)
    }

    /// Ends a check. False: it was cancelled.
    pub(super) fn end(&self, id: u64) -> bool {
        let mut table = self.table();
        let there = table.running.remove(&id).is_some();
        self.len.store(table.running.len(), Ordering::Release);
        there
    }

    /// Cancels all checks that this gives up.
    pub(super) fn cancel(&self, subject: impl FnOnce() -> Subject) {
        if mutant!(CancelLeavesCheck) || self.len.load(Ordering::Acquire) == 0 {
            return;
        }
        let subject = subject();
        let mut table = self.table();
        table.running.retain(|_, s| !s.as_ref().is_some_and(|s| s.is_part_of(&subject)));
        self.len.store(table.running.len(), Ordering::Release);
    }

    /// The table stays sound whatever a panicking thread did: each change is one map operation.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(svid: u32, range: Range) -> Subject {
        let (name, handle) = (b"c".as_slice().into(), Box::default());
        let address = IpAddr::from([127, 0, 0, 1]);
        Subject { lm: address, address, name, oh: Box::default(), svid, handle, range }
    }

    #[test]
    fn an_unlock_of_other_bytes_leaves_the_check_alone() {
        let checks = Checks::default();
        let bytes = |start, end| subject(1, Range { start, end });
        let (a, b) = (checks.begin(Some(bytes(0, 9))).unwrap(), checks.begin(Some(bytes(10, 19))).unwrap());
        checks.cancel(|| bytes(10, u64::MAX));
        assert!(checks.end(a));
        assert!(!checks.end(b));
    }

    #[test]
    fn an_unlock_through_another_address_is_of_another_owner() {
        let checks = Checks::default();
        let check = checks.begin(Some(subject(1, Range::ALL))).unwrap();
        checks.cancel(|| Subject { lm: IpAddr::from([127, 0, 0, 2]), ..subject(1, Range::ALL) });
        assert!(checks.end(check));
    }

    #[test]
    fn a_cancel_ends_the_checks_of_its_owner_only() {
        let checks = Checks::default();
        let subject = |svid| subject(svid, Range::ALL);
        let (a, b) = (checks.begin(Some(subject(1))).unwrap(), checks.begin(Some(subject(2))).unwrap());
        checks.cancel(|| subject(1));
        assert!(!checks.end(a));
        assert!(checks.end(b));
    }
}
