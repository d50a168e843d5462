//! Changes of many locks of one lock manager: they expire, they are dropped, they are forgotten. Made in steps, so that no command
//! takes longer than some thousand locks need; requests of others are served between the steps. What is few is done at once.
//!
//! A step goes on where the last one stopped, in the order of files, and ends with a file where somebody waits there: so the steps let the
//! same requests go, in the same order, as one great stride would. One change is completed before the next begins.
//!
//! Must never tell the record lock by lock: a sweep is one entry.

use crate::state::command::{Effects, Event, Reply};
use crate::state::entry::{Entry, Sweep};
use crate::state::names::{Work, WorkKind};
use crate::state::table::Attrs;
use crate::state::types::{ClientId, Condition, FileId, GrantId, LmId, LockId, Range, Time, WaiterId};
use crate::state::waiting::How;

use super::Engine;
use super::segments::Place;

/// What a lock that is only passed by costs, of [`LOCK_COST`].
const LOOK_COST: u64 = 1;
/// What a lock or a waiter costs that is changed or goes: some 500 ns where a look takes 30.
const LOCK_COST: u64 = 16;
/// How many more locks of a file that somebody waits on a step changes, so that it ends with the file.
const REST_OF_FILE: u64 = 10_000;

impl Engine {
    /// What one command may spend on this.
    pub(super) fn allowance(&self) -> u64 {
        u64::from(self.settings.locks_per_call.max(1)) * LOCK_COST
    }

    /// Begins a change and makes its first step, unless another one has still to be completed. There must be none of this lock manager.
    pub(super) fn start_work(&mut self, now: Time, lm: LmId, kind: WorkKind, fx: &mut Effects) {
        let entry = self.names.lm_mut(lm);
        debug_assert!(entry.work.is_none(), "one change at a time");
        entry.work = Some(Work::new(kind));
        self.working.push_back(entry.address);
        if self.working.len() == 1 {
            self.step(now, lm, fx);
        }
    }

    /// Goes on with the changes that are under way, as far as one command may.
    pub(super) fn go_on(&mut self, now: Time, fx: &mut Effects) {
        while let Some(lm) = self.working.front().and_then(|lm| self.names.find_lm(lm)) {
            self.step(now, lm, fx);
            if self.names.lm_by_id(lm).work.is_some() {
                break;
            }
            self.run_wakes(now, fx);
        }
    }

    /// Completes what is under way, however long it takes: something else of this lock manager is to begin.
    pub(super) fn finish_work(&mut self, now: Time, lm: LmId, fx: &mut Effects) {
        let allowance = std::mem::replace(&mut self.allowance_left, u64::MAX);
        while self.names.lm_by_id(lm).work.is_some() {
            self.step(now, lm, fx);
        }
        self.allowance_left = allowance;
        self.run_wakes(now, fx);
    }

    fn step(&mut self, now: Time, lm: LmId, fx: &mut Effects) {
        let Some(mut work) = self.names.lm_mut(lm).work.take() else { return };
        let done = self.drop_waiters(now, lm, &mut work, fx) && self.change_locks(now, lm, &mut work, fx);
        if !done {
            self.names.lm_mut(lm).work = Some(work);
            return;
        }
        let address = self.names.lm_by_id(lm).address;
        self.working.retain(|other| *other != address);
        self.finished(lm, work, fx);
        // What was due meanwhile.
        self.emptied.insert(address);
    }

    /// The waiters of a released lock manager go first, or they would be granted what its locks give free. True when none is left.
    fn drop_waiters(&mut self, now: Time, lm: LmId, work: &mut Work, fx: &mut Effects) -> bool {
        if !matches!(work.kind, WorkKind::Forget { .. }) {
            return true;
        }
        let most = usize::try_from(self.allowance_left / LOCK_COST).unwrap_or(usize::MAX);
        let waiting: Vec<WaiterId> = self.waiters.of_lm(lm).take(most).collect();
        self.pay(waiting.len() as u64 * LOCK_COST);
        for id in waiting {
            // The record learns it with the release as a whole.
            let w = self.waiters.remove(id);
            if let How::Reply { token, .. } = w.how {
                fx.reply(token, Reply::Silent);
            }
            self.names.client_mut(w.client).waiters -= 1;
            self.names.drop_owner(w.owner);
            self.names.drop_file(w.file);
            self.settle_client(now, w.client);
            work.waiters += 1;
        }
        self.waiters.of_lm(lm).next().is_none()
    }

    /// True when all locks are done.
    fn change_locks(&mut self, now: Time, lm: LmId, work: &mut Work, fx: &mut Effects) -> bool {
        while self.is_any_left(lm, work) {
            let (batch, rest) = match self.few(lm, work) {
                Some(few) => (few, false),
                None => self.next_batch(lm, work),
            };
            for id in batch {
                self.change(now, work, id, fx);
            }
            if rest {
                return false;
            }
            if matches!(work.kind, WorkKind::Forget { .. }) {
                // What is kept is still there, and nothing new can have come.
                return true;
            }
            work.at = Work::START;
        }
        true
    }

    fn is_any_left(&self, lm: LmId, work: &Work) -> bool {
        let entry = self.names.lm_by_id(lm);
        match work.kind {
            WorkKind::Expire => entry.reclaimable > 0,
            WorkKind::DropExpired => entry.expired > 0,
            WorkKind::Leftovers | WorkKind::DropReleased => entry.kept > 0,
            WorkKind::Forget { .. } => true,
        }
    }

    /// All locks that are to be changed, if finding them by client is cheap enough.
    fn few(&mut self, lm: LmId, work: &Work) -> Option<Vec<LockId>> {
        let concerned = |client: &ClientId| {
            let expires = matches!(work.kind, WorkKind::Expire);
            !expires || self.names.client(*client).reclaimable > 0
        };
        let others = self
            .names
            .lms_in_order()
            .filter(|id| mutant!(WindowEndExpiresAll) && matches!(work.kind, WorkKind::Expire) && *id != lm);
        let lms = std::iter::once(lm).chain(others);
        let missed =
            usize::from(mutant!(ReleaseMissesClient) && matches!(work.kind, WorkKind::Forget { .. }));
        let clients = lms.flat_map(|lm| self.names.clients_of(lm)).skip(missed);
        let clients: Vec<ClientId> = clients.filter(concerned).collect();
        let count: u64 = clients.iter().map(|c| u64::from(self.locks.count_of(*c))).sum();
        if count.saturating_mul(LOCK_COST) > self.allowance_left {
            return None;
        }
        self.pay(count * LOCK_COST);
        let of_clients = clients.iter().flat_map(|client| self.locks.of_client(*client));
        let mut ids: Vec<LockId> = of_clients.filter(|id| self.is_meant(work, *id)).collect();
        ids.sort_unstable_by_key(|id| {
            let lock = self.locks.get(*id);
            (lock.file, lock.owner, lock.range.start)
        });
        Some(ids)
    }

    /// The next locks in the order of files that are to be changed, and whether there may be more.
    fn next_batch(&mut self, lm: LmId, work: &mut Work) -> (Vec<LockId>, bool) {
        let mut left = self.allowance_left;
        let mut more = REST_OF_FILE * LOCK_COST;
        let mut batch = Vec::new();
        let mut rest = false;
        let mut file = None;
        for (at, id) in self.locks.from(work.at) {
            if left == 0 && more > 0 && file == Some(at.0) && self.waiters.any_on(at.0) {
                (left, more) = (more, 0);
            }
            if left == 0 || (more == 0 && file != Some(at.0)) {
                work.at = at;
                rest = true;
                break;
            }
            file = Some(at.0);
            let of_lm = self.names.client(self.locks.get(id).client).lm == lm;
            let meant = of_lm && self.is_meant(work, id);
            left = left.saturating_sub(if meant { LOCK_COST } else { LOOK_COST });
            if meant {
                batch.push(id);
            }
        }
        self.allowance_left = if more == 0 { 0 } else { left };
        (batch, rest)
    }

    fn is_meant(&self, work: &Work, id: LockId) -> bool {
        let attrs = self.locks.get(id).attrs;
        match work.kind {
            WorkKind::Expire => attrs.condition == Condition::Reclaimable,
            WorkKind::DropExpired => attrs.condition == Condition::Expired,
            WorkKind::Leftovers => attrs.kept,
            WorkKind::Forget { .. } | WorkKind::DropReleased => true,
        }
    }

    fn change(&mut self, now: Time, work: &mut Work, id: LockId, fx: &mut Effects) {
        // Merged into one that was changed before.
        let Some(lock) = self.locks.try_get(id) else { return };
        let (attrs, range, file) = (lock.attrs, lock.range, lock.file);
        let place = Place { client: lock.client, owner: lock.owner, file };
        match &work.kind {
            WorkKind::Expire => {
                fx.event(Event::Expired(Box::new(self.stretch(place, range))));
                self.turn(now, id, Attrs { condition: Condition::Expired, ..attrs });
            }
            WorkKind::Forget { keep, .. } if keep.include(self.names.file_key(file)) => {
                if attrs.kept {
                    return;
                }
                let condition = match attrs.condition {
                    Condition::Expired => Condition::Expired,
                    _ => Condition::Reclaimable,
                };
                return self.turn(
                    now,
                    id,
                    Attrs { condition, grant: GrantId(0), under: None, kept: true, ..attrs },
                );
            }
            WorkKind::DropReleased => {
                fx.event(Event::Dropped(Box::new(self.stretch(place, range))));
                self.forget_lock(now, id);
            }
            WorkKind::Forget { .. } | WorkKind::DropExpired | WorkKind::Leftovers => {
                self.forget_lock(now, id)
            }
        }
        work.locks += 1;
        if !matches!(work.kind, WorkKind::DropExpired) {
            self.wake(file, range);
        }
    }

    /// Makes a lock this, and one with the neighbours that are like it then.
    fn turn(&mut self, now: Time, id: LockId, after: Attrs) {
        let lock = self.locks.get(id);
        let (before, range) = (lock.attrs, lock.range);
        let place = Place { client: lock.client, owner: lock.owner, file: lock.file };
        let mut around = self.locks.own(place.file, place.owner, range.widened());
        let merges = around.any(|other| other != id && self.locks.get(other).attrs == after);
        drop(around);
        if merges {
            self.hold(place);
            self.untold(|this| this.overlay(now, place, range, |_| Some(after)));
            self.release(now, place);
        } else {
            self.locks.set_attrs(id, after);
            self.count(place.client, before, false);
            self.count(place.client, after, true);
        }
    }

    fn forget_lock(&mut self, now: Time, id: LockId) {
        let lock = self.locks.remove(id);
        self.count(lock.client, lock.attrs, false);
        self.names.owner_mut(lock.owner).locks -= 1;
        self.names.drop_owner(lock.owner);
        self.names.drop_file(lock.file);
        self.settle_client(now, lock.client);
    }

    /// Notes that waiters are to be looked at when all is loaded.
    pub(super) fn defer(&mut self, lm: LmId, file: FileId, range: Range) {
        if !self.waiters.any_on(file) {
            return;
        }
        let hull = self.names.lm_mut(lm).deferred.entry(file).or_insert(range);
        hull.start = hull.start.min(range.start);
        hull.end = hull.end.max(range.end);
    }

    /// Looks at what was deferred.
    pub(super) fn wake_deferred(&mut self, lm: LmId) {
        for (file, range) in std::mem::take(&mut self.names.lm_mut(lm).deferred) {
            self.wake(file, range);
        }
    }

    fn finished(&mut self, lm: LmId, work: Work, fx: &mut Effects) {
        let address = self.names.lm_by_id(lm).address;
        match work.kind {
            WorkKind::Expire => {
                self.window_ended(lm, work.locks, fx);
                self.end_sweep(lm, work.locks > 0);
            }
            WorkKind::DropExpired => {
                fx.event(Event::ExpiredDropped { lm: address, locks: work.locks });
                self.push_entry(|| Entry::Swept(address, Sweep::DropExpired));
            }
            WorkKind::Forget { clients, again, .. } => {
                self.forget_clients(lm, &clients);
                let (locks, waiters) = (work.locks, work.waiters);
                if !again || locks > 0 {
                    let kept = self.names.lm_by_id(lm).kept;
                    fx.event(Event::Released { lm: address, locks, kept, waiters });
                }
            }
            WorkKind::Leftovers => self.loaded(lm, work.locks, fx),
            WorkKind::DropReleased => {
                let clients: Vec<ClientId> = self.names.clients_of(lm).collect();
                self.forget_clients(lm, &clients);
                fx.event(Event::ReleasedDropped { lm: address, locks: work.locks });
            }
        }
    }

    fn pay(&mut self, cost: u64) {
        self.allowance_left = self.allowance_left.saturating_sub(cost);
    }
}
