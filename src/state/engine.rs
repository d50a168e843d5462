//! The engine: takes commands, keeps the tables, says what to do. This file has its outside and the timers; what each
//! request gets is in `requests` and `reclaim`, clients and their reboots in `clients`, waking and callbacks in `grants`,
//! changes of byte ranges in `segments`, grace windows in `windows`, releases and loading in `stays`, what comes from and goes to the
//! record in `load`, what is not in it yet in `unwritten`, what operators free in `operator`, changes of very many locks in `work`.
//!
//! Must never answer before its tables are changed for good: an effect, once out, is true.

#[cfg(any(test, fuzzing))]
mod check;
mod clients;
mod grants;
mod known;
mod load;
mod operator;
pub(super) mod reclaim;
mod requests;
mod segments;
mod stays;
mod unwritten;
mod windows;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::command::{Command, Effect, Effects, Event, Party, Reply, Token};
use super::entry::Entry;
use super::names::Names;
use super::shares::Shares;
use super::table::LockTable;
use super::types::{ClientId, FileId, LmId, Range, Stage, Time, WaiterId};
use super::unwritten::Unwritten;
use super::waiting::{Waiter, Waiters};
use grants::Grant;

/// Which addresses may act for a client (setting `client.address_check`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressCheck {
    /// Another address that locks under the same name with the same NSM state, or that an operator vouched for.
    Learn,
    /// Only the one the locks came from.
    Strict,
    /// Any.
    Off,
}

/// What a non-blocking LOCK gets while only reclaimable locks are in its way (setting `grace.conflict`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraceConflict {
    /// It is held back for a while, then DENIED_GRACE_PERIOD.
    Wait,
    /// DENIED, as if they were held.
    Deny,
}

/// Whose records a reclaim may name (setting `reclaim.match`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReclaimMatch {
    /// Owner and range decide; the address as [`AddressCheck`] says, where an unknown one will do if the name is one host's.
    Owner,
    /// The address must be the recorded one too.
    Strict,
}

/// Bounds; past them DENIED_NOLOCKS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Locks a client may hold.
    pub locks_per_client: u32,
    /// Requests of one client that may wait.
    pub waiters_per_client: u32,
    /// Locks in all, 20,000,000: some 4 GB. A client's own limit is far below, so many clients must conspire to reach it.
    pub locks: u32,
    /// Waiting requests in all, 1,000,000: some 600 MB.
    pub waiters: u32,
    /// Clients in all.
    pub clients: u32,
    /// Clients from one address.
    pub names_per_address: u32,
}

/// What the engine can be told at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bounds.
    pub limits: Limits,
    /// Which addresses may act for a client.
    pub address_check: AddressCheck,
    /// What a non-blocking LOCK gets while only reclaimable locks are in its way.
    pub grace_conflict: GraceConflict,
    /// Whose records a reclaim may name.
    pub reclaim_match: ReclaimMatch,
    /// How long expired locks are kept.
    pub hold: Duration,
    /// Whether changes of locks and waiters come with entries.
    pub journal: bool,
    /// For so long after a client's reboot was noticed, a LOCK under an older NSM state is taken for one from before: it may have lain in
    /// the queue of a node that stood still. Later it comes from a host that has lost its NSM state. And for so long after a client
    /// came or was loaded, a reboot notice is not taken for one of a reboot since where no NSM state tells: it may come late, or again, as its
    /// answer was lost with the node before. A Linux client (sm-notify) repeats it after two minutes at the latest.
    pub late: Duration,
    /// With a journal: whether what was freed through one lock manager is in the way of the others until the caller says that it is
    /// written. Off only where all lock managers are written together.
    pub await_records: bool,
    /// How many locks of a lock manager one call changes where all of them are concerned, 1,000: some 1 ms, in which everybody waits.
    /// The rest is done by further calls.
    pub locks_per_call: u32,
    /// A client that has nothing for this long is forgotten, and with it its place on the SM_NOTIFY list.
    pub forget_after: Duration,
    /// Secret seed of the hash tables; fixed in tests. Does not change any outcome.
    pub hash_seed: u64,
    /// Where the numbers of rows begin; another one in each process. Does not change any outcome.
    pub first_id: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits {
                locks_per_client: 1_000_000,
                waiters_per_client: 100_000,
                locks: 20_000_000,
                waiters: 1_000_000,
                clients: 100_000,
                names_per_address: 1_000,
            },
            address_check: AddressCheck::Learn,
            grace_conflict: GraceConflict::Wait,
            reclaim_match: ReclaimMatch::Owner,
            hold: Duration::from_secs(24 * 3600),
            journal: false,
            late: Duration::from_secs(180),
            await_records: true,
            locks_per_call: 1_000,
            forget_after: Duration::from_secs(600),
            hash_seed: 0,
            first_id: 0,
        }
    }
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// LOCKs granted, at once or later.
    pub granted: u64,
    /// LOCKs denied for a conflict.
    pub denied: u64,
    /// LOCKs queued.
    pub blocked: u64,
    /// LOCKs refused as a deadlock.
    pub deadlocks: u64,
    /// UNLOCKs.
    pub unlocked: u64,
    /// Callbacks accepted.
    pub callbacks_confirmed: u64,
    /// Callbacks refused or never answered.
    pub callbacks_failed: u64,
    /// Requests over a limit.
    pub over_limit: u64,
    /// Requests from an address that is not the client's.
    pub refused: u64,
    /// Locks freed because their client rebooted.
    pub freed_by_reboot: u64,
    /// Reclaims granted.
    pub reclaimed: u64,
    /// Reclaims refused.
    pub reclaim_refused: u64,
    /// Locks that were not reclaimed in their window.
    pub expired: u64,
    /// Locks freed by operators.
    pub freed_by_operator: u64,
}

/// The lock core.
#[derive(Debug)]
pub struct Engine {
    pub(super) settings: Settings,
    pub(super) names: Names,
    pub(super) locks: LockTable,
    pub(super) waiters: Waiters,
    pub(super) shares: Shares,
    grants: BTreeMap<u64, Grant>,
    next_grant: u64,
    /// Clients that have nothing, by since when.
    idle: BTreeSet<(Time, ClientId)>,
    /// Ends of grace windows.
    windows: BTreeSet<(Time, IpAddr)>,
    /// Ends of the hold times of expired locks.
    holds: BTreeSet<(Time, IpAddr)>,
    /// Lock managers of which the last reclaimable lock has gone.
    emptied: BTreeSet<IpAddr>,
    /// Lock managers with a change of many locks under way, in the order in which they began.
    working: VecDeque<IpAddr>,
    /// What the command at hand may still spend on such changes.
    allowance_left: u64,
    /// Expired locks of all lock managers.
    expired: u64,
    pub(super) any_address: bool,
    /// Entries of the command at hand.
    journal: Vec<Entry>,
    /// Whether what changes now is no news for the record.
    is_untold: bool,
    /// What was freed but is still in a record.
    unwritten: Unwritten,
    /// Lock managers with expired locks of which their records do not say so yet.
    unswept: u32,
    /// The last mark that was given out.
    mark: u64,
    /// The lock managers that the command at hand needs a mark for.
    marked: BTreeSet<LmId>,
    /// Bytes whose waiters are to be looked at before the command ends.
    to_wake: BTreeMap<FileId, Range>,
    /// What the last recorded lock was on, if it is still known: the next one is likely to be of the same client, or on the same file.
    last_loaded: Option<segments::Place>,
    pub(super) totals: Totals,
}

impl Engine {
    /// An engine that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            names: Names::new(settings.hash_seed),
            locks: LockTable::default(),
            waiters: Waiters::default(),
            shares: Shares::default(),
            grants: BTreeMap::new(),
            next_grant: 0,
            idle: BTreeSet::new(),
            windows: BTreeSet::new(),
            holds: BTreeSet::new(),
            emptied: BTreeSet::new(),
            working: VecDeque::new(),
            allowance_left: 0,
            expired: 0,
            any_address: true,
            journal: Vec::new(),
            is_untold: false,
            unwritten: Unwritten::default(),
            unswept: 0,
            mark: 0,
            marked: BTreeSet::new(),
            to_wake: BTreeMap::new(),
            last_loaded: None,
            totals: Totals::default(),
        }
    }

    /// Does one thing. `now` must not be before that of an earlier call. What is due is done first.
    pub fn handle(&mut self, now: Time, command: Command<'_>, fx: &mut Effects) {
        self.allowance_left = self.allowance();
        self.run_timers(now, fx);
        match asks(&command).filter(|(party, _)| self.is_silent(party)) {
            Some((_, token)) => fx.reply(token, Reply::Silent),
            None => self.dispatch(now, command, fx),
        }
        self.run_wakes(now, fx);
        self.end_emptied(now, fx);
        self.close_mark(fx);
        fx.entries.append(&mut self.journal);
    }

    fn dispatch(&mut self, now: Time, command: Command<'_>, fx: &mut Effects) {
        match command {
            Command::Lock(request) => self.lock(now, request, fx),
            Command::Unlock { party, oh, svid, file, range, token } => {
                self.unlock(now, party, oh, svid, file, range, token, fx);
            }
            Command::Cancel { party, oh, svid, file, range, mode, token } => {
                self.cancel(now, party, oh, svid, file, range, mode, token, fx);
            }
            Command::Test { party, oh, svid, file, range, mode, token } => {
                self.test(now, party, oh, svid, file, range, mode, token, fx);
            }
            Command::Share { party, oh, file, access, deny, reclaim, token } => {
                self.share(now, party, oh, file, access, deny, reclaim, token, fx);
            }
            Command::Unshare { party, oh, file, token } => self.unshare(now, party, oh, file, token, fx),
            Command::FreeAll { party, token } => self.free_all(now, party, token, fx),
            Command::Rebooted { party, state, token } => self.rebooted(now, party, state, token, fx),
            Command::CallbackDone { grant, outcome } => self.callback_done(now, grant, outcome, fx),
            Command::Trust { party } => self.trust(party, fx),
            Command::Restore { party, state } => self.restore(now, party, state, fx),
            Command::LoadLock { party, oh, svid, file, range, lock } => {
                self.load_lock(now, party, (oh, svid), file, range, lock, fx);
            }
            Command::LoadWaiter { party, oh, svid, file, range, mode, state, route, seq } => {
                self.load_waiter(now, party, (oh, svid), file, range, mode, state, route, seq, fx);
            }
            Command::Load { lm } => self.begin_load(now, lm, fx),
            Command::LoadDone { lm } => self.end_load(now, lm, fx),
            Command::StartGrace { lm, deadline, full, park } => {
                self.start_grace(now, lm, deadline, full, park, fx);
            }
            Command::SetDeadline { lm, deadline } => self.set_deadline(lm, deadline),
            Command::Release { lm, keep } => self.release_lm(now, lm, keep, fx),
            Command::DropReleased { lm } => self.drop_released(now, lm, fx),
            Command::FreeFile { file } => self.free_file(now, file, fx),
            Command::FreeClient { lm, name, address } => self.free_one_client(now, lm, name, address, fx),
            Command::Revoke { id } => self.revoke(now, id, fx),
            Command::AnyAddress(any) => self.any_address = any,
            Command::EndGrace { lm } => {
                if let Some(lm) = self.names.find_lm(&lm) {
                    self.end_grace(now, lm, fx);
                }
            }
            Command::Written { lm, mark } => self.written(lm, mark),
            Command::Tick => self.go_on(now, fx),
        }
    }

    /// When [`Command::Tick`] is due at the latest.
    pub fn next_timer(&self) -> Option<Time> {
        let idle = self.idle.first().map(|(since, _)| since.plus(self.settings.forget_after));
        let parked = self.waiters.first_deadline().map(|(until, _)| until);
        let window = self.windows.first().map(|(until, _)| *until);
        let hold = self.holds.first().map(|(until, _)| *until);
        let work = self.working.front().map(|_| Time(0));
        [idle, parked, window, hold, work].into_iter().flatten().min()
    }

    /// Totals since the start.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    fn run_timers(&mut self, now: Time, fx: &mut Effects) {
        while let Some(lm) = self.first_due(&self.windows, now) {
            self.end_grace(now, lm, fx);
            self.run_wakes(now, fx);
        }
        while let Some(lm) = self.first_due(&self.holds, now) {
            if self.names.lm_by_id(lm).unswept.is_some() {
                // In the way of others until the record says that it may go: then it goes.
                self.end_hold(lm);
            } else {
                self.drop_expired(now, lm, fx);
            }
        }
        // Where a window is just ending its answers come first.
        let ending = self.working.iter().filter_map(|lm| self.names.find_lm(lm));
        if !ending.into_iter().any(|lm| self.names.lm_by_id(lm).is_ending()) {
            while let Some((_, id)) = self.waiters.first_deadline().filter(|(until, _)| *until <= now) {
                self.give_up_parked(now, id, fx);
            }
        }
        while let Some((since, client)) = self.idle.first().copied() {
            if since.plus(self.settings.forget_after) > now {
                break;
            }
            self.forget_client(client, fx);
        }
    }

    fn lm(&mut self, address: std::net::IpAddr, fx: &mut Effects) -> LmId {
        let (id, new) = self.names.lm(address);
        if new {
            fx.event(Event::LmCreated(address));
        }
        id
    }

    fn in_full_grace(&self, lm: LmId, file: FileId) -> bool {
        self.names.lm_by_id(lm).in_full_grace(self.names.file_key(file))
    }

    /// Whether requests through this address get no answer.
    fn is_silent(&self, party: &Party<'_>) -> bool {
        match self.stage(party.lm) {
            Some(stage) => stage != Stage::Loaded && !mutant!(ReleasedAddressAnswers),
            None => !self.any_address,
        }
    }

    /// The lock manager that is due first and has no change under way.
    fn first_due(&self, due: &BTreeSet<(Time, IpAddr)>, now: Time) -> Option<LmId> {
        let due = due.iter().take_while(|(until, _)| *until <= now);
        due.filter_map(|(_, lm)| self.names.find_lm(lm)).find(|lm| self.names.lm_by_id(*lm).work.is_none())
    }

    /// Adds a waiter and the references that it takes.
    fn push_waiter(&mut self, waiter: Waiter) -> WaiterId {
        self.names.hold_owner(waiter.owner);
        self.names.hold_file(waiter.file);
        self.names.client_mut(waiter.client).waiters += 1;
        let id = self.waiters.push(waiter);
        self.journal_queued(id);
        id
    }

    /// Takes a waiter out that gives up. Its owner and file must be held by the caller if they are still needed.
    fn remove_waiter(&mut self, now: Time, id: WaiterId) -> Waiter {
        let &Waiter { file, range, .. } = self.waiters.get(id);
        // Who came later may have waited for it, and for nothing else.
        let promises = self.promises_on(file);
        self.names.hold_file(file);
        let waiter = self.unqueue(now, id);
        if promises {
            self.wake(file, range);
        }
        self.names.drop_file(file);
        waiter
    }

    /// Takes a waiter out that gets what it waits for. The same holds.
    fn unqueue(&mut self, now: Time, id: WaiterId) -> Waiter {
        self.journal_unqueued(id);
        let waiter = self.waiters.remove(id);
        self.names.client_mut(waiter.client).waiters -= 1;
        self.names.drop_owner(waiter.owner);
        self.names.drop_file(waiter.file);
        self.settle_client(now, waiter.client);
        waiter
    }

    /// Puts a client on the idle list if it has nothing, and takes it off if it has something.
    fn settle_client(&mut self, now: Time, id: ClientId) {
        let has_locks = self.locks.count_of(id) > 0;
        let client = self.names.client_mut(id);
        let busy = has_locks || client.waiters > 0 || client.shares > 0;
        match (busy, client.idle_since) {
            (true, Some(since)) => {
                client.idle_since = None;
                self.idle.remove(&(since, id));
            }
            (false, None) => {
                client.idle_since = Some(now);
                self.idle.insert((now, id));
            }
            _ => {}
        }
    }

    fn forget_client(&mut self, id: ClientId, fx: &mut Effects) {
        if let Some(since) = self.names.client(id).idle_since {
            self.idle.remove(&(since, id));
        }
        let client = self.names.remove_client(id);
        if client.listed {
            let lm = self.names.lm_by_id(client.lm).address;
            fx.entries.push(Entry::Forget { lm, name: client.name, address: client.address });
        }
    }

    /// Makes sure that a client is on the durable list before the reply that made it worth telling.
    fn record(&mut self, id: ClientId, fx: &mut Effects) {
        let client = self.names.client_mut(id);
        if client.recorded {
            return;
        }
        client.recorded = true;
        client.listed = true;
        let (lm, name, address, state) = (client.lm, client.name.clone(), client.address, client.state);
        let lm = self.names.lm_by_id(lm).address;
        fx.entries.push(Entry::Client { lm, name, address, state });
    }

    /// Whether a GRANTED is still worth sending.
    pub fn is_granting(&self, grant: super::types::GrantId) -> bool {
        self.grants.contains_key(&grant.0)
    }
}

/// The sender of a request, and where the answer goes.
fn asks<'a>(command: &Command<'a>) -> Option<(Party<'a>, Token)> {
    match command {
        Command::Lock(r) => Some((r.party, r.token)),
        Command::Unlock { party, token, .. }
        | Command::Cancel { party, token, .. }
        | Command::Test { party, token, .. }
        | Command::Share { party, token, .. }
        | Command::Unshare { party, token, .. }
        | Command::FreeAll { party, token }
        | Command::Rebooted { party, token, .. } => Some((*party, *token)),
        _ => None,
    }
}

impl Effects {
    fn stop_granted(&mut self, grant: super::types::GrantId) {
        self.out.push(Effect::StopGranted { grant });
    }
}
