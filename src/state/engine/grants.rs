//! Waking waiters, granting them by callback, and what becomes of such a grant.
//!
//! A grant by callback is in the table before the callback leaves: each of its bytes is marked with it, and keeps what was
//! under it, so that a refusal can be undone byte by byte. It never weakens anything: a shared lock granted over bytes
//! the owner holds exclusively leaves them exclusive until the client accepts. No byte of an owner is in two
//! grants at a time: a further waiter of the owner waits until the first is answered.
//!
//! Must never grant out of order of arrival what conflicts.

use std::collections::BTreeSet;

use crate::state::command::{CallbackOutcome, Deny, Effect, Effects, Event, Holder, Reply};
use crate::state::table::{Attrs, Under};
use crate::state::types::{Condition, FileId, GrantId, LockId, Mode, OwnerId, Range, Status, Time, WaiterId};
use crate::state::waiting::How;

use super::Engine;
use super::segments::Place;

/// A grant whose callback is not answered yet.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) place: Place,
    pub(super) range: Range,
    pub(super) mode: Mode,
    pub(super) state: u32,
}

impl Engine {
    /// Notes that waiters of a file that want bytes of `range` may have become free to go. They are looked at by
    /// [`Engine::run_wakes`], once the tables are at rest: in one pass per file, in order, however much was freed.
    pub(super) fn wake(&mut self, file: FileId, range: Range) {
        if !self.waiters.any_on(file) {
            return;
        }
        let hull = self.to_wake.entry(file).or_insert(range);
        hull.start = hull.start.min(range.start);
        hull.end = hull.end.max(range.end);
    }

    /// Looks at the waiters that [`Engine::wake`] noted: always the oldest first, also where one gives bytes up on its way.
    pub(super) fn run_wakes(&mut self, now: Time, fx: &mut Effects) {
        while let Some((file, range)) = self.to_wake.pop_first() {
            let mut todo: BTreeSet<(u64, WaiterId)> = self.in_line(file, range).collect();
            let mut stuck: Vec<(u64, WaiterId)> = Vec::new();
            let mut all = false;
            while let Some((seq, id)) = if mutant!(WaitersLifo) { todo.pop_last() } else { todo.pop_first() }
            {
                self.try_waiter(now, id, fx);
                if self.waiters.try_get(id).is_some_and(|w| w.seq == seq) {
                    stuck.push((seq, id));
                }
                let Some(more) = self.to_wake.remove(&file) else { continue };
                if all {
                    let (free, rest): (Vec<_>, Vec<_>) =
                        stuck.into_iter().partition(|(_, id)| self.waiters.get(*id).range.overlaps(more));
                    todo.extend(free);
                    stuck = rest;
                } else {
                    todo = self.in_line(file, Range::ALL).collect();
                    stuck.clear();
                    all = true;
                }
            }
        }
    }

    fn in_line(&self, file: FileId, range: Range) -> impl Iterator<Item = (u64, WaiterId)> + '_ {
        self.waiters.of_file(file).filter_map(move |id| {
            let w = self.waiters.get(id);
            w.range.overlaps(range).then_some((w.seq, id))
        })
    }

    /// Grants a waiter if nothing is in its way any more; answers a held-back request once there is nothing left that may
    /// yet go away with a window.
    fn try_waiter(&mut self, now: Time, id: WaiterId, fx: &mut Effects) {
        let Some(w) = self.waiters.try_get(id) else { return };
        let loaded = self.names.lm_by_id(w.lm).is_loaded();
        if !loaded || self.in_full_grace(w.lm, w.file) || self.still_blocked(id) {
            return;
        }
        let mut conflicts = self.locks.conflicts(w.file, w.range, w.mode, Some(w.owner));
        let conflict = match w.how {
            How::Callback(_) => conflicts.next(),
            How::Reply { test: true, .. } => None,
            How::Reply { .. } => {
                conflicts.find(|id| self.locks.get(*id).attrs.condition == Condition::Reclaimable)
            }
        };
        drop(conflicts);
        if let Some(lock) = conflict {
            let generation = self.locks.get(lock).generation;
            self.waiters.get_mut(id).blocker = Some((lock, generation));
            return;
        }
        let test = matches!(w.how, How::Reply { test: true, .. });
        let unwritten = || {
            self.unwritten_in_the_way(w.lm, w.file, w.range, w.mode, Some(w.owner)).is_some()
                || self.is_promised(w.file, w.range, w.mode, w.owner, w.seq)
        };
        if !test && unwritten() {
            return;
        }
        match &w.how {
            // The end of the other grant wakes it again.
            How::Callback(_) if self.is_being_granted(w.owner, w.file, w.range) => {}
            How::Callback(_) => self.grant_by_callback(now, id, fx),
            How::Reply { .. } => self.settle_parked(now, id, fx),
        }
    }

    /// Answers a held-back request for good.
    fn settle_parked(&mut self, now: Time, id: WaiterId, fx: &mut Effects) {
        let w = self.waiters.get(id).clone();
        let How::Reply { token, test, .. } = w.how else { return };
        let place = Place { client: w.client, owner: w.owner, file: w.file };
        self.hold(place);
        self.remove_waiter(now, id);
        let conflict = self.locks.conflicts(w.file, w.range, w.mode, Some(w.owner)).next();
        match (conflict, test) {
            (Some(lock), true) => fx.reply(token, Reply::Denied(self.holder(lock))),
            (None, true) => fx.status(token, Status::Granted),
            (Some(_), false) => {
                self.totals.denied += 1;
                fx.status(token, Status::Denied);
            }
            // Many may have been held back: they are counted when they get it.
            (None, false) if self.is_full(w.client) && !self.covers(w.owner, w.file, w.range, w.mode) => {
                self.totals.over_limit += 1;
                let s = self.stretch(place, w.range);
                let (lm, client, svid, file, range) = (s.lm, s.name, s.svid, s.file, s.range);
                fx.event(Event::Denied { lm, client, svid, file, range, why: Deny::LocksPerClient });
                fx.status(token, Status::DeniedNolocks);
            }
            (None, false) => {
                self.record(w.client, fx);
                self.grant_now(now, place, w.range, w.mode, w.state, fx);
                fx.status(token, Status::Granted);
            }
        }
        self.release(now, place);
    }

    /// A held-back request has waited long enough: the client shall ask again.
    pub(super) fn give_up_parked(&mut self, now: Time, id: WaiterId, fx: &mut Effects) {
        let w = self.remove_waiter(now, id);
        if mutant!(ParkedNeverAnswered) {
            return;
        }
        let loaded = self.names.lm_by_id(w.lm).is_loaded();
        if let How::Reply { token, .. } = w.how {
            let status = Reply::Status(Status::DeniedGracePeriod);
            fx.reply(token, if loaded { status } else { Reply::Silent });
        }
    }

    /// Gives the owner these bytes, live, and wakes whom a downgrade lets in.
    pub(super) fn grant_now(
        &mut self,
        now: Time,
        place: Place,
        range: Range,
        mode: Mode,
        state: u32,
        fx: &mut Effects,
    ) {
        self.totals.granted += 1;
        self.make_way(now, place, range, mode, false, fx);
        self.note_return(place, range, fx);
        let mut grants = Vec::new();
        let weaker = self.overlay(now, place, range, |before| {
            note_grant(&mut grants, before);
            Some(Attrs::held(mode, state))
        });
        self.finish_emptied(place, grants, fx);
        if let Some(weaker) = weaker.filter(|_| !mutant!(DowngradeWakesNobody)) {
            self.wake(place.file, weaker);
        }
    }

    /// Takes these bytes from the owner and wakes whom that lets in. True if there was any.
    pub(super) fn free(&mut self, now: Time, place: Place, range: Range, fx: &mut Effects) -> bool {
        let mut grants = Vec::new();
        let freed = self.overlay(now, place, range, |before| {
            note_grant(&mut grants, before);
            None
        });
        self.finish_emptied(place, grants, fx);
        if let Some(freed) = freed {
            let end = if mutant!(WakeUpLost) { freed.start } else { freed.end };
            self.wake(place.file, Range { end, ..freed });
        }
        freed.is_some()
    }

    /// What became of a callback.
    pub(super) fn callback_done(
        &mut self,
        now: Time,
        id: GrantId,
        outcome: CallbackOutcome,
        fx: &mut Effects,
    ) {
        let Some(grant) = self.grants.remove(&id.0) else { return };
        let place = grant.place;
        self.hold(place);
        match outcome {
            CallbackOutcome::Accepted => {
                self.totals.callbacks_confirmed += 1;
                self.confirm(now, id, &grant);
            }
            CallbackOutcome::RefusedFirst if mutant!(RefusedGrantedKeepsLock) => {
                self.leave_unconfirmed(now, id, &grant);
            }
            CallbackOutcome::RefusedLater if mutant!(RefusedLaterFrees) => self.take_back(now, id, &grant),
            CallbackOutcome::Unanswered if mutant!(UnansweredGrantedFrees) => self.take_back(now, id, &grant),
            CallbackOutcome::RefusedFirst => {
                self.totals.callbacks_failed += 1;
                self.take_back(now, id, &grant);
            }
            CallbackOutcome::RefusedLater | CallbackOutcome::Unanswered => {
                self.totals.callbacks_failed += 1;
                self.leave_unconfirmed(now, id, &grant);
            }
        }
        self.wake(place.file, grant.range);
        if outcome != CallbackOutcome::Accepted {
            let client = self.names.client(place.client).name.clone();
            fx.event(Event::CallbackFailed { client, range: grant.range, outcome });
        }
        self.release(now, place);
    }

    /// Ends the grants and unconfirmed locks that a CANCEL names. True if there was one.
    pub(super) fn cancel_grants(
        &mut self,
        now: Time,
        place: Place,
        range: Range,
        mode: Mode,
        fx: &mut Effects,
    ) -> bool {
        let mut found = false;
        let ids: Vec<u64> = self.grants_of(place, range);
        for id in ids {
            let named = self.grants.get(&id).is_some_and(|g| g.range == range && g.mode == mode);
            if let Some(grant) = named.then(|| self.grants.remove(&id)).flatten() {
                fx.stop_granted(GrantId(id));
                self.take_back(now, GrantId(id), &grant);
                self.wake(place.file, grant.range);
                found = true;
            }
        }
        let hull = self.overlay(now, place, range, |before| {
            let before = before?;
            // What another grant in flight includes is left to the answer to that.
            let confirmed = mutant!(LateCancelFrees) && before.condition == Condition::Held;
            let ends = (before.condition == Condition::Unconfirmed || confirmed)
                && before.mode == mode
                && before.grant == GrantId(0);
            if !ends {
                return Some(before);
            }
            found = true;
            before.without_grant()
        });
        if let Some(hull) = hull {
            self.wake(place.file, hull);
        }
        found
    }

    /// A lock as others see it.
    pub(super) fn holder(&self, lock: LockId) -> Holder {
        let lock = self.locks.get(lock);
        let owner = self.names.owner_by_id(lock.owner);
        if mutant!(HolderIsSomebody) {
            return Holder { mode: lock.attrs.mode, svid: 0, oh: (*b"somehost").into(), range: lock.range };
        }
        Holder { mode: lock.attrs.mode, svid: owner.svid, oh: owner.oh.clone(), range: lock.range }
    }

    /// Keeps owner and file alive over a change that may take their last lock.
    pub(super) fn hold(&mut self, place: Place) {
        self.names.hold_owner(place.owner);
        self.names.hold_file(place.file);
    }

    /// Undoes [`Engine::hold`] and notes whether the client has anything left.
    pub(super) fn release(&mut self, now: Time, place: Place) {
        self.names.drop_owner(place.owner);
        self.names.drop_file(place.file);
        self.settle_client(now, place.client);
    }

    /// Whether a grant in flight includes bytes of the owner in this range.
    pub(in crate::state) fn is_being_granted(&self, owner: OwnerId, file: FileId, range: Range) -> bool {
        self.locks.own(file, owner, range).any(|id| self.locks.get(id).attrs.grant != GrantId(0))
    }

    fn still_blocked(&self, id: WaiterId) -> bool {
        let w = self.waiters.get(id);
        w.blocker.and_then(|(lock, generation)| {
            let lock = self.locks.try_get(lock).filter(|l| l.generation == generation)?;
            let waits_for_it = match w.how {
                How::Callback(_) => lock.attrs.condition != Condition::Expired,
                How::Reply { .. } => lock.attrs.condition == Condition::Reclaimable,
            };
            let meets = lock.file == w.file && lock.range.overlaps(w.range);
            Some(waits_for_it && meets && lock.attrs.mode.conflicts(w.mode))
        }) == Some(true)
    }

    fn grant_by_callback(&mut self, now: Time, id: WaiterId, fx: &mut Effects) {
        let w = self.waiters.get(id).clone();
        let How::Callback(route) = w.how else { return };
        let place = Place { client: w.client, owner: w.owner, file: w.file };
        self.hold(place);
        self.unqueue(now, id);
        self.make_way(now, place, w.range, w.mode, false, fx);
        self.note_return(place, w.range, fx);
        self.next_grant += 1;
        let grant = GrantId(self.next_grant);
        let new = Attrs { condition: Condition::Granting, grant, ..Attrs::held(w.mode, w.state) };
        let over = self.names.lm_by_id(w.lm).hold_until.is_none();
        let eased = self.overlay(now, place, w.range, |before| match before {
            None => Some(new),
            // Whoever did not come in time asks as one that has nothing, and has nothing if it does not want this any more.
            Some(b) if b.condition == Condition::Expired && (over || b.mode >= w.mode) => Some(new),
            Some(b) => {
                // Whoever asked for more of its lock is back.
                let condition = match b.condition {
                    Condition::Reclaimable => Condition::Held,
                    other => other,
                };
                Some(match b.mode < w.mode {
                    true => Attrs { under: Some(Under { condition, state: b.state }), ..new },
                    false => Attrs { condition, grant, ..b },
                })
            }
        });
        if let Some(eased) = eased {
            self.wake(place.file, eased);
        }
        self.grants.insert(grant.0, Grant { place, range: w.range, mode: w.mode, state: w.state });
        self.totals.granted += 1;
        let client = self.names.client(w.client);
        let owner = self.names.owner_by_id(w.owner);
        fx.out.push(Effect::SendGranted {
            grant,
            lm: self.names.lm_by_id(w.lm).address,
            to: client.address,
            name: client.name.clone(),
            oh: owner.oh.clone(),
            svid: owner.svid,
            range: w.range,
            mode: w.mode,
            route,
        });
        self.release(now, place);
    }

    /// The client has it: what is still marked with the grant is held in its mode. An exclusive lock under a shared grant
    /// becomes weaker only here.
    fn confirm(&mut self, now: Time, id: GrantId, g: &Grant) {
        self.settle(now, id, g, |_| Some(Attrs::held(g.mode, g.state)));
    }

    /// The client may have it.
    fn leave_unconfirmed(&mut self, now: Time, id: GrantId, g: &Grant) {
        self.settle(now, id, g, |b| {
            let granting = b.condition == Condition::Granting;
            let condition = if granting { Condition::Unconfirmed } else { b.condition };
            Some(Attrs { condition, grant: GrantId(0), ..b })
        });
    }

    /// The client surely does not have it: what is still marked with the grant goes back to what it was.
    fn take_back(&mut self, now: Time, id: GrantId, g: &Grant) {
        self.settle(now, id, g, |b| match b.condition {
            Condition::Granting => b.without_grant(),
            _ => Some(Attrs { grant: GrantId(0), ..b }),
        });
    }

    /// Maps what is still marked with the grant. The caller wakes the waiters of its range.
    fn settle(&mut self, now: Time, id: GrantId, g: &Grant, f: impl Fn(Attrs) -> Option<Attrs>) {
        self.overlay(now, g.place, g.range, |before| match before {
            Some(b) if b.grant == id => f(b),
            other => other,
        });
    }

    /// Ends the grants of which no byte is left: an UNLOCK or LOCK of the client has overtaken them.
    pub(super) fn finish_emptied(&mut self, place: Place, mut touched: Vec<GrantId>, fx: &mut Effects) {
        touched.sort_unstable();
        touched.dedup();
        for id in touched {
            let Some(range) = self.grants.get(&id.0).map(|g| g.range) else { continue };
            // Other waiters of the owner may have waited for these bytes to be settled.
            self.wake(place.file, range);
            let left = self
                .locks
                .own(place.file, place.owner, range)
                .any(|lock| self.locks.get(lock).attrs.grant == id);
            if !left {
                self.grants.remove(&id.0);
                fx.stop_granted(id);
            }
        }
    }

    fn grants_of(&self, place: Place, range: Range) -> Vec<u64> {
        let mut ids: Vec<u64> = self
            .locks
            .own(place.file, place.owner, range)
            .map(|id| self.locks.get(id).attrs.grant.0)
            .filter(|id| *id != 0)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

pub(super) fn note_grant(grants: &mut Vec<GrantId>, before: Option<Attrs>) {
    grants.extend(before.map(|b| b.grant).filter(|g| g.0 != 0));
}
