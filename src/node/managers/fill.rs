//! From a record into memory: clients, locks and waiters into the core, answers into the reply cache. Must never be done to a lock
//! manager that is served already.

use std::net::IpAddr;

use super::Managers;
use crate::node::records;
use crate::rpc::drc::DRC_ENTRIES;
use crate::rpc::header::void_reply;
use crate::state::{Command, Event, LockState, Party, Route};
use crate::store::Ledger;

/// So many answers go into the reply cache, the last ones, 4,096: a quarter of what it holds. Several lock managers come at once when a node
/// dies, and each is to find room for what its clients may still repeat.
const SEEDS: usize = DRC_ENTRIES / 4;

impl Managers {
    /// Puts the record into the core. `full`: it may be incomplete. Returns how many locks it would not take.
    pub(super) fn fill(&self, ip: IpAddr, ledger: &Ledger, adopt: bool, full: bool) -> u64 {
        let desk = &self.rooms.desk;
        desk.run(Command::Load { lm: ip });
        desk.expect(ledger.lock_count(), ledger.owner_count(), ledger.locked_files().count());
        for (client, state) in ledger.clients() {
            let party = Party { lm: ip, name: &client.name, address: client.address };
            desk.run(Command::Restore { party, state: *state });
        }
        let loads = ledger.lock_parts().map(|(owner, file, range, fields)| Command::LoadLock {
            party: Party { lm: ip, name: owner.name, address: owner.address },
            oh: owner.oh,
            svid: owner.svid,
            file,
            range,
            // A record that may be incomplete may have missed that its client has rebooted, and has taken the same again.
            lock: match full {
                true => LockState { state: 0, ..records::lock_state(fields) },
                false => records::lock_state(fields),
            },
        });
        let events = desk.run_each(loads);
        let refused = events.iter().filter(|e| matches!(e, Event::LoadRefused(_))).count() as u64;
        if adopt && !mutant!(AdoptDropsWaiters) {
            self.fill_waiters(ip, ledger);
        }
        refused
    }

    pub(super) fn fill_waiters(&self, ip: IpAddr, ledger: &Ledger) {
        for (seq, w) in ledger.waiters() {
            let owner = &w.place.owner;
            let party = Party { lm: ip, name: &owner.client.name, address: owner.client.address };
            let (version, tcp, asynchronous) = (w.version, w.tcp, w.asynchronous);
            let route = Route { version, tcp, asynchronous, handle: w.handle.clone() };
            self.rooms.desk.run(Command::LoadWaiter {
                party,
                oh: &owner.oh,
                svid: owner.svid,
                file: &w.place.file,
                range: w.place.range,
                mode: w.mode,
                state: w.state,
                route: &route,
                seq: *seq,
            });
        }
    }

    /// What this lock manager's requests were answered with last: repeated, they get the same again and change nothing. How long ago that
    /// was is not asked: two nodes' clocks may differ, and one may have been set meanwhile.
    pub(super) fn seed_replies(&self, ip: IpAddr, ledger: &Ledger) {
        let now = self.rooms.host.now();
        let replies = ledger.replies().iter().filter(|_| !mutant!(RepliesNotSeeded));
        for seed in replies.skip(ledger.replies().len().saturating_sub(SEEDS)) {
            let key = records::key(seed);
            // An asynchronous request has an empty reply of its own, and its result comes by a call.
            match self.rooms.results.seed(key, ip, &seed.reply) {
                true => self.rooms.drc.seed(now, &key, &void_reply(seed.xid)),
                false => self.rooms.drc.seed(now, &key, &seed.reply),
            }
        }
    }
}
