//! Requests that wait: blocked LOCKs (answered by a GRANTED callback later) and, in a full grace window, held-back
//! LOCKs and TESTs (answered by their own reply, later). In order of arrival everywhere.

use std::collections::BTreeSet;

use slab::Slab;

use super::command::{Route, Token};
use super::types::{ClientId, FileId, LmId, LockId, Mode, OwnerId, Range, Time, WaiterId};

/// How a waiter will be told.
#[derive(Clone, Debug)]
pub(super) enum How {
    /// It was answered BLOCKED; a GRANTED callback follows.
    Callback(Route),
    /// Its reply is held back until then at the latest.
    Reply { token: Token, until: Time, test: bool },
}

#[derive(Clone, Debug)]
pub(super) struct Waiter {
    /// Order of arrival.
    pub(super) seq: u64,
    pub(super) lm: LmId,
    pub(super) client: ClientId,
    pub(super) owner: OwnerId,
    pub(super) file: FileId,
    pub(super) range: Range,
    pub(super) mode: Mode,
    pub(super) state: u32,
    pub(super) since: Time,
    pub(super) how: How,
    /// One lock in the way when last looked, with its generation: while it is there nothing else matters.
    pub(super) blocker: Option<(LockId, u32)>,
}

#[derive(Debug, Default)]
pub(super) struct Waiters {
    slab: Slab<Waiter>,
    by_file: BTreeSet<(FileId, u64, WaiterId)>,
    by_owner: BTreeSet<(OwnerId, u64, WaiterId)>,
    by_client: BTreeSet<(ClientId, u64, WaiterId)>,
    by_lm: BTreeSet<(LmId, u64, WaiterId)>,
    deadlines: BTreeSet<(Time, WaiterId)>,
    next_seq: u64,
}

impl Waiters {
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn get(&self, id: WaiterId) -> &Waiter {
        &self.slab[id.index()]
    }

    pub(super) fn try_get(&self, id: WaiterId) -> Option<&Waiter> {
        self.slab.get(id.index())
    }

    pub(super) fn get_mut(&mut self, id: WaiterId) -> &mut Waiter {
        &mut self.slab[id.index()]
    }

    /// Waiters in slot order from `slot` on.
    pub(super) fn slots_from(&self, slot: usize) -> impl Iterator<Item = (WaiterId, &Waiter)> {
        (slot..self.slab.capacity())
            .map(|i| WaiterId(i as u32))
            .filter_map(|id| self.slab.get(id.index()).map(|w| (id, w)))
    }

    /// Adds a waiter at the end of the line; its `seq` is set here.
    pub(super) fn push(&mut self, mut waiter: Waiter) -> WaiterId {
        self.next_seq += 1;
        waiter.seq = self.next_seq;
        let (file, owner, client, lm, seq) =
            (waiter.file, waiter.owner, waiter.client, waiter.lm, waiter.seq);
        let deadline = deadline(&waiter);
        let id = WaiterId(self.slab.insert(waiter) as u32);
        self.by_file.insert((file, seq, id));
        self.by_owner.insert((owner, seq, id));
        self.by_client.insert((client, seq, id));
        self.by_lm.insert((lm, seq, id));
        if let Some(until) = deadline {
            self.deadlines.insert((until, id));
        }
        id
    }

    pub(super) fn remove(&mut self, id: WaiterId) -> Waiter {
        let w = self.slab.remove(id.index());
        self.by_file.remove(&(w.file, w.seq, id));
        self.by_owner.remove(&(w.owner, w.seq, id));
        self.by_client.remove(&(w.client, w.seq, id));
        self.by_lm.remove(&(w.lm, w.seq, id));
        if let Some(until) = deadline(&w) {
            self.deadlines.remove(&(until, id));
        }
        w
    }

    /// Whether anybody waits on this file.
    pub(super) fn any_on(&self, file: FileId) -> bool {
        !self.slab.is_empty() && self.of_file(file).next().is_some()
    }

    /// Adds a waiter of the record: it keeps its place in the line.
    pub(super) fn push_at(&mut self, seq: u64, waiter: Waiter) -> WaiterId {
        let last = self.next_seq;
        self.next_seq = seq.saturating_sub(1);
        let id = self.push(waiter);
        self.next_seq = last.max(seq);
        id
    }

    /// A file's waiters in order.
    pub(super) fn of_file(&self, file: FileId) -> impl Iterator<Item = WaiterId> + '_ {
        self.by_file
            .range((file, 0, WaiterId(0))..=(file, u64::MAX, WaiterId(u32::MAX)))
            .map(|(_, _, id)| *id)
    }

    /// An owner's waiters in order.
    pub(super) fn of_owner(&self, owner: OwnerId) -> impl Iterator<Item = WaiterId> + '_ {
        self.by_owner
            .range((owner, 0, WaiterId(0))..=(owner, u64::MAX, WaiterId(u32::MAX)))
            .map(|(_, _, id)| *id)
    }

    /// A client's waiters in order.
    pub(super) fn of_client(&self, client: ClientId) -> impl Iterator<Item = WaiterId> + '_ {
        self.by_client
            .range((client, 0, WaiterId(0))..=(client, u64::MAX, WaiterId(u32::MAX)))
            .map(|(_, _, id)| *id)
    }

    /// A lock manager's waiters in order.
    pub(super) fn of_lm(&self, lm: LmId) -> impl Iterator<Item = WaiterId> + '_ {
        self.by_lm.range((lm, 0, WaiterId(0))..=(lm, u64::MAX, WaiterId(u32::MAX))).map(|(_, _, id)| *id)
    }

    /// Panics if an index disagrees with the waiters.
    #[cfg(any(test, fuzzing))]
    pub(super) fn check(&self) {
        let mut lists = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut deadlines = BTreeSet::new();
        for (i, w) in &self.slab {
            let id = WaiterId(i as u32);
            lists.0.insert((w.file, w.seq, id));
            lists.1.insert((w.owner, w.seq, id));
            lists.2.insert((w.client, w.seq, id));
            lists.3.insert((w.lm, w.seq, id));
            deadlines.extend(deadline(w).map(|until| (until, id)));
        }
        assert_eq!(self.by_file, lists.0);
        assert_eq!(self.by_owner, lists.1);
        assert_eq!(self.by_client, lists.2);
        assert_eq!(self.by_lm, lists.3);
        assert_eq!(self.deadlines, deadlines);
    }

    /// The earliest deadline of a held-back reply.
    pub(super) fn first_deadline(&self) -> Option<(Time, WaiterId)> {
        self.deadlines.first().copied()
    }
}

fn deadline(w: &Waiter) -> Option<Time> {
    match w.how {
        How::Reply { until, .. } => Some(until),
        How::Callback(_) => None,
    }
}
