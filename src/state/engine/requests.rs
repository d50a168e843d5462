//! What each byte-range request gets: the table "What each request gets" of the design, row by row.
//!
//! Must never refuse an UNLOCK or CANCEL of the client itself, and never change anything for one of a stranger.

use std::time::Duration;

use crate::state::command::{Deny, Effects, Event, LockRequest, Party, RefusedKind, Reply, Token};
use crate::state::deadlock::{self, Verdict};
use crate::state::types::{
    ClientId, Condition, FileId, LmId, LockId, Mode, OwnerId, Range, Status, Time, WaiterId,
};
use crate::state::waiting::{How, Waiter};

use super::segments::Place;
use super::{Engine, GraceConflict};

impl Engine {
    pub(super) fn lock(&mut self, now: Time, r: LockRequest<'_>, fx: &mut Effects) {
        let lm = self.lm(r.party.lm, fx);
        if r.reclaim {
            return self.reclaim(now, lm, &r, fx);
        }
        let client = match self.client_for(now, lm, &r.party) {
            Ok(client) => client,
            Err(why) => return self.refuse_limit(&r, why, fx),
        };
        if self.is_late(now, client, r.state) {
            // Nobody waits for the answer any more, and what the client has now is not for this one to free.
            self.denied_event(&r, Deny::Late, fx);
            return fx.reply(r.token, Reply::Silent);
        }
        self.note_state(now, client, r.state, fx);
        let place = self.place(client, &r);
        self.hold(place);
        let status = self.decide_lock(now, lm, place, &r, fx);
        if let Some(status) = status {
            fx.status(r.token, status);
        }
        self.release(now, place);
    }

    #[allow(clippy::too_many_arguments)] // mirrors the command's fields
    pub(super) fn unlock(
        &mut self,
        now: Time,
        party: Party<'_>,
        oh: &[u8],
        svid: u32,
        file: &[u8],
        range: Range,
        token: Token,
        fx: &mut Effects,
    ) {
        if mutant!(UnlockRefusedInGrace) && self.in_window(party.lm) {
            return fx.status(token, Status::DeniedGracePeriod);
        }
        let stops_short = mutant!(UnlockToEofStopsShort) && range.end == u64::MAX && range.start < range.end;
        let range = Range { end: range.end - u64::from(stops_short), ..range };
        let mut freed = false;
        let places = self.held_places(&party, oh, svid, file);
        for place in places.iter().copied() {
            // The sender's own locks come first. Two hosts that share a name and, as cloned machines do, an NSM state
            // number cannot be told apart: what one of them holds itself is surely what it means.
            if freed {
                break;
            }
            self.touch(now, place.client);
            if !mutant!(UnlockLeavesWaiter) {
                self.cancel_overlapping(now, place, range, fx);
            }
            freed |= self.free(now, place, range, fx);
        }
        self.release_all(now, &places);
        if !freed && self.refuse_stranger(&party, oh, svid, file, range, RefusedKind::Unlock, fx) {
            return fx.reply(token, Reply::Silent);
        }
        self.totals.unlocked += 1;
        fx.status(token, Status::Granted);
    }

    #[allow(clippy::too_many_arguments)] // mirrors the command's fields
    pub(super) fn cancel(
        &mut self,
        now: Time,
        party: Party<'_>,
        oh: &[u8],
        svid: u32,
        file: &[u8],
        range: Range,
        mode: Mode,
        token: Token,
        fx: &mut Effects,
    ) {
        if mutant!(CancelRefusedInGrace) && self.in_window(party.lm) {
            return fx.status(token, Status::DeniedGracePeriod);
        }
        let mut cancelled = false;
        let mut held = false;
        let places = self.held_places(&party, oh, svid, file);
        for place in places.iter().copied() {
            self.touch(now, place.client);
            if let Some(waiter) = self.queued(place, range, mode) {
                self.remove_waiter(now, waiter);
                cancelled = true;
            }
            cancelled |= self.cancel_grants(now, place, range, mode, fx);
            held |= self.covers(place.owner, place.file, range, mode);
        }
        self.release_all(now, &places);
        if !cancelled && self.refuse_stranger(&party, oh, svid, file, range, RefusedKind::Cancel, fx) {
            return fx.reply(token, Reply::Silent);
        }
        // A lock whose grant the client has confirmed cannot be cancelled any more: it is the client's. Nothing to cancel at
        // all is no error: the CANCEL may be a repeated one.
        fx.status(token, if held && !cancelled { Status::Denied } else { Status::Granted });
    }

    #[allow(clippy::too_many_arguments)] // mirrors the command's fields
    pub(super) fn test(
        &mut self,
        now: Time,
        party: Party<'_>,
        oh: &[u8],
        svid: u32,
        file: &[u8],
        range: Range,
        mode: Mode,
        token: Token,
        fx: &mut Effects,
    ) {
        let known = self.names.find_lm(&party.lm);
        if let Some(lm) = known.filter(|lm| self.names.lm_by_id(*lm).in_full_grace(file)) {
            return self.park_test(now, lm, &party, (oh, svid), file, range, mode, token, fx);
        }
        let owner = known
            .and_then(|lm| self.names.find_client(lm, party.name, &party.address))
            .and_then(|client| self.names.find_owner(client, oh, svid));
        let counts = |id: &LockId| {
            !mutant!(TestInGraceSaysFree) || self.locks.get(*id).attrs.condition != Condition::Reclaimable
        };
        let conflict = self
            .names
            .find_file(file)
            .and_then(|file| self.locks.conflicts(file, range, mode, owner).find(counts));
        match conflict {
            Some(lock) => fx.reply(token, Reply::Denied(self.holder(lock))),
            None => fx.status(token, Status::Granted),
        }
    }

    fn in_window(&self, lm: std::net::IpAddr) -> bool {
        self.names.find_lm(&lm).is_some_and(|lm| self.names.lm_by_id(lm).window.is_some())
    }

    /// The owner's places: under the asking client and under those it may act for.
    pub(super) fn places(&self, party: &Party<'_>, oh: &[u8], svid: u32, file: &[u8]) -> Vec<Place> {
        let Some(lm) = self.names.find_lm(&party.lm) else { return Vec::new() };
        self.places_of(self.acts_for(lm, party), oh, svid, file)
    }

    pub(super) fn places_of(&self, clients: Vec<ClientId>, oh: &[u8], svid: u32, file: &[u8]) -> Vec<Place> {
        let Some(file) = self.names.find_file(file) else { return Vec::new() };
        clients
            .into_iter()
            .filter_map(|client| {
                let owner = self.names.find_owner(client, oh, svid)?;
                Some(Place { client, owner, file })
            })
            .collect()
    }

    /// The same, all held at once: what is done at one may take the last lock of the file.
    fn held_places(&mut self, party: &Party<'_>, oh: &[u8], svid: u32, file: &[u8]) -> Vec<Place> {
        let places = self.places(party, oh, svid, file);
        for place in &places {
            self.hold(*place);
        }
        places
    }

    fn release_all(&mut self, now: Time, places: &[Place]) {
        for place in places {
            self.release(now, *place);
        }
    }

    pub(super) fn place(&mut self, client: ClientId, r: &LockRequest<'_>) -> Place {
        Place { client, owner: self.names.owner(client, r.oh, r.svid), file: self.names.file(r.file) }
    }

    /// A plain LOCK. `None`: the answer comes later.
    fn decide_lock(
        &mut self,
        now: Time,
        lm: LmId,
        place: Place,
        r: &LockRequest<'_>,
        fx: &mut Effects,
    ) -> Option<Status> {
        let covered = self.covers(place.owner, place.file, r.range, r.mode);
        let but = Some(place.owner).filter(|_| !(mutant!(RepeatedLockDenied) && covered && !r.block));
        let conflict = self.locks.conflicts(place.file, r.range, r.mode, but).next();
        let reads = || self.covers(place.owner, place.file, r.range, Mode::Shared);
        let conflict = conflict.filter(|_| !(mutant!(UpgradeOverReader) && reads()));
        // A record that may be incomplete may also be out of date: only who reclaims is known to mean what he had.
        let proven = covered && !self.is_any_unreclaimed(place.owner, place.file, r.range);
        let window = self.in_full_grace(lm, place.file) && !proven;
        let frozen = mutant!(WholeAddressFreezes) && self.in_window(r.party.lm);
        let all_frozen = mutant!(WholeNodeFreezes) && !self.windows.is_empty();
        if (frozen || all_frozen) && !covered {
            return Some(Status::DeniedGracePeriod);
        }
        let waits_for_record = conflict.is_none() && !covered && self.waits_for_records(lm, place, r);
        if conflict.is_none() && !window && !waits_for_record {
            return Some(self.grant_plain(now, place, r, covered, fx));
        }
        // NM_LOCK never waits.
        if !r.block || !r.monitored {
            let park = match window {
                true => self.names.lm_by_id(lm).window.as_ref().map(|w| w.park),
                false => self
                    .park_for(place, r.range, r.mode)
                    .filter(|_| self.settings.grace_conflict == GraceConflict::Wait),
            };
            if let Some(park) = park {
                return self.park_lock(now, lm, place, r, park, fx);
            }
            self.totals.denied += 1;
            return Some(Status::Denied);
        }
        Some(self.block(now, lm, place, r, fx))
    }

    /// Whether a record of others has to be written first, for this one or for who came before it.
    fn waits_for_records(&self, lm: LmId, place: Place, r: &LockRequest<'_>) -> bool {
        self.unwritten_in_the_way(lm, place.file, r.range, r.mode, Some(place.owner)).is_some()
            || self.is_promised(place.file, r.range, r.mode, place.owner, u64::MAX)
    }

    fn grant_plain(
        &mut self,
        now: Time,
        place: Place,
        r: &LockRequest<'_>,
        covered: bool,
        fx: &mut Effects,
    ) -> Status {
        // Over the limit nothing may be added, nor split by a downgrade; a repeated LOCK changes nothing.
        let changes = !covered || self.has_stronger(place, r.range, r.mode);
        if changes && self.is_full(place.client) {
            return self.over_limit(r, Deny::LocksPerClient, fx);
        }
        // The client took to polling: its callback is overtaken by this reply.
        if let Some(waiter) = self.queued(place, r.range, r.mode) {
            self.remove_waiter(now, waiter);
        }
        if r.monitored && !mutant!(ClientNotListed) {
            self.record(place.client, fx);
        }
        if mutant!(DowngradeLosesRest) && self.has_stronger(place, r.range, r.mode) {
            self.free(now, place, Range::ALL, fx);
        }
        let state = self.state_of(place.client, r.state);
        self.grant_now(now, place, r.range, r.mode, state, fx);
        Status::Granted
    }

    pub(super) fn is_full(&self, client: ClientId) -> bool {
        let limits = &self.settings.limits;
        self.locks.count_of(client) >= limits.locks_per_client || self.locks.len() >= limits.locks as usize
    }

    pub(super) fn has_stronger(&self, place: Place, range: Range, mode: Mode) -> bool {
        self.locks.own(place.file, place.owner, range).any(|id| self.locks.get(id).attrs.mode > mode)
    }

    /// What a record says that may be untrue closes no circle: it is reclaimed, and the LOCK sent again, or it goes with its window.
    pub(in crate::state) fn would_deadlock(
        &self,
        owner: OwnerId,
        file: FileId,
        range: Range,
        mode: Mode,
    ) -> Verdict {
        let counts = |id| !self.is_doubtful(id);
        deadlock::would_deadlock(&self.locks, &self.waiters, owner, file, range, mode, &counts)
    }

    fn block(&mut self, now: Time, lm: LmId, place: Place, r: &LockRequest<'_>, fx: &mut Effects) -> Status {
        let queued = self.queued(place, r.range, r.mode);
        // Nobody waits for an owner that holds nothing.
        let holds = self.names.owner_by_id(place.owner).locks > 0;
        let verdict = match holds {
            true => self.would_deadlock(place.owner, place.file, r.range, r.mode),
            false => Verdict::Clear,
        };
        if verdict != Verdict::Clear {
            if let Some(waiter) = queued {
                self.remove_waiter(now, waiter);
            }
            if verdict == Verdict::TooLarge {
                return self.over_limit(r, Deny::WaitGraph, fx);
            }
            self.totals.deadlocks += 1;
            self.denied_event(r, Deny::Deadlock, fx);
            return Status::Deadlock;
        }
        if let Some(waiter) = queued.filter(|_| !mutant!(BlockedLockQueuedTwice)) {
            let how = &mut self.waiters.get_mut(waiter).how;
            let changed = !matches!(how, How::Callback(route) if route == r.route);
            if changed {
                *how = How::Callback(r.route.clone());
                self.journal_queued(waiter);
            }
            return Status::Blocked;
        }
        if self.may_not_wait(place.client) {
            return self.over_limit(r, Deny::WaitersPerClient, fx);
        }
        self.record(place.client, fx);
        self.totals.blocked += 1;
        let how = How::Callback(r.route.clone());
        self.push_waiter(waiter(now, lm, place, r.range, r.mode, self.state_of(place.client, r.state), how));
        Status::Blocked
    }

    /// Whether the client, or all together, have as many waiting requests as may be.
    fn may_not_wait(&self, client: ClientId) -> bool {
        let limits = &self.settings.limits;
        self.names.client(client).waiters >= limits.waiters_per_client
            || self.waiters.len() >= limits.waiters as usize
    }

    /// Holds a non-blocking LOCK back: the window may end in time for an answer.
    fn park_lock(
        &mut self,
        now: Time,
        lm: LmId,
        place: Place,
        r: &LockRequest<'_>,
        park: Duration,
        fx: &mut Effects,
    ) -> Option<Status> {
        if self.may_not_wait(place.client) {
            return Some(self.over_limit(r, Deny::WaitersPerClient, fx));
        }
        let how = How::Reply { token: r.token, until: now.plus(park), test: false };
        self.push_waiter(waiter(now, lm, place, r.range, r.mode, self.state_of(place.client, r.state), how));
        None
    }

    #[allow(clippy::too_many_arguments)] // mirrors the command's fields
    fn park_test(
        &mut self,
        now: Time,
        lm: LmId,
        party: &Party<'_>,
        (oh, svid): (&[u8], u32),
        file: &[u8],
        range: Range,
        mode: Mode,
        token: Token,
        fx: &mut Effects,
    ) {
        let client = match self.client_for(now, lm, party) {
            Ok(client) if !self.may_not_wait(client) => client,
            // No room to wait in: the client asks again by itself.
            Ok(_) | Err(_) => return fx.status(token, Status::DeniedGracePeriod),
        };
        let place = Place { client, owner: self.names.owner(client, oh, svid), file: self.names.file(file) };
        let park = self.names.lm_by_id(lm).window.as_ref().map(|w| w.park).unwrap_or_default();
        let how = How::Reply { token, until: now.plus(park), test: true };
        self.push_waiter(waiter(now, lm, place, range, mode, 0, how));
        self.settle_client(now, client);
    }

    /// The owner's queued LOCK of exactly this range and mode.
    pub(super) fn queued(&self, place: Place, range: Range, mode: Mode) -> Option<WaiterId> {
        self.waiters.of_owner(place.owner).find(|id| {
            let w = self.waiters.get(*id);
            w.file == place.file && w.range == range && w.mode == mode && matches!(w.how, How::Callback(_))
        })
    }

    fn cancel_overlapping(&mut self, now: Time, place: Place, range: Range, fx: &mut Effects) {
        let waiting: Vec<WaiterId> = self
            .waiters
            .of_owner(place.owner)
            .filter(|id| {
                let w = self.waiters.get(*id);
                w.file == place.file && w.range.overlaps(range)
            })
            .collect();
        for id in waiting {
            if let How::Reply { token, .. } = self.remove_waiter(now, id).how {
                fx.status(token, Status::DeniedGracePeriod);
            }
        }
    }

    /// Whether this request would free something of a client that the sender is not. If so, says so.
    #[allow(clippy::too_many_arguments)] // mirrors the command's fields
    fn refuse_stranger(
        &mut self,
        party: &Party<'_>,
        oh: &[u8],
        svid: u32,
        file: &[u8],
        range: Range,
        kind: RefusedKind,
        fx: &mut Effects,
    ) -> bool {
        let Some(lm) = self.names.find_lm(&party.lm) else { return false };
        let Some(file) = self.names.find_file(file) else { return false };
        let victim = self.strangers(lm, party).into_iter().find(|client| {
            self.names.find_owner(*client, oh, svid).is_some_and(|owner| self.has_any(owner, file, range))
        });
        match victim {
            Some(client) => {
                self.refused(kind, party, client, fx);
                true
            }
            None => false,
        }
    }

    fn has_any(&self, owner: OwnerId, file: crate::state::types::FileId, range: Range) -> bool {
        self.locks.own(file, owner, range).next().is_some()
            || self.waiters.of_owner(owner).any(|id| {
                let w = self.waiters.get(id);
                w.file == file && w.range.overlaps(range)
            })
    }

    pub(super) fn refuse_limit(&mut self, r: &LockRequest<'_>, why: Deny, fx: &mut Effects) {
        let status = self.over_limit(r, why, fx);
        fx.status(r.token, status);
    }

    fn over_limit(&mut self, r: &LockRequest<'_>, why: Deny, fx: &mut Effects) -> Status {
        self.totals.over_limit += 1;
        self.denied_event(r, why, fx);
        Status::DeniedNolocks
    }

    pub(super) fn denied_event(&mut self, r: &LockRequest<'_>, why: Deny, fx: &mut Effects) {
        let (lm, client, svid) = (r.party.lm, r.party.name.into(), r.svid);
        fx.event(Event::Denied { lm, client, svid, file: r.file.into(), range: r.range, why });
    }
}

fn waiter(now: Time, lm: LmId, place: Place, range: Range, mode: Mode, state: u32, how: How) -> Waiter {
    Waiter {
        seq: 0,
        lm,
        client: place.client,
        owner: place.owner,
        file: place.file,
        range,
        mode,
        state,
        since: now,
        how,
        blocker: None,
    }
}
