//! Grace windows: how they open, end on time, early or by command, and what becomes of locks that nobody reclaimed.
//!
//! Must never wake, mark or free anything of another lock manager, but for waiters that the change lets go.

use std::net::IpAddr;
use std::time::Duration;

use crate::state::command::{Effects, Event};
use crate::state::entry::{Entry, Sweep};
use crate::state::names::{Window, WorkKind};
use crate::state::table::Attrs;
use crate::state::types::{ClientId, Condition, LmId, LockId, Mode, Prefixes, Range, Stage, Time, WaiterId};

use super::Engine;
use super::segments::Place;

impl Engine {
    pub(super) fn start_grace(
        &mut self,
        now: Time,
        lm: IpAddr,
        deadline: Time,
        full: &[Box<[u8]>],
        park: Duration,
        fx: &mut Effects,
    ) {
        let id = self.lm(lm, fx);
        if self.names.lm_by_id(id).stage == Stage::Released {
            return;
        }
        // A window that is just ending is over first.
        self.finish_work(now, id, fx);
        let entry = self.names.lm_mut(id);
        let old = entry.window.take();
        let mut all = Prefixes::new(full);
        if let Some(old) = old {
            self.windows.remove(&(old.until, lm));
            // A record that was incomplete once stays so until the window is over.
            all.merge(old.full);
        }
        let full = !all.is_empty();
        entry.window = Some(Window { until: deadline, full: all, park });
        let reclaimable = entry.reclaimable;
        if entry.is_loaded() {
            self.windows.insert((deadline, lm));
        }
        self.emptied.insert(lm);
        fx.event(Event::GraceStarted { lm, full, reclaimable });
        self.push_entry(|| Entry::Window { lm, full, until: deadline });
    }

    pub(super) fn set_deadline(&mut self, lm: IpAddr, deadline: Time) {
        let Some(id) = self.names.find_lm(&lm) else { return };
        let entry = self.names.lm_mut(id);
        if entry.is_ending() {
            return;
        }
        let (loaded, full) = (entry.is_loaded(), entry.is_any_full());
        let Some(window) = &mut entry.window else { return };
        let old = std::mem::replace(&mut window.until, deadline);
        if loaded {
            self.windows.remove(&(old, lm));
            if !mutant!(DeadlineIgnored) {
                self.windows.insert((deadline, lm));
            }
        }
        self.push_entry(|| Entry::Window { lm, full, until: deadline });
    }

    /// Ends a window: what is still reclaimable becomes expired, and who waited for it or for the window is looked at
    /// with the next wakes, in order of arrival. With many locks this goes on for some calls, and the window with it.
    pub(super) fn end_grace(&mut self, now: Time, lm: LmId, fx: &mut Effects) {
        let entry = self.names.lm_by_id(lm);
        let Some(window) = entry.window.as_ref().filter(|_| entry.is_loaded() && !entry.is_ending()) else {
            return;
        };
        let full = !window.full.is_empty();
        self.windows.remove(&(window.until, entry.address));
        self.finish_work(now, lm, fx);
        if full {
            self.end_hold(lm);
        } else if self.names.lm_by_id(lm).reclaimable > 0 {
            self.set_hold(now, lm);
        }
        self.begin_sweep(lm);
        self.start_work(now, lm, WorkKind::Expire, fx);
    }

    /// All that was not reclaimed has expired. Of a record that may be incomplete nothing is kept for who comes late: others may have had the
    /// bytes, in the part that is lost.
    pub(super) fn window_ended(&mut self, lm: LmId, expired: u64, fx: &mut Effects) {
        let entry = self.names.lm_mut(lm);
        let Some(window) = entry.window.take() else { return };
        let (address, full, gone) = (entry.address, !window.full.is_empty(), entry.expired > 0);
        fx.event(Event::GraceEnded(address));
        if expired > 0 {
            self.totals.expired += expired;
            fx.event(Event::Unreclaimed { lm: address, locks: expired });
            self.push_entry(|| Entry::Swept(address, Sweep::Expire));
        }
        if full && gone {
            // With it, or a crash in between would leave it to be reclaimed late.
            self.push_entry(|| Entry::Swept(address, Sweep::DropExpired));
        }
        self.push_entry(|| Entry::WindowEnded(address));
        if full {
            self.wake_all(lm);
        }
    }

    /// Looks at all waiters of a lock manager.
    pub(super) fn wake_all(&mut self, lm: LmId) {
        let waiting: Vec<WaiterId> = self.waiters.of_lm(lm).collect();
        for id in waiting {
            let w = self.waiters.get(id);
            self.wake(w.file, w.range);
        }
    }

    /// Ends the windows that have nothing left to wait for. Full ones run to their end: who knows what is missing. And drops what has expired and
    /// is kept for nobody, once the record says so: until then it is in the way of requests through other lock managers.
    pub(super) fn end_emptied(&mut self, now: Time, fx: &mut Effects) {
        while let Some(lm) = self.emptied.pop_first() {
            let Some(lm) = self.names.find_lm(&lm) else { continue };
            let entry = self.names.lm_by_id(lm);
            let waits = entry.window.is_some() && entry.is_loaded() && entry.work.is_none();
            if waits && entry.reclaimable == 0 && (mutant!(FullWindowEndsEarly) || !entry.is_any_full()) {
                self.end_grace(now, lm, fx);
                self.run_wakes(now, fx);
            } else if entry.is_loaded()
                && entry.work.is_none()
                && entry.hold_until.is_none()
                && entry.unswept.is_none()
            {
                self.drop_expired(now, lm, fx);
            }
        }
    }

    /// The hold time of a lock manager's expired locks is over.
    pub(super) fn drop_expired(&mut self, now: Time, lm: LmId, fx: &mut Effects) {
        self.end_hold(lm);
        if self.names.lm_by_id(lm).expired > 0 {
            // In nobody's way: nobody is to be woken.
            self.start_work(now, lm, WorkKind::DropExpired, fx);
        }
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
        if self.expired == 0 && !records {
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
    pub(in crate::state) fn is_doubtful(&self, id: LockId) -> bool {
        let lock = self.locks.get(id);
        lock.attrs.condition == Condition::Reclaimable
            && self.in_full_grace(self.names.client(lock.client).lm, lock.file)
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
            park = park.max(lm.window.as_ref().map(|w| w.park));
        }
        park
    }

    /// Counts what a change of an owner's locks does to the numbers that windows and works hang on.
    pub(super) fn count(&mut self, client: ClientId, attrs: Attrs, added: bool) {
        let step = |n: &mut u64| if added { *n += 1 } else { *n -= 1 };
        let settled = !matches!(attrs.condition, Condition::Reclaimable | Condition::Expired);
        if settled && !attrs.kept {
            return;
        }
        let entry = self.names.client_mut(client);
        let lm = entry.lm;
        if attrs.condition == Condition::Reclaimable {
            step(&mut entry.reclaimable);
        }
        let lm = self.names.lm_mut(lm);
        if attrs.kept {
            step(&mut lm.kept);
        }
        match attrs.condition {
            Condition::Reclaimable => {
                step(&mut lm.reclaimable);
                if lm.reclaimable == 0 {
                    self.emptied.insert(lm.address);
                }
            }
            Condition::Expired => {
                if added && lm.expired == 0 && lm.hold_until.is_none() {
                    self.emptied.insert(lm.address);
                }
                step(&mut lm.expired);
                step(&mut self.expired);
            }
            _ => {}
        }
    }

    /// Starts the hold time of expired locks, anew if one runs: the last window counts.
    pub(super) fn set_hold(&mut self, now: Time, lm: LmId) {
        let until = if mutant!(HoldTimeIgnored) { now } else { now.plus(self.settings.hold) };
        let entry = self.names.lm_mut(lm);
        if let Some(old) = entry.hold_until.replace(until) {
            self.holds.remove(&(old, entry.address));
        }
        if entry.is_loaded() {
            self.holds.insert((until, entry.address));
        }
    }

    /// Expired locks are kept for nobody any more.
    pub(super) fn end_hold(&mut self, lm: LmId) {
        let entry = self.names.lm_mut(lm);
        if let Some(until) = entry.hold_until.take() {
            self.holds.remove(&(until, entry.address));
        }
    }
}
