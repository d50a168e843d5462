//! A record replayed: the state that a journal amounts to. Used to load, to compact, to list, and by tests to compare.
//!
//! Must never decide anything: it does what the entries say, in order, and gives the same for the same entries on any node.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use super::lock_store::{Loaded, Origin};
use super::record::{
    ClientKey, Connection, Entry, LockCondition, LockFields, OwnerKey, Place, Record, ReplySeed, WaiterFields,
};
use crate::state::Range;

/// Replies kept: as many as the reply cache of a running server.
const MAX_REPLIES: usize = 16_384;

/// Connections kept: 16 times what a server takes at once by default. Of more the oldest are the likeliest to be gone.
const MAX_CONNECTIONS: usize = 65_536;

/// The state of one lock manager's record.
#[derive(Debug, Default)]
pub struct Ledger {
    locks: BTreeMap<(u32, u32, u64), (u64, LockFields)>,
    files: Interned<Box<[u8]>>,
    owners: Interned<OwnerKey>,
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
    pub fn apply(&mut self, loaded: Loaded) {
        if loaded.origin != Origin::Salvaged {
            return self.apply_entry(loaded.entry);
        }
        match loaded.entry.record {
            Record::NsmState(state) => self.nsm_state = Some(self.nsm_state.unwrap_or(0).max(state)),
            record @ (Record::Client(..)
            | Record::Bound { .. }
            | Record::Unbound { .. }
            | Record::Connected(_)
            | Record::Disconnected(_)) => {
                self.apply_entry(record.into());
            }
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
        match entry.record {
            Record::Set(place, fields) => self.set(&place, Some(fields)),
            Record::Unset(place) => self.set(&place, None),
            Record::Granted(waiter, place, fields) => {
                self.unqueue(waiter);
                self.set(&place, Some(fields));
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
        self.locks.iter().filter_map(|((file, owner, start), (end, fields))| {
            let place = Place {
                owner: self.owners.get(*owner)?.as_ref().clone(),
                file: self.files.get(*file)?.as_ref().clone(),
                range: Range::new(*start, *end)?,
            };
            Some((place, *fields))
        })
    }

    /// The same without copies.
    pub fn lock_parts(&self) -> impl Iterator<Item = (&OwnerKey, &[u8], Range, &LockFields)> + '_ {
        self.locks.iter().filter_map(|((file, owner, start), (end, fields))| {
            let (owner, file) = (self.owners.get(*owner)?.as_ref(), self.files.get(*file)?.as_ref());
            Some((owner, &**file, Range::new(*start, *end)?, fields))
        })
    }

    /// The keys of the files that have locks.
    pub fn locked_files(&self) -> impl Iterator<Item = &[u8]> + '_ {
        self.files.all().map(|file| &***file)
    }

    /// How many locks are in one of these conditions.
    pub fn count(&self, conditions: &[LockCondition]) -> u64 {
        self.locks.values().filter(|(_, fields)| conditions.contains(&fields.condition)).count() as u64
    }

    /// How many stretches of locked bytes there are.
    pub fn lock_count(&self) -> usize {
        self.locks.len()
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

    fn set(&mut self, place: &Place, fields: Option<LockFields>) {
        let file = self.files.hold(&place.file);
        let owner = self.owners.hold(&place.owner);
        self.overlay(file, owner, place.range, fields);
        self.files.drop(file);
        self.owners.drop(owner);
    }

    /// One search, one insertion in the common case: a million locks are replayed in a second.
    fn overlay(&mut self, file: u32, owner: u32, range: Range, fields: Option<LockFields>) {
        let key = |start| (file, owner, start);
        // What overlaps, and what lies right beside it, from behind. (A lower bound would be a second search.)
        let touched: Vec<(u64, u64, LockFields)> = self
            .locks
            .range(..=key(range.end.saturating_add(1)))
            .rev()
            .take_while(|((f, o, _), (end, _))| {
                (*f, *o) == (file, owner) && end.saturating_add(1) >= range.start
            })
            .map(|((.., start), (end, was))| (*start, *end, *was))
            .collect();
        let (mut start, mut end, mut fields) = (range.start, range.end, fields);
        for (from, to, was) in touched {
            let merges = fields.as_ref().is_some_and(|new| alike(new, &was));
            let beside = to < range.start || from > range.end;
            if beside && !merges {
                continue;
            }
            self.take(key(from));
            if let (true, Some(new)) = (merges, &mut fields) {
                if beside || from < range.start || to > range.end {
                    new.since = new.since.min(was.since);
                }
                (start, end) = (start.min(from), end.max(to));
                continue;
            }
            if from < range.start {
                self.put(key(from), range.start - 1, was);
            }
            if to > range.end && !mutant!(ReplayLosesRight) {
                self.put(key(range.end + 1), to, was);
            }
        }
        if let Some(fields) = fields {
            self.put(key(start), end, fields);
        }
    }

    fn put(&mut self, key: (u32, u32, u64), end: u64, fields: LockFields) {
        self.files.add(key.0);
        self.owners.add(key.1);
        self.locks.insert(key, (end, fields));
    }

    fn take(&mut self, key: (u32, u32, u64)) {
        if self.locks.remove(&key).is_some() {
            self.files.drop(key.0);
            self.owners.drop(key.1);
        }
    }

    fn sweep(&mut self, record: &Record) {
        let Record::Sweep { from, to, prefix } = record else { return };
        let meant: Vec<_> = self
            .locks
            .iter()
            .filter(|((file, _, _), (_, fields))| {
                fields.condition.bit() & from != 0
                    && self.files.get(*file).is_some_and(|key| key.starts_with(prefix))
            })
            .map(|(key, (end, fields))| (*key, *end, *fields))
            .collect();
        for ((file, owner, start), end, mut fields) in meant {
            let Some(range) = Range::new(start, end) else { continue };
            if let Some(to) = to {
                fields.condition = *to;
            }
            // Held for the moment in between.
            self.files.add(file);
            self.owners.add(owner);
            self.overlay(file, owner, range, to.map(|_| fields));
            self.files.drop(file);
            self.owners.drop(owner);
        }
    }
}

fn alike(a: &LockFields, b: &LockFields) -> bool {
    LockFields { since: 0, ..*a } == LockFields { since: 0, ..*b }
}

/// Things that many locks share, counted.
#[derive(Debug)]
struct Interned<T> {
    numbers: HashMap<Arc<T>, u32>,
    things: Vec<Option<(Arc<T>, u32)>>,
    free: Vec<u32>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), things: Vec::new(), free: Vec::new() }
    }
}

impl<T: Hash + Eq + Clone> Interned<T> {
    fn all(&self) -> impl Iterator<Item = &Arc<T>> + '_ {
        self.things.iter().flatten().map(|(thing, _)| thing)
    }

    fn get(&self, number: u32) -> Option<&Arc<T>> {
        self.things.get(number as usize)?.as_ref().map(|(thing, _)| thing)
    }

    /// Its number, with one more use.
    fn hold(&mut self, thing: &T) -> u32 {
        if let Some(number) = self.numbers.get(thing).copied() {
            self.add(number);
            return number;
        }
        let thing = Arc::new(thing.clone());
        let number = self.free.pop().unwrap_or_else(|| {
            self.things.push(None);
            self.things.len() as u32 - 1
        });
        self.things[number as usize] = Some((thing.clone(), 1));
        self.numbers.insert(thing, number);
        number
    }

    fn add(&mut self, number: u32) {
        if let Some(Some((_, uses))) = self.things.get_mut(number as usize) {
            *uses += 1;
        }
    }

    fn drop(&mut self, number: u32) {
        let Some(slot) = self.things.get_mut(number as usize) else { return };
        let Some((thing, uses)) = slot else { return };
        *uses -= 1;
        if *uses == 0 {
            self.numbers.remove(thing.as_ref());
            *slot = None;
            self.free.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Mode;
    use crate::store::record::LockCondition;
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
            let used = ledger.files.things.iter().flatten().count();
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
