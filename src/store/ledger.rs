//! A record replayed: the state that a journal amounts to. Used to load, to compact, to list, and by tests to compare.
//!
//! Must never decide anything: it does what the entries say, in order, and gives the same for the same entries on any node.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::interned::Interned;
use super::lock_store::{Loaded, Origin};
use super::record::{
    ClientKey, Connection, Entry, LockCondition, LockFields, Place, Record, ReplySeed, WaiterFields,
};
use super::rows::Rows;
use super::seen::{Seen, SeenOwner, SeenPlace, SeenRecord, SeenReply};
use crate::state::Range;

/// Replies kept: as many as the reply cache of a running server.
const MAX_REPLIES: usize = 16_384;

/// Connections kept: 16 times what a server takes at once by default. Of more the oldest are the likeliest to be gone.
const MAX_CONNECTIONS: usize = 65_536;

/// The state of one lock manager's record.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Those with locks.
    files: Interned<File>,
    owners: Interned<Owner>,
    /// Whose owners they are.
    names: Interned<ClientKey>,
    /// Locks by their condition.
    counts: [u64; LockCondition::ALL.len()],
    waiters: BTreeMap<u64, (u64, WaiterFields)>,
    waiter_order: HashMap<u64, u64>,
    next_waiter: u64,
    clients: BTreeMap<ClientKey, u32>,
    bindings: BTreeMap<Box<[u8]>, Box<[u8]>>,
    nsm_state: Option<u32>,
    opened: Option<Record>,
    window: Option<(bool, u64)>,
    ended: Option<Record>,
    replies: VecDeque<ReplySeed>,
    connections: BTreeMap<u64, Connection>,
    connection_order: HashMap<Connection, u64>,
    next_connection: u64,
}

#[derive(Debug)]
struct File {
    key: Box<[u8]>,
    rows: Rows,
}

#[derive(Debug)]
struct Owner {
    /// Its number in `names`.
    client: u32,
    svid: u32,
    oh: Box<[u8]>,
}

/// What becomes an entry.
#[expect(clippy::large_enum_variant, reason = "one at a time, and never kept")]
pub(super) enum Piece<'a> {
    Entry(Entry),
    /// *Answered*, with this reply.
    Reply(&'a ReplySeed),
}

impl Ledger {
    /// Replays a loaded entry. Of what was found behind damage only clients, their connections, bindings and the NSM state count: they tell
    /// whom to notify; a lock may have been freed in the part that is lost.
    pub fn apply(&mut self, loaded: Seen<'_>) {
        if loaded.origin != Origin::Salvaged {
            if let Some(reply) = loaded.entry.reply {
                self.see_reply(reply);
            }
            return self.see(loaded.entry.record);
        }
        if let SeenRecord::Other(record) = loaded.entry.record {
            self.salvage(record);
        }
    }

    /// The same with an entry that is kept.
    pub fn apply_loaded(&mut self, loaded: Loaded) {
        match loaded.origin {
            Origin::Salvaged => self.salvage(loaded.entry.record),
            Origin::Snapshot | Origin::Log => self.apply_entry(loaded.entry),
        }
    }

    fn salvage(&mut self, record: Record) {
        match record {
            Record::NsmState(state) => self.nsm_state = Some(self.nsm_state.unwrap_or(0).max(state)),
            Record::Client(..)
            | Record::Bound { .. }
            | Record::Unbound { .. }
            | Record::Connected(_)
            | Record::Disconnected(_) => self.replay(record),
            _ => {}
        }
    }

    /// Replays an entry.
    pub fn apply_entry(&mut self, entry: Entry) {
        if let Some(reply) = entry.reply {
            if self.replies.len() >= MAX_REPLIES {
                self.replies.pop_front();
            }
            self.replies.push_back(reply);
        }
        self.replay(entry.record);
    }

    fn see_reply(&mut self, reply: SeenReply<'_>) {
        let oldest = if self.replies.len() >= MAX_REPLIES { self.replies.pop_front() } else { None };
        // Nearly all are as long as each other, and of a long record nearly all are dropped.
        let seed = match oldest.map(|oldest| oldest.reply) {
            Some(mut bytes) if bytes.len() == reply.bytes.len() => {
                bytes.copy_from_slice(reply.bytes);
                ReplySeed { reply: bytes, ..reply.head }
            }
            _ => reply.into_owned(),
        };
        self.replies.push_back(seed);
    }

    fn see(&mut self, record: SeenRecord<'_>) {
        match record {
            SeenRecord::Set(place, fields) => self.set(place, Some(fields)),
            SeenRecord::Unset(place) => self.set(place, None),
            SeenRecord::Granted(waiter, place, fields) => {
                self.unqueue(waiter);
                self.set(place, Some(fields));
            }
            SeenRecord::Other(record) => self.replay(record),
        }
    }

    fn replay(&mut self, record: Record) {
        match record {
            Record::Set(place, fields) => self.set((&place).into(), Some(fields)),
            Record::Unset(place) => self.set((&place).into(), None),
            Record::Granted(waiter, place, fields) => {
                self.unqueue(waiter);
                self.set((&place).into(), Some(fields));
            }
            Record::Queued(waiter, fields) => {
                self.unqueue(waiter);
                self.next_waiter += 1;
                self.waiter_order.insert(waiter, self.next_waiter);
                self.waiters.insert(self.next_waiter, (waiter, fields));
            }
            Record::Unqueued(_) if mutant!(ReplayKeepsWaiters) => {}
            Record::Unqueued(waiter) => self.unqueue(waiter),
            Record::Client(client, state) => {
                self.clients.insert(client, state);
            }
            Record::Forgotten(client) => {
                self.clients.remove(&client);
            }
            Record::NsmState(state) => self.nsm_state = Some(state),
            Record::Bound { path, prefix } => {
                self.bindings.insert(path, prefix);
            }
            Record::Unbound { path } => {
                self.bindings.remove(&path);
            }
            record @ Record::Sweep { .. } => self.sweep(&record),
            Record::WindowOpened { full, deadline_ms } => self.window = Some((full, deadline_ms)),
            Record::WindowEnded => {
                self.window = None;
                if let Some(Record::Opened { complete, .. }) = &mut self.opened {
                    *complete = true;
                }
            }
            record @ Record::Opened { .. } => {
                self.opened = Some(record);
                self.ended = None;
                self.window = None;
            }
            record @ (Record::Released { .. } | Record::HandedOver { .. }) => {
                if mutant!(ReplayReleaseForgetsClients) {
                    self.clients.clear();
                }
                self.ended = Some(record);
                self.connections.clear();
                self.connection_order.clear();
            }
            Record::Answered | Record::Stopped => {}
            Record::Connected(connection) => self.connect(connection),
            Record::Disconnected(connection) => self.disconnect(&connection),
        }
    }

    /// The locks: one item for each stretch of one owner's bytes on one file.
    pub fn locks(&self) -> impl Iterator<Item = (Place, LockFields)> + '_ {
        self.lock_parts()
            .map(|(owner, file, range, fields)| (SeenPlace { owner, file, range }.into_owned(), *fields))
    }

    /// The same without copies. Those of a file are together.
    pub fn lock_parts(&self) -> impl Iterator<Item = (SeenOwner<'_>, &[u8], Range, &LockFields)> + '_ {
        self.files.all().flat_map(|(_, file)| {
            file.rows.iter().filter_map(|((owner, start), (end, fields))| {
                let Owner { client, svid, oh } = self.owners.get(*owner)?;
                let ClientKey { name, address } = self.names.get(*client)?;
                let owner = SeenOwner { name, address: *address, oh, svid: *svid };
                Some((owner, &*file.key, Range::new(*start, *end)?, fields))
            })
        })
    }

    /// The keys of the files that have locks.
    pub fn locked_files(&self) -> impl Iterator<Item = &[u8]> + '_ {
        self.files.all().map(|(_, file)| &*file.key)
    }

    /// How many locks are in one of these conditions.
    pub fn count(&self, conditions: &[LockCondition]) -> u64 {
        let wanted = LockCondition::ALL.into_iter().filter(|c| conditions.contains(c));
        wanted.map(|c| self.counts[c as usize]).sum()
    }

    /// How many stretches of locked bytes there are.
    pub fn lock_count(&self) -> usize {
        self.counts.iter().sum::<u64>() as usize
    }

    /// How many owners have locks.
    pub fn owner_count(&self) -> usize {
        self.owners.len()
    }

    /// The waiting requests with their numbers, in order.
    pub fn waiters(&self) -> impl Iterator<Item = &(u64, WaiterFields)> {
        self.waiters.values()
    }

    /// The clients to notify, with their NSM states.
    pub fn clients(&self) -> &BTreeMap<ClientKey, u32> {
        &self.clients
    }

    /// The exports bound to the lock manager: path to file key prefix.
    pub fn bindings(&self) -> &BTreeMap<Box<[u8]>, Box<[u8]>> {
        &self.bindings
    }

    /// The NSM state last announced.
    pub fn nsm_state(&self) -> Option<u32> {
        self.nsm_state
    }

    /// The grace window that is open: full or not, and its deadline in milliseconds since 1970 UTC.
    pub fn window(&self) -> Option<(bool, u64)> {
        self.window
    }

    /// The last *opened*; its `complete` is true once a window ended.
    pub fn opened(&self) -> Option<&Record> {
        self.opened.as_ref()
    }

    /// Something of the record is lost: who loads a snapshot of this must know.
    pub(super) fn mark_incomplete(&mut self) {
        if let Some(Record::Opened { complete, .. }) = &mut self.opened {
            *complete = false;
        }
    }

    /// *Released* or *handed over*, if that was the end.
    pub fn ended(&self) -> Option<&Record> {
        self.ended.as_ref()
    }

    /// The replies of the last requests, oldest first.
    pub fn replies(&self) -> &VecDeque<ReplySeed> {
        &self.replies
    }

    /// The TCP connections that clients have, or had when the owner died, oldest first.
    pub fn connections(&self) -> impl Iterator<Item = Connection> + '_ {
        self.connections.values().copied()
    }

    /// Entries that replay to this state: what a snapshot holds.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.pieces().map(|piece| match piece {
            Piece::Entry(entry) => entry,
            Piece::Reply(reply) => Entry { record: Record::Answered, reply: Some(reply.clone()) },
        })
    }

    /// The same, without copies of the replies: nearly all of a snapshot is replies.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let bindings = self
            .bindings
            .iter()
            .map(|(path, prefix)| Record::Bound { path: path.clone(), prefix: prefix.clone() });
        let window = self.window.map(|(full, deadline_ms)| Record::WindowOpened { full, deadline_ms });
        let locks = self.locks().filter(|(_, fields)| {
            !mutant!(SnapshotLosesExpired) || fields.condition != LockCondition::Expired
        });
        let waiters = self.waiters.values().filter(|_| !mutant!(SnapshotLosesWaiters));
        let records = self
            .opened
            .clone()
            .into_iter()
            .chain(self.nsm_state.map(Record::NsmState))
            .chain(bindings)
            .chain(self.clients.iter().map(|(client, state)| {
                Record::Client(client.clone(), if mutant!(SnapshotLosesClientStates) { 0 } else { *state })
            }))
            .chain(locks.map(|(place, fields)| Record::Set(place, fields)))
            .chain(waiters.map(|(n, fields)| Record::Queued(*n, fields.clone())))
            .chain(window)
            .map(Entry::from);
        let replies = self.replies.iter().filter(|_| !mutant!(SnapshotLosesReplies)).map(Piece::Reply);
        // Behind the end, which forgets them.
        let connections = self.connections().map(|c| Record::Connected(c).into());
        let end = self.ended.clone().map(Entry::from).into_iter().chain(connections);
        records.map(Piece::Entry).chain(replies).chain(end.map(Piece::Entry))
    }

    /// The same for equal states, however they came about.
    pub fn canonical(&self) -> Vec<Entry> {
        let mut locks: Vec<(Place, LockFields)> = self.locks().collect();
        locks.sort();
        self.entries()
            .filter(|entry| !matches!(entry.record, Record::Set(..)))
            .chain(locks.into_iter().map(|(place, fields)| Record::Set(place, fields).into()))
            .collect()
    }

    fn unqueue(&mut self, waiter: u64) {
        if let Some(order) = self.waiter_order.remove(&waiter) {
            self.waiters.remove(&order);
        }
    }

    fn connect(&mut self, connection: Connection) {
        self.disconnect(&connection);
        if self.connections.len() >= MAX_CONNECTIONS
            && let Some((_, oldest)) = self.connections.pop_first()
        {
            self.connection_order.remove(&oldest);
        }
        self.next_connection += 1;
        self.connections.insert(self.next_connection, connection);
        self.connection_order.insert(connection, self.next_connection);
    }

    fn disconnect(&mut self, connection: &Connection) {
        if let Some(order) = self.connection_order.remove(connection) {
            self.connections.remove(&order);
        }
    }

    fn set(&mut self, place: SeenPlace<'_>, fields: Option<LockFields>) {
        let half = self.files.half(&place.file);
        let known = self.files.find(half, |file| *file.key == *place.file);
        let Some(owner) = self.owner(&place.owner, fields.is_some()) else { return };
        // Held for the moment in between.
        self.owners.add(owner);
        let file = match known {
            Some(file) => Some(file),
            None if fields.is_some() => {
                let file = File { key: place.file.into(), rows: Rows::default() };
                let number = self.files.insert(half, file);
                self.files.add(number);
                Some(number)
            }
            None => None,
        };
        if let Some(number) = file
            && let Some(file) = self.files.get_mut(number)
        {
            overlay(&mut file.rows, owner, place.range, fields, &mut self.counts, &mut self.owners);
            if file.rows.is_empty() {
                self.files.drop(number);
            }
        }
        self.drop_owner(owner);
    }

    /// An owner's number; `None`: it has no lock, and is not to be made.
    fn owner(&mut self, owner: &SeenOwner<'_>, make: bool) -> Option<u32> {
        let half = self.owners.half(owner);
        let is_its = |client: u32| {
            self.names.get(client).is_some_and(|c| *c.name == *owner.name && c.address == owner.address)
        };
        let known =
            self.owners.find(half, |o| o.svid == owner.svid && *o.oh == *owner.oh && is_its(o.client));
        if known.is_some() || !make {
            return known;
        }
        let client_half = self.names.half(&(owner.name, owner.address));
        let client = self.names.find(client_half, |c| *c.name == *owner.name && c.address == owner.address);
        let client = client.unwrap_or_else(|| self.names.insert(client_half, owner.client()));
        self.names.add(client);
        Some(self.owners.insert(half, Owner { client, svid: owner.svid, oh: owner.oh.into() }))
    }

    fn drop_owner(&mut self, owner: u32) {
        if let Some(gone) = self.owners.drop(owner) {
            self.names.drop(gone.client);
        }
    }

    fn sweep(&mut self, record: &Record) {
        let Record::Sweep { from, to, prefix } = record else { return };
        let (mut gone, mut emptied) = (Vec::new(), Vec::new());
        self.counts = Default::default();
        for (number, file) in self.files.all_mut() {
            if file.key.starts_with(prefix) {
                let change = |fields: LockFields| match to {
                    _ if fields.condition.bit() & from == 0 => Some(fields),
                    to => to.map(|condition| LockFields { condition, ..fields }),
                };
                file.rows.change(change, merged, &mut gone);
            }
            for (_, (_, fields)) in file.rows.iter() {
                self.counts[fields.condition as usize] += 1;
            }
            if file.rows.is_empty() {
                emptied.push(number);
            }
        }
        for owner in gone {
            self.drop_owner(owner);
        }
        for number in emptied {
            self.files.drop(number);
        }
    }
}

/// Lays `fields` over what the owner has on these bytes. One search, one insertion in the common case. The caller holds the owner.
fn overlay(
    rows: &mut Rows,
    owner: u32,
    range: Range,
    fields: Option<LockFields>,
    counts: &mut [u64],
    owners: &mut Interned<Owner>,
) {
    let mut put =
        |rows: &mut Rows, owners: &mut Interned<Owner>, start: u64, end: u64, fields: LockFields| {
            owners.add(owner);
            counts[fields.condition as usize] += 1;
            rows.insert((owner, start), (end, fields));
        };
    let (mut start, mut end, mut fields) = (range.start, range.end, fields);
    let mut taken = Vec::new();
    for (from, to, was) in rows.touching(owner, range.start, range.end) {
        let merges = fields.as_ref().is_some_and(|new| alike(new, &was));
        let beside = to < range.start || from > range.end;
        if beside && !merges {
            continue;
        }
        rows.remove((owner, from));
        taken.push(was.condition);
        if let (true, Some(new)) = (merges, &mut fields) {
            if beside || from < range.start || to > range.end {
                new.since = new.since.min(was.since);
            }
            (start, end) = (start.min(from), end.max(to));
            continue;
        }
        if from < range.start {
            put(rows, owners, from, range.start - 1, was);
        }
        if to > range.end && !mutant!(ReplayLosesRight) {
            put(rows, owners, range.end + 1, to, was);
        }
    }
    if let Some(fields) = fields {
        put(rows, owners, start, end, fields);
    }
    for condition in taken {
        counts[condition as usize] -= 1;
        owners.drop(owner);
    }
}

fn alike(a: &LockFields, b: &LockFields) -> bool {
    LockFields { since: 0, ..*a } == LockFields { since: 0, ..*b }
}

/// What two stretches that touch are together, if they are alike.
fn merged(a: &LockFields, b: &LockFields) -> Option<LockFields> {
    alike(a, b).then(|| LockFields { since: a.since.min(b.since), ..*a })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Mode;
    use crate::store::record::OwnerKey;
    use proptest::prelude::*;

    fn place(owner: u32, file: u8, start: u64, end: u64) -> Place {
        let client = ClientKey { name: (*b"c").into(), address: std::net::IpAddr::from([10, 0, 0, 1]) };
        let owner = OwnerKey { client, oh: (*b"o").into(), svid: owner };
        Place { owner, file: Box::new([file]), range: Range::new(start, end).unwrap() }
    }

    fn fields(mode: Mode, condition: LockCondition) -> LockFields {
        LockFields { mode, condition, state: 1, since: 5, under: None }
    }

    fn operations() -> impl Strategy<Value = Vec<(u32, u8, u64, u64, u8)>> {
        proptest::collection::vec((0u32..2, 0u8..2, 0u64..24, 0u64..9, 0u8..9), 0..60)
    }

    fn record((owner, file, start, len, what): (u32, u8, u64, u64, u8)) -> Record {
        let place = place(owner, file, start, start + len);
        match what {
            0..3 => Record::Unset(place),
            3..5 => Record::Set(place, fields(Mode::Shared, LockCondition::Held)),
            5..7 => Record::Set(place, fields(Mode::Exclusive, LockCondition::Reclaimable)),
            7 => Record::Sweep {
                from: LockCondition::Held.bit(),
                to: Some(LockCondition::Reclaimable),
                prefix: Box::new([file]),
            },
            _ => Record::Sweep { from: LockCondition::Reclaimable.bit(), to: None, prefix: Box::new([file]) },
        }
    }

    proptest! {
        #[test]
        fn locks_equal_a_brute_force_byte_map_and_a_snapshot_replays_to_the_same(ops in operations()) {
            let (mut ledger, mut map) = (Ledger::default(), BTreeMap::new());
            for op in ops {
                let (owner, file, start, len, _) = op;
                let record = record(op);
                for at in start..=start + len {
                    match &record {
                        Record::Set(_, f) => { map.insert((owner, file, at), (f.mode, f.condition)); }
                        Record::Unset(_) => { map.remove(&(owner, file, at)); }
                        _ => {}
                    }
                }
                if let Record::Sweep { from, to, .. } = &record {
                    map.retain(|k, v| {
                        let meant = k.1 == file && v.1.bit() & from != 0;
                        if let (true, Some(to)) = (meant, to) { v.1 = *to; }
                        !meant || to.is_some()
                    });
                }
                ledger.apply_entry(record.into());
                let mut seen = BTreeMap::new();
                for (p, f) in ledger.locks() {
                    for at in p.range.start..=p.range.end {
                        let byte = (p.owner.svid, p.file[0], at);
                        prop_assert!(seen.insert(byte, (f.mode, f.condition)).is_none(), "an owner's locks overlap");
                    }
                }
                prop_assert_eq!(&seen, &map);
            }
            let mut again = Ledger::default();
            ledger.entries().for_each(|entry| again.apply_entry(entry));
            prop_assert_eq!(again.canonical(), ledger.canonical());
            let used = ledger.files.all().count();
            prop_assert!(used <= 2, "{} files are remembered", used);
        }

        #[test]
        fn any_entries_replay_to_a_state_that_a_snapshot_keeps(
            entries in proptest::collection::vec(crate::store::journal::any_entry(), 0..40),
        ) {
            let mut ledger = Ledger::default();
            entries.into_iter().for_each(|entry| ledger.apply_entry(entry));
            let mut again = Ledger::default();
            ledger.entries().for_each(|entry| again.apply_entry(entry));
            prop_assert_eq!(again.canonical(), ledger.canonical());
        }
    }

    #[test]
    fn what_merges_keeps_its_earlier_since_and_what_is_replaced_does_not() {
        let mut ledger = Ledger::default();
        let mut set = |start, end, since| {
            let fields = LockFields { since, ..fields(Mode::Shared, LockCondition::Held) };
            ledger.apply_entry(Record::Set(place(1, 0, start, end), fields).into());
            ledger.locks().map(|(p, f)| (p.range.start, p.range.end, f.since)).collect::<Vec<_>>()
        };
        assert_eq!(set(0, 4, 9), [(0, 4, 9)]);
        assert_eq!(set(5, 9, 3), [(0, 9, 3)]);
        assert_eq!(set(2, 3, 20), [(0, 9, 3)]);
        assert_eq!(set(0, 9, 20), [(0, 9, 20)]);
        assert_eq!(set(u64::MAX, u64::MAX, 1), [(0, 9, 20), (u64::MAX, u64::MAX, 1)]);
        assert_eq!(set(10, u64::MAX - 1, 30), [(0, u64::MAX, 1)]);
    }

    #[test]
    fn connections_outlive_a_crash_but_no_release_and_the_oldest_go_first() {
        let mut ledger = Ledger::default();
        let connection = |n: u32| Connection {
            local_port: 2049,
            address: std::net::IpAddr::from((n >> 16 | 0x0a00_0000).to_be_bytes()),
            port: n as u16,
        };
        for n in 0..=MAX_CONNECTIONS as u32 {
            ledger.apply_entry(Record::Connected(connection(n)).into());
        }
        // Known already, and not known any more.
        ledger.apply_entry(Record::Connected(connection(1)).into());
        ledger.apply_entry(Record::Disconnected(connection(0)).into());
        ledger.apply_entry(Record::Disconnected(connection(2)).into());
        let opened = Record::Opened {
            lock_manager: "lm".into(),
            node: "n".into(),
            time: 1,
            durability: crate::store::record::Durability::Sync,
            complete: true,
        };
        ledger.apply_entry(opened.into());
        let mut again = Ledger::default();
        ledger.entries().for_each(|entry| again.apply_entry(entry));
        let kept: Vec<Connection> = again.connections().collect();
        assert_eq!((kept.len(), kept[0]), (MAX_CONNECTIONS - 1, connection(3)));
        assert_eq!(kept.last(), Some(&connection(1)));
        again.apply_entry(Record::Released { time: 9 }.into());
        assert_eq!(again.connections().count(), 0);
    }

    #[test]
    fn waiters_keep_their_order_and_a_grant_takes_one_out() {
        let mut ledger = Ledger::default();
        let waiter = |n: u32| WaiterFields {
            place: place(n, 0, 0, 9),
            mode: Mode::Shared,
            state: 0,
            since: 0,
            version: 4,
            tcp: true,
            asynchronous: false,
            handle: Box::default(),
        };
        for n in [5u32, 3, 9] {
            ledger.apply_entry(Record::Queued(n.into(), waiter(n)).into());
        }
        let granted = fields(Mode::Shared, LockCondition::Granting);
        ledger.apply_entry(Record::Granted(3, place(3, 0, 0, 9), granted).into());
        assert_eq!(ledger.waiters().map(|(n, _)| *n).collect::<Vec<_>>(), [5, 9]);
        assert_eq!(ledger.lock_count(), 1);
    }
}
