//! Walks all tables and panics where two of them disagree. For tests and fuzzers only: it costs far more than any request.
//!
//! Must never use an index to check that same index.

use std::collections::{BTreeMap, BTreeSet};

use super::Engine;
use crate::state::types::{Condition, GrantId, Mode, Stage};
use crate::state::waiting::How;

impl Engine {
    /// Panics if the tables contradict each other or a rule of the design is broken (I1, I5, I6).
    pub fn check(&self) {
        self.locks.check();
        self.waiters.check();
        self.check_counts();
        self.check_grants();
        self.check_waiters();
        assert!(self.to_wake.is_empty(), "no wake-up is left over");
    }

    fn check_counts(&self) {
        let mut owners: BTreeMap<usize, (u32, u32)> = BTreeMap::new();
        let mut files: BTreeMap<usize, u32> = BTreeMap::new();
        let mut waiters: BTreeMap<usize, u32> = BTreeMap::new();
        for (_, lock) in self.locks.slots_from(0) {
            let count = owners.entry(lock.owner.index()).or_default();
            *count = (count.0 + 1, count.1 + 1);
            *files.entry(lock.file.index()).or_default() += 1;
            assert_eq!(self.names.owner_by_id(lock.owner).client, lock.client, "owner and lock: one client");
        }
        for (_, w) in self.waiters.slots_from(0) {
            owners.entry(w.owner.index()).or_default().0 += 1;
            *files.entry(w.file.index()).or_default() += 1;
            *waiters.entry(w.client.index()).or_default() += 1;
            assert_eq!(self.names.owner_by_id(w.owner).client, w.client, "owner and waiter: one client");
            assert_eq!(self.names.client(w.client).lm, w.lm, "client and waiter: one lock manager");
        }
        let mut shares: BTreeMap<usize, u32> = BTreeMap::new();
        for (file, client) in self.shares.check() {
            *files.entry(file.index()).or_default() += 1;
            *shares.entry(client.index()).or_default() += 1;
        }
        for file in self.unwritten.files() {
            *files.entry(file.index()).or_default() += 1;
        }
        self.names.check(&owners, &files);
        let mut idle = BTreeSet::new();
        for (i, client) in &self.names.clients {
            let id = crate::state::types::ClientId(i as u32);
            assert_eq!(client.waiters, waiters.get(&i).copied().unwrap_or(0), "waiters of client {i}");
            assert_eq!(client.shares, shares.get(&i).copied().unwrap_or(0), "shares of client {i}");
            let busy = client.waiters > 0 || client.shares > 0 || self.locks.count_of(id) > 0;
            assert_eq!(busy, client.idle_since.is_none(), "client {i} idle or not");
            idle.extend(client.idle_since.map(|since| (since, id)));
        }
        assert_eq!(self.idle, idle, "the idle list");
        let until = |at: fn(&crate::state::names::Lm) -> Option<super::Time>| {
            let lms = self.names.lms.iter();
            lms.filter_map(|(_, lm)| Some((at(lm)?, lm.address))).collect::<BTreeSet<_>>()
        };
        let working = self.names.lms.iter().filter(|(_, lm)| lm.work.is_some()).map(|(_, lm)| lm.address);
        let listed: BTreeSet<_> = self.working.iter().copied().collect();
        assert_eq!(listed.len(), self.working.len());
        assert_eq!(listed, working.collect(), "who is at work");
        let window = |lm: &crate::state::names::Lm| {
            lm.window.as_ref().filter(|_| lm.is_loaded() && !lm.is_ending()).map(|w| w.until)
        };
        assert_eq!(self.windows, until(window), "the list of windows");
        assert_eq!(
            self.holds,
            until(|lm| lm.hold_until.filter(|_| lm.is_loaded())),
            "the list of hold times"
        );
        self.check_reclaimable();
    }

    fn check_reclaimable(&self) {
        let mut lms: BTreeMap<usize, (u64, u64, u64)> = BTreeMap::new();
        let mut clients: BTreeMap<usize, u64> = BTreeMap::new();
        for (_, lock) in self.locks.slots_from(0) {
            let count = lms.entry(self.names.client(lock.client).lm.index()).or_default();
            count.0 += u64::from(lock.attrs.condition == Condition::Reclaimable);
            count.1 += u64::from(lock.attrs.condition == Condition::Expired);
            count.2 += u64::from(lock.attrs.kept);
            *clients.entry(lock.client.index()).or_default() +=
                u64::from(lock.attrs.condition == Condition::Reclaimable);
            let away = matches!(lock.attrs.condition, Condition::Reclaimable | Condition::Expired);
            assert!(away || !lock.attrs.kept, "kept of one who is here: {lock:?}");
        }
        assert_eq!(self.expired, lms.values().map(|(_, expired, _)| expired).sum::<u64>());
        for (i, lm) in &self.names.lms {
            assert_eq!((lm.reclaimable, lm.expired, lm.kept), lms.get(&i).copied().unwrap_or_default());
            let in_order = lm.is_loaded() && lm.work.is_none();
            let goes = lm.hold_until.is_some() || lm.unswept.is_some();
            assert!(!in_order || lm.expired == 0 || goes, "expired locks go some day");
            assert!(
                !in_order || lm.reclaimable > 0 || lm.window.is_none() || lm.is_any_full(),
                "a window with nothing to reclaim"
            );
            match lm.stage {
                Stage::Loaded => assert!(lm.kept == 0 && lm.deferred.is_empty()),
                Stage::Loading => {}
                Stage::Released => assert!(lm.window.is_none() && lm.hold_until.is_none()),
            }
        }
        self.check_released();
        for (i, client) in &self.names.clients {
            assert_eq!(client.reclaimable, clients.get(&i).copied().unwrap_or_default());
        }
        assert!(self.emptied.is_empty() && self.journal.is_empty());
        assert!(self.marked.is_empty() && !self.is_untold);
        let unswept = self.names.lms.iter().filter(|(_, lm)| lm.unswept.is_some()).count();
        assert_eq!(self.unswept as usize, unswept);
    }

    /// Of a lock manager that is forgotten there is nothing but what is kept.
    fn check_released(&self) {
        let is_gone = |lm: crate::state::types::LmId| {
            let lm = self.names.lm_by_id(lm);
            lm.stage == Stage::Released && lm.work.is_none()
        };
        for (_, lock) in self.locks.slots_from(0) {
            assert!(lock.attrs.kept || !is_gone(self.names.client(lock.client).lm), "not kept: {lock:?}");
        }
        for (_, client) in self.names.clients.iter().filter(|(_, c)| is_gone(c.lm)) {
            assert_eq!((client.waiters, client.shares, client.listed), (0, 0, false));
        }
    }

    fn check_grants(&self) {
        let mut marked = BTreeSet::new();
        for (_, lock) in self.locks.slots_from(0) {
            let a = lock.attrs;
            if self.names.lm_by_id(self.names.client(lock.client).lm).stage == Stage::Released {
                // Its grants ended with the release; what says otherwise is still to be forgotten.
                continue;
            }
            if a.grant != GrantId(0) {
                let Some(grant) = self.grants.get(&a.grant.0) else {
                    panic!("a marked byte belongs to a grant in flight: {lock:?}")
                };
                assert_eq!((grant.place.owner, grant.place.file), (lock.owner, lock.file));
                assert!(grant.range.contains(lock.range) && a.mode >= grant.mode, "{grant:?} {lock:?}");
                marked.insert(a.grant.0);
            }
            assert!(a.condition != Condition::Granting || a.grant != GrantId(0), "granted by none: {lock:?}");
            let back = !matches!(a.condition, Condition::Reclaimable | Condition::Expired);
            assert!(back || a.grant == GrantId(0), "granted to one who is not back: {lock:?}");
            let open = matches!(a.condition, Condition::Granting | Condition::Unconfirmed);
            assert!(a.under.is_none() || (open && a.mode == Mode::Exclusive), "under: {lock:?}");
        }
        assert!(self.grants.keys().eq(marked.iter()), "each grant in flight has a byte");
    }

    /// I5, I6: who waits has a reason.
    fn check_waiters(&self) {
        // Between two steps, and while one is loaded, some wait for the end of that.
        let busy = self.names.lms.iter().any(|(_, lm)| lm.stage == Stage::Loading || lm.work.is_some());
        for (_, w) in self.waiters.slots_from(0).filter(|_| !busy) {
            let window = self.in_full_grace(w.lm, w.file);
            let parked = matches!(w.how, How::Reply { .. });
            let reason = window
                || self.unwritten.any_on(w.file)
                || self.unswept > 0
                || self.locks.slots_from(0).any(|(_, l)| {
                    l.file == w.file
                        && l.range.overlaps(w.range)
                        && if l.owner == w.owner {
                            !parked && l.attrs.grant != GrantId(0)
                        } else {
                            let condition = l.attrs.condition;
                            l.attrs.mode.conflicts(w.mode)
                                && condition != Condition::Expired
                                && (!parked || condition == Condition::Reclaimable)
                        }
                });
            assert!(reason, "waits for nothing: {w:?}");
        }
    }
}
