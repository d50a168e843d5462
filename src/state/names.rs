//! Interning: lock managers, clients, owners and files become small numbers once, and every table works
//! with the numbers. Owners and files are counted and forgotten with their last lock or waiter.
//!
//! Must never iterate a hash table: lookups only, so that runs stay reproducible.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use hashbrown::HashTable;
use slab::Slab;

use super::types::{ClientId, FileId, LmId, OwnerId, Prefixes, Range, Stage, Time};

/// Addresses an operator vouched for, per name. More than a few NICs per host is a mistake.
const TRUSTED_PER_NAME: usize = 16;

/// A lock manager.
#[derive(Debug)]
pub(super) struct Lm {
    pub(super) address: IpAddr,
    pub(super) stage: Stage,
    /// Its grace window, while there is one.
    pub(super) window: Option<Window>,
    /// How many locks of the table are reclaimable: kept with each change, as the end of the window hangs on it.
    pub(super) reclaimable: u64,
    /// How many are expired.
    pub(super) expired: u64,
    /// How many are kept from a stay that ended with a release.
    pub(super) kept: u64,
    /// Locks have expired of which its record says so only from this mark on.
    pub(super) unswept: Option<u64>,
    /// While more expires: the mark from which on it says so of what had expired before.
    pub(super) unswept_before: Option<u64>,
    /// When the expired ones go.
    pub(super) hold_until: Option<Time>,
    /// The change of many locks that is under way.
    pub(super) work: Option<Work>,
    /// Bytes whose waiters are looked at when all of it is loaded.
    pub(super) deferred: BTreeMap<FileId, Range>,
    pub(super) groups: BTreeMap<Box<[u8]>, Group>,
}

/// A grace window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) until: Time,
    /// Files whose record may be incomplete: whatever nothing covers waits. If there are any, the window never ends early.
    pub(super) full: Prefixes,
    /// How long a non-blocking request is held back.
    pub(super) park: Duration,
}

impl Lm {
    /// Whether its window is full for this file.
    pub(super) fn in_full_grace(&self, file: &[u8]) -> bool {
        self.window.as_ref().is_some_and(|w| w.full.include(file))
    }

    /// Whether its window is full for any file.
    pub(super) fn is_any_full(&self) -> bool {
        self.window.as_ref().is_some_and(|w| !w.full.is_empty())
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.stage == Stage::Loaded
    }

    /// Whether its window is over and its unreclaimed locks are just expiring.
    pub(super) fn is_ending(&self) -> bool {
        self.work.as_ref().is_some_and(|w| matches!(w.kind, WorkKind::Expire))
    }
}

/// A change of many locks of a lock manager, made in steps so that no command takes long.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) kind: WorkKind,
    /// Where to go on in the order of files, owners and bytes.
    pub(super) at: (FileId, OwnerId, u64),
    /// Locks changed.
    pub(super) locks: u64,
    /// Waiters dropped.
    pub(super) waiters: u64,
}

#[derive(Clone, Debug)]
pub(super) enum WorkKind {
    /// The window is over: what is reclaimable expires.
    Expire,
    /// The hold time is over: what is expired goes.
    DropExpired,
    /// Released: all goes but the locks on the files to keep. `again`: it was released before.
    Forget { keep: Prefixes, clients: Vec<ClientId>, again: bool },
    /// Loaded anew: what is kept of the stay before goes.
    Leftovers,
    /// Released long ago: what was kept goes.
    DropReleased,
}

impl Work {
    /// Before all files.
    pub(super) const START: (FileId, OwnerId, u64) = (FileId(0), OwnerId(0), 0);

    pub(super) fn new(kind: WorkKind) -> Self {
        Self { kind, at: Self::START, locks: 0, waiters: 0 }
    }
}

/// All clients of one name.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) members: BTreeMap<IpAddr, ClientId>,
    pub(super) trusted: Vec<IpAddr>,
}

/// A client: (lock manager, name, address).
#[derive(Debug)]
pub(super) struct Client {
    pub(super) lm: LmId,
    pub(super) name: Box<[u8]>,
    pub(super) address: IpAddr,
    /// Its NSM state; 0 = unknown.
    pub(super) state: u32,
    /// Since when it takes locks under that, as far as is known here. A notice alone does not tell: with some clients it is ahead of what
    /// their LOCKs say.
    pub(super) state_since: Option<Time>,
    /// Whether an [`super::Entry::Client`] with this state was emitted.
    pub(super) recorded: bool,
    /// Whether one with any state was: there is something to forget.
    pub(super) listed: bool,
    /// Of its locks, the reclaimable ones.
    pub(super) reclaimable: u64,
    pub(super) waiters: u32,
    pub(super) shares: u32,
    /// When it came, or was loaded.
    pub(super) since: Time,
    pub(super) last_seen: Time,
    /// Since when it has nothing; the key of its place in the idle list.
    pub(super) idle_since: Option<Time>,
}

/// An owner within a client.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) client: ClientId,
    pub(super) svid: u32,
    pub(super) oh: Box<[u8]>,
    refs: u32,
    /// Of those, locks. A deadlock needs an owner that holds something.
    pub(super) locks: u32,
}

#[derive(Debug)]
struct File {
    key: Box<[u8]>,
    refs: u32,
}

/// All the tables.
#[derive(Debug, Default)]
pub(super) struct Names {
    hash_seed: u64,
    lm_ids: BTreeMap<IpAddr, LmId>,
    pub(super) lms: Slab<Lm>,
    pub(super) clients: Slab<Client>,
    per_address: BTreeMap<IpAddr, BTreeSet<ClientId>>,
    pub(super) owners: Slab<Owner>,
    owner_ids: HashTable<u32>,
    files: Slab<File>,
    file_ids: HashTable<u32>,
}

impl Names {
    /// `hash_seed` should be secret where requests are hostile, and fixed where runs must repeat.
    pub(super) fn new(hash_seed: u64) -> Self {
        Self { hash_seed, ..Self::default() }
    }

    pub(super) fn find_lm(&self, address: &IpAddr) -> Option<LmId> {
        self.lm_ids.get(address).copied()
    }

    /// The lock manager, made if need be; true if it is new.
    pub(super) fn lm(&mut self, address: IpAddr) -> (LmId, bool) {
        if let Some(id) = self.lm_ids.get(&address) {
            return (*id, false);
        }
        let id = LmId(self.lms.insert(Lm {
            address,
            stage: Stage::Loaded,
            window: None,
            reclaimable: 0,
            expired: 0,
            kept: 0,
            unswept: None,
            unswept_before: None,
            hold_until: None,
            work: None,
            deferred: BTreeMap::new(),
            groups: BTreeMap::new(),
        }) as u32);
        self.lm_ids.insert(address, id);
        (id, true)
    }

    /// The lock managers in order of their addresses.
    pub(super) fn lms_in_order(&self) -> impl Iterator<Item = LmId> + '_ {
        self.lm_ids.values().copied()
    }

    /// Takes back what operators vouched for at a lock manager.
    pub(super) fn distrust(&mut self, lm: LmId) {
        self.lms[lm.index()].groups.values_mut().for_each(|group| group.trusted.clear());
    }

    /// A lock manager's clients, by name and address.
    pub(super) fn clients_of(&self, lm: LmId) -> impl Iterator<Item = ClientId> + '_ {
        self.lms[lm.index()].groups.values().flat_map(|g| g.members.values().copied())
    }

    pub(super) fn lm_mut(&mut self, id: LmId) -> &mut Lm {
        &mut self.lms[id.index()]
    }

    pub(super) fn lm_by_id(&self, id: LmId) -> &Lm {
        &self.lms[id.index()]
    }

    pub(super) fn group(&self, lm: LmId, name: &[u8]) -> Option<&Group> {
        self.lms[lm.index()].groups.get(name)
    }

    pub(super) fn find_client(&self, lm: LmId, name: &[u8], address: &IpAddr) -> Option<ClientId> {
        self.group(lm, name)?.members.get(address).copied()
    }

    /// How many clients (of all lock managers) come from this address.
    pub(super) fn count_at(&self, address: &IpAddr) -> usize {
        self.per_address.get(address).map_or(0, BTreeSet::len)
    }

    /// The clients that come from this address.
    pub(super) fn clients_at(&self, address: &IpAddr) -> impl Iterator<Item = ClientId> + '_ {
        self.per_address.get(address).into_iter().flatten().copied()
    }

    pub(super) fn add_client(&mut self, lm: LmId, name: &[u8], address: IpAddr, now: Time) -> ClientId {
        let id = ClientId(self.clients.insert(Client {
            lm,
            name: name.into(),
            address,
            state: 0,
            state_since: None,
            recorded: false,
            listed: false,
            reclaimable: 0,
            waiters: 0,
            shares: 0,
            since: now,
            last_seen: now,
            idle_since: None,
        }) as u32);
        self.lms[lm.index()].groups.entry(name.into()).or_default().members.insert(address, id);
        self.per_address.entry(address).or_default().insert(id);
        id
    }

    /// Takes a client out that has neither owners nor anything else any more.
    pub(super) fn remove_client(&mut self, id: ClientId) -> Client {
        let client = self.clients.remove(id.index());
        let groups = &mut self.lms[client.lm.index()].groups;
        if let Some(group) = groups.get_mut(&client.name) {
            group.members.remove(&client.address);
            if group.members.is_empty() {
                groups.remove(&client.name);
            }
        }
        if let Some(here) = self.per_address.get_mut(&client.address) {
            here.remove(&id);
            if here.is_empty() {
                self.per_address.remove(&client.address);
            }
        }
        client
    }

    /// Lets an address act for all clients of that name. False if there is no such name or no room.
    pub(super) fn trust(&mut self, lm: LmId, name: &[u8], address: IpAddr) -> bool {
        let Some(group) = self.lms[lm.index()].groups.get_mut(name) else { return false };
        if group.trusted.contains(&address) {
            return true;
        }
        if group.trusted.len() >= TRUSTED_PER_NAME {
            return false;
        }
        group.trusted.push(address);
        true
    }

    pub(super) fn client(&self, id: ClientId) -> &Client {
        &self.clients[id.index()]
    }

    pub(super) fn client_mut(&mut self, id: ClientId) -> &mut Client {
        &mut self.clients[id.index()]
    }

    pub(super) fn find_owner(&self, client: ClientId, oh: &[u8], svid: u32) -> Option<OwnerId> {
        self.find_hashed(self.owner_hash(client, oh, svid), client, oh, svid)
    }

    fn find_hashed(&self, hash: u64, client: ClientId, oh: &[u8], svid: u32) -> Option<OwnerId> {
        self.owner_ids
            .find(hash, |id| {
                let o = &self.owners[*id as usize];
                o.client == client && o.svid == svid && (mutant!(OwnersOfOneNumber) || *o.oh == *oh)
            })
            .map(|id| OwnerId(*id))
    }

    /// The owner, made if need be with a count of zero: take a reference or [`Names::forget_owner_if_unused`].
    pub(super) fn owner(&mut self, client: ClientId, oh: &[u8], svid: u32) -> OwnerId {
        let hash = self.owner_hash(client, oh, svid);
        if let Some(id) = self.find_hashed(hash, client, oh, svid) {
            return id;
        }
        let id = self.owners.insert(Owner { client, svid, oh: oh.into(), refs: 0, locks: 0 }) as u32;
        let (seed, owners) = (self.hash_seed, &self.owners);
        self.owner_ids.insert_unique(hash, id, |id| {
            let o = &owners[*id as usize];
            hash_owner(seed, o.client, &o.oh, o.svid)
        });
        OwnerId(id)
    }

    pub(super) fn owner_by_id(&self, id: OwnerId) -> &Owner {
        &self.owners[id.index()]
    }

    pub(super) fn owner_mut(&mut self, id: OwnerId) -> &mut Owner {
        &mut self.owners[id.index()]
    }

    pub(super) fn hold_owner(&mut self, id: OwnerId) {
        self.owners[id.index()].refs += 1;
    }

    pub(super) fn drop_owner(&mut self, id: OwnerId) {
        self.owners[id.index()].refs -= 1;
        self.forget_owner_if_unused(id);
    }

    pub(super) fn forget_owner_if_unused(&mut self, id: OwnerId) {
        let owner = &self.owners[id.index()];
        if owner.refs > 0 {
            return;
        }
        let hash = self.owner_hash(owner.client, &owner.oh, owner.svid);
        if let Ok(entry) = self.owner_ids.find_entry(hash, |other| *other == id.0) {
            entry.remove();
        }
        self.owners.remove(id.index());
    }

    pub(super) fn find_file(&self, key: &[u8]) -> Option<FileId> {
        self.find_hashed_file(hash_bytes(self.hash_seed, key), key)
    }

    fn find_hashed_file(&self, hash: u64, key: &[u8]) -> Option<FileId> {
        self.file_ids.find(hash, |id| *self.files[*id as usize].key == *key).map(|id| FileId(*id))
    }

    /// The file, made if need be with a count of zero.
    pub(super) fn file(&mut self, key: &[u8]) -> FileId {
        let hash = hash_bytes(self.hash_seed, key);
        if let Some(id) = self.find_hashed_file(hash, key) {
            return id;
        }
        let id = self.files.insert(File { key: key.into(), refs: 0 }) as u32;
        let (seed, files) = (self.hash_seed, &self.files);
        self.file_ids.insert_unique(hash, id, |id| hash_bytes(seed, &files[*id as usize].key));
        FileId(id)
    }

    /// The same where this one is likely.
    pub(super) fn file_like(&mut self, likely: Option<FileId>, key: &[u8]) -> FileId {
        let is_it = |id: &FileId| self.files.get(id.index()).is_some_and(|file| *file.key == *key);
        likely.filter(is_it).unwrap_or_else(|| self.file(key))
    }

    /// Whether this is the client of that name.
    pub(super) fn is_client(&self, id: ClientId, lm: LmId, name: &[u8], address: &IpAddr) -> bool {
        self.clients.get(id.index()).is_some_and(|c| c.lm == lm && *c.name == *name && c.address == *address)
    }

    /// There are going to be so many in all, or some more: the tables need not grow step by step, each time with all that is in them. Where
    /// they are that large nothing is done: everybody waits meanwhile.
    pub(super) fn reserve_all(&mut self, owners: usize, files: usize) {
        let owners = owners.saturating_sub(self.owners.len());
        let files = files.saturating_sub(self.files.len());
        let (seed, known) = (self.hash_seed, &self.owners);
        self.owner_ids.reserve(owners, |id| {
            let o = &known[*id as usize];
            hash_owner(seed, o.client, &o.oh, o.svid)
        });
        let known = &self.files;
        self.file_ids.reserve(files, |id| hash_bytes(seed, &known[*id as usize].key));
        self.owners.reserve(owners);
        self.files.reserve(files);
    }

    /// Files in slot order from `slot` on.
    pub(super) fn file_slots_from(&self, slot: usize) -> impl Iterator<Item = (usize, Option<&[u8]>)> {
        (slot..self.files.capacity()).map(|i| (i, self.files.get(i).map(|f| &*f.key)))
    }

    /// The id again, if that file is still known.
    pub(super) fn find_file_by_id(&self, id: FileId) -> Option<FileId> {
        self.files.contains(id.index()).then_some(id)
    }

    pub(super) fn file_key(&self, id: FileId) -> &[u8] {
        &self.files[id.index()].key
    }

    pub(super) fn hold_file(&mut self, id: FileId) {
        self.files[id.index()].refs += 1;
    }

    pub(super) fn drop_file(&mut self, id: FileId) {
        self.files[id.index()].refs -= 1;
        self.forget_file_if_unused(id);
    }

    pub(super) fn forget_file_if_unused(&mut self, id: FileId) {
        let file = &self.files[id.index()];
        if file.refs > 0 {
            return;
        }
        let hash = hash_bytes(self.hash_seed, &file.key);
        if let Ok(entry) = self.file_ids.find_entry(hash, |other| *other == id.0) {
            entry.remove();
        }
        self.files.remove(id.index());
    }

    /// Panics if the counts of owners (all references, locks) or files are not these, or an index is wrong.
    #[cfg(any(test, fuzzing))]
    pub(super) fn check(&self, owners: &BTreeMap<usize, (u32, u32)>, files: &BTreeMap<usize, u32>) {
        let counted: BTreeMap<_, _> = self.owners.iter().map(|(i, o)| (i, (o.refs, o.locks))).collect();
        assert_eq!(&counted, owners, "references and locks of owners");
        let counted: BTreeMap<_, _> = self.files.iter().map(|(i, f)| (i, f.refs)).collect();
        assert_eq!(&counted, files, "references of files");
        assert_eq!((self.owner_ids.len(), self.file_ids.len()), (self.owners.len(), self.files.len()));
        for (i, o) in &self.owners {
            assert_eq!(self.find_owner(o.client, &o.oh, o.svid), Some(OwnerId(i as u32)));
        }
        for (i, f) in &self.files {
            assert_eq!(self.find_file(&f.key), Some(FileId(i as u32)));
        }
        for (i, c) in &self.clients {
            let id = ClientId(i as u32);
            assert_eq!(self.find_client(c.lm, &c.name, &c.address), Some(id));
            assert!(self.per_address.get(&c.address).is_some_and(|here| here.contains(&id)));
        }
        let members: usize =
            self.lms.iter().flat_map(|(_, lm)| lm.groups.values()).map(|g| g.members.len()).sum();
        let here: usize = self.per_address.values().map(BTreeSet::len).sum();
        assert_eq!((members, here), (self.clients.len(), self.clients.len()));
    }

    /// Clients, owners and files.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.clients.len(), self.owners.len(), self.files.len())
    }

    fn owner_hash(&self, client: ClientId, oh: &[u8], svid: u32) -> u64 {
        hash_owner(self.hash_seed, client, oh, svid)
    }
}

/// SipHash with a secret in front, so that a stranger cannot aim for one bucket.
fn hash_owner(seed: u64, client: ClientId, oh: &[u8], svid: u32) -> u64 {
    let mut h = DefaultHasher::new();
    h.write_u64(seed);
    client.hash(&mut h);
    h.write_u32(svid);
    if !mutant!(OwnersOfOneNumber) {
        h.write(oh);
    }
    h.finish()
}

fn hash_bytes(seed: u64, bytes: &[u8]) -> u64 {
    let mut h = DefaultHasher::new();
    h.write_u64(seed);
    h.write(bytes);
    h.finish()
}
