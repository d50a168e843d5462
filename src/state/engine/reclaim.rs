//! Reclaims: who gets back what, and what it is checked against.
//!
//! Must never grant a reclaim that nothing covers, but in a full window, and never weaken what is there.

use crate::state::command::{Deny, Effects, Event, LockRequest, Party, Reply};
use crate::state::table::Attrs;
use crate::state::types::{Condition, FileId, LmId, Mode, OwnerId, Range, Status, Time};

use super::Engine;
use super::grants::note_grant;
use super::segments::Place;

/// What decides on a reclaim. Questions have no token and need no route.
#[derive(Clone, Copy, Debug)]
pub(in crate::state) struct Claim<'a> {
    pub(in crate::state) party: Party<'a>,
    pub(in crate::state) oh: &'a [u8],
    pub(in crate::state) svid: u32,
    pub(in crate::state) file: &'a [u8],
    pub(in crate::state) range: Range,
    pub(in crate::state) mode: Mode,
}

/// What a reclaim is granted on.
#[derive(Clone, Copy, Debug)]
pub(in crate::state) enum Ground {
    /// The record: all of it is this owner's.
    Record(Place),
    /// The record too, under an address that the client is not known by.
    Moved(Place),
    /// The client's word, in a full window, if nothing held is in its way.
    Word,
    /// Nothing.
    Nothing(Deny),
}

impl Engine {
    /// What a reclaim can be granted on.
    pub(in crate::state) fn ground(&self, lm: LmId, c: &Claim<'_>) -> Ground {
        let mode = if mutant!(ReclaimStronger) { Mode::Shared } else { c.mode };
        let entry = self.names.lm_by_id(lm);
        let kept = entry.hold_until.is_some() || entry.expired == 0;
        let is_covered = |place: &Place| {
            let any = mutant!(ReclaimBeyondRecord)
                && self.locks.own(place.file, place.owner, c.range).next().is_some();
            let any_expired = || self.is_any_expired(place, c.range);
            any || (self.covers(place.owner, place.file, c.range, mode) && (kept || !any_expired()))
        };
        let known = self.places_of(self.reclaims_for(lm, &c.party), c.oh, c.svid, c.file);
        if let Some(place) = known.into_iter().find(is_covered) {
            return Ground::Record(place);
        }
        let back = self.places_of(self.may_be_back_as(lm, &c.party), c.oh, c.svid, c.file);
        if let Some(place) = back.into_iter().find(|p| is_covered(p) && self.is_unreclaimed(p, c.range)) {
            return Ground::Moved(place);
        }
        self.ground_of_strangers(lm, c.file)
    }

    /// What a reclaim can be granted on by somebody of whom nothing is recorded.
    pub(in crate::state) fn ground_of_strangers(&self, lm: LmId, file: &[u8]) -> Ground {
        let entry = self.names.lm_by_id(lm);
        if entry.in_full_grace(file) || (mutant!(ReclaimWithoutProof) && entry.window.is_some()) {
            Ground::Word
        } else if entry.window.is_some() {
            Ground::Nothing(Deny::ReclaimBeyond)
        } else {
            Ground::Nothing(Deny::ReclaimTooLate)
        }
    }

    pub(super) fn reclaim(&mut self, now: Time, lm: LmId, r: &LockRequest<'_>, fx: &mut Effects) {
        let claim =
            Claim { party: r.party, oh: r.oh, svid: r.svid, file: r.file, range: r.range, mode: r.mode };
        let place = match self.ground(lm, &claim) {
            Ground::Record(place) => place,
            Ground::Moved(place) => {
                // Its UNLOCK will come from there too.
                self.names.trust(lm, r.party.name, r.party.address);
                place
            }
            Ground::Word => return self.reclaim_by_word(now, lm, r, fx),
            Ground::Nothing(why) => {
                self.totals.reclaim_refused += 1;
                self.denied_event(r, why, fx);
                let late = why == Deny::ReclaimTooLate;
                return fx.status(r.token, if late { Status::DeniedGracePeriod } else { Status::Denied });
            }
        };
        self.hold(place);
        self.touch(now, place.client);
        self.take_reclaim(now, place, r, fx);
        self.release(now, place);
        if mutant!(FirstReclaimEndsWindow) {
            self.end_grace(now, lm, fx);
        }
    }

    /// In a full window the word of a live client counts for more than an incomplete record.
    fn reclaim_by_word(&mut self, now: Time, lm: LmId, r: &LockRequest<'_>, fx: &mut Effects) {
        let client = match self.client_for(now, lm, &r.party) {
            Ok(client) => client,
            Err(why) => return self.refuse_limit(r, why, fx),
        };
        let place = self.place(client, r);
        self.hold(place);
        let conflict = self
            .locks
            .conflicts(place.file, r.range, r.mode, Some(place.owner))
            .any(|id| !self.is_doubtful(id));
        let unwritten =
            || self.unwritten_in_the_way(lm, place.file, r.range, r.mode, Some(place.owner)).is_some();
        if conflict {
            self.totals.reclaim_refused += 1;
            self.denied_event(r, Deny::ReclaimConflict, fx);
            fx.status(r.token, Status::Denied);
        } else if unwritten() {
            // Two records would have it after a crash. There is no refusal after which a client reclaims again, but it repeats what it hears
            // nothing of.
            fx.reply(r.token, Reply::Silent);
        } else if self.is_full(client) {
            self.refuse_limit(r, Deny::LocksPerClient, fx);
        } else {
            self.make_way(now, place, r.range, r.mode, true, fx);
            self.take_reclaim(now, place, r, fx);
        }
        self.release(now, place);
    }

    /// Whether nothing that the owner has there is live.
    fn is_unreclaimed(&self, place: &Place, range: Range) -> bool {
        let own = self.locks.own(place.file, place.owner, range);
        own.map(|id| self.locks.get(id).attrs.condition)
            .all(|c| matches!(c, Condition::Reclaimable | Condition::Expired))
    }

    fn is_any_expired(&self, place: &Place, range: Range) -> bool {
        let mut own = self.locks.own(place.file, place.owner, range);
        own.any(|id| self.locks.get(id).attrs.condition == Condition::Expired)
    }

    /// Whether anything that the owner has there is not.
    pub(in crate::state) fn is_any_unreclaimed(&self, owner: OwnerId, file: FileId, range: Range) -> bool {
        let own = self.locks.own(file, owner, range);
        own.map(|id| self.locks.get(id).attrs.condition)
            .any(|c| matches!(c, Condition::Reclaimable | Condition::Expired))
    }

    /// Grants a reclaim. It never weakens what is there, but for what a record that may be incomplete says, or said in its window: it may
    /// have missed that the owner took less, and others hold the rest. What the client was not known to have is confirmed: nobody
    /// reclaims what it does not hold.
    fn take_reclaim(&mut self, now: Time, place: Place, r: &LockRequest<'_>, fx: &mut Effects) {
        self.record(place.client, fx);
        // Reclaims carry state 0; what was recorded of the client stays true.
        let new = Attrs::held(r.mode, self.state_of(place.client, r.state));
        let mut grants = Vec::new();
        let doubtful = self.in_full_grace(self.names.client(place.client).lm, place.file);
        let eased = self.overlay(now, place, r.range, |before| match before {
            Some(b) if matches!(b.condition, Condition::Reclaimable | Condition::Expired) => {
                let state = if b.mode >= r.mode { b.state } else { new.state };
                let late = b.condition == Condition::Expired;
                let mode = if doubtful || late { r.mode } else { b.mode.max(r.mode) };
                Some(Attrs { state, ..Attrs::held(mode, 0) })
            }
            Some(b) if b.mode > r.mode || (b.mode == r.mode && b.condition == Condition::Held) => Some(b),
            Some(b) => {
                note_grant(&mut grants, Some(b));
                let state = if b.mode == r.mode { b.state } else { new.state };
                Some(Attrs { state, ..new })
            }
            None => Some(new),
        });
        self.finish_emptied(place, grants, fx);
        // Who was held back because this might go away gets its answer.
        if let Some(eased) = eased {
            self.wake(place.file, eased);
        }
        self.totals.granted += 1;
        self.is_back(place, r.range, fx);
        fx.status(r.token, Status::Granted);
    }

    /// A grant of bytes that the owner has not reclaimed yet is their reclaim.
    pub(super) fn note_return(&mut self, place: Place, range: Range, fx: &mut Effects) {
        let mut own = self.locks.own(place.file, place.owner, range);
        let condition = |id| self.locks.get(id).attrs.condition;
        let back = own.any(|id| matches!(condition(id), Condition::Reclaimable | Condition::Expired));
        drop(own);
        if back {
            self.is_back(place, range, fx);
        }
    }

    fn is_back(&mut self, place: Place, range: Range, fx: &mut Effects) {
        self.totals.reclaimed += 1;
        let client = self.names.client(place.client);
        let (name, address) = (client.name.clone(), client.address);
        let lm = self.names.lm_by_id(client.lm).address;
        let (svid, file) = (self.names.owner_by_id(place.owner).svid, self.names.file_key(place.file).into());
        fx.event(Event::Reclaimed { lm, client: name, address, svid, file, range });
    }
}
