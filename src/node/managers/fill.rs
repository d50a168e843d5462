//! From a record into memory: clients, locks and waiters into the core, answers into the reply cache. Must never be done to a lock
//! manager that is served already.

use std::net::IpAddr;
use std::time::Duration;

use super::Managers;
use crate::node::records;
use crate::rpc::header::void_reply;
use crate::state::{Command, Event, Party, Route};
use crate::store::Ledger;

impl Managers {
    /// Puts the record into the core. Returns how many locks it would not take.
    pub(super) fn fill(&self, ip: IpAddr, ledger: &Ledger, adopt: bool) -> u64 {
        let desk = &self.rooms.desk;
        desk.run(Command::Load { lm: ip });
        for (client, state) in ledger.clients() {
            let party = Party { lm: ip, name: &client.name, address: client.address };
            desk.run(Command::Restore { party, state: *state });
        }
        let loads = ledger.lock_parts().map(|(owner, file, range, fields)| Command::LoadLock {
            party: Party { lm: ip, name: &owner.client.name, address: owner.client.address },
            oh: &owner.oh,
            svid: owner.svid,
            file,
            range,
            lock: records::lock_state(fields),
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

    /// What this lock manager's requests were answered with last: repeated, they get the same again and change nothing. How old an answer is
    /// the clock of its owner says; that of another node is no measure for it, so there what was answered last counts as answered now.
    pub(super) fn seed_replies(&self, ip: IpAddr, ledger: &Ledger) {
        let (now, unix_ms) = (self.rooms.host.now(), self.unix_now() * 1000);
        let ours = ledger.node() == Some(self.rooms.state_dir.node_label());
        for (seed, age) in ledger.reply_ages().filter(|_| !mutant!(RepliesNotSeeded)) {
            let (key, ago) = (records::key(seed), age_here(ours, unix_ms, seed.at_ms, age));
            // An asynchronous request has an empty reply of its own, and its result comes by a call.
            match self.rooms.results.seed(key, ip, &seed.reply) {
                true => self.rooms.drc.seed(now, &key, &void_reply(seed.xid), ago),
                false => self.rooms.drc.seed(now, &key, &seed.reply, ago),
            }
        }
    }
}

/// How old an answer is taken to be that was given at `at_ms`, `age` before the end of the record. `ours`: by this node's clock.
fn age_here(ours: bool, now_ms: u64, at_ms: u64, age: Duration) -> Duration {
    if ours { Duration::from_millis(now_ms.saturating_sub(at_ms)).max(age) } else { age }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_nodes_clock_neither_ages_an_answer_nor_keeps_it_young() {
        let (age, now) = (Duration::from_secs(30), 10_000_000);
        for at in [0, now - 5_000, now, now + 9_000_000] {
            assert_eq!(age_here(false, now, at, age), age, "{at}");
        }
        assert_eq!(age_here(true, now, now - 600_000, age), Duration::from_secs(600));
        assert_eq!(age_here(true, now, now + 600_000, age), age, "a clock that was set back");
    }
}
