//! The life of a lock manager on this node: loaded, released, loaded again. What a release keeps are locks on files that others serve
//! here on: they stay in everybody's way until the lock manager is back or its hold time over.
//!
//! Must never answer for a lock manager that is not loaded, nor let anybody go because of what is being loaded.

use std::net::IpAddr;

use crate::state::command::{Effects, Event};
use crate::state::entry::{Entry, Sweep};
use crate::state::names::{Work, WorkKind};
use crate::state::types::{ClientId, GrantId, LmId, Prefixes, Stage, Time};

use super::Engine;

impl Engine {
    /// Silences a lock manager and begins to forget it. Locks of others keep their verdicts. The exports of locks that are not kept go
    /// with the address, so what waits here for one of them waits on a dead file.
    pub(super) fn release_lm(&mut self, now: Time, lm: IpAddr, keep: &[Box<[u8]>], fx: &mut Effects) {
        let keep = Prefixes::new(keep);
        let (id, new) = self.names.lm(lm);
        let again = new || self.names.lm_by_id(id).stage == Stage::Released;
        let forgotten = mutant!(StrandedLetGo).then(|| Prefixes::new(&[]));
        self.forget_unwritten(id, forgotten.as_ref().unwrap_or(&keep));
        if let Some(work) = &mut self.names.lm_mut(id).work
            && let WorkKind::Forget { keep: old, .. } = &mut work.kind
        {
            // Still at it: with less to keep, from the beginning once more.
            *old = old.both(&keep);
            work.at = Work::START;
            return;
        }
        self.finish_work(now, id, fx);
        self.names.lm_mut(id).stage = Stage::Released;
        if !again {
            self.end_stay(id, fx);
            self.push_entry(|| Entry::Swept(lm, Sweep::Release));
        }
        if mutant!(ReleaseByAddressText) {
            let (text, names) = (lm.to_string(), &self.names);
            let alike = |lm: &LmId| names.lm_by_id(*lm).address.to_string().starts_with(&text) && *lm != id;
            let hit: Vec<ClientId> =
                names.lms_in_order().filter(alike).flat_map(|lm| names.clients_of(lm)).collect();
            for client in hit {
                self.free_client(now, client, |_| true, true, fx);
            }
        }
        let clients: Vec<ClientId> = self.names.clients_of(id).collect();
        self.start_work(now, id, WorkKind::Forget { keep, clients, again }, fx);
    }

    /// What was kept of a released lock manager goes.
    pub(super) fn drop_released(&mut self, now: Time, lm: IpAddr, fx: &mut Effects) {
        let Some(id) = self.names.find_lm(&lm) else { return };
        if self.names.lm_by_id(id).stage != Stage::Released {
            return;
        }
        self.finish_work(now, id, fx);
        self.forget_unwritten(id, &Prefixes::new(&[]));
        if self.names.lm_by_id(id).kept > 0 {
            self.start_work(now, id, WorkKind::DropReleased, fx);
        }
    }

    pub(super) fn begin_load(&mut self, now: Time, lm: IpAddr, fx: &mut Effects) {
        let known = self.names.find_lm(&lm);
        let id = self.lm(lm, fx);
        if known.is_some() && self.names.lm_by_id(id).stage != Stage::Released {
            return;
        }
        self.finish_work(now, id, fx);
        self.names.lm_mut(id).stage = Stage::Loading;
    }

    /// All of the record is in.
    pub(super) fn end_load(&mut self, now: Time, lm: IpAddr, fx: &mut Effects) {
        let Some(id) = self.names.find_lm(&lm) else { return };
        let entry = self.names.lm_by_id(id);
        if entry.stage == Stage::Loading && entry.work.is_none() {
            self.start_work(now, id, WorkKind::Leftovers, fx);
        }
    }

    /// Nothing of an earlier stay is left: from here on requests are served and time passes.
    pub(super) fn loaded(&mut self, lm: LmId, dropped: u64, fx: &mut Effects) {
        let entry = self.names.lm_mut(lm);
        entry.stage = Stage::Loaded;
        let address = entry.address;
        self.forget_unwritten(lm, &Prefixes::new(&[]));
        let entry = self.names.lm_mut(lm);
        self.windows.extend(entry.window.as_ref().map(|w| (w.until, address)));
        self.holds.extend(entry.hold_until.map(|until| (until, address)));
        self.wake_deferred(lm);
        self.wake_all(lm);
        let (clients, locks) = self
            .names
            .clients_of(lm)
            .fold((0, 0), |(clients, locks), id| (clients + 1, locks + u64::from(self.locks.count_of(id))));
        fx.event(Event::Loaded { lm: address, clients, locks, dropped });
    }

    /// Takes clients out that have neither locks nor waiters any more; what is kept of the others is no more than a name.
    pub(super) fn forget_clients(&mut self, lm: LmId, clients: &[ClientId]) {
        for id in clients.iter().copied() {
            if self.names.clients.get(id.index()).is_none_or(|c| c.lm != lm) {
                continue;
            }
            for file in self.shares.remove_client(id) {
                self.names.drop_file(file);
            }
            let kept = self.locks.count_of(id) > 0;
            let client = self.names.client_mut(id);
            (client.shares, client.state, client.recorded, client.listed) = (0, 0, false, false);
            if let Some(since) = client.idle_since.take() {
                self.idle.remove(&(since, id));
            }
            if !kept {
                self.names.remove_client(id);
            }
        }
        self.names.distrust(lm);
    }

    /// How far a lock manager is loaded; `None`: nothing is known of it.
    pub fn stage(&self, lm: IpAddr) -> Option<Stage> {
        self.names.find_lm(&lm).map(|id| self.names.lm_by_id(id).stage)
    }

    /// Whether a change of many locks of this lock manager is under way that [`crate::state::Command::Tick`] goes on with: it is being
    /// forgotten, its window is ending, its loading is being completed.
    pub fn is_working(&self, lm: IpAddr) -> bool {
        self.working.contains(&lm)
    }

    /// Its window and its callbacks end here.
    fn end_stay(&mut self, lm: LmId, fx: &mut Effects) {
        let entry = self.names.lm_mut(lm);
        let address = entry.address;
        if let Some(window) = entry.window.take() {
            self.windows.remove(&(window.until, address));
        }
        if let Some(until) = entry.hold_until.take() {
            self.holds.remove(&(until, address));
        }
        self.wake_deferred(lm);
        let names = &self.names;
        let of_lm = |place: &super::segments::Place| names.client(place.client).lm == lm;
        let grants: Vec<u64> =
            self.grants.iter().filter(|(_, g)| of_lm(&g.place)).map(|(id, _)| *id).collect();
        for grant in grants {
            self.grants.remove(&grant);
            fx.stop_granted(GrantId(grant));
        }
    }
}
