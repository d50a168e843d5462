//! The duplicate request cache: a call that comes twice is carried out once and answered twice, with the
//! same bytes. Pure: the time is passed in.
//! Must never keep a call's arguments, nor grow past its bounds.

use std::collections::VecDeque;
use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Place;

use super::types::{CallInfo, Transport};

/// [`DrcLimits::entries`], unless it is said.
pub const DRC_ENTRIES: usize = 16_384;

/// Bounds of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrcLimits {
    /// Calls remembered, 16,384: at 5,000 changes a second about three seconds, longer than the first
    /// retransmission of every known client over UDP (TCP clients wait a minute, but are fewer).
    pub entries: usize,
    /// Bytes of replies, 8 MiB. NLM replies have about 40.
    pub reply_bytes: usize,
    /// A longer reply is not kept, 4 KiB: no procedure that changes something has one.
    pub reply_max: usize,
    /// How long a reply is kept after it was sent, or sent again, 120 s: two of the 60 s time-outs of a TCP client.
    pub age: Duration,
}

impl Default for DrcLimits {
    fn default() -> Self {
        Self { entries: DRC_ENTRIES, reply_bytes: 8 << 20, reply_max: 4096, age: Duration::from_secs(120) }
    }
}

/// What makes two calls the same call. Plain values, so that a record of them can be kept and read on another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Who called.
    pub peer: SocketAddr,
    /// How.
    pub transport: Transport,
    /// Transaction id.
    pub xid: u32,
    /// Program number.
    pub program: u32,
    /// Program version.
    pub version: u32,
    /// Procedure number.
    pub procedure: u32,
    /// XXH64 of the arguments.
    pub checksum: u64,
}

impl Key {
    /// The key of a call.
    pub fn new(info: &CallInfo, args: &[u8]) -> Self {
        Self {
            peer: info.peer,
            transport: info.transport,
            xid: info.xid,
            program: info.program,
            version: info.version,
            procedure: info.procedure,
            checksum: if mutant!(ReplyKeyIgnoresArguments) { 0 } else { super::checksum::checksum(args) },
        }
    }
}

/// The mark of a call that is being carried out. 0 is none.
pub type Token = u64;

/// What the cache knows about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Nothing: carry it out, then [`Drc::finish`] with this token.
    New(Token),
    /// It is being carried out: drop this one.
    InProgress,
    /// It was answered: send this again.
    Replay(Box<[u8]>),
}

const SHARDS: usize = 16;
/// After that long an answer has nearly always arrived, where nothing has moved.
const SETTLED: Duration = Duration::from_secs(10);
/// Calls in progress that are passed over when the oldest entry of a full shard must go.
const PASS_OVER: usize = 8;

/// The cache, shared by all listeners.
pub struct Drc {
    limits: DrcLimits,
    hash_seed: u64,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    /// Slots, by the hashes of their keys.
    index: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots with their generation, oldest first. An entry whose generation is past is skipped.
    order: VecDeque<(u32, u32)>,
    bytes: usize,
}

struct Slot {
    generation: u32,
    entry: Option<Entry>,
}

struct Entry {
    key: Key,
    hash: u64,
    since: Instant,
    reply: Option<Box<[u8]>>,
}

impl Drc {
    /// An empty cache.
    pub fn new(limits: DrcLimits) -> Self {
        Self::with_seed(limits, RandomState::new().hash_one(0))
    }

    /// The same. `hash_seed` should be secret where calls are hostile, and fixed where runs must repeat: it decides which calls have to share
    /// the room that there is.
    pub fn with_seed(limits: DrcLimits, hash_seed: u64) -> Self {
        Self { limits, hash_seed, shards: Default::default() }
    }

    /// Looks a call up and remembers it as being carried out if it is new.
    pub fn begin(&self, now: Instant, key: &Key) -> Begin {
        let hash = self.hash(key);
        let shard_no = shard_of(hash);
        let mut shard = self.shard(shard_no);
        shard.expire(now, self.limits.age);
        let answered =
            |slot: &u32| shard.slots[*slot as usize].entry.as_ref().is_some_and(|e| e.reply.is_some());
        let known = shard.find(hash, key);
        let known = known.filter(|slot| !(mutant!(RepliesNotRepeated) && answered(slot)));
        let known = known.filter(|slot| !mutant!(RunningCallRepeated) || answered(slot));
        if let Some(slot) = known {
            shard.renew(slot, now);
            return match &shard.slots[slot as usize].entry {
                Some(Entry { reply: Some(reply), .. }) => Begin::Replay(reply.clone()),
                _ => Begin::InProgress,
            };
        }
        let most = (self.limits.entries / SHARDS).max(1);
        while shard.index.len() >= most {
            shard.drop_oldest();
        }
        let (slot, generation) = shard.insert(Entry { key: *key, hash, since: now, reply: None });
        Begin::New(token(shard_no, slot, generation))
    }

    /// Ends the call `token`: its reply is kept for repetitions. None (silence), or one too long: the next
    /// transmission counts as new.
    pub fn finish(&self, token: Token, reply: Option<&[u8]>) {
        if token == 0 {
            return;
        }
        let (shard_no, slot, generation) = parts(token);
        let mut shard = self.shard(shard_no);
        match reply {
            Some(reply) if reply.len() <= self.limits.reply_max => {
                shard.keep(slot, generation, reply.into());
                while shard.bytes > self.limits.reply_bytes / SHARDS && shard.index.len() > 1 {
                    shard.drop_oldest();
                }
            }
            _ => shard.remove(slot, generation),
        }
    }

    /// Forgets the reply of a call: the next transmission counts as new.
    pub fn forget(&self, key: &Key) {
        let hash = self.hash(key);
        let mut shard = self.shard(shard_of(hash));
        if let Some(slot) = shard.find(hash, key) {
            let place = &shard.slots[slot as usize];
            let answered = place.entry.as_ref().is_some_and(|entry| entry.reply.is_some());
            let generation = place.generation;
            if answered {
                shard.remove(slot, generation);
            }
        }
    }

    /// Remembers the reply that a call got before this cache began: on another node, or in an earlier life. One that is too long, or that this
    /// cache knows better, is passed over. A full cache, as that of a busy server always is, gives up for it what it has had long enough for
    /// nearly all repetitions to have come.
    pub fn seed(&self, now: Instant, key: &Key, reply: &[u8]) {
        let hash = self.hash(key);
        let mut shard = self.shard(shard_of(hash));
        if let Some(slot) = shard.find(hash, key) {
            return shard.renew(slot, now);
        }
        if reply.len() > self.limits.reply_max {
            return;
        }
        let full = shard.index.len() >= (self.limits.entries / SHARDS).max(1);
        let settled = |e: &Entry| e.reply.is_some() && now.saturating_duration_since(e.since) >= SETTLED;
        if full && !shard.drop_oldest_if(settled) {
            return;
        }
        let (slot, generation) = shard.insert(Entry { key: *key, hash, since: now, reply: None });
        shard.keep(slot, generation, reply.into());
    }

    /// Calls remembered now.
    pub fn len(&self) -> usize {
        (0..SHARDS).map(|n| self.shard(n).index.len()).sum()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Of all that makes a key, in one piece.
    fn hash(&self, key: &Key) -> u64 {
        let (mut address, long) = ([0; 16], key.peer.is_ipv6());
        match key.peer.ip() {
            IpAddr::V4(ip) => address[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => address = ip.octets(),
        }
        let mut all = [0; 44];
        all[..16].copy_from_slice(&address);
        all[16..18].copy_from_slice(&key.peer.port().to_le_bytes());
        all[18] = u8::from(long);
        all[19] = u8::from(key.transport == Transport::Tcp);
        let numbers = [key.xid, key.program, key.version, key.procedure];
        for (place, number) in all[20..36].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        all[36..].copy_from_slice(&key.checksum.to_le_bytes());
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.hash_seed);
        hasher.write(&all);
        hasher.finish()
    }

    fn shard(&self, number: usize) -> MutexGuard<'_, Shard> {
        // A panic while the lock was held cannot leave a shard in a state that is unsafe, only one with an
        // entry too few or too many.
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By bits that the table in the shard does not go by.
fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

/// Generation in the upper half (never 0), shard in the next 4 bits, slot in the lower 28.
fn token(shard: usize, slot: u32, generation: u32) -> Token {
    u64::from(generation) << 32 | (shard as u64) << 28 | u64::from(slot)
}

fn parts(token: Token) -> (usize, u32, u32) {
    ((token >> 28) as usize % SHARDS, token as u32 & 0x0fff_ffff, (token >> 32) as u32)
}

impl Shard {
    fn find(&self, hash: u64, key: &Key) -> Option<u32> {
        self.index.find(hash, |slot| has_key(&self.slots, *slot, key)).copied()
    }

    fn insert(&mut self, entry: Entry) -> (u32, u32) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 1, entry: None });
            self.slots.len() as u32 - 1
        });
        let slots = &self.slots;
        let hash_of = |slot: &u32| slots[*slot as usize].entry.as_ref().map_or(0, |e| e.hash);
        match self.index.entry(entry.hash, |slot| has_key(slots, *slot, &entry.key), hash_of) {
            Place::Occupied(mut known) => *known.get_mut() = slot,
            Place::Vacant(vacant) => drop(vacant.insert(slot)),
        }
        let place = &mut self.slots[slot as usize];
        place.entry = Some(entry);
        self.order.push_back((slot, place.generation));
        (slot, place.generation)
    }

    fn keep(&mut self, slot: u32, generation: u32, reply: Box<[u8]>) {
        let Some(place) = self.slots.get_mut(slot as usize).filter(|s| s.generation == generation) else {
            return;
        };
        if let Some(entry) = &mut place.entry {
            self.bytes += reply.len();
            entry.reply = Some(reply);
        }
    }

    /// A reply that was asked for once more may be so again: a client that gets no answers for minutes sends all that time, and what it sent is
    /// on its way. Not each time, or repetitions alone would make `order` long.
    fn renew(&mut self, slot: u32, now: Instant) {
        let place = &mut self.slots[slot as usize];
        let Some(entry) = place.entry.as_mut().filter(|entry| entry.reply.is_some()) else { return };
        if now.saturating_duration_since(entry.since) < SETTLED {
            return;
        }
        entry.since = now;
        place.generation = place.generation.checked_add(1).unwrap_or(1);
        self.order.push_back((slot, place.generation));
        self.tidy();
    }

    fn remove(&mut self, slot: u32, generation: u32) {
        let Some(place) = self.slots.get_mut(slot as usize).filter(|s| s.generation == generation) else {
            return;
        };
        if let Some(entry) = place.entry.take() {
            place.generation = place.generation.checked_add(1).unwrap_or(1);
            self.free.push(slot);
            if let Ok(known) = self.index.find_entry(entry.hash, |known| *known == slot) {
                known.remove();
            }
            self.bytes -= entry.reply.map_or(0, |r| r.len());
        }
        self.tidy();
    }

    /// What was removed out of turn leaves its mark in `order`: away with these before they grow.
    fn tidy(&mut self) {
        if self.order.len() > 2 * self.index.len() + 64 {
            let slots = &self.slots;
            self.order.retain(|(slot, generation)| slots[*slot as usize].generation == *generation);
        }
    }

    fn oldest(&self) -> Option<(u32, u32, Option<&Entry>)> {
        let (slot, generation) = *self.order.front()?;
        let place = &self.slots[slot as usize];
        Some((slot, generation, place.entry.as_ref().filter(|_| place.generation == generation)))
    }

    fn expire(&mut self, now: Instant, age: Duration) {
        while let Some((slot, generation, entry)) = self.oldest() {
            if entry.is_some_and(|e| now.saturating_duration_since(e.since) < age) {
                return;
            }
            self.order.pop_front();
            self.remove(slot, generation);
        }
    }

    /// Drops the oldest answered call; one in progress only if there are hardly others.
    fn drop_oldest(&mut self) {
        self.drop_oldest_if(|_| true);
    }

    /// The same, if it may go. False: nothing went.
    fn drop_oldest_if(&mut self, may: impl Fn(&Entry) -> bool) -> bool {
        let mut passed = 0;
        while let Some((slot, generation, entry)) = self.oldest() {
            let live = entry.is_some();
            let pass_over = passed < PASS_OVER && entry.is_some_and(|e| e.reply.is_none());
            if !pass_over && entry.is_some_and(|e| !may(e)) {
                return false;
            }
            self.order.pop_front();
            if pass_over {
                passed += 1;
                self.order.push_back((slot, generation));
            } else if live {
                self.remove(slot, generation);
                return true;
            }
        }
        false
    }
}

fn has_key(slots: &[Slot], slot: u32, key: &Key) -> bool {
    slots[slot as usize].entry.as_ref().is_some_and(|entry| entry.key == *key)
}

impl std::fmt::Debug for Drc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drc").field("entries", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(xid: u32, args: &[u8]) -> Key {
        let any = SocketAddr::from(([127, 0, 0, 1], 999));
        let info = CallInfo {
            peer: any,
            local: any,
            transport: Transport::Udp,
            xid,
            program: 1,
            version: 1,
            procedure: 1,
            cred: super::super::types::Cred::None,
        };
        Key::new(&info, args)
    }

    fn new(drc: &Drc, now: Instant, key: &Key) -> Token {
        match drc.begin(now, key) {
            Begin::New(token) => token,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_retransmitted_call_gets_the_same_answer() {
        let (drc, now) = (Drc::new(DrcLimits::default()), Instant::now());
        let token = new(&drc, now, &key(1, b"lock"));
        assert_eq!(drc.begin(now, &key(1, b"lock")), Begin::InProgress);
        drc.finish(token, Some(b"granted"));
        assert_eq!(drc.begin(now, &key(1, b"lock")), Begin::Replay((*b"granted").into()));
        new(&drc, now, &key(1, b"else"));
        new(&drc, now, &key(2, b"lock"));
    }

    #[test]
    fn a_reply_that_was_asked_for_again_is_kept_as_long_again() {
        let limits = DrcLimits::default();
        let (drc, start) = (Drc::new(limits), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let token = new(&drc, start, &key(1, b"lock"));
        drc.finish(token, Some(b"granted"));
        drc.seed(start, &key(2, b"unlock"), b"done");
        assert_eq!(drc.begin(at(107), &key(1, b"lock")), Begin::Replay((*b"granted").into()));
        drc.seed(at(107), &key(2, b"unlock"), b"done");
        assert_eq!(drc.begin(at(134), &key(1, b"lock")), Begin::Replay((*b"granted").into()));
        assert_eq!(drc.begin(at(134), &key(2, b"unlock")), Begin::Replay((*b"done").into()));
        new(&drc, at(134 + 120), &key(1, b"lock"));
        new(&drc, at(134 + 120), &key(2, b"unlock"));
    }

    #[test]
    fn repetitions_do_not_grow_the_cache() {
        let (drc, start) = (Drc::new(DrcLimits::default()), Instant::now());
        let token = new(&drc, start, &key(1, b"lock"));
        drc.finish(token, Some(b"granted"));
        for second in 0..10_000 {
            let again = drc.begin(start + Duration::from_secs(second), &key(1, b"lock"));
            assert_eq!(again, Begin::Replay((*b"granted").into()));
        }
        let marks: usize = (0..SHARDS).map(|n| drc.shard(n).order.len()).sum();
        assert!((1..=70).contains(&marks), "{marks}");
    }

    #[test]
    fn a_reply_of_another_node_is_repeated_unless_this_one_knows_better() {
        let (drc, now) = (Drc::new(DrcLimits::default()), Instant::now());
        drc.seed(now, &key(1, b"unlock"), b"granted");
        assert_eq!(drc.begin(now, &key(1, b"unlock")), Begin::Replay((*b"granted").into()));
        let own = new(&drc, now, &key(2, b"unlock"));
        drc.seed(now, &key(2, b"unlock"), b"other");
        drc.finish(own, Some(b"own"));
        assert_eq!(drc.begin(now, &key(2, b"unlock")), Begin::Replay((*b"own").into()));
    }

    #[test]
    fn a_full_cache_makes_room_for_replies_of_another_node_but_keeps_its_latest() {
        let limits = DrcLimits { entries: 160, ..DrcLimits::default() };
        let (drc, then) = (Drc::new(limits), Instant::now());
        let now = then + SETTLED;
        for xid in 0..1_000 {
            drc.finish(new(&drc, then, &key(xid, b"old")), Some(b"x"));
        }
        let full = drc.len();
        drc.seed(now, &key(1, b"unlock"), b"granted");
        assert_eq!(drc.begin(now, &key(1, b"unlock")), Begin::Replay((*b"granted").into()));
        let (latest, running) = (key(2, b"own"), key(3, b"own"));
        drc.finish(new(&drc, now, &latest), Some(b"own"));
        new(&drc, now, &running);
        for xid in 0..1_000 {
            drc.seed(now, &key(xid, b"seed"), b"granted");
        }
        assert!(drc.len() <= full);
        assert_eq!(drc.begin(now, &latest), Begin::Replay((*b"own").into()));
        assert_eq!(drc.begin(now, &running), Begin::InProgress);
    }

    #[test]
    fn silence_and_long_replies_are_forgotten() {
        let (drc, now) = (Drc::new(DrcLimits::default()), Instant::now());
        drc.finish(new(&drc, now, &key(1, b"")), None);
        drc.finish(new(&drc, now, &key(1, b"")), Some(&[0; 4097]));
        new(&drc, now, &key(1, b""));
        assert_eq!(drc.len(), 1);
    }

    #[test]
    fn old_replies_are_forgotten() {
        let (drc, now) = (Drc::new(DrcLimits::default()), Instant::now());
        drc.finish(new(&drc, now, &key(1, b"")), Some(b"x"));
        new(&drc, now + Duration::from_secs(120), &key(1, b""));
    }

    #[test]
    fn the_bounds_hold_and_late_finishes_of_evicted_calls_do_no_harm() {
        let limits = DrcLimits { entries: 160, reply_bytes: 16 * 1000, ..DrcLimits::default() };
        let (drc, now) = (Drc::new(limits), Instant::now());
        let tokens: Vec<_> = (0..1000).map(|xid| new(&drc, now, &key(xid, b""))).collect();
        assert!(drc.len() <= 160);
        for token in &tokens {
            drc.finish(*token, Some(&[0; 100]));
        }
        for token in tokens {
            drc.finish(token, None);
        }
        for round in 0..10_000 {
            drc.finish(
                new(&drc, now, &key(1000 + round, b"")),
                if round % 2 == 0 { None } else { Some(&[0; 900]) },
            );
        }
        for number in 0..SHARDS {
            let shard = drc.shard(number);
            assert!(shard.bytes <= 1000 && shard.index.len() <= 10 && shard.order.len() < 200);
            assert_eq!(
                shard.bytes,
                shard
                    .slots
                    .iter()
                    .flat_map(|s| &s.entry)
                    .flat_map(|e| &e.reply)
                    .map(|r| r.len())
                    .sum::<usize>()
            );
        }
    }

    #[test]
    fn a_call_in_progress_outlives_answered_ones() {
        let limits = DrcLimits { entries: 160, ..DrcLimits::default() };
        let (drc, now) = (Drc::new(limits), Instant::now());
        let token = new(&drc, now, &key(0, b""));
        for xid in 1..2000 {
            drc.finish(new(&drc, now, &key(xid, b"")), Some(b""));
        }
        assert_eq!(drc.begin(now, &key(0, b"")), Begin::InProgress);
        drc.finish(token, Some(b"late"));
        assert_eq!(drc.begin(now, &key(0, b"")), Begin::Replay((*b"late").into()));
    }
}
