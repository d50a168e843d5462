//! The lock table: which owner holds which bytes of which file, with an index for each question asked of it.
//!
//! - `exclusive`: by (file, start). Exclusive locks of one file are disjoint whoever owns them, so the ones that
//!   overlap a range are a contiguous run.
//! - `own`: by (file, owner, start), as one owner's locks are disjoint: for split, merge and the UNLOCK of a whole file
//!   that many others lock.
//! - `shared_class`: by (file, class, start), class = floor(log2(length)): shared locks of many owners overlap, but those
//!   of one class that can reach a range start within twice the class's length before it, so that a few
//!   to-end-of-file locks do not widen every query. `masks` says which classes a file has.
//! - a doubly linked list per client.
//!
//! Must never decide anything: it keeps what the engine says. Two locks of one owner never overlap; two of
//! different owners overlap only if both are shared (debug builds check).

use std::collections::{BTreeMap, BTreeSet};

use slab::Slab;

use super::types::{ClientId, Condition, FileId, GrantId, LockId, Mode, OwnerId, Range};

/// "No lock" in the client lists.
const NIL: u32 = u32::MAX;

/// What is the same for all bytes of one lock besides its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attrs {
    pub(super) mode: Mode,
    pub(super) condition: Condition,
    /// The client's NSM state when it was taken; 0 = unknown.
    pub(super) state: u32,
    /// The grant by callback in flight that includes these bytes. `GrantId(0)`: none.
    pub(super) grant: GrantId,
    /// Exclusive and not known to be with the client: the shared lock that the client surely has under it.
    pub(super) under: Option<Under>,
    /// Left from a stay of its lock manager that ended with a release: it is in the way, and no more than that.
    pub(super) kept: bool,
}

/// A shared lock that a grant made exclusive, while the client's word on it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Under {
    pub(super) condition: Condition,
    pub(super) state: u32,
}

impl Attrs {
    /// A live lock.
    pub(super) fn held(mode: Mode, state: u32) -> Self {
        Self { mode, condition: Condition::Held, state, grant: GrantId(0), under: None, kept: false }
    }

    /// The part that the record knows: grants in flight and stays are this process's.
    pub(super) fn recorded(self) -> Attrs {
        Self { grant: GrantId(0), kept: false, ..self }
    }

    /// Whether this change may settle what somebody else waits for: less is in the way, or it is no more in question.
    pub(super) fn eases_to(self, after: Option<Attrs>) -> bool {
        let Some(after) = after else { return true };
        let turned = |condition| (self.condition == condition) != (after.condition == condition);
        after.mode < self.mode
            || (self.condition == Condition::Reclaimable && turned(Condition::Reclaimable))
            || (after.condition == Condition::Expired && turned(Condition::Expired))
    }

    /// What is left if the client does not have it: the shared lock under it, or nothing.
    pub(super) fn without_grant(self) -> Option<Attrs> {
        let Under { condition, state } = self.under?;
        Some(Self { condition, ..Self::held(Mode::Shared, state) })
    }
}

/// A lock.
#[derive(Clone, Debug)]
pub(super) struct Lock {
    pub(super) range: Range,
    pub(super) attrs: Attrs,
    pub(super) file: FileId,
    pub(super) owner: OwnerId,
    pub(super) client: ClientId,
    /// Seconds on the engine's clock when these bytes were granted.
    pub(super) since_s: u32,
    /// Tells this lock from an earlier one in the same slot.
    pub(super) generation: u32,
    prev: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct ClientList {
    head: u32,
    count: u32,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct LockTable {
    locks: Slab<Lock>,
    exclusive: BTreeMap<(FileId, u64), LockId>,
    own: BTreeMap<(FileId, OwnerId, u64), LockId>,
    shared_class: BTreeSet<(FileId, u8, u64, LockId)>,
    masks: Vec<u64>,
    lists: Vec<ClientList>,
    generation: u32,
}

impl LockTable {
    pub(super) fn len(&self) -> usize {
        self.locks.len()
    }

    pub(super) fn get(&self, id: LockId) -> &Lock {
        &self.locks[id.index()]
    }

    pub(super) fn try_get(&self, id: LockId) -> Option<&Lock> {
        self.locks.get(id.index())
    }

    /// So many more are about to come.
    pub(super) fn reserve(&mut self, locks: usize) {
        self.locks.reserve(locks);
    }

    /// Locks in slot order from `slot` on.
    pub(super) fn slots_from(&self, slot: usize) -> impl Iterator<Item = (LockId, &Lock)> {
        (slot..self.locks.capacity())
            .map(|i| LockId(i as u32))
            .filter_map(|id| self.locks.get(id.index()).map(|lock| (id, lock)))
    }

    /// How many locks a client holds.
    pub(super) fn count_of(&self, client: ClientId) -> u32 {
        self.lists.get(client.index()).map_or(0, |l| l.count)
    }

    /// A client's locks, newest first.
    pub(super) fn of_client(&self, client: ClientId) -> impl Iterator<Item = LockId> + '_ {
        let mut at = self.lists.get(client.index()).map_or(NIL, |l| l.head);
        std::iter::from_fn(move || {
            let id = (at != NIL).then_some(LockId(at))?;
            at = self.locks[id.index()].next;
            Some(id)
        })
    }

    /// The locks of others than `owner` that a lock of `mode` on `range` cannot live with: exclusive ones in
    /// order of their start, then shared ones. Expired locks are in nobody's way. O(log n) to the first, if others' do not
    /// crowd out the owner's own.
    pub(super) fn conflicts(
        &self,
        file: FileId,
        range: Range,
        mode: Mode,
        owner: Option<OwnerId>,
    ) -> impl Iterator<Item = LockId> + '_ {
        self.meeting(file, range, mode, owner)
            .filter(|id| mutant!(ExpiredStaysInTheWay) || self.get(*id).attrs.condition != Condition::Expired)
            .filter(|id| {
                !mutant!(ReclaimableYields) || self.get(*id).attrs.condition != Condition::Reclaimable
            })
    }

    /// The same with the expired ones: no two of those that are left of a grant may meet.
    pub(super) fn meeting(
        &self,
        file: FileId,
        range: Range,
        mode: Mode,
        owner: Option<OwnerId>,
    ) -> impl Iterator<Item = LockId> + '_ {
        let shared = (mode == Mode::Exclusive).then(|| self.shared_overlapping(file, range));
        self.exclusive_overlapping(file, range)
            .chain(shared.into_iter().flatten())
            .filter(move |id| Some(self.get(*id).owner) != owner)
    }

    /// The owner's locks that have a byte in `range`, in order of their start.
    pub(super) fn own(
        &self,
        file: FileId,
        owner: OwnerId,
        range: Range,
    ) -> impl Iterator<Item = LockId> + '_ {
        let before = self
            .own
            .range((file, owner, 0)..(file, owner, range.start))
            .next_back()
            .map(|(_, id)| *id)
            .filter(move |id| self.get(*id).range.end >= range.start);
        let inside = self.own.range((file, owner, range.start)..=(file, owner, range.end)).map(|(_, id)| *id);
        before.into_iter().chain(inside)
    }

    /// Puts a lock in. It must not overlap another of the owner's.
    pub(super) fn insert(
        &mut self,
        file: FileId,
        owner: OwnerId,
        client: ClientId,
        range: Range,
        attrs: Attrs,
        since_s: u32,
    ) -> LockId {
        debug_assert!(self.own(file, owner, range).next().is_none(), "an owner's locks never overlap");
        debug_assert!(
            mutant!(any) || self.meeting(file, range, attrs.mode, Some(owner)).next().is_none(),
            "exclusion: {range} {:?}",
            attrs.mode
        );
        self.generation = self.generation.wrapping_add(1);
        let lock = Lock {
            range,
            attrs,
            file,
            owner,
            client,
            since_s,
            generation: self.generation,
            prev: NIL,
            next: NIL,
        };
        let id = LockId(self.locks.insert(lock) as u32);
        self.index(id);
        self.link(id);
        id
    }

    /// Takes a lock out.
    pub(super) fn remove(&mut self, id: LockId) -> Lock {
        self.unindex(id);
        self.unlink(id);
        self.locks.remove(id.index())
    }

    /// Changes what is known of a lock, and nothing that an index knows. Its neighbours must stay unlike it.
    pub(super) fn set_attrs(&mut self, id: LockId, attrs: Attrs) {
        debug_assert_eq!(self.locks[id.index()].attrs.mode, attrs.mode, "the mode is part of an index");
        self.locks[id.index()].attrs = attrs;
    }

    /// All locks from this one on, in order of files, owners and bytes.
    pub(super) fn from(
        &self,
        at: (FileId, OwnerId, u64),
    ) -> impl Iterator<Item = ((FileId, OwnerId, u64), LockId)> + '_ {
        self.own.range(at..).map(|(key, id)| (*key, *id))
    }

    /// The locks of a file, by owner and bytes.
    pub(super) fn of_file(&self, file: FileId) -> impl Iterator<Item = LockId> + '_ {
        self.own.range((file, OwnerId(0), 0)..=(file, OwnerId(u32::MAX), u64::MAX)).map(|(_, id)| *id)
    }

    /// Panics if an index disagrees with the locks, or two locks with each other.
    #[cfg(any(test, fuzzing))]
    pub(super) fn check(&self) {
        let mut own = BTreeMap::new();
        let mut exclusive = BTreeMap::new();
        let mut class = BTreeSet::new();
        let mut masks = BTreeMap::<usize, u64>::new();
        for (i, lock) in &self.locks {
            let (id, range) = (LockId(i as u32), lock.range);
            own.insert((lock.file, lock.owner, range.start), id);
            if lock.attrs.mode == Mode::Exclusive {
                exclusive.insert((lock.file, range.start), id);
            } else {
                class.insert((lock.file, class_of(range), range.start, id));
                *masks.entry(lock.file.index()).or_default() |= 1 << class_of(range);
            }
        }
        assert_eq!(self.own, own);
        assert_eq!(self.exclusive, exclusive);
        assert_eq!(self.shared_class, class);
        for (file, mask) in self.masks.iter().enumerate() {
            assert_eq!(*mask, masks.get(&file).copied().unwrap_or(0), "classes of file {file}");
        }
        let mut listed = 0;
        for (client, list) in self.lists.iter().enumerate() {
            let client = ClientId(client as u32);
            let ids: BTreeSet<LockId> = self.of_client(client).collect();
            assert!(ids.iter().all(|id| self.get(*id).client == client));
            assert_eq!(ids.len(), list.count as usize);
            listed += ids.len();
        }
        assert_eq!(listed, self.len());
        for ((k, a), (l, b)) in self.own.iter().zip(self.own.iter().skip(1)) {
            let (a, b) = (self.get(*a), self.get(*b));
            if (k.0, k.1) == (l.0, l.1) {
                assert!(a.range.end < b.range.start, "an owner's locks overlap: {a:?} {b:?}");
                let touch = a.range.end + 1 == b.range.start;
                assert!(!touch || a.attrs != b.attrs, "not merged: {a:?} {b:?}");
            }
        }
        // All pairs: small tables only.
        for (i, a) in self.locks.iter().filter(|_| self.len() < 500) {
            for (_, b) in self.locks.iter().filter(|(j, b)| *j > i && a.file == b.file && a.owner != b.owner)
            {
                let meet = a.range.overlaps(b.range) && a.attrs.mode.conflicts(b.attrs.mode);
                assert!(!meet, "exclusion: {a:?} {b:?}");
            }
        }
    }

    fn exclusive_overlapping(&self, file: FileId, range: Range) -> impl Iterator<Item = LockId> + '_ {
        // They end in the order in which they begin: the last one tells whether there is any, and mostly there is none.
        let last = self.exclusive.range(..=(file, range.end)).next_back();
        let any = last.is_some_and(|((of, _), id)| *of == file && self.get(*id).range.end >= range.start);
        any.then(|| self.exclusive_from(file, range)).into_iter().flatten()
    }

    fn exclusive_from(&self, file: FileId, range: Range) -> impl Iterator<Item = LockId> + '_ {
        let before = self
            .exclusive
            .range((file, 0)..(file, range.start))
            .next_back()
            .map(|(_, id)| *id)
            .filter(move |id| self.get(*id).range.end >= range.start);
        let inside = self.exclusive.range((file, range.start)..=(file, range.end)).map(|(_, id)| *id);
        before.into_iter().chain(inside)
    }

    fn shared_overlapping(&self, file: FileId, range: Range) -> impl Iterator<Item = LockId> + '_ {
        let mut mask = self.masks.get(file.index()).copied().unwrap_or(0);
        let classes = std::iter::from_fn(move || {
            let class = (mask != 0).then(|| mask.trailing_zeros() as u8)?;
            mask &= mask - 1;
            Some(class)
        });
        classes.flat_map(move |class| {
            let reach = if class >= 63 { u64::MAX } else { (2u64 << class) - 1 };
            let reach = if mutant!(ClassReachesTooShort) { reach / 2 } else { reach };
            let from = range.start.saturating_sub(reach);
            self.shared_class
                .range((file, class, from, LockId(0))..=(file, class, range.end, LockId(u32::MAX)))
                .map(|(_, _, _, id)| *id)
                .filter(move |id| self.get(*id).range.end >= range.start)
        })
    }

    fn index(&mut self, id: LockId) {
        let Lock { range, attrs, file, owner, .. } = self.locks[id.index()];
        self.own.insert((file, owner, range.start), id);
        match attrs.mode {
            Mode::Exclusive => {
                self.exclusive.insert((file, range.start), id);
            }
            Mode::Shared => {
                let class = class_of(range);
                if self.masks.len() <= file.index() {
                    self.masks.resize(file.index() + 1, 0);
                }
                self.masks[file.index()] |= 1 << class;
                self.shared_class.insert((file, class, range.start, id));
            }
        }
    }

    fn unindex(&mut self, id: LockId) {
        let Lock { range, attrs, file, owner, .. } = self.locks[id.index()];
        self.own.remove(&(file, owner, range.start));
        match attrs.mode {
            Mode::Exclusive => {
                self.exclusive.remove(&(file, range.start));
            }
            Mode::Shared => {
                let class = class_of(range);
                self.shared_class.remove(&(file, class, range.start, id));
                let all = (file, class, 0, LockId(0))..=(file, class, u64::MAX, LockId(u32::MAX));
                if self.shared_class.range(all).next().is_none() {
                    self.masks[file.index()] &= !(1 << class);
                }
            }
        }
    }

    fn link(&mut self, id: LockId) {
        let client = self.locks[id.index()].client.index();
        if self.lists.len() <= client {
            self.lists.resize(client + 1, ClientList { head: NIL, count: 0 });
        }
        let list = &mut self.lists[client];
        let head = list.head;
        list.head = id.0;
        list.count += 1;
        self.locks[id.index()].next = head;
        if head != NIL {
            self.locks[head as usize].prev = id.0;
        }
    }

    fn unlink(&mut self, id: LockId) {
        let Lock { prev, next, client, .. } = self.locks[id.index()];
        match prev {
            NIL => self.lists[client.index()].head = next,
            _ => self.locks[prev as usize].next = next,
        }
        if next != NIL {
            self.locks[next as usize].prev = prev;
        }
        self.lists[client.index()].count -= 1;
    }
}

/// floor(log2(length - 1)), 0 for one and two bytes: a lock of class c reaches at most 2^(c+1) - 1 bytes past its start.
fn class_of(range: Range) -> u8 {
    (63 - ((range.end - range.start) | 1).leading_zeros()) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> Range {
        Range::new(start, end).unwrap()
    }

    #[test]
    fn overlapping_shared_locks_of_all_lengths_are_found() {
        let mut t = LockTable::default();
        let (f, c) = (FileId(0), ClientId(0));
        let ranges = [
            range(0, 0),
            range(5, 5),
            range(0, 9),
            range(3, 100),
            range(1, u64::MAX),
            range(1 << 40, 1 << 41),
        ];
        for (i, r) in ranges.iter().enumerate() {
            t.insert(f, OwnerId(i as u32), c, *r, Attrs::held(Mode::Shared, 0), 0);
        }
        for probe in [
            range(0, 0),
            range(4, 5),
            range(50, 60),
            range(101, 101),
            range(0, u64::MAX),
            range(1 << 40, 1 << 40),
        ] {
            let mut found: Vec<_> =
                t.conflicts(f, probe, Mode::Exclusive, None).map(|id| t.get(id).owner.0).collect();
            found.sort_unstable();
            let expected: Vec<_> =
                (0..ranges.len()).filter(|i| ranges[*i].overlaps(probe)).map(|i| i as u32).collect();
            assert_eq!(found, expected, "{probe}");
        }
    }

    #[test]
    fn a_client_list_survives_removal_in_any_order() {
        let mut t = LockTable::default();
        let c = ClientId(3);
        let ids: Vec<_> = (0..5)
            .map(|i| t.insert(FileId(0), OwnerId(i), c, range(0, 9), Attrs::held(Mode::Shared, 0), 0))
            .collect();
        for i in [2, 0, 4, 1] {
            t.remove(ids[i]);
        }
        assert_eq!(t.of_client(c).collect::<Vec<_>>(), [ids[3]]);
        assert_eq!(t.count_of(c), 1);
    }
}
