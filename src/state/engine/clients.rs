//! Clients: who is one, who may act for one, and what their reboots free. DOS shares too, as they belong to clients
//! and not to byte ranges.
//!
//! Must never free anything of a client on somebody else's word.

use crate::state::command::{Deny, Effects, Event, Party, RefusedKind, Reply, Token};
use crate::state::shares::Share;
use crate::state::types::{Access, ClientId, LmId, LockId, Range, Stage, Status, Time, WaiterId};
use crate::state::waiting::How;

use super::segments::Place;
use super::{AddressCheck, Engine, ReclaimMatch};

impl Engine {
    /// The client that makes a request that may create it.
    pub(super) fn client_for(&mut self, now: Time, lm: LmId, party: &Party<'_>) -> Result<ClientId, Deny> {
        if let Some(id) = self.names.find_client(lm, party.name, &party.address) {
            self.touch(now, id);
            return Ok(id);
        }
        let limits = self.settings.limits;
        if self.names.clients.len() >= limits.clients as usize {
            return Err(Deny::Clients);
        }
        if self.names.count_at(&party.address) >= limits.names_per_address as usize {
            return Err(Deny::NamesPerAddress);
        }
        let id = self.names.add_client(lm, party.name, party.address, now);
        self.settle_client(now, id);
        Ok(id)
    }

    pub(super) fn touch(&mut self, now: Time, id: ClientId) {
        self.names.client_mut(id).last_seen = now;
    }

    /// The NSM state that a new lock of this client is taken under.
    pub(super) fn state_of(&self, id: ClientId, sent: u32) -> u32 {
        if sent != 0 { sent } else { self.names.client(id).state }
    }

    /// A plain LOCK stamps the client's state; another one than the recorded one comes from a rebooted client.
    pub(super) fn note_state(&mut self, now: Time, id: ClientId, state: u32, fx: &mut Effects) {
        let recorded = self.names.client(id).state;
        if state == 0 {
            return;
        }
        if state == recorded {
            // The notice came first, or the record told: now its LOCKs say so too.
            self.names.client_mut(id).state_since.get_or_insert(now);
            return;
        }
        if recorded != 0 && !mutant!(RebootUnnoticed) {
            self.free_older(now, id, state, |lock_state| lock_state != state, fx);
            // Those who waited for these locks come before the LOCK that told of the reboot.
            self.run_wakes(now, fx);
        }
        let client = self.names.client_mut(id);
        (client.state, client.state_since) = (state, Some(now));
        client.recorded = false;
    }

    /// Whether a LOCK under this state is one that the client sent before its last reboot.
    pub(super) fn is_late(&self, now: Time, id: ClientId, state: u32) -> bool {
        let client = self.names.client(id);
        let older = state != 0 && client.state != 0 && is_newer(client.state, state);
        let since = client.state_since.filter(|_| older && !mutant!(LateLockFrees));
        since.is_some_and(|since| now < since.plus(self.settings.late))
    }

    /// The clients that a request from this party speaks for: itself, and those of the same name it may act for.
    pub(super) fn acts_for(&self, lm: LmId, party: &Party<'_>) -> Vec<ClientId> {
        let Some(group) = self.names.group(lm, party.name) else { return Vec::new() };
        let own = group.members.get(&party.address).copied();
        let mut clients: Vec<ClientId> = own.into_iter().collect();
        let others = group.members.values().copied().filter(|id| Some(*id) != own);
        match self.settings.address_check {
            _ if mutant!(SpoofedNameUnlocks) => clients.extend(others),
            AddressCheck::Strict => {}
            AddressCheck::Off => clients.extend(others),
            AddressCheck::Learn if group.trusted.contains(&party.address) => clients.extend(others),
            AddressCheck::Learn => {
                // One that has nothing is nobody's proof; but what is said of this host, as a new NSM state, is not said of a stranger that
                // has used the name.
                let state =
                    own.filter(|id| self.is_same_host(lm, party, *id)).map(|id| self.names.client(id).state);
                clients.extend(others.filter(|id| Some(self.names.client(*id).state) == state));
            }
        }
        clients
    }

    /// The clients whose locks a reclaim from this party may name, its own first.
    pub(super) fn reclaims_for(&self, lm: LmId, party: &Party<'_>) -> Vec<ClientId> {
        match self.settings.reclaim_match {
            ReclaimMatch::Owner => self.acts_for(lm, party),
            ReclaimMatch::Strict => {
                self.names.find_client(lm, party.name, &party.address).into_iter().collect()
            }
        }
    }

    /// The clients that may have come back under an address that nobody knows: all of that name, as long as they may be
    /// one host. Only what is not back yet may be reclaimed so.
    pub(super) fn may_be_back_as(&self, lm: LmId, party: &Party<'_>) -> Vec<ClientId> {
        let learns = self.settings.reclaim_match == ReclaimMatch::Owner
            && self.settings.address_check == AddressCheck::Learn;
        let Some(group) = self.names.group(lm, party.name).filter(|_| learns) else { return Vec::new() };
        let live = || group.members.values().map(|id| self.names.client(*id));
        let mut states = live().filter(|c| c.idle_since.is_none()).map(|c| c.state);
        let first = states.next();
        let one_host = states.all(|state| Some(state) == first);
        if group.members.contains_key(&party.address) || !one_host {
            return Vec::new();
        }
        group.members.values().copied().collect()
    }

    /// The clients of that name that the party may not act for. Empty if the party is a client of that name itself: then two
    /// hosts share a name, and each speaks for itself.
    pub(super) fn strangers(&self, lm: LmId, party: &Party<'_>) -> Vec<ClientId> {
        if !self.acts_for(lm, party).is_empty() {
            return Vec::new();
        }
        let Some(group) = self.names.group(lm, party.name) else { return Vec::new() };
        group.members.values().copied().collect()
    }

    pub(super) fn refused(
        &mut self,
        kind: RefusedKind,
        party: &Party<'_>,
        victim: ClientId,
        fx: &mut Effects,
    ) {
        self.totals.refused += 1;
        fx.event(Event::Refused {
            kind,
            lm: party.lm,
            client: party.name.into(),
            from: party.address,
            expected: self.names.client(victim).address,
        });
    }

    pub(super) fn trust(&mut self, party: Party<'_>, _fx: &mut Effects) {
        let known = self.names.find_lm(&party.lm);
        if let Some(lm) = known.filter(|lm| self.names.lm_by_id(*lm).is_loaded()) {
            self.names.trust(lm, party.name, party.address);
        }
    }

    pub(super) fn restore(&mut self, now: Time, party: Party<'_>, state: u32, fx: &mut Effects) {
        let lm = self.lm(party.lm, fx);
        if self.names.lm_by_id(lm).stage == Stage::Released {
            return;
        }
        let id = self.load_client(now, lm, &party);
        let client = self.names.client_mut(id);
        (client.state, client.state_since, client.since) = (state, None, now);
        client.recorded = true;
        client.listed = true;
    }

    /// SM_NOTIFY. A rebooting Linux client sends its full name first, then the short one, and takes any answer for
    /// delivery: a name that only begins like the client's is taken for it too, from the client's own address.
    pub(super) fn rebooted(
        &mut self,
        now: Time,
        party: Party<'_>,
        state: u32,
        token: Token,
        fx: &mut Effects,
    ) {
        let Some(lm) = self.names.find_lm(&party.lm) else { return fx.reply(token, Reply::Void) };
        let mut clients = self.acts_for(lm, &party);
        if mutant!(NoticeFromStranger) && clients.is_empty() {
            clients = self.strangers(lm, &party);
        }
        if clients.is_empty() {
            // One that has nothing loses nothing: the notice can be answered, and the client need not send it for ever.
            let has_something = |id: &ClientId| self.names.client(*id).idle_since.is_none();
            if let Some(victim) = self.strangers(lm, &party).into_iter().find(has_something) {
                self.refused(RefusedKind::Notify, &party, victim, fx);
                return fx.reply(token, Reply::Silent);
            }
            let here: Vec<ClientId> =
                self.names.clients_at(&party.address).filter(|id| self.names.client(*id).lm == lm).collect();
            clients = here
                .iter()
                .copied()
                .filter(|id| same_host_name(&self.names.client(*id).name, party.name))
                .collect();
            if clients.is_empty() && !here.is_empty() {
                // Known here, but under another name: silence makes it try its other names.
                return fx.reply(token, Reply::Silent);
            }
        }
        for id in clients {
            // What was taken under a state that nobody told was taken before the first that was. Has none been told yet, then this may be the
            // one that it was taken under.
            let known = self.names.client(id).state;
            let may_be_late = known == 0 && self.may_be_late(now, id);
            let newer = move |lock_state: u32| {
                let taken = if lock_state == 0 { known } else { lock_state };
                let older = if taken == 0 { !may_be_late } else { is_newer(state, taken) };
                mutant!(OldNoticeFreesNewLocks) || older
            };
            let kept = self.free_older(now, id, state, newer, fx);
            if kept > 0 {
                let client = self.names.client(id).name.clone();
                fx.event(Event::NoticeIgnored { client, state, locks: kept });
            }
            let client = self.names.client_mut(id);
            if client.state == 0 || is_newer(state, client.state) {
                (client.state, client.state_since) = (state, None);
                client.recorded = false;
                self.record(id, fx);
            }
        }
        fx.reply(token, Reply::Void);
    }

    /// Whether a reboot notice may be of the time before we knew the client.
    fn may_be_late(&self, now: Time, id: ClientId) -> bool {
        let client = self.names.client(id);
        self.names.lm_by_id(client.lm).window.is_some() || now < client.since.plus(self.settings.late)
    }

    pub(super) fn free_all(&mut self, now: Time, party: Party<'_>, token: Token, fx: &mut Effects) {
        let Some(lm) = self.names.find_lm(&party.lm) else { return fx.reply(token, Reply::Void) };
        if let Some(victim) = self.strangers(lm, &party).first().copied() {
            self.refused(RefusedKind::FreeAll, &party, victim, fx);
            return fx.reply(token, Reply::Silent);
        }
        for id in self.acts_for(lm, &party) {
            self.free_client(now, id, |_| true, true, fx);
        }
        fx.reply(token, Reply::Void);
    }

    #[allow(clippy::too_many_arguments)] // mirrors the command's fields
    pub(super) fn share(
        &mut self,
        now: Time,
        party: Party<'_>,
        oh: &[u8],
        file: &[u8],
        access: Access,
        deny: Access,
        reclaim: bool,
        token: Token,
        fx: &mut Effects,
    ) {
        let lm = self.lm(party.lm, fx);
        let want = Share { access, deny };
        let client = match self.client_for(now, lm, &party) {
            Ok(client) => client,
            Err(_) => {
                self.totals.over_limit += 1;
                return fx.status(token, Status::DeniedNolocks);
            }
        };
        let key = file;
        let file = self.names.file(key);
        self.names.hold_file(file);
        let have = self.shares.get(file, client, oh);
        // Shares are not recorded: in any window a client may say what it had.
        let entry = self.names.lm_by_id(lm);
        let wrong_time = if reclaim { entry.window.is_none() } else { entry.in_full_grace(key) };
        let status = if have == Some(want) {
            Status::Granted
        } else if wrong_time {
            Status::DeniedGracePeriod
        } else if self.shares.conflict(file, client, oh, want) {
            Status::Denied
        } else if have.is_none() && self.names.client(client).shares >= self.settings.limits.locks_per_client
        {
            self.totals.over_limit += 1;
            Status::DeniedNolocks
        } else {
            if self.shares.set(file, client, oh, want) {
                self.names.hold_file(file);
                self.names.client_mut(client).shares += 1;
            }
            self.record(client, fx);
            Status::Granted
        };
        self.names.drop_file(file);
        self.settle_client(now, client);
        fx.status(token, status);
    }

    pub(super) fn unshare(
        &mut self,
        now: Time,
        party: Party<'_>,
        oh: &[u8],
        file: &[u8],
        token: Token,
        fx: &mut Effects,
    ) {
        let known = self.names.find_lm(&party.lm).zip(self.names.find_file(file));
        let Some((lm, file)) = known else { return fx.status(token, Status::Granted) };
        let mut removed = false;
        for client in self.acts_for(lm, &party) {
            if self.shares.remove(file, client, oh) {
                removed = true;
                self.names.client_mut(client).shares -= 1;
                self.names.drop_file(file);
                self.settle_client(now, client);
                if self.names.find_file_by_id(file).is_none() {
                    break;
                }
            }
        }
        if !removed {
            let victim =
                self.strangers(lm, &party).into_iter().find(|c| self.shares.get(file, *c, oh).is_some());
            if let Some(victim) = victim {
                self.refused(RefusedKind::Unshare, &party, victim, fx);
                return fx.reply(token, Reply::Silent);
            }
        }
        fx.status(token, Status::Granted);
    }

    /// Frees a rebooted client's locks whose state says that they are older; its waiters and shares too if
    /// any lock state can be older. Returns how many locks stay.
    fn free_older(
        &mut self,
        now: Time,
        id: ClientId,
        state: u32,
        is_older: impl Fn(u32) -> bool,
        fx: &mut Effects,
    ) -> u64 {
        let client = self.names.client(id);
        let (name, address) = (client.name.clone(), client.address);
        let (freed, kept) = self.free_client(now, id, is_older, false, fx);
        if freed > 0 {
            self.totals.freed_by_reboot += freed;
            fx.event(Event::FreedByReboot { client: name, address, locks: freed, state });
        }
        kept
    }

    /// Frees those of a client's locks, waiters and (with `shares`, or if any state is old enough) shares that
    /// `which` picks by NSM state. Returns how many locks went and how many stay.
    pub(super) fn free_client(
        &mut self,
        now: Time,
        id: ClientId,
        which: impl Fn(u32) -> bool,
        shares: bool,
        fx: &mut Effects,
    ) -> (u64, u64) {
        // Waiters first, or they would be granted what the locks give free.
        let waiting: Vec<WaiterId> =
            self.waiters.of_client(id).filter(|w| which(self.waiters.get(*w).state)).collect();
        for w in waiting {
            if let How::Reply { token, .. } = self.remove_waiter(now, w).how {
                fx.reply(token, Reply::Silent);
            }
        }
        let all: Vec<LockId> = self.locks.of_client(id).collect();
        let (old, kept): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|lock| which(self.locks.get(*lock).attrs.state));
        let spots: Vec<(Place, Range)> = old
            .iter()
            .map(|lock| {
                let lock = self.locks.get(*lock);
                (Place { client: id, owner: lock.owner, file: lock.file }, lock.range)
            })
            .collect();
        for (place, range) in spots.iter().take(if mutant!(RebootFreesOne) { 1 } else { usize::MAX }) {
            self.hold(*place);
            self.free(now, *place, *range, fx);
            self.release(now, *place);
        }
        if shares || (kept.is_empty() && which(self.names.client(id).state)) {
            for file in self.shares.remove_client(id) {
                self.names.client_mut(id).shares -= 1;
                self.names.drop_file(file);
            }
            self.settle_client(now, id);
        }
        (spots.len() as u64, kept.len() as u64)
    }

    /// Whether all live clients of the name that tell their NSM state tell the same one, and `own` is among them.
    fn is_same_host(&self, lm: LmId, party: &Party<'_>, own: ClientId) -> bool {
        let state = self.names.client(own).state;
        let Some(group) = self.names.group(lm, party.name) else { return false };
        state != 0
            && group.members.values().all(|id| {
                let other = self.names.client(*id);
                other.state == state || other.idle_since.is_some()
            })
    }
}

/// NSM states wrap around as sequence numbers do.
fn is_newer(state: u32, than: u32) -> bool {
    (state.wrapping_sub(than) as i32) > 0
}

/// Whether one of the names is the other's first label ("host1" and "host1.example.org").
fn same_host_name(a: &[u8], b: &[u8]) -> bool {
    let label = |name: &[u8]| name.split(|c| *c == b'.').next().unwrap_or_default().to_ascii_lowercase();
    let is_short = |name: &[u8]| !name.contains(&b'.');
    (is_short(a) || is_short(b)) && label(a) == label(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_by_first_label_only_if_one_is_short() {
        assert!(same_host_name(b"Host1", b"host1.example.org"));
        assert!(!same_host_name(b"host1.a", b"host1.b"));
        assert!(!same_host_name(b"host1", b"host10.example.org"));
    }

    #[test]
    fn states_compare_across_the_wrap() {
        assert!(is_newer(5, 3));
        assert!(!is_newer(3, 3));
        assert!(is_newer(1, u32::MAX));
    }
}
