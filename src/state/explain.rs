//! What a request would get now, and why; and what a change of a lock manager's life would do. Questions only.
//!
//! Must never change anything. Not considered, as they hang on who asks when: limits, and that a plain LOCK of a rebooted client
//! first frees what the client had.

use std::net::IpAddr;

use super::command::{Deny, Party};
use super::deadlock::Verdict;
use super::engine::reclaim::{Claim, Ground};
use super::engine::{Engine, GraceConflict};
use super::inspect::{BLOCKERS_SHOWN, LockRow};
use super::types::{ClientId, Condition, FileId, LmId, LockId, Mode, OwnerId, Prefixes, Range, Stage, Time};
use super::waiting::{How, Waiter};

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
    /// DENIED_GRACE_PERIOD at once: a reclaim outside of a window.
    DeniedGrace,
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
    /// A LOCK that reclaims.
    pub reclaim: Outcome,
    /// Whether the owner has all of it already, at that mode or a stronger one.
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
    /// The lock manager whose record still has what was freed there, and what a LOCK would have to wait for.
    pub unwritten: Option<IpAddr>,
    /// When it would get an answer at the latest if nobody does anything: the end of the last window in its way. `None`:
    /// at once, or when the holders let go.
    pub until: Option<Time>,
}

/// What is to be previewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb<'a> {
    /// `start_grace` of what is loaded.
    StartGrace {
        /// Whether the record of any files may be incomplete.
        full: bool,
    },
    /// `end_grace`.
    EndGrace,
    /// `unlock_ip`.
    Release {
        /// As in [`super::Command::Release`].
        keep: &'a [Box<[u8]>],
    },
}

/// What is to be freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// All on the file with this key.
    File(&'a [u8]),
    /// All of a client.
    Client {
        /// Lock manager.
        lm: IpAddr,
        /// Client name.
        name: &'a [u8],
        /// Client address.
        address: IpAddr,
    },
    /// The lock with this number in the list.
    Lock(u64),
}

/// What a [`Verb`] would do, or freeing a [`Target`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Locks that clients would have to reclaim: reclaimable now (`StartGrace`), or in the record afterwards (`Release`).
    pub marked: u64,
    /// Locks that would expire (`EndGrace`), leave the memory of this node (`Release`), or be freed.
    pub freed: u64,
    /// Waiting requests that would be dropped without an answer.
    pub dropped: u64,
    /// Waiting requests, of any lock manager, that would wait on. The others are let go, each looked at by itself: of several
    /// that want the same bytes only the first gets them.
    pub waiting: u64,
    /// Whether every plain LOCK and TEST would wait, not only conflicting ones.
    pub all_wait: bool,
    /// A lock manager that is not taken up here, if some of the locks to be freed are kept of one: its record keeps them.
    pub released: Option<IpAddr>,
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
        let full = lm.is_some_and(|lm| self.names.lm_by_id(lm).in_full_grace(q.file));
        let parks = self.would_park(&blockers);
        let proven = covered
            && !owner.zip(file).is_some_and(|(owner, file)| self.is_any_unreclaimed(owner, file, q.range));
        let free = blockers.is_empty() && !covered;
        let unwritten = lm
            .zip(file)
            .filter(|_| free)
            .and_then(|(lm, file)| self.unwritten_in_the_way(lm, file, q.range, q.mode, owner));
        let [lock, blocking, test] = match (self.is_unloaded(q.lm), full, blockers.is_empty()) {
            (true, _, _) => [Outcome::Silence; 3],
            (_, true, _) if !proven => [Outcome::HeldBack, Outcome::Blocked, Outcome::HeldBack],
            (_, true, _) => [Outcome::Granted, Outcome::Granted, Outcome::HeldBack],
            (_, false, true) if unwritten.is_some() => [Outcome::Denied, Outcome::Blocked, Outcome::Granted],
            (_, false, true) => [Outcome::Granted; 3],
            (_, false, false) if parks => [Outcome::HeldBack, Outcome::Blocked, Outcome::Denied],
            (_, false, false) => [Outcome::Denied, Outcome::Blocked, Outcome::Denied],
        };
        let circle = blocking == Outcome::Blocked && self.would_circle(owner, file, q);
        let until = lm.and_then(|lm| self.window_in_the_way(lm, q.file, &blockers));
        Explanation {
            lock,
            blocking: if circle { Outcome::Deadlock } else { blocking },
            test,
            reclaim: self.explain_reclaim(lm, q, &blockers),
            covered,
            full_window: full && !proven,
            blocker_count: blockers.len() as u64,
            held: held as u64,
            blockers: self.rows(&blockers),
            yielding: self.rows(&yielding),
            unwritten: unwritten.map(|lm| self.names.lm_by_id(lm).address),
            until: until.filter(|_| held == 0 && (!covered || !blockers.is_empty())),
        }
    }

    /// What a change would do to a lock manager; all zero for one that is not known. O(waiters), and with something to keep O(its locks).
    pub fn preview(&self, lm: IpAddr, verb: Verb<'_>) -> Preview {
        let Some(id) = self.names.find_lm(&lm) else { return Preview::default() };
        let entry = self.names.lm_by_id(id);
        let waiting = self.waiters.len() as u64;
        match verb {
            Verb::StartGrace { full } => Preview {
                marked: entry.reclaimable,
                waiting,
                all_wait: full || entry.is_any_full(),
                ..Preview::default()
            },
            Verb::EndGrace if entry.window.is_none() => Preview { waiting, ..Preview::default() },
            Verb::EndGrace => {
                let stays = |lock: LockId| {
                    self.lm_of(lock) != id || self.condition_of(lock) != Condition::Reclaimable
                };
                let window = |w: &Waiter| w.lm != id && self.is_held_by_window(w);
                let waiting = self.still_waiting(|_| true, stays, window);
                Preview { freed: entry.reclaimable, waiting, ..Preview::default() }
            }
            Verb::Release { keep } => self.preview_release(id, &Prefixes::new(keep)),
        }
    }

    /// What freeing this would do; all zero for what is not there. O(waiters + what is to be freed).
    pub fn preview_free(&self, target: &Target<'_>) -> Preview {
        let window = |w: &Waiter| self.is_held_by_window(w);
        match target {
            Target::File(key) => {
                let Some(file) = self.names.find_file(key) else { return Preview::default() };
                let dropped = self.waiters.of_file(file).count() as u64;
                let waiting = self.waiters.len() as u64 - dropped;
                Preview {
                    freed: self.locks.of_file(file).filter(|id| !self.is_only_kept(*id)).count() as u64,
                    dropped,
                    waiting,
                    released: self.released_of(self.locks.of_file(file)),
                    ..Preview::default()
                }
            }
            Target::Client { lm, name, address } => {
                let known = self.names.find_lm(lm).and_then(|lm| self.names.find_client(lm, name, address));
                let Some(client) = known else { return Preview::default() };
                let released = self.released_of(self.locks.of_client(client).take(1));
                let stays = |lock: LockId| self.locks.get(lock).client != client || released.is_some();
                let waiting = self.still_waiting(|w| w.client != client, stays, window);
                let dropped = u64::from(self.names.client(client).waiters);
                let freed = if released.is_none() { u64::from(self.locks.count_of(client)) } else { 0 };
                Preview { freed, dropped, waiting, released, ..Preview::default() }
            }
            Target::Lock(id) => {
                let Some(id) = self.find_lock(*id) else { return Preview::default() };
                let released = self.released_of(std::iter::once(id));
                let stays = |lock: LockId| lock != id || released.is_some();
                let waiting = self.still_waiting(|_| true, stays, window);
                Preview { freed: u64::from(released.is_none()), waiting, released, ..Preview::default() }
            }
        }
    }

    fn preview_release(&self, lm: LmId, keep: &Prefixes) -> Preview {
        let entry = self.names.lm_by_id(lm);
        let kept = |lock: LockId| keep.include(self.names.file_key(self.locks.get(lock).file));
        let locks: u64 = self.names.clients_of(lm).map(|c| u64::from(self.locks.count_of(c))).sum();
        let of_lm = self.names.clients_of(lm).flat_map(|client| self.locks.of_client(client));
        let stay = if keep.is_empty() { 0 } else { of_lm.filter(|lock| kept(*lock)).count() as u64 };
        let stays = |lock: LockId| self.lm_of(lock) != lm || kept(lock);
        let window = |w: &Waiter| self.is_held_by_window(w);
        Preview {
            marked: if entry.stage == Stage::Released { 0 } else { locks - entry.expired },
            freed: locks - stay,
            dropped: self.waiters.of_lm(lm).count() as u64,
            waiting: self.still_waiting(|w| w.lm != lm, stays, window),
            ..Preview::default()
        }
    }

    /// One of the lock managers of these locks that are not taken up here.
    pub(in crate::state) fn released_of(&self, mut locks: impl Iterator<Item = LockId>) -> Option<IpAddr> {
        let found = locks.find(|lock| self.is_only_kept(*lock))?;
        Some(self.names.lm_by_id(self.lm_of(found)).address)
    }

    /// The waiters that would still be there (`stay`) and have a window or one of the locks that would still be there in their way.
    fn still_waiting(
        &self,
        stay: impl Fn(&Waiter) -> bool,
        lock_stays: impl Fn(LockId) -> bool,
        window: impl Fn(&Waiter) -> bool,
    ) -> u64 {
        let waits = self.waiters.slots_from(0).map(|(_, w)| w).filter(|w| stay(w)).filter(|w| {
            let parked = matches!(w.how, How::Reply { .. });
            let mut conflicts =
                self.locks.conflicts(w.file, w.range, w.mode, Some(w.owner)).filter(|id| lock_stays(*id));
            window(w)
                || conflicts.any(|id| !parked || self.condition_of(id) == Condition::Reclaimable)
                || (!parked && self.is_being_granted(w.owner, w.file, w.range))
        });
        waits.count() as u64
    }

    fn is_held_by_window(&self, w: &Waiter) -> bool {
        self.names.lm_by_id(w.lm).in_full_grace(self.names.file_key(w.file))
    }

    fn lm_of(&self, lock: LockId) -> LmId {
        self.names.client(self.locks.get(lock).client).lm
    }

    fn is_unloaded(&self, lm: IpAddr) -> bool {
        self.stage(lm).map_or(!self.any_address, |stage| stage != Stage::Loaded)
    }

    fn explain_reclaim(&self, lm: Option<LmId>, q: &Question<'_>, blockers: &[LockId]) -> Outcome {
        if self.is_unloaded(q.lm) {
            return Outcome::Silence;
        }
        let Some(lm) = lm else { return Outcome::DeniedGrace };
        let stranger = || self.ground_of_strangers(lm, q.file);
        let ground = q.client.zip(q.owner).map_or_else(stranger, |((name, address), (oh, svid))| {
            let party = Party { lm: q.lm, name, address };
            self.ground(lm, &Claim { party, oh, svid, file: q.file, range: q.range, mode: q.mode })
        });
        match ground {
            Ground::Record(_) | Ground::Moved(_) => Outcome::Granted,
            Ground::Word if blockers.iter().all(|id| self.is_doubtful(*id)) => Outcome::Granted,
            Ground::Nothing(Deny::ReclaimTooLate) => Outcome::DeniedGrace,
            Ground::Word | Ground::Nothing(_) => Outcome::Denied,
        }
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
            self.would_deadlock(owner, file, q.range, q.mode) == Verdict::Deadlock
        })
    }

    fn condition_of(&self, id: LockId) -> Condition {
        self.locks.get(id).attrs.condition
    }

    fn rows(&self, ids: &[LockId]) -> Vec<LockRow> {
        ids.iter().take(BLOCKERS_SHOWN).map(|id| self.lock_row(*id)).collect()
    }
}
