//! Grace windows: how they open, end on time, early or by command, and what becomes of locks that nobody reclaimed; and the
//! release of a lock manager, which ends it altogether.
//!
//! Must never wake, mark or free anything of another lock manager, but for waiters that the change lets go.

use std::net::IpAddr;
use std::time::Duration;

use crate::state::command::{Effects, Event, Reply};
use crate::state::entry::{Entry, Sweep};
use crate::state::names::Window;
use crate::state::table::Attrs;
use crate::state::types::{ClientId, Condition, GrantId, LmId, LockId, Mode, Range, Time, WaiterId};
use crate::state::waiting::How;

use super::Engine;
use super::segments::Place;

impl Engine {
    pub(super) fn start_grace(
        &mut self,
        lm: IpAddr,
        deadline: Time,
        full: bool,
        park: Duration,
        fx: &mut Effects,
    ) {
        let id = self.lm(lm, fx);
        let entry = self.names.lm_mut(id);
        // A record that was incomplete once stays so until the window is over.
        let full = full || entry.in_full_grace();
        if let Some(old) = entry.window.replace(Window { until: deadline, full, park }) {
            self.windows.remove(&(old.until, lm));
        }
        let reclaimable = entry.reclaimable;
        self.windows.insert((deadline, lm));
        self.emptied.insert(lm);
        fx.event(Event::GraceStarted { lm, full, reclaimable });
        self.push_entry(|| Entry::Window { lm, full, until: deadline });
    }

    pub(super) fn set_deadline(&mut self, lm: IpAddr, deadline: Time) {
        let Some(id) = self.names.find_lm(&lm) else { return };
        let Some(window) = &mut self.names.lm_mut(id).window else { return };
        let old = std::mem::replace(&mut window.until, deadline);
        let full = window.full;
        self.windows.remove(&(old, lm));
        self.windows.insert((deadline, lm));
        self.push_entry(|| Entry::Window { lm, full, until: deadline });
    }

    /// Ends a window: what is still reclaimable becomes expired, and who waited for it or for the window is looked at
    /// with the next wakes, in order of arrival.
    pub(super) fn end_grace(&mut self, now: Time, lm: LmId, fx: &mut Effects) {
        let entry = self.names.lm_mut(lm);
        let Some(window) = entry.window.take() else { return };
        let address = entry.address;
        self.windows.remove(&(window.until, address));
        let expired = self.expire(now, lm, fx);
        fx.event(Event::GraceEnded(address));
        if expired > 0 {
            self.totals.expired += expired;
            fx.event(Event::Unreclaimed { lm: address, locks: expired });
            self.set_hold(now, lm);
            self.push_entry(|| Entry::Swept(address, Sweep::Expire));
        }
        self.push_entry(|| Entry::WindowEnded(address));
        if window.full {
            let waiting: Vec<WaiterId> = self.waiters.of_lm(lm).collect();
            for id in waiting {
                let w = self.waiters.get(id);
                self.wake(w.file, w.range);
            }
        }
    }

    /// Ends the windows that have nothing left to wait for. Full ones run to their end: who knows what is missing.
    pub(super) fn end_emptied(&mut self, now: Time, fx: &mut Effects) {
        while let Some(lm) = self.emptied.pop_first() {
            let Some(lm) = self.names.find_lm(&lm) else { continue };
            let entry = self.names.lm_by_id(lm);
            if entry.reclaimable == 0 && entry.window.is_some_and(|w| !w.full) {
                self.end_grace(now, lm, fx);
                self.run_wakes(now, fx);
            }
        }
    }

    /// The hold time of a lock manager's expired locks is over.
    pub(super) fn drop_expired(&mut self, now: Time, lm: LmId, fx: &mut Effects) {
        let entry = self.names.lm_mut(lm);
        if let Some(until) = entry.hold_until.take() {
            self.holds.remove(&(until, entry.address));
        }
        if entry.expired == 0 {
            return;
        }
        let address = entry.address;
        let spots = self.spots_in(lm, Condition::Expired);
        for (place, range) in &spots {
            self.hold(*place);
            // In nobody's way: nobody is to be woken.
            self.overlay(now, *place, *range, |_| None);
            self.release(now, *place);
        }
        fx.event(Event::ExpiredDropped { lm: address, locks: spots.len() as u64 });
        self.push_entry(|| Entry::Swept(address, Sweep::DropExpired));
    }

    /// Makes way for a lock: what has expired goes, and with `records` what is reclaimable in a full window too. Only
    /// the bytes that are needed.
    pub(super) fn make_way(
        &mut self,
        now: Time,
        place: Place,
        range: Range,
        mode: Mode,
        records: bool,
        fx: &mut Effects,
    ) {
        // As long as anything is expired its hold time runs.
        if self.holds.is_empty() && !records {
            return;
        }
        let yielding: Vec<(Place, Range)> = self
            .locks
            .meeting(place.file, range, mode, Some(place.owner))
            .filter(|id| {
                let expired = self.locks.get(*id).attrs.condition == Condition::Expired;
                expired || (records && self.is_doubtful(*id))
            })
            .filter_map(|id| {
                let lock = self.locks.get(id);
                let place = Place { client: lock.client, owner: lock.owner, file: lock.file };
                Some((place, lock.range.intersection(range)?))
            })
            .collect();
        for (loser, bytes) in yielding {
            fx.event(Event::Yielded(Box::new(self.stretch(loser, bytes))));
            self.hold(loser);
            self.free(now, loser, bytes, fx);
            self.release(now, loser);
        }
    }

    /// Whether a record may be untrue: it was not reclaimed, and its lock manager's window is full.
    pub(super) fn is_doubtful(&self, id: LockId) -> bool {
        let lock = self.locks.get(id);
        lock.attrs.condition == Condition::Reclaimable
            && self.names.lm_by_id(self.names.client(lock.client).lm).in_full_grace()
    }

    /// How long a non-blocking LOCK is held back: only while nothing but reclaimable locks is in its way.
    pub(super) fn park_for(&self, place: Place, range: Range, mode: Mode) -> Option<Duration> {
        let mut park = None;
        for id in self.locks.conflicts(place.file, range, mode, Some(place.owner)) {
            let lock = self.locks.get(id);
            if lock.attrs.condition != Condition::Reclaimable {
                return None;
            }
            let lm = self.names.lm_by_id(self.names.client(lock.client).lm);
            park = park.max(lm.window.map(|w| w.park));
        }
        park
    }

    /// Forgets a lock manager. Locks of others keep their verdicts; who waited for a lock that goes is looked at once per
    /// file. The locks' exports go with the address, so what waits here for a released lock waits on a dead file.
    pub(super) fn release_lm(&mut self, lm: IpAddr, fx: &mut Effects) {
        let Some(id) = self.names.find_lm(&lm) else { return };
        let clients: Vec<ClientId> = self.names.clients_of(id).collect();
        let waiters = self.drop_waiters(id, fx);
        let locks = self.drop_locks(&clients, fx);
        for client in clients {
            for file in self.shares.remove_client(client) {
                self.names.drop_file(file);
            }
            if let Some(since) = self.names.client(client).idle_since {
                self.idle.remove(&(since, client));
            }
            self.names.remove_client(client);
        }
        let entry = self.names.remove_lm(id);
        if let Some(window) = entry.window {
            self.windows.remove(&(window.until, lm));
        }
        if let Some(until) = entry.hold_until {
            self.holds.remove(&(until, lm));
        }
        self.emptied.remove(&lm);
        self.push_entry(|| Entry::Swept(lm, Sweep::Release));
        fx.event(Event::Released { lm, locks, waiters });
    }

    /// Counts what a change of an owner's locks does to the numbers a window hangs on.
    pub(super) fn count(&mut self, client: ClientId, attrs: Attrs, added: bool) {
        let step = |n: &mut u64| if added { *n += 1 } else { *n -= 1 };
        match attrs.condition {
            Condition::Reclaimable => {
                let entry = self.names.client_mut(client);
                step(&mut entry.reclaimable);
                let id = entry.lm;
                let lm = self.names.lm_mut(id);
                step(&mut lm.reclaimable);
                if lm.reclaimable == 0 {
                    self.emptied.insert(lm.address);
                }
            }
            Condition::Expired => {
                let id = self.names.client(client).lm;
                step(&mut self.names.lm_mut(id).expired);
            }
            _ => {}
        }
    }

    /// Starts the hold time of expired locks, anew if one runs: the last window counts.
    pub(super) fn set_hold(&mut self, now: Time, lm: LmId) {
        let until = now.plus(self.settings.hold);
        let entry = self.names.lm_mut(lm);
        if let Some(old) = entry.hold_until.replace(until) {
            self.holds.remove(&(old, entry.address));
        }
        self.holds.insert((until, entry.address));
    }

    fn expire(&mut self, now: Time, lm: LmId, fx: &mut Effects) -> u64 {
        let entry = self.names.lm_by_id(lm);
        if entry.reclaimable == 0 {
            return 0;
        }
        // Where nothing was expired before, no two locks become alike: each can change in its place.
        let in_place = entry.expired == 0;
        let mut spots = self.spots_in(lm, Condition::Reclaimable);
        spots.sort_unstable_by_key(|(place, range)| (place.file, range.start, place.owner));
        for (place, range) in &spots {
            fx.event(Event::Expired(Box::new(self.stretch(*place, *range))));
            let id = self.locks.own(place.file, place.owner, *range).next();
            match id.filter(|_| in_place) {
                Some(id) => {
                    let attrs = self.locks.get(id).attrs;
                    self.locks.set_condition(id, Condition::Expired);
                    self.count(place.client, attrs, false);
                    self.count(place.client, Attrs { condition: Condition::Expired, ..attrs }, true);
                }
                None => {
                    let expired = |b: Attrs| Attrs { condition: Condition::Expired, ..b };
                    self.hold(*place);
                    self.overlay(now, *place, *range, |before| before.map(expired));
                    self.release(now, *place);
                }
            }
            self.wake(place.file, *range);
        }
        spots.len() as u64
    }

    fn spots_in(&self, lm: LmId, condition: Condition) -> Vec<(Place, Range)> {
        let clients = self.names.clients_of(lm);
        clients
            .flat_map(|client| self.locks.of_client(client))
            .map(|id| self.locks.get(id))
            .filter(|lock| lock.attrs.condition == condition)
            .map(|lock| (Place { client: lock.client, owner: lock.owner, file: lock.file }, lock.range))
            .collect()
    }

    fn drop_waiters(&mut self, lm: LmId, fx: &mut Effects) -> u64 {
        let waiting: Vec<WaiterId> = self.waiters.of_lm(lm).collect();
        for id in &waiting {
            // The record learns it with the release as a whole.
            let w = self.waiters.remove(*id);
            if let How::Reply { token, .. } = w.how {
                fx.reply(token, Reply::Silent);
            }
            self.names.client_mut(w.client).waiters -= 1;
            self.names.drop_owner(w.owner);
            self.names.drop_file(w.file);
        }
        waiting.len() as u64
    }

    fn drop_locks(&mut self, clients: &[ClientId], fx: &mut Effects) -> u64 {
        let gone = self.locks.remove_clients(clients);
        let mut grants: Vec<GrantId> = Vec::new();
        for lock in &gone {
            if lock.attrs.grant != GrantId(0) {
                grants.push(lock.attrs.grant);
            }
            self.wake(lock.file, lock.range);
            self.names.owner_mut(lock.owner).locks -= 1;
            self.names.drop_owner(lock.owner);
            self.names.drop_file(lock.file);
        }
        grants.sort_unstable();
        grants.dedup();
        for grant in grants {
            self.grants.remove(&grant.0);
            fx.stop_granted(grant);
        }
        gone.len() as u64
    }
}
