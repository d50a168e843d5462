//! Walks all tables and panics where two of them disagree. For tests only: it costs far more than any request.
//!
//! Must never use an index to check that same index.

use std::collections::{BTreeMap, BTreeSet};

use super::Engine;
use crate::state::types::{Condition, GrantId, Mode};
use crate::state::waiting::How;

impl Engine {
    /// Panics if the tables contradict each other or a rule of the design is broken (I1, I5, I6).
    pub(in crate::state) fn check(&self) {
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
        let windows = self.names.lms.iter().enumerate();
        let windows = windows.filter_map(|(i, lm)| Some((lm.full_grace_until?, super::LmId(i as u32))));
        assert_eq!(self.windows, windows.collect(), "the list of windows");
    }

    fn check_grants(&self) {
        let mut marked = BTreeSet::new();
        for (_, lock) in self.locks.slots_from(0) {
            let a = lock.attrs;
            if a.grant != GrantId(0) {
                let grant = self.grants.get(&a.grant.0).expect("a marked byte belongs to a grant in flight");
                assert_eq!((grant.place.owner, grant.place.file), (lock.owner, lock.file));
                assert!(grant.range.contains(lock.range) && a.mode >= grant.mode, "{grant:?} {lock:?}");
                marked.insert(a.grant.0);
            }
            assert!(a.condition != Condition::Granting || a.grant != GrantId(0), "granted by none: {lock:?}");
            let open = matches!(a.condition, Condition::Granting | Condition::Unconfirmed);
            assert!(a.under.is_none() || (open && a.mode == Mode::Exclusive), "under: {lock:?}");
        }
        assert!(self.grants.keys().eq(marked.iter()), "each grant in flight has a byte");
    }

    /// I5, I6: who waits has a reason.
    fn check_waiters(&self) {
        for (_, w) in self.waiters.slots_from(0) {
            let window = self.names.lm_by_id(w.lm).full_grace_until.is_some();
            let reason = window
                || self.locks.slots_from(0).any(|(_, l)| {
                    l.file == w.file
                        && l.range.overlaps(w.range)
                        && if l.owner == w.owner {
                            l.attrs.grant != GrantId(0)
                        } else {
                            l.attrs.mode.conflicts(w.mode)
                        }
                });
            assert!(reason, "waits for nothing: {w:?}");
            assert!(window || matches!(w.how, How::Callback(_)), "a reply held back outside a window: {w:?}");
        }
    }
}
