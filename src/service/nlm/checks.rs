//! LOCKs whose file is being looked at on another thread. A CANCEL or UNLOCK of the same owner that comes meanwhile
//! must win: otherwise a slow disk would grant a lock that the client has given up already.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// File checks under way or waiting for a thread. They take microseconds unless a disk hangs; then the rest is refused. As many as
/// sixteen connections can have calls in flight; each takes less than 1 KiB.
const CHECKS_MAX: usize = 16_384;

/// Whose LOCK on what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) address: IpAddr,
    pub(super) name: Box<[u8]>,
    pub(super) oh: Box<[u8]>,
    pub(super) svid: u32,
    pub(super) handle: Box<[u8]>,
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

    /// Cancels all checks for this subject.
    pub(super) fn cancel(&self, subject: &Subject) {
        if self.len.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut table = self.table();
        table.running.retain(|_, s| s.as_ref() != Some(subject));
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

    #[test]
    fn a_cancel_ends_the_checks_of_its_owner_only() {
        let checks = Checks::default();
        let subject = |svid| Subject {
            address: IpAddr::from([127, 0, 0, 1]),
            name: b"c".as_slice().into(),
            oh: Box::default(),
            svid,
            handle: Box::default(),
        };
        let (a, b) = (checks.begin(Some(subject(1))).unwrap(), checks.begin(Some(subject(2))).unwrap());
        checks.cancel(&subject(1));
        assert!(!checks.end(a));
        assert!(checks.end(b));
    }
}
