//! Where the tables meet the record: what is loaded from it, and the entries that changes of locks and waiters come with.
//!
//! Must never load what breaks exclusion, and never answer anybody.

use crate::state::command::{Effects, Event, Party, Route};
use crate::state::entry::{Entry, LockState, Stretch};
use crate::state::names::Names;
use crate::state::table::{Attrs, Under};
use crate::state::types::{ClientId, Condition, LmId, Mode, Range, Stage, Time, WaiterId};
use crate::state::waiting::{How, Waiter};

use super::Engine;
use super::segments::Place;

impl Engine {
    /// So many recorded locks, owners and files are about to come, or are here already, kept from the stay before. Changes nothing but how
    /// long that takes.
    pub fn expect(&mut self, locks: usize, owners: usize, files: usize) {
        self.names.reserve_all(owners, files);
        self.locks.reserve(locks.saturating_sub(self.locks.len()));
    }

    /// Lays a recorded lock over what the owner has there.
    #[allow(clippy::too_many_arguments)] // mirrors the command's fields
    pub(super) fn load_lock(
        &mut self,
        now: Time,
        party: Party<'_>,
        (oh, svid): (&[u8], u32),
        file: &[u8],
        range: Range,
        lock: LockState,
        fx: &mut Effects,
    ) {
        let lm = self.lm(party.lm, fx);
        if self.names.lm_by_id(lm).stage == Stage::Released {
            let (name, oh, file) = (party.name.into(), oh.into(), file.into());
            let refused = Stretch { lm: party.lm, name, address: party.address, oh, svid, file, range };
            return fx.event(Event::LoadRefused(Box::new(refused)));
        }
        let likely = self.last_loaded;
        let client = match likely.filter(|p| self.names.is_client(p.client, lm, party.name, &party.address)) {
            Some(place) => place.client,
            None => self.load_client(now, lm, &party),
        };
        let file = self.names.file_like(likely.map(|place| place.file), file);
        let place = Place { client, owner: self.names.owner(client, oh, svid), file };
        self.last_loaded = Some(place);
        self.hold(place);
        self.clear_outdated(now, place, range, lock.mode);
        let (free, taken) = self.free_parts(place, range, lock);
        for part in free {
            self.lay(now, lm, place, part, lock, fx);
        }
        for part in taken {
            fx.event(Event::LoadRefused(Box::new(self.stretch(place, part))));
            if self.names.lm_by_id(lm).stage == Stage::Loading {
                // What was not loaded is nobody's: the record shall say no more than the tables.
                self.untold(|this| this.overlay(now, place, part, |_| None));
                if self.settings.journal {
                    self.journal_lock(place, part, None);
                }
            }
        }
        self.release(now, place);
        self.defer_wakes(lm);
    }

    fn lay(&mut self, now: Time, lm: LmId, place: Place, range: Range, lock: LockState, fx: &mut Effects) {
        self.make_way(now, place, range, lock.mode, false, fx);
        let client = self.names.client_mut(place.client);
        if client.state == 0 {
            client.state = lock.state;
        }
        let mut grants = Vec::new();
        // The lock itself is in the record already.
        let eased = self.untold(|this| {
            let eased = this.overlay(now, place, range, |before| {
                super::grants::note_grant(&mut grants, before);
                Some(attrs_of(lock))
            });
            this.finish_emptied(place, grants, fx);
            eased
        });
        if let Some(eased) = eased {
            self.wake(place.file, eased);
        }
        if lock.condition == Condition::Expired {
            self.set_hold(now, lm);
        }
    }

    /// Takes away what is kept of stays that are over, of this lock manager or of others, where the record says otherwise: it knows better, as
    /// they may have moved on elsewhere since.
    fn clear_outdated(&mut self, now: Time, place: Place, range: Range, mode: Mode) {
        if self.names.lms_in_order().all(|lm| self.names.lm_by_id(lm).kept == 0) {
            return;
        }
        let outdated: Vec<(Place, Range)> = self
            .locks
            .meeting(place.file, range, mode, Some(place.owner))
            .map(|id| self.locks.get(id))
            .filter(|lock| lock.attrs.kept)
            .filter_map(|lock| {
                let place = Place { client: lock.client, owner: lock.owner, file: lock.file };
                Some((place, lock.range.intersection(range)?))
            })
            .collect();
        for (loser, bytes) in outdated {
            self.hold(loser);
            self.untold(|this| this.overlay(now, loser, bytes, |_| None));
            self.wake(loser.file, bytes);
            self.release(now, loser);
        }
    }

    /// The parts of `range` that this lock can have beside those of others, and those that it cannot. Expired ones give way, unless it
    /// is expired itself.
    fn free_parts(&self, place: Place, range: Range, lock: LockState) -> (Vec<Range>, Vec<Range>) {
        let expired = lock.condition == Condition::Expired;
        let mut taken: Vec<Range> = self
            .locks
            .meeting(
                place.file,
                range,
                if mutant!(LoadForgetsShared) { Mode::Exclusive } else { lock.mode },
                Some(place.owner),
            )
            .map(|id| self.locks.get(id))
            .filter(|other| expired || other.attrs.condition != Condition::Expired)
            .filter_map(|other| other.range.intersection(range))
            .collect();
        if taken.is_empty() {
            return (vec![range], taken);
        }
        taken.sort_unstable();
        taken.dedup_by(|next, last| {
            // Shared locks of several owners overlap.
            let one = next.start <= last.end;
            if one {
                last.end = last.end.max(next.end);
            }
            one
        });
        let mut free = Vec::new();
        let mut next = Some(range.start);
        for part in &taken {
            free.extend(next.and_then(|next| Range::new(next, part.start.checked_sub(1)?)));
            next = part.end.checked_add(1);
        }
        free.extend(next.and_then(|next| Range::new(next, range.end)));
        (free, taken)
    }

    /// What is loaded lets nobody go before all is.
    fn defer_wakes(&mut self, lm: LmId) {
        if self.names.lm_by_id(lm).stage == Stage::Loading {
            for (file, range) in std::mem::take(&mut self.to_wake) {
                self.defer(lm, file, range);
            }
        }
    }

    /// Puts a recorded waiter at its place in the line.
    #[allow(clippy::too_many_arguments)] // mirrors the command's fields
    pub(super) fn load_waiter(
        &mut self,
        now: Time,
        party: Party<'_>,
        (oh, svid): (&[u8], u32),
        file: &[u8],
        range: Range,
        mode: Mode,
        state: u32,
        route: &Route,
        seq: u64,
        fx: &mut Effects,
    ) {
        let lm = self.lm(party.lm, fx);
        if self.names.lm_by_id(lm).stage == Stage::Released {
            return;
        }
        let client = self.load_client(now, lm, &party);
        let place = Place { client, owner: self.names.owner(client, oh, svid), file: self.names.file(file) };
        self.hold(place);
        self.names.hold_owner(place.owner);
        self.names.hold_file(place.file);
        self.names.client_mut(client).waiters += 1;
        let (how, since) = (How::Callback(route.clone()), now);
        let (owner, file) = (place.owner, place.file);
        let waiter = Waiter { seq, lm, client, owner, file, range, mode, state, since, how, blocker: None };
        self.waiters.push_at(seq, waiter);
        // Whoever was in its way may be gone.
        self.wake(file, range);
        self.release(now, place);
        self.defer_wakes(lm);
    }

    /// A client of the record. No limit applies: it was let in before.
    pub(super) fn load_client(&mut self, now: Time, lm: LmId, party: &Party<'_>) -> ClientId {
        if let Some(id) = self.names.find_client(lm, party.name, &party.address) {
            return id;
        }
        let id = self.names.add_client(lm, party.name, party.address, now);
        self.settle_client(now, id);
        id
    }

    /// Bytes of an owner, by name.
    pub(super) fn stretch(&self, place: Place, range: Range) -> Stretch {
        stretch(&self.names, place, range)
    }

    /// Adds an entry, if anybody wants them.
    pub(super) fn push_entry(&mut self, entry: impl FnOnce() -> Entry) {
        if self.settings.journal {
            self.journal.push(entry());
        }
    }

    pub(super) fn journal_lock(&mut self, place: Place, range: Range, after: Option<Attrs>) {
        match after {
            None if mutant!(UnsetNotJournalled) => return,
            Some(a) if mutant!(GrantingNotJournalled) && a.condition == Condition::Granting => return,
            _ => {}
        }
        let stretch = stretch(&self.names, place, range);
        self.journal.push(match after {
            None => Entry::Unset(stretch),
            Some(a) => Entry::Set(
                stretch,
                LockState {
                    mode: a.mode,
                    condition: a.condition,
                    state: if mutant!(SetWithOlderState) { a.state.saturating_sub(2) } else { a.state },
                    under: a.under.map(|u| (u.condition, u.state)),
                },
            ),
        });
    }

    pub(super) fn journal_queued(&mut self, id: WaiterId) {
        let w = self.waiters.get(id);
        let How::Callback(route) = &w.how else { return };
        if self.settings.journal {
            let place = Place { client: w.client, owner: w.owner, file: w.file };
            let stretch = stretch(&self.names, place, w.range);
            let (seq, mode, state, route) = (w.seq, w.mode, w.state, route.clone());
            self.journal.push(Entry::Queued { seq, stretch, mode, state, route });
        }
    }

    pub(super) fn journal_unqueued(&mut self, id: WaiterId) {
        let w = self.waiters.get(id);
        if self.settings.journal && matches!(w.how, How::Callback(_)) && !mutant!(UnqueuedNotJournalled) {
            let lm = self.names.lm_by_id(w.lm).address;
            self.journal.push(Entry::Unqueued { lm, seq: w.seq });
        }
    }
}

fn stretch(names: &Names, place: Place, range: Range) -> Stretch {
    let client = names.client(place.client);
    let owner = names.owner_by_id(place.owner);
    Stretch {
        lm: names.lm_by_id(client.lm).address,
        name: client.name.clone(),
        address: client.address,
        oh: owner.oh.clone(),
        svid: owner.svid,
        file: names.file_key(place.file).into(),
        range,
    }
}

fn attrs_of(lock: LockState) -> Attrs {
    let condition = match lock.condition {
        Condition::Granting => Condition::Unconfirmed,
        other => other,
    };
    let open = condition == Condition::Unconfirmed && lock.mode == Mode::Exclusive;
    let under = lock.under.filter(|_| open).map(|(condition, state)| Under {
        condition: if condition == Condition::Unconfirmed { condition } else { Condition::Held },
        state,
    });
    Attrs { condition, under, ..Attrs::held(lock.mode, lock.state) }
}
