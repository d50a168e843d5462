//! A record as a store would keep it: entries laid over each other in order, as simply as can be. For comparison with the tables
//! that they came from, and to load them again.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::state::{Command, Condition, Engine, Entry, LockState, Mode, Party, Range, Route, Stretch, Sweep};

pub(super) type Bytes = Vec<(Range, LockState)>;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Queued {
    pub(super) stretch: Stretch,
    pub(super) mode: Mode,
    pub(super) state: u32,
    pub(super) route: Route,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ledger {
    /// By owner and file: the range of the key means nothing.
    pub(super) locks: BTreeMap<Stretch, Bytes>,
    pub(super) waiters: BTreeMap<(IpAddr, u64), Queued>,
    pub(super) clients: BTreeMap<(IpAddr, Box<[u8]>, IpAddr), u32>,
    pub(super) windows: BTreeMap<IpAddr, bool>,
}

impl Ledger {
    pub(super) fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Client { lm, name, address, state } => {
                self.clients.insert((*lm, name.clone(), *address), *state);
            }
            Entry::Forget { lm, name, address } => {
                self.clients.remove(&(*lm, name.clone(), *address));
            }
            Entry::Set(stretch, lock) => self.lay(stretch, Some(*lock)),
            Entry::Unset(stretch) => self.lay(stretch, None),
            Entry::Queued { seq, stretch, mode, state, route } => {
                let queued =
                    Queued { stretch: stretch.clone(), mode: *mode, state: *state, route: route.clone() };
                self.waiters.insert((stretch.lm, *seq), queued);
            }
            Entry::Unqueued { lm, seq } => {
                assert!(self.waiters.remove(&(*lm, *seq)).is_some(), "left the line without being in it");
            }
            Entry::Swept(lm, sweep) => self.sweep(*lm, *sweep),
            Entry::Window { lm, full, .. } => {
                self.windows.insert(*lm, *full);
            }
            Entry::WindowEnded(lm) => {
                self.windows.remove(lm);
            }
        }
    }

    /// The same in one way only: adjacent like stretches as one.
    pub(super) fn canonical(&self) -> BTreeMap<Stretch, Bytes> {
        let merged = self.locks.iter().map(|(key, bytes)| {
            let mut bytes = bytes.clone();
            bytes.sort_unstable();
            let mut out: Bytes = Vec::new();
            for (range, lock) in bytes {
                match out.last_mut() {
                    Some((last, l)) if *l == lock && last.end.checked_add(1) == Some(range.start) => {
                        last.end = range.end;
                    }
                    _ => out.push((range, lock)),
                }
            }
            (key.clone(), out)
        });
        merged.filter(|(_, bytes)| !bytes.is_empty()).collect()
    }

    /// What the tables of an engine amount to.
    pub(super) fn of(engine: &Engine) -> Self {
        let mut ledger = Self::default();
        for (_, lock) in engine.locks.slots_from(0) {
            let client = engine.names.client(lock.client);
            let owner = engine.names.owner_by_id(lock.owner);
            let a = lock.attrs;
            let state = LockState {
                mode: a.mode,
                condition: a.condition,
                state: a.state,
                under: a.under.map(|u| (u.condition, u.state)),
            };
            let stretch = Stretch {
                lm: engine.names.lm_by_id(client.lm).address,
                name: client.name.clone(),
                address: client.address,
                oh: owner.oh.clone(),
                svid: owner.svid,
                file: engine.names.file_key(lock.file).into(),
                range: lock.range,
            };
            ledger.lay(&stretch, Some(state));
        }
        for (_, w) in engine.waiters.slots_from(0) {
            let crate::state::waiting::How::Callback(route) = &w.how else { continue };
            let client = engine.names.client(w.client);
            let owner = engine.names.owner_by_id(w.owner);
            let stretch = Stretch {
                lm: engine.names.lm_by_id(client.lm).address,
                name: client.name.clone(),
                address: client.address,
                oh: owner.oh.clone(),
                svid: owner.svid,
                file: engine.names.file_key(w.file).into(),
                range: w.range,
            };
            let queued = Queued { stretch, mode: w.mode, state: w.state, route: route.clone() };
            ledger.waiters.insert((queued.stretch.lm, w.seq), queued);
        }
        ledger
    }

    /// As it is after being loaded.
    pub(super) fn loaded(mut self) -> Self {
        for (_, lock) in self.locks.values_mut().flatten() {
            *lock = loaded(*lock);
        }
        self
    }

    /// A lock manager's part of it.
    pub(super) fn part(&self, lm: IpAddr) -> Self {
        let mut part = self.clone();
        part.locks.retain(|k, _| k.lm == lm);
        part.waiters.retain(|k, _| k.0 == lm);
        part.clients.retain(|k, _| k.0 == lm);
        part.windows.retain(|k, _| *k == lm);
        part
    }

    /// Takes a lock manager's part out.
    pub(super) fn take(&mut self, lm: IpAddr) -> Self {
        let part = self.part(lm);
        self.locks.retain(|k, _| k.lm != lm);
        self.waiters.retain(|k, _| k.0 != lm);
        self.clients.retain(|k, _| k.0 != lm);
        self.windows.remove(&lm);
        part
    }

    /// What stays of a lock manager's part when only locks on these files are kept.
    pub(super) fn keep_only(&mut self, lm: IpAddr, is_kept: impl Fn(&[u8]) -> bool) {
        let part = self.take(lm);
        self.locks.extend(part.locks.into_iter().filter(|(key, _)| is_kept(&key.file)));
    }

    /// The commands that put it into an engine.
    pub(super) fn commands(&self) -> Vec<Command<'_>> {
        let clients = self.clients.iter().map(|((lm, name, address), state)| Command::Restore {
            party: Party { lm: *lm, name, address: *address },
            state: *state,
        });
        let locks = self.locks.iter().flat_map(|(s, bytes)| {
            bytes.iter().map(move |(range, lock)| Command::LoadLock {
                party: party(s),
                oh: &s.oh,
                svid: s.svid,
                file: &s.file,
                range: *range,
                lock: *lock,
            })
        });
        let waiters = self.waiters.iter().map(|((_, seq), q)| Command::LoadWaiter {
            party: party(&q.stretch),
            oh: &q.stretch.oh,
            svid: q.stretch.svid,
            file: &q.stretch.file,
            range: q.stretch.range,
            mode: q.mode,
            state: q.state,
            route: &q.route,
            seq: *seq,
        });
        clients.chain(locks).chain(waiters).collect()
    }

    fn lay(&mut self, stretch: &Stretch, lock: Option<LockState>) {
        let key = Stretch { range: Range::ALL, ..stretch.clone() };
        let bytes = self.locks.entry(key).or_default();
        let new = stretch.range;
        for (old, was) in std::mem::take(bytes) {
            if !old.overlaps(new) {
                bytes.push((old, was));
                continue;
            }
            if old.start < new.start {
                bytes.push((Range { start: old.start, end: new.start - 1 }, was));
            }
            if old.end > new.end {
                bytes.push((Range { start: new.end + 1, end: old.end }, was));
            }
        }
        bytes.extend(lock.map(|lock| (new, lock)));
    }

    fn sweep(&mut self, lm: IpAddr, sweep: Sweep) {
        let locks = self.locks.iter_mut().filter(|(key, _)| key.lm == lm);
        for (_, bytes) in locks {
            bytes.retain_mut(|(_, lock)| match (sweep, lock.condition) {
                (Sweep::Expire, Condition::Reclaimable) => {
                    lock.condition = Condition::Expired;
                    true
                }
                (Sweep::DropExpired, Condition::Expired) => false,
                (Sweep::Release, Condition::Expired) => true,
                (Sweep::Release, _) => {
                    (lock.condition, lock.under) = (Condition::Reclaimable, None);
                    true
                }
                _ => true,
            });
        }
        if sweep == Sweep::Release {
            self.waiters.retain(|(of, _), _| *of != lm);
            self.windows.remove(&lm);
        }
    }
}

/// What an engine makes of a recorded lock: what was on its way will not be answered.
pub(super) fn loaded(mut lock: LockState) -> LockState {
    if lock.condition == Condition::Granting {
        lock.condition = Condition::Unconfirmed;
    }
    if let Some((condition, _)) = &mut lock.under
        && *condition != Condition::Unconfirmed
    {
        *condition = Condition::Held;
    }
    lock
}

fn party(s: &Stretch) -> Party<'_> {
    Party { lm: s.lm, name: &s.name, address: s.address }
}
