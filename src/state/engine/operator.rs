//! What operators free: all on a file, all of a client, one lock. Who waits for it goes on; requests that are freed get no answer.
//!
//! Must never free more than what was named, nor more in one call than one call may; nor anything of a lock manager that is not taken up here,
//! or is just being loaded: its record has it still, or another node, and who got the bytes here would have them twice.

use std::net::IpAddr;

use crate::state::command::{Effects, Event, Freed, Reply};
use crate::state::types::{ClientId, LockId, Range, Stage, Time, WaiterId};
use crate::state::waiting::How;

use super::Engine;
use super::segments::Place;

/// What one command has freed so far.
#[derive(Default)]
struct Tally {
    locks: u64,
    waiters: u64,
    shares: u64,
    more: bool,
    /// A lock manager that is not taken up here, some of whose locks were to be freed and stay.
    released: Option<IpAddr>,
}

impl Engine {
    /// Frees all on a file, of every lock manager.
    pub(super) fn free_file(&mut self, now: Time, key: &[u8], fx: &mut Effects) {
        let Some(file) = self.names.find_file(key) else { return };
        self.names.hold_file(file);
        let most = self.settings.locks_per_call.max(1) as usize;
        let mut tally = Tally::default();
        // Waiters first, or they would be granted what the locks give free.
        let waiting: Vec<WaiterId> = self.waiters.of_file(file).take(most + 1).collect();
        self.free_waiters(now, waiting, most, &mut tally, fx);
        if !tally.more {
            let ours = self.locks.of_file(file).filter(|id| !self.is_only_kept(*id));
            let locks: Vec<LockId> = ours.take(most + 1).collect();
            self.free_locks(now, locks, most, &mut tally, fx);
            if !tally.more {
                // What is left.
                tally.released = self.released_of(self.locks.of_file(file));
            }
            for client in self.shares.remove_file(file) {
                self.share_freed(now, client, &mut tally);
                self.names.drop_file(file);
            }
        }
        self.names.drop_file(file);
        self.freed(Freed::File(key.into()), &tally, fx);
    }

    /// Frees all of a client.
    pub(super) fn free_one_client(
        &mut self,
        now: Time,
        lm: IpAddr,
        name: &[u8],
        address: IpAddr,
        fx: &mut Effects,
    ) {
        let known = self.names.find_lm(&lm).and_then(|lm| self.names.find_client(lm, name, &address));
        let Some(client) = known else { return };
        let most = self.settings.locks_per_call.max(1) as usize;
        let mut tally = Tally::default();
        let waiting: Vec<WaiterId> = self.waiters.of_client(client).take(most + 1).collect();
        self.free_waiters(now, waiting, most, &mut tally, fx);
        if !tally.more {
            // All are of one lock manager.
            tally.released = self.released_of(self.locks.of_client(client).take(1));
            let ours = self.locks.of_client(client).filter(|_| tally.released.is_none());
            let locks: Vec<LockId> = ours.take(most + 1).collect();
            self.free_locks(now, locks, most, &mut tally, fx);
            for file in self.shares.remove_client(client) {
                self.share_freed(now, client, &mut tally);
                self.names.drop_file(file);
            }
        }
        self.freed(Freed::Client { lm, name: name.into(), address }, &tally, fx);
    }

    /// Frees the lock with this number in the list, if it is still that one.
    pub(super) fn revoke(&mut self, now: Time, id: u64, fx: &mut Effects) {
        let Some(id) = self.find_lock(id) else { return };
        let (place, range) = self.spot_of(id);
        let what = Freed::Lock(Box::new(self.stretch(place, range)));
        let mut tally = Tally { released: self.released_of(std::iter::once(id)), ..Tally::default() };
        if tally.released.is_none() {
            self.free_locks(now, vec![id], 1, &mut tally, fx);
        }
        self.freed(what, &tally, fx);
    }

    fn free_waiters(
        &mut self,
        now: Time,
        waiting: Vec<WaiterId>,
        most: usize,
        tally: &mut Tally,
        fx: &mut Effects,
    ) {
        tally.more |= waiting.len() > most;
        for id in waiting.into_iter().take(most) {
            if let How::Reply { token, .. } = self.remove_waiter(now, id).how {
                fx.reply(token, Reply::Silent);
            }
            tally.waiters += 1;
        }
    }

    fn free_locks(
        &mut self,
        now: Time,
        locks: Vec<LockId>,
        most: usize,
        tally: &mut Tally,
        fx: &mut Effects,
    ) {
        tally.more |= locks.len() > most;
        let spots: Vec<(Place, Range)> = locks.into_iter().take(most).map(|id| self.spot_of(id)).collect();
        for (place, range) in spots {
            self.hold(place);
            self.free(now, place, range, fx);
            self.release(now, place);
            tally.locks += 1;
        }
    }

    fn share_freed(&mut self, now: Time, client: ClientId, tally: &mut Tally) {
        self.names.client_mut(client).shares -= 1;
        self.settle_client(now, client);
        tally.shares += 1;
    }

    fn freed(&mut self, what: Freed, tally: &Tally, fx: &mut Effects) {
        if tally.locks + tally.waiters + tally.shares == 0 && tally.released.is_none() {
            return;
        }
        self.totals.freed_by_operator += tally.locks;
        let Tally { locks, waiters, more, released, .. } = *tally;
        fx.event(Event::FreedByOperator { what, locks, waiters, more, released });
    }

    /// Whether it is of a lock manager that is not taken up here, or not yet: only in the way.
    pub(in crate::state) fn is_only_kept(&self, id: LockId) -> bool {
        self.names.lm_by_id(self.names.client(self.locks.get(id).client).lm).stage != Stage::Loaded
    }

    fn spot_of(&self, id: LockId) -> (Place, Range) {
        let lock = self.locks.get(id);
        (Place { client: lock.client, owner: lock.owner, file: lock.file }, lock.range)
    }
}
