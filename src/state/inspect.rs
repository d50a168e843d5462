//! Rows for people: what the lists show is read off the tables, nothing else. Must never change anything.

use std::net::IpAddr;

use super::engine::Engine;
use super::types::{ClientId, Condition, LmId, LockId, Mode, Range, Stage, Time, WaiterId};
use super::waiting::How;

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockRow {
    /// Slot in the low 32 bits, generation above (20 bits, so that JSON numbers hold it).
    pub id: u64,
    /// Lock manager.
    pub lm: IpAddr,
    /// Client name.
    pub client: Box<[u8]>,
    /// Client address.
    pub address: IpAddr,
    /// Owner number.
    pub svid: u32,
    /// Owner handle.
    pub oh: Box<[u8]>,
    /// File key.
    pub file: Box<[u8]>,
    /// The bytes.
    pub range: Range,
    /// The mode.
    pub mode: Mode,
    /// What is known of it.
    pub condition: Condition,
    /// The client's NSM state when it was taken; 0 = unknown.
    pub state: u32,
    /// When it was granted (full seconds), or began to wait.
    pub since: Time,
}

/// A waiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaiterRow {
    /// What it asks for.
    pub request: LockRow,
    /// The first few locks in its way.
    pub blockers: Vec<LockRow>,
    /// How many there are, counted up to 1,000.
    pub blocker_count: u64,
    /// Whether it waits for the end of a window (its own lock manager's full one, or those of reclaimable locks in its way), and
    /// when that is at the latest.
    pub window_until: Option<Time>,
    /// The lock manager whose record still has what was freed there, and what it has to wait for.
    pub unwritten: Option<IpAddr>,
    /// Whether it is a TEST.
    pub is_test: bool,
}

/// A client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRow {
    /// Slot + 1.
    pub id: u64,
    /// Lock manager.
    pub lm: IpAddr,
    /// Name.
    pub name: Box<[u8]>,
    /// Address.
    pub address: IpAddr,
    /// Addresses an operator vouched for.
    pub trusted: Vec<IpAddr>,
    /// NSM state.
    pub state: u32,
    /// Locks.
    pub locks: u64,
    /// Of these, still to be reclaimed.
    pub reclaimable: u64,
    /// Waiting requests.
    pub waiters: u64,
    /// Shares.
    pub shares: u64,
    /// Whether it is on the durable list.
    pub recorded: bool,
    /// Its last request.
    pub last_seen: Time,
}

/// A lock manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LmRow {
    /// Its address.
    pub address: IpAddr,
    /// How far it is loaded. Released: what follows is of what is kept of it.
    pub stage: Stage,
    /// Whether a change of many locks is under way: see [`Engine::is_working`].
    pub working: bool,
    /// Locks.
    pub locks: u64,
    /// Waiting requests.
    pub waiters: u64,
    /// Clients.
    pub clients: u64,
    /// Its grace window.
    pub window: Option<WindowRow>,
    /// Locks that are still to be reclaimed.
    pub reclaimable: u64,
    /// Locks that were not reclaimed in their window.
    pub expired: u64,
    /// When those are dropped.
    pub hold_until: Option<Time>,
}

/// A grace window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowRow {
    /// Its end at the latest.
    pub until: Time,
    /// Whether the record of any files may be incomplete: there whatever nothing covers waits, and it does not end early.
    pub full: bool,
}

/// The bits of a generation that a number in a list has.
const GENERATION: u32 = 0xf_ffff;
/// Set in the number of a waiter, which must never be taken for a lock's. JSON numbers hold it still.
const WAITER: u64 = 1 << 52;
/// How many blockers a row names. More do not fit on a screen.
pub(super) const BLOCKERS_SHOWN: usize = 5;
/// How many are counted: with thousands of readers before thousands of writers a list must not stop the locking.
pub(super) const BLOCKERS_COUNTED: usize = 1_000;

impl Engine {
    /// Up to `count` slots of the lock table from `slot` on, and where to go on (`None`: the end).
    pub fn lock_rows(&self, slot: usize, count: usize) -> (Vec<LockRow>, Option<usize>) {
        let hidden = |condition| mutant!(ListHidesExpired) && condition == Condition::Expired;
        let locks = self.locks.slots_from(slot).filter(|(_, lock)| !hidden(lock.attrs.condition));
        page(locks.map(|(id, _)| (id.index(), self.lock_row(id))), count)
    }

    /// The same for waiters.
    pub fn waiter_rows(&self, slot: usize, count: usize) -> (Vec<WaiterRow>, Option<usize>) {
        page(self.waiters.slots_from(slot).map(|(id, _)| (id.index(), self.waiter_row(id))), count)
    }

    /// The same for clients.
    pub fn client_rows(&self, slot: usize, count: usize) -> (Vec<ClientRow>, Option<usize>) {
        let rows = (slot..self.names.clients.capacity())
            .filter(|i| self.names.clients.contains(*i))
            .map(|i| (i, self.client_row(ClientId(i as u32))));
        page(rows, count)
    }

    /// The lock managers, in order of their addresses.
    pub fn lm_rows(&self) -> Vec<LmRow> {
        let row = |id: LmId| {
            let lm = self.names.lm_by_id(id);
            let mut row = LmRow {
                address: lm.address,
                stage: lm.stage,
                working: lm.work.is_some(),
                locks: 0,
                waiters: 0,
                clients: 0,
                window: lm.window.as_ref().map(|w| WindowRow { until: w.until, full: !w.full.is_empty() }),
                reclaimable: lm.reclaimable,
                expired: lm.expired,
                hold_until: lm.hold_until.filter(|_| lm.expired > 0),
            };
            for id in self.names.clients_of(id) {
                row.clients += 1;
                row.locks += u64::from(self.locks.count_of(id));
                row.waiters += u64::from(self.names.client(id).waiters);
            }
            if mutant!(CountOff) {
                row.locks -= lm.reclaimable;
            }
            row
        };
        self.names.lms_in_order().map(row).collect()
    }

    /// The clients of that name, or from that address, or both; of all lock managers or of this one.
    pub fn find_clients(
        &self,
        lm: Option<IpAddr>,
        name: Option<&[u8]>,
        address: Option<IpAddr>,
    ) -> Vec<ClientRow> {
        let is_meant = |id: &ClientId| {
            let client = self.names.client(*id);
            lm.is_none_or(|lm| self.names.lm_by_id(client.lm).address == lm)
                && name.is_none_or(|name| *client.name == *name)
                && address.is_none_or(|address| client.address == address)
        };
        let ids: Vec<ClientId> = match (address, name) {
            (Some(address), _) => self.names.clients_at(&address).filter(is_meant).collect(),
            (None, Some(name)) => {
                let groups = self.names.lms_in_order().filter_map(|lm| self.names.group(lm, name));
                groups.flat_map(|group| group.members.values().copied()).filter(is_meant).collect()
            }
            (None, None) => {
                let all = self.names.lms_in_order().flat_map(|lm| self.names.clients_of(lm));
                all.filter(is_meant).collect()
            }
        };
        ids.into_iter().map(|id| self.client_row(id)).collect()
    }

    /// Keys of files that begin so and that anybody has something on or waits for. Looks at up to `most` slots of the table of files from
    /// `slot` on, and says where to go on (`None`: the end).
    pub fn file_keys(&self, prefix: &[u8], slot: usize, most: usize) -> (Vec<Box<[u8]>>, Option<usize>) {
        let mut keys = Vec::new();
        let mut next = None;
        for (at, key) in self.names.file_slots_from(slot) {
            if at >= slot.saturating_add(most.max(1)) {
                next = Some(at);
                break;
            }
            keys.extend(key.filter(|key| key.starts_with(prefix)).map(Box::from));
        }
        (keys, next)
    }

    /// Whether this client is on the durable list, as far as entries were given out.
    pub fn is_recorded(&self, lm: IpAddr, name: &[u8], address: IpAddr) -> bool {
        let id = self.names.find_lm(&lm).and_then(|lm| self.names.find_client(lm, name, &address));
        id.is_some_and(|id| self.names.client(id).recorded)
    }

    /// Every client that comes from this address: lock manager and name.
    pub fn clients_at(&self, address: IpAddr) -> Vec<(IpAddr, Box<[u8]>)> {
        let row = |id| {
            let client = self.names.client(id);
            (self.names.lm_by_id(client.lm).address, client.name.clone())
        };
        self.names.clients_at(&address).map(row).collect()
    }

    /// Locks and waiters in all.
    pub fn counts(&self) -> (usize, usize) {
        (self.locks.len(), self.waiters.len())
    }

    /// The lock with this number in the list, if it is still that one.
    pub(super) fn find_lock(&self, id: u64) -> Option<LockId> {
        let slot = LockId(u32::try_from((id & u64::from(u32::MAX)).checked_sub(1)?).ok()?);
        let lock = self.locks.try_get(slot)?;
        (self.generation(u64::from(lock.generation)) == id >> 32).then_some(slot)
    }

    /// The upper part of a row's number. It does not begin at the same one in each process, or an operator who revokes a number that he
    /// noted before a restart would hit another lock.
    fn generation(&self, count: u64) -> u64 {
        count.wrapping_add(u64::from(self.settings.first_id)) & u64::from(GENERATION)
    }

    pub(super) fn lock_row(&self, id: LockId) -> LockRow {
        let lock = self.locks.get(id);
        let owner = self.names.owner_by_id(lock.owner);
        let client = self.names.client(lock.client);
        LockRow {
            id: u64::from(id.0) + 1 + (self.generation(u64::from(lock.generation)) << 32),
            lm: self.names.lm_by_id(client.lm).address,
            client: client.name.clone(),
            address: client.address,
            svid: owner.svid,
            oh: owner.oh.clone(),
            file: self.names.file_key(lock.file).into(),
            range: lock.range,
            mode: lock.attrs.mode,
            condition: lock.attrs.condition,
            state: lock.attrs.state,
            since: Time(u64::from(lock.since_s) * 1000),
        }
    }

    /// The latest end of the windows that a request waits for: its own lock manager's where it is full for this file, and those of
    /// reclaimable locks in its way.
    pub(super) fn window_in_the_way(&self, lm: LmId, file: &[u8], blockers: &[LockId]) -> Option<Time> {
        let own = self.names.lm_by_id(lm).window.as_ref().filter(|w| w.full.include(file));
        let others = blockers.iter().map(|id| self.locks.get(*id)).filter_map(|lock| {
            let reclaimable = lock.attrs.condition == Condition::Reclaimable;
            let lm = self.names.client(lock.client).lm;
            self.names.lm_by_id(lm).window.as_ref().filter(|_| reclaimable)
        });
        own.into_iter().chain(others).map(|w| w.until).max()
    }

    fn waiter_row(&self, id: WaiterId) -> WaiterRow {
        let w = self.waiters.get(id);
        let owner = self.names.owner_by_id(w.owner);
        let client = self.names.client(w.client);
        let lm = self.names.lm_by_id(w.lm);
        let conflicts = self.locks.conflicts(w.file, w.range, w.mode, Some(w.owner));
        let blockers: Vec<LockId> = conflicts.take(BLOCKERS_COUNTED).collect();
        WaiterRow {
            request: LockRow {
                id: WAITER | (u64::from(id.0) + 1 + (self.generation(w.seq) << 32)),
                lm: lm.address,
                client: client.name.clone(),
                address: client.address,
                svid: owner.svid,
                oh: owner.oh.clone(),
                file: self.names.file_key(w.file).into(),
                range: w.range,
                mode: w.mode,
                condition: Condition::Held,
                state: w.state,
                since: w.since,
            },
            blocker_count: blockers.len() as u64,
            blockers: blockers.iter().take(BLOCKERS_SHOWN).map(|id| self.lock_row(*id)).collect(),
            window_until: self.window_in_the_way(w.lm, self.names.file_key(w.file), &blockers),
            unwritten: self
                .unwritten_in_the_way(w.lm, w.file, w.range, w.mode, Some(w.owner))
                .map(|lm| self.names.lm_by_id(lm).address),
            is_test: matches!(w.how, How::Reply { test: true, .. }),
        }
    }

    fn client_row(&self, id: ClientId) -> ClientRow {
        let client = self.names.client(id);
        let trusted =
            self.names.group(client.lm, &client.name).map(|g| g.trusted.clone()).unwrap_or_default();
        ClientRow {
            id: u64::from(id.0) + 1,
            lm: self.names.lm_by_id(client.lm).address,
            name: client.name.clone(),
            address: client.address,
            trusted,
            state: client.state,
            locks: u64::from(self.locks.count_of(id)),
            reclaimable: client.reclaimable,
            waiters: u64::from(client.waiters),
            shares: u64::from(client.shares),
            recorded: client.recorded,
            last_seen: client.last_seen,
        }
    }
}

fn page<T>(mut rows: impl Iterator<Item = (usize, T)>, count: usize) -> (Vec<T>, Option<usize>) {
    let mut out = Vec::new();
    for (slot, row) in rows.by_ref() {
        out.push(row);
        if out.len() >= count {
            return (out, Some(slot + 1));
        }
    }
    (out, None)
}
