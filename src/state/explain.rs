//! What a request would get now, and why; and what a change of a lock manager's life would do. Questions only.
//!
//! Must never change anything. Not considered, as they hang on who asks when: limits, and that a plain LOCK of a rebooted client
//! first frees what the client had.

use std::net::IpAddr;

use super::deadlock::{Verdict, would_deadlock};
use super::engine::{Engine, GraceConflict};
use super::inspect::{BLOCKERS_SHOWN, LockRow};
use super::types::{ClientId, Condition, FileId, LmId, LockId, Mode, OwnerId, Range, Time};

/// Who would ask for what.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Lock manager.
    pub lm: IpAddr,
    /// Client name and address; `None`: somebody who is not known.
    pub client: Option<(&'a [u8], IpAddr)>,
    /// Owner handle and number; `None`: an owner that has nothing.
    pub owner: Option<(&'a [u8], u32)>,
    /// The file's key.
    pub file: &'a [u8],
    /// Which bytes.
    pub range: Range,
    /// Shared or exclusive.
    pub mode: Mode,
}

/// What a request would get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// GRANTED at once.
    Granted,
    /// DENIED at once.
    Denied,
    /// BLOCKED: queued, GRANTED by callback.
    Blocked,
    /// Its reply is held back; DENIED_GRACE_PERIOD if it takes too long.
    HeldBack,
    /// DEADLOCK.
    Deadlock,
    /// No answer: the lock manager is not loaded.
    Silence,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// A non-blocking LOCK.
    pub lock: Outcome,
    /// A blocking LOCK.
    pub blocking: Outcome,
    /// A TEST.
    pub test: Outcome,
    /// Whether the owner has all of it already, at that mode or a stronger one: a reclaim would be granted.
    pub covered: bool,
    /// Whether it is the full window of its own lock manager that it would wait for.
    pub full_window: bool,
    /// The first few locks in its way.
    pub blockers: Vec<LockRow>,
    /// How many there are.
    pub blocker_count: u64,
    /// How many of them are held, by whom only their holders can end them.
    pub held: u64,
    /// The first few expired locks that a grant would take bytes from.
    pub yielding: Vec<LockRow>,
    /// When it would get an answer at the latest if nobody does anything: the end of the last window in its way. `None`:
    /// at once, or when the holders let go.
    pub until: Option<Time>,
}

/// What is to be previewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `start_grace` of what is loaded.
    StartGrace {
        /// Whether the record may be incomplete.
        full: bool,
    },
    /// `end_grace`.
    EndGrace,
    /// `unlock_ip`.
    Release,
}

/// What a [`Verb`] would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Locks that clients would have to reclaim: reclaimable now (`StartGrace`), or in the record afterwards (`Release`).
    pub marked: u64,
    /// Locks that would expire (`EndGrace`), or leave the memory of this node (`Release`).
    pub freed: u64,
    /// Waiting requests that would be dropped without an answer.
    pub dropped: u64,
    /// Waiting requests, of any lock manager, that would wait on. The others are let go, each looked at by itself: of several
    /// that want the same bytes only the first gets them.
    pub waiting: u64,
    /// Whether every plain LOCK and TEST would wait, not only conflicting ones.
    pub all_wait: bool,
}

impl Engine {
    /// What a request would get now, and why. O(locks in its way).
    pub fn explain(&self, q: &Question<'_>) -> Explanation {
        let lm = self.names.find_lm(&q.lm);
        let client =
            lm.zip(q.client).and_then(|(lm, (name, address))| self.names.find_client(lm, name, &address));
        let owner =
            client.zip(q.owner).and_then(|(client, (oh, svid))| self.names.find_owner(client, oh, svid));
        let file = self.names.find_file(q.file);
        let meeting: Vec<LockId> =
            file.map(|file| self.locks.meeting(file, q.range, q.mode, owner).collect()).unwrap_or_default();
        let (yielding, blockers): (Vec<LockId>, Vec<LockId>) =
            meeting.into_iter().partition(|id| self.condition_of(*id) == Condition::Expired);
        let covered = owner.zip(file).is_some_and(|(owner, file)| self.covers(owner, file, q.range, q.mode));
        let held = blockers.iter().filter(|id| self.condition_of(**id) != Condition::Reclaimable).count();
        let full = lm.is_some_and(|lm| self.names.lm_by_id(lm).in_full_grace());
        let parks = self.would_park(&blockers);
        let [lock, blocking, test] = match (self.is_unloaded(lm), full, blockers.is_empty()) {
            (true, _, _) => [Outcome::Silence; 3],
            (_, true, _) if !covered => [Outcome::HeldBack, Outcome::Blocked, Outcome::HeldBack],
            (_, true, _) => [Outcome::Granted, Outcome::Granted, Outcome::HeldBack],
            (_, false, true) => [Outcome::Granted; 3],
            (_, false, false) if parks => [Outcome::HeldBack, Outcome::Blocked, Outcome::Denied],
            (_, false, false) => [Outcome::Denied, Outcome::Blocked, Outcome::Denied],
        };
        let circle = blocking == Outcome::Blocked && self.would_circle(owner, file, q);
        let until = lm.and_then(|lm| self.window_in_the_way(lm, &blockers));
        Explanation {
            lock,
            blocking: if circle { Outcome::Deadlock } else { blocking },
            test,
            covered,
            full_window: full && !covered,
            blocker_count: blockers.len() as u64,
            held: held as u64,
            blockers: self.rows(&blockers),
            yielding: self.rows(&yielding),
            until: until.filter(|_| held == 0 && (!covered || !blockers.is_empty())),
        }
    }

    /// What a change would do to a lock manager; all zero for one that is not loaded.
    pub fn preview(&self, lm: IpAddr, verb: Verb) -> Preview {
        let Some(id) = self.names.find_lm(&lm) else { return Preview::default() };
        let entry = self.names.lm_by_id(id);
        let locks: u64 = self.names.clients_of(id).map(|c| u64::from(self.locks.count_of(c))).sum();
        let waiting = self.waiters.len() as u64;
        match verb {
            Verb::StartGrace { full } => Preview {
                marked: entry.reclaimable,
                waiting,
                all_wait: full || entry.in_full_grace(),
                ..Preview::default()
            },
            Verb::EndGrace if entry.window.is_none() => Preview { waiting, ..Preview::default() },
            Verb::EndGrace => Preview {
                freed: entry.reclaimable,
                waiting: self.still_waiting(id, false),
                ..Preview::default()
            },
            Verb::Release => Preview {
                marked: locks - entry.expired,
                freed: locks,
                dropped: self.waiters.of_lm(id).count() as u64,
                waiting: self.still_waiting(id, true),
                all_wait: false,
            },
        }
    }

    /// The waiters that would have something in their way without this lock manager's window, reclaimable locks and, if it
    /// is `released`, all its locks.
    fn still_waiting(&self, lm: LmId, released: bool) -> u64 {
        let stays = |id: &LockId| {
            let lock = self.locks.get(*id);
            let of_lm = self.names.client(lock.client).lm == lm;
            !of_lm || !(released || lock.attrs.condition == Condition::Reclaimable)
        };
        let waits = self.waiters.slots_from(0).filter(|(_, w)| {
            if w.lm == lm && released {
                return false;
            }
            let window = w.lm != lm && self.names.lm_by_id(w.lm).in_full_grace();
            let parked = matches!(w.how, super::waiting::How::Reply { .. });
            let mut conflicts = self.locks.conflicts(w.file, w.range, w.mode, Some(w.owner)).filter(stays);
            window
                || conflicts.any(|id| !parked || self.condition_of(id) == Condition::Reclaimable)
                || (!parked && self.is_being_granted(w.owner, w.file, w.range))
        });
        waits.count() as u64
    }

    fn is_unloaded(&self, lm: Option<LmId>) -> bool {
        lm.is_none() && !self.any_address
    }

    /// Whether a non-blocking LOCK would be held back for these.
    fn would_park(&self, blockers: &[LockId]) -> bool {
        self.settings.grace_conflict == GraceConflict::Wait
            && blockers.iter().all(|id| self.condition_of(*id) == Condition::Reclaimable)
            && blockers.iter().any(|id| {
                let client: ClientId = self.locks.get(*id).client;
                self.names.lm_by_id(self.names.client(client).lm).window.is_some()
            })
    }

    fn would_circle(&self, owner: Option<OwnerId>, file: Option<FileId>, q: &Question<'_>) -> bool {
        let known = owner.zip(file);
        known.is_some_and(|(owner, file)| {
            would_deadlock(&self.locks, &self.waiters, owner, file, q.range, q.mode) == Verdict::Deadlock
        })
    }

    fn condition_of(&self, id: LockId) -> Condition {
        self.locks.get(id).attrs.condition
    }

    fn rows(&self, ids: &[LockId]) -> Vec<LockRow> {
        ids.iter().take(BLOCKERS_SHOWN).map(|id| self.lock_row(*id)).collect()
    }
}
